"""Small versions of what `make bench B=deid-quality` measures; the scorer itself can say no."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.deid_quality import KEY, RESEARCH, option_sets
from benchmarks.quality.answers import Case
from benchmarks.quality.objects import make_key
from benchmarks.quality.planting import Garden, gardens
from benchmarks.quality.scoring import CATEGORIES, Score, score
from dicom.deid import Deidentifier
from dicom.fast import EngineChoice, engine_for
from dicom.profile import Option, Profile


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Garden, Path]]:
    folder = tmp_path_factory.mktemp("planted")
    found = []
    for depth, garden in gardens():
        path = folder / f"{depth}.dcm"
        garden.ds.save_as(path, enforce_file_format=True)
        assert len(garden.left_in(path.read_bytes())) == len(garden.planted) > 700
        found.append((garden, path))
    return found


@pytest.mark.parametrize(("title", "options"), list(option_sets()))
def test_no_token_is_left_that_the_options_do_not_retain(planted, title, options):
    careful = Deidentifier(Profile(options), KEY)
    for garden, path in planted:
        for engine in (careful, engine_for(EngineChoice.AUTO, careful)):
            with path.open("rb") as file:
                content = engine.clean(file).header
            assert garden.left_in(content, options) == []


def test_what_an_option_retains_is_there(planted):
    """Else the test above would hold for an engine that removes everything."""
    for option, least in ((Option.RETAIN_UIDS, 50), (Option.RETAIN_FULL_DATES, 100)):
        engine = Deidentifier(Profile(frozenset({option})), KEY)
        for garden, path in planted:
            with path.open("rb") as file:
                content = engine.clean(file).header
            assert sum(one.token in content for one in garden.planted) >= least


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    made = make_key(tmp_path_factory.mktemp("key"), patients=2, visits=2, images=2)
    return [case for case in made if case.letters is None]


def scored(cases: list[Case], folder: Path, options: frozenset[Option]) -> Score:
    engine = engine_for(EngineChoice.AUTO, Deidentifier(Profile(options), KEY))
    outputs = {case.path: engine.deidentify_file(case.path, folder)[0].path for case in cases}
    return score(cases, outputs)


def test_every_action_of_the_answer_key_is_right_and_nothing_leaks(cases, tmp_path):
    result = scored(cases, tmp_path, RESEARCH)
    assert not result.wrong
    assert result.percent() == 100
    assert all(result.due[category] > 50 for category in CATEGORIES)
    assert result.leaks == result.absent == 0


def test_the_scorer_sees_what_was_not_done(cases, tmp_path):
    untouched = score(cases, {case.path: case.path for case in cases})
    assert untouched.leaks == len(cases)
    assert untouched.percent() < 50
    assert untouched.percent("dates") == 0
    nothing = score(cases, {})
    assert nothing.absent == len(cases) and nothing.percent() == 0
    without_private = scored(cases, tmp_path, RESEARCH - {Option.RETAIN_SAFE_PRIVATE})
    assert without_private.percent("private") < 70
    assert without_private.percent("header") == 100
