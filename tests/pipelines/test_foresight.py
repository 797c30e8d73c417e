"""What is predicted ahead is what the job would predict, and nobody's when the series changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom.study import Series, Study
from models.prediction import labels_of
from models.process import PredictorProcess
from models.registry import Registry
from models.sources import read_case
from pipelines.foresight import Foresight
from pipelines.results import look_at
from pipelines.routing import Route, When
from tests.bundles import write_slow_bundle, write_threshold_bundle
from tests.series import write_series

MR = When(modality=("MR",))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_threshold_bundle(folder, "quick")
    write_slow_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def registry(bundles: Path) -> Registry:
    return Registry([bundles])


@pytest.fixture(scope="module")
def predictor(bundles: Path) -> Iterator[PredictorProcess]:
    with PredictorProcess([bundles], device="cpu", threads=1, timeout_s=120) as process:
        yield process


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return write_series(tmp_path / "series", modality="MR", shape_kji=(40, 40, 40))


Make = Callable[..., Foresight]


@pytest.fixture
def make(registry: Registry, predictor: PredictorProcess) -> Iterator[Make]:
    made = []

    def foresight(bundle: str = "quick") -> Foresight:
        made.append(Foresight(registry, predictor, [Route("mr", MR, bundle=bundle)]))
        return made[-1]

    yield foresight
    for one in made:
        one.stop()


class Files:
    """Says when the files of a series are not read any more."""

    def __init__(self, series: Series) -> None:
        self.paths = [instance.path for instance in series.instances]
        self.free = threading.Event()

    def begin(self, foresight: Foresight, series: Series) -> None:
        foresight.begin(series, self.paths, self.free.set)


def never() -> bool:
    return False


def test_a_job_finds_what_it_would_predict_itself(
    make: Make, registry: Registry, predictor: PredictorProcess, series: Series
) -> None:
    foresight, files, bundle = make(), Files(series), registry.get("quick")
    files.begin(foresight, series)
    assert foresight.take(series.series_uid, bundle, canceled=never) is None  # not claimed
    foresight.claim(series.series_uid, files.paths)
    found = foresight.take(series.series_uid, bundle, canceled=never)
    assert found is not None
    assert files.free.is_set()
    case = read_case(bundle, Study("", (series,)), series)
    expected = predictor.predict_images(bundle.identity, case.images)
    np.testing.assert_array_equal(labels_of(found.prediction.answer), labels_of(expected.answer))
    assert labels_of(expected.answer).any()
    assert found.measured == look_at(bundle, expected.answer, case.volume, series)
    assert not foresight.is_claimed(series.series_uid)  # given once


def test_other_files_than_those_that_were_seen_make_it_worthless(
    make: Make, registry: Registry, series: Series
) -> None:
    foresight, files = make(), Files(series)
    files.begin(foresight, series)
    late = files.paths[0].with_name("late.dcm")
    foresight.claim(series.series_uid, [*files.paths, late])
    assert foresight.take(series.series_uid, registry.get("quick"), canceled=never) is None


def test_a_late_slice_ends_the_model_at_once(
    make: Make, predictor: PredictorProcess, series: Series
) -> None:
    foresight, files = make("slow"), Files(series)
    files.begin(foresight, series)
    assert files.free.wait(60)  # the series is read: the slow model is at work, for half a minute
    foresight.still_so(series.series_uid, len(files.paths))
    assert not foresight.is_claimed(series.series_uid)
    foresight.still_so(series.series_uid, len(files.paths) + 1)
    foresight.claim(series.series_uid, files.paths)
    assert not foresight.is_claimed(series.series_uid)


def test_what_nobody_claimed_gives_way_to_a_job_and_what_was_claimed_does_not(
    make: Make, registry: Registry, predictor: PredictorProcess, series: Series
) -> None:
    foresight, files = make("slow"), Files(series)
    quick, slow = registry.get("quick"), registry.get("slow")
    case = read_case(quick, Study("", (series,)), series)
    files.begin(foresight, series)
    assert files.free.wait(60)
    found = predictor.predict_images(quick.identity, case.images, timeout_s=20)
    assert labels_of(found.answer).any()
    foresight.claim(series.series_uid, files.paths)
    assert foresight.take(series.series_uid, slow, canceled=never) is None


@pytest.mark.parametrize("claimed", [False, True])
def test_what_no_task_waits_for_gives_way_to_a_series_that_one_waits_for(
    make: Make, registry: Registry, series: Series, tmp_path: Path, claimed: bool
) -> None:
    """Of studies whose jobs have come, the one whose task is next need not have come first."""
    foresight, files = make("slow"), Files(series)
    files.begin(foresight, series)
    if claimed:
        foresight.claim(series.series_uid, files.paths)
    assert files.free.wait(60)
    other = write_series(tmp_path / "other", modality="MR", name="other")
    waiting = Files(other)
    waiting.begin(foresight, other)
    foresight.claim(other.series_uid, waiting.paths)
    assert not waiting.free.is_set()
    slow = registry.get("slow")
    task = threading.Thread(
        target=foresight.take, args=(other.series_uid, slow), kwargs={"canceled": never}
    )
    task.start()
    assert waiting.free.wait(20)  # the slow model would be at work for half a minute
    foresight.drop(other.series_uid)
    task.join()


def test_what_no_job_took_is_dropped(make: Make, series: Series) -> None:
    foresight, files = make(), Files(series)
    files.begin(foresight, series)
    foresight.claim(series.series_uid, files.paths)
    foresight.sweep(kept_s=600)
    assert foresight.is_claimed(series.series_uid)
    foresight.sweep(kept_s=0)
    assert not foresight.is_claimed(series.series_uid)


def test_a_job_that_is_canceled_ends_the_model_that_it_waits_for(
    make: Make, registry: Registry, series: Series
) -> None:
    foresight, files = make("slow"), Files(series)
    files.begin(foresight, series)
    foresight.claim(series.series_uid, files.paths)
    asked = threading.Event()

    def canceled() -> bool:
        asked.set()
        return True

    assert foresight.take(series.series_uid, registry.get("slow"), canceled=canceled) is None
    assert asked.is_set()
    assert not foresight.is_claimed(series.series_uid)


def test_another_version_of_the_model_is_not_taken_for_this_one(
    make: Make, registry: Registry, series: Series
) -> None:
    foresight, files = make(), Files(series)
    files.begin(foresight, series)
    foresight.claim(series.series_uid, files.paths)
    changed = replace(registry.get("quick"), sha256="0" * 64)
    assert foresight.take(series.series_uid, changed, canceled=never) is None


def test_a_series_that_no_route_wants_or_that_is_no_volume_is_left_to_its_job(
    make: Make, registry: Registry, series: Series, tmp_path: Path
) -> None:
    foresight = make()
    ct = write_series(tmp_path / "ct", modality="CT")
    gap = replace(series, instances=(*series.instances[:5], *series.instances[7:]))
    for one in (ct, gap):
        files = Files(one)
        files.begin(foresight, one)
        foresight.claim(one.series_uid, files.paths)
        assert foresight.take(one.series_uid, registry.get("quick"), canceled=never) is None
        assert files.free.is_set()


def test_no_more_than_a_few_series_are_held(make: Make, registry: Registry, tmp_path: Path) -> None:
    foresight = make()
    every = []
    for n in range(5):
        one = write_series(tmp_path / str(n), modality="MR", name=str(n))
        files = Files(one)
        files.begin(foresight, one)
        foresight.claim(one.series_uid, files.paths)
        assert files.free.wait(60)
        every.append(one)
    held = [foresight.is_claimed(one.series_uid) for one in every]
    assert held == [False, False, True, True, True]
