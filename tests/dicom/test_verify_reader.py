"""The second look remembers; it must see no less for that."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite

from dicom.deid import Deidentifier
from dicom.errors import NotDicom
from dicom.phantom import write_head_study
from dicom.profile import node_profile
from dicom.verify import Originals, SecondLook
from dicom.verify.reader import Reader
from dicom.verify.reading import PIXELS, elements_of, read_file
from dicom.verify.tokens import Needles, Tokens, needles_of
from tests.examples import examples

CORPUS = Path(__file__).parents[3] / "shared/data/dicom-corpus"
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("head")
    write_head_study(folder, slices=6, size=32)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def plainly(path: Path) -> dict[str, tuple[int, bytes, int, str]]:
    """Return what pydicom reads alone, but for long values, which it leaves in the file."""
    return {
        place: (value.tag, bytes(value.value), parent, value.creator)
        for place, value, parent in elements_of(read_file(path))
        if value.value is not None and value.tag not in PIXELS
    }


def in_turn(reader: Reader, path: Path) -> dict[str, tuple[int, bytes, int, str]]:
    return {
        place: (value.tag, bytes(value.value or b""), parent, value.creator)
        for part in reader.read(path).parts
        for place, value, parent in part.values
    }


def test_what_was_read_before_reads_the_same(study: list[Path]) -> None:
    reader = Reader()
    for path in [*study, *reversed(study)]:
        found = in_turn(reader, path)
        for place, value in plainly(path).items():
            assert found[place] == value
    again = reader.read(study[0])
    assert len(again.new) == len(again.gone) == 1  # the same file: pixels alone are new
    assert len(reader.read(study[1]).new) < len(again.parts) / 2


def test_every_file_of_the_corpus_reads_the_same_after_any_other() -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"needs {CORPUS}")
    reader, read = Reader(), 0
    for path in sorted(path for path in CORPUS.rglob("*") if path.is_file()):
        try:
            expected = plainly(path)
        except NotDicom:
            continue
        found = in_turn(reader, path)
        assert expected.keys() <= found.keys(), path
        assert all(found[place] == value for place, value in expected.items()), path
        read += 1
    assert read > 180


def _changed(path: Path, target: Path, **attributes: object) -> Path:
    ds = dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    dcmwrite(target, ds, enforce_file_format=True)
    return target


@pytest.mark.parametrize(
    "change",
    [
        {"SpecificCharacterSet": "ISO_IR 192"},
        {"SpecificCharacterSet": None},
        {"StudyDate": None},
        {"ImageComments": "one more"},
        {"PatientName": "Other^Name"},
    ],
)
def test_a_file_that_differs_in_one_thing_is_not_taken_for_the_one_before(
    study: list[Path], tmp_path: Path, change: dict[str, object]
) -> None:
    reader = Reader()
    reader.read(study[0])
    other = _changed(study[0], tmp_path / "other.dcm", **change)
    assert in_turn(reader, other) == in_turn(Reader(), other)
    assert in_turn(reader, study[0]) == in_turn(Reader(), study[0])


def test_private_values_follow_their_creator(study: list[Path], tmp_path: Path) -> None:
    ds = dcmread(study[0])
    ds.private_block(0x0019, "ONE", create=True).add_new(0x01, "LO", "a value")
    dcmwrite(tmp_path / "one.dcm", ds, enforce_file_format=True)
    ds[0x0019, 0x0010].value = "TWO"
    dcmwrite(tmp_path / "two.dcm", ds, enforce_file_format=True)
    reader = Reader()
    assert in_turn(reader, tmp_path / "one.dcm")["(0019,1001)"][3] == "ONE"
    assert in_turn(reader, tmp_path / "two.dcm")["(0019,1001)"][3] == "TWO"


def test_a_leak_in_the_third_file_of_a_series_is_seen(study: list[Path], tmp_path: Path) -> None:
    engine = Deidentifier(node_profile(), KEY)
    originals = Originals(node_profile())
    befores = [originals.read(path) for path in study]
    cleans = [engine.deidentify_file(path, tmp_path)[0].path for path in study]
    name = str(dcmread(study[0]).PatientName).split("^")[0]
    leak = dcmread(cleans[2])
    leak.SeriesDescription = f"for {name}"
    dcmwrite(cleans[2], leak, enforce_file_format=True)
    undeclared = dcmread(cleans[4])
    del undeclared.DeidentificationMethodCodeSequence
    dcmwrite(cleans[4], undeclared, enforce_file_format=True)
    look = SecondLook(node_profile(), originals.tokens)
    found = [look.look(*pair) for pair in zip(cleans, befores, strict=True)]
    assert [bool(findings) for findings in found] == [False, False, True, False, True, False]
    assert {finding.rule for finding in found[2]} >= {"name"}
    assert {finding.rule for finding in found[4]} == {"declaration"}


def test_the_sop_class_is_looked_at_like_any_uid(study: list[Path], tmp_path: Path) -> None:
    own = _changed(study[0], tmp_path / "own.dcm", SOPClassUID="1.2.276.0.99.4711")
    assert "1.2.276.0.99.4711" in _tokens(own).uids
    label_map = "1.2.840.10008.5.1.4.1.1.66.7"  # newer than pydicom's registry
    assert (
        label_map
        not in _tokens(_changed(study[0], tmp_path / "seg.dcm", SOPClassUID=label_map)).uids
    )


def _tokens(path: Path) -> Tokens:
    originals = Originals(node_profile())
    originals.read(path)
    return originals.tokens


def test_a_broken_file_between_two_others_changes_nothing(
    study: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM" * 100)
    alone, between = Originals(node_profile()), Originals(node_profile())
    expected = [alone.read(path) for path in study[:2]]
    found = [between.read(study[0])]
    with pytest.raises(NotDicom):
        between.read(tmp_path / "none.dcm")
    with pytest.raises(NotDicom):
        between.read(tmp_path / "broken.dcm")
    found.append(between.read(study[1]))
    assert found == expected
    assert between.tokens == alone.tokens


def test_values_that_are_gone_are_gone(study: list[Path], tmp_path: Path) -> None:
    originals = Originals(node_profile())
    originals.read(study[0])
    shorter = _changed(study[0], tmp_path / "shorter.dcm", StudyDate=None)
    assert "(0008,0020)" not in originals.read(shorter)
    assert "(0008,0020)" in originals.read(study[0])


_WORDS = (
    "weaver ann o'neil müller x9 4711-a 20240229 2024022 1.2.3.44 1.2.3.4 1.2.3.4x ^ - . 0 a \\ ä "
    "101112"
)
_TEXTS = st.lists(st.sampled_from([*_WORDS.split(" "), " "]), max_size=14).map("".join)


@examples(100)
@given(text=_TEXTS)
def test_a_lookup_finds_what_a_search_finds(text: str) -> None:
    tokens = Tokens(
        words=frozenset({"weaver", "o'neil", "müller", "x9y8"}),
        identifiers=frozenset({"4711-a", "471100", "weaver ann", "weaver9"}),
        uids=frozenset({"1.2.3.44", "1.2.3.4", "1.2.3.4x"}),
        dates=frozenset({"20240229", "20240301"}),
    )
    for content in (text.encode(), text.encode("latin-1"), text.upper().encode()):
        lower = content.lower()
        searched = {n: n.count(lower) for n in needles_of(tokens) if n.count(lower)}
        assert dict(Needles(tokens).hits(content)) == searched
