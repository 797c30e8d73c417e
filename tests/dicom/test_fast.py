"""The fast engine: the same bytes as the careful one, whatever the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from pydicom import Dataset, config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    RLELossless,
)

from dicom.deid import Clean, Deidentifier
from dicom.errors import NeedsCarefulReading
from dicom.fast import EitherEngine, FastDeidentifier
from dicom.phantom import write_head_study
from dicom.profile import Profile, node_profile, table_rules
from tests.engines import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    KEY,
    PROFILES,
    Attribute,
    Form,
    image,
    part10,
    said,
    without_engine,
    written,
)
from tests.examples import examples

CORPUS = Path(__file__).parents[3] / "shared/data/dicom-corpus"


@pytest.fixture(autouse=True)
def _written_as_it_is() -> Iterator[None]:
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    yield
    config.settings.writing_validation_mode = before


# --- the same bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES, ids=["node", "basic", "retaining"])
def test_every_file_of_the_corpus_is_the_same_from_both_engines(profile: Profile) -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"needs {CORPUS}")
    careful = Deidentifier(profile, KEY)
    fast = FastDeidentifier(Deidentifier(profile, KEY))
    ways = {"fast": 0, "careful": 0, "refused": 0}
    for path in sorted(path for path in CORPUS.rglob("*") if path.is_file()):
        expected, found = said(careful, path), said(fast, path)
        if isinstance(found, tuple) and found[0] == NeedsCarefulReading.code:
            ways["careful"] += isinstance(expected, Clean)
            continue
        ways["fast" if isinstance(found, Clean) else "refused"] += 1
        assert without_engine(found) == without_engine(expected), path
        assert without_engine(said(fast, path)) == without_engine(expected), path
    assert ways["fast"] >= 180
    assert ways["careful"] <= 5
    assert ways["refused"] >= 1


_TEXT = st.text("abcXYZ 0123456789^-._äЖ", max_size=12).map(lambda text: text.encode())
_VALUES: dict[str, st.SearchStrategy[bytes]] = {
    "DA": st.sampled_from([b"20240229", b"", b"2024", b"18991231\\20200101"]),
    "TM": st.sampled_from([b"101112", b"10", b"x"]),
    "DT": st.sampled_from([b"20240229101112.5+0100", b"2024"]),
    "UI": st.sampled_from([b"1.2.3", b"1.2.840.10008.1.2", b"9.9.9\\1.2.3", b"", b"1.2.3\0\0"]),
    "PN": st.sampled_from([b"Weaver^Ann", b"\xb6^\xb6", b""]),
    "LO": st.sampled_from([b"Thorax 3mm", b"Dr. Weaver", b"4711-A", b"T1\\mprage", b""]) | _TEXT,
    "SH": st.sampled_from([b"SCT", b"DCM", b"99LOCAL", b"121029", b"Weaver"]) | _TEXT,
    "CS": st.sampled_from([b"CT", b"ORIGINAL\\PRIMARY", b"not code", b"YES", b"ISO_IR 192"]),
    "IS": st.sampled_from([b"1", b"4711", b"-3", b"abc"]),
    "DS": st.sampled_from([b"1.5", b"1\\2\\3", b"x", b"", b" 1.50 "]),
    "AS": st.sampled_from([b"045Y", b"095Y", b"45"]),
    "US": st.binary(min_size=2, max_size=2) | st.just(b""),
    "FD": st.binary(min_size=8, max_size=8),
    "OB": st.sampled_from([b"", b"\1\2", bytes(70)]),
    "LT": st.just(b"Ann Weaver came in"),
    "UN": st.sampled_from([b"", b"Weaver", b"\xfe\xff\0\xe0\0\0\0\0"]),
}
_TAGS = {
    "DA": [0x00080021, 0x00080022, 0x00400244],
    "TM": [0x00080031, 0x00080032],
    "DT": [0x0008002A],
    "UI": [0x00081155, 0x00200052, 0x00080016, 0x0020000D],
    "PN": [0x00081050, 0x00100010, 0x0040A123],
    "LO": [0x0008103E, 0x00181030, 0x00080104, 0x00100020, 0x00080070, 0x00190010],
    "SH": [0x00080100, 0x00080102, 0x00080050, 0x00200010],
    "CS": [0x00080060, 0x00080008, 0x00080005, 0x00280301, 0x00180015],
    "IS": [0x00200011, 0x00200012, 0x00201002],
    "DS": [0x00200032, 0x00180050, 0x00101030],
    "AS": [0x00101010],
    "US": [0x00280106, 0x00191001],
    "FD": [0x00189073, 0x00191002],
    "OB": [0x00420011, 0x00191003, 0x00282000],
    "LT": [0x00104000, 0x00191004],
    "UN": [0x00081140, 0x00191005, 0x0008103F, 0x00180040],
}
_SEQUENCES = [0x00081140, 0x00081110, 0x0040A730, 0x0040A043, 0x00082218, 0x00400275, 0x00191006]


def _items(children: st.SearchStrategy[Attribute]) -> st.SearchStrategy[Attribute]:
    item = st.tuples(st.booleans(), st.lists(children, max_size=4))
    sequence = st.tuples(st.booleans(), st.lists(item, max_size=3))
    return st.tuples(
        st.sampled_from(["SQ", "SQ", "SQ", "UN"]), st.sampled_from(_SEQUENCES), sequence
    )


_TREE = st.recursive(
    st.sampled_from(sorted(_TAGS)).flatmap(
        lambda vr: st.tuples(st.just(vr), st.sampled_from(_TAGS[vr]), _VALUES[vr])
    ),
    _items,
    max_leaves=12,
)


@examples(100)
@given(
    attributes=st.lists(_TREE, max_size=10),
    changed=st.lists(_TREE, max_size=3),
    form=st.sampled_from([EXPLICIT, IMPLICIT, BIG, DEFLATED]),
    profile=st.sampled_from(PROFILES),
    charset=st.sampled_from(
        [None, b"ISO_IR 100", b"ISO_IR 192", b"ISO 2022 IR 6\\ISO 2022 IR 144"]
    ),
)
@example(
    attributes=[],
    changed=[("SQ", 0x00081110, (False, [(False, [("FD", 0x00189073, bytes(6) + b"\xf1\x7f")])]))],
    form=EXPLICIT,
    profile=PROFILES[0],
    charset=None,
)
@example(
    attributes=[],
    changed=[("UN", 0x00180040, b"")],
    form=EXPLICIT,
    profile=PROFILES[1],
    charset=None,
)
@example(
    attributes=[],
    changed=[("SQ", 0x00081110, (True, [(False, [("UN", 0x00081140, (True, []))])]))],
    form=BIG,
    profile=PROFILES[0],
    charset=None,
)
def test_instances_of_any_series_are_the_same_from_both_engines(
    tmp_path_factory: pytest.TempPathFactory,
    attributes: list[Attribute],
    changed: list[Attribute],
    form: Form,
    profile: Profile,
    charset: bytes | None,
) -> None:
    """The second finds what the first left in memory, and must not find too much."""
    path = tmp_path_factory.getbasetemp() / "any.dcm"
    careful = Deidentifier(profile, KEY)
    fast = FastDeidentifier(Deidentifier(profile, KEY))
    named: list[Attribute] = [] if charset is None else [("CS", 0x00080005, charset)]
    for number, plan in enumerate((attributes, attributes + changed, attributes), 1):
        path.write_bytes(part10(number, named + plan, form))
        expected, found = said(careful, path), said(fast, path)
        if isinstance(found, Clean):
            event(f"both engines: {form.syntax.name}")
        if isinstance(found, Clean) or found[0] != NeedsCarefulReading.code:
            assert without_engine(found) == without_engine(expected)


def _other_patient(ds: Dataset) -> None:
    ds.PatientID = "4712-B"


def _other_name(ds: Dataset) -> None:
    ds.PatientName = "Thorax^Ann"


def _other_class(ds: Dataset) -> None:
    ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")


def _other_alphabet(ds: Dataset) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientAddress = "Straße"


def _other_issuer(ds: Dataset) -> None:
    ds.IssuerOfPatientID = "elsewhere"


def _burned_in(ds: Dataset) -> None:
    ds.BurnedInAnnotation = "YES"


def _overlay(ds: Dataset) -> None:
    ds.add_new(0x60000102, "US", 5)


def _document(ds: Dataset) -> None:
    ds.add_new(0x00420011, "OB", b"%PDF")


@pytest.mark.parametrize(
    "change",
    [
        _other_patient,
        _other_name,
        _other_class,
        _other_alphabet,
        _other_issuer,
        _burned_in,
        _overlay,
        _document,
    ],
)
def test_memory_of_one_series_does_not_decide_for_another(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    """All that a decision hangs on is found again, when only that differs."""
    careful = Deidentifier(node_profile(), KEY)
    fast = FastDeidentifier(Deidentifier(node_profile(), KEY))
    first, other = image(1), image(2)
    change(other)
    before = said(fast, written(first, tmp_path / "1.dcm"))
    path = written(other, tmp_path / "2.dcm")
    assert without_engine(said(fast, path)) == without_engine(said(careful, path))
    assert without_engine(said(fast, tmp_path / "1.dcm")) == without_engine(before)


@pytest.mark.parametrize("open_length", [False, True])
@pytest.mark.parametrize("form", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])
def test_an_item_that_says_who_the_subject_is_goes(
    tmp_path: Path, open_length: bool, form: Form
) -> None:
    """PS3.16 TID 1006 ff.; in a report it is an item among others."""

    def item(code: bytes) -> tuple[bool, list[Attribute]]:
        concept = [("SH", 0x00080100, code), ("SH", 0x00080102, b"DCM")]
        name = ("SQ", 0x0040A043, (open_length, [(open_length, concept)]))
        return open_length, [name, ("CS", 0x0040A040, b"TEXT")]

    content = ("SQ", 0x0040A730, (open_length, [item(b"121029"), item(b"121058")]))
    path = tmp_path / "report.dcm"
    path.write_bytes(part10(1, [content], form))
    careful = Deidentifier(node_profile(), KEY)
    clean = said(FastDeidentifier(careful), path)
    assert isinstance(clean, Clean)
    assert b"121029" not in clean.header
    assert b"121058" in clean.header
    assert without_engine(clean) == without_engine(said(careful, path))


def test_what_is_remembered_gives_the_uids_back_too(tmp_path: Path) -> None:
    """The vault has to know the way back from every instance, not only from the first."""
    fast = FastDeidentifier(Deidentifier(node_profile(), KEY))
    cleans = [said(fast, written(image(n), tmp_path / f"{n}.dcm")) for n in (1, 2, 3)]
    for number, clean in enumerate(cleans, 1):
        assert isinstance(clean, Clean)
        originals = set(clean.identity.uids.values())
        assert originals == {"1.2.3", "1.2.3.4", f"1.2.3.4.{number}"}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_pixels_are_copied_byte_for_byte_and_nothing_after_them(
    tmp_path: Path, syntax: UID
) -> None:
    ds = image()
    if syntax == RLELossless:
        ds.PixelData = encapsulate([b"one fragment", b"another."])
        ds["PixelData"].is_undefined_length = True
    path = written(ds, tmp_path / "in.dcm", syntax)
    with path.open("rb") as file:
        pixels = FastDeidentifier(Deidentifier(node_profile(), KEY)).clean(file).pixels
    content = path.read_bytes()
    path.write_bytes(content + b"\xfc\xff\xfc\xffOB\0\0\x06\0\0\0Weaver")
    either = EitherEngine(Deidentifier(node_profile(), KEY))
    instance, _ = either.deidentify_file(path, tmp_path / "out")
    assert pixels.end == len(content)
    out = instance.path.read_bytes()
    assert out.endswith(content[pixels.start :])
    assert b"Weaver" not in out


def test_a_phantom_head_is_the_same_from_both_engines(tmp_path: Path) -> None:
    write_head_study(tmp_path / "head", slices=12)
    careful = Deidentifier(node_profile(), KEY)
    fast = FastDeidentifier(careful)
    paths = sorted(path for path in (tmp_path / "head").rglob("*") if path.is_file())
    assert len(paths) == 12
    for path in paths:
        found = said(fast, path)
        assert isinstance(found, Clean)
        assert found.engine == "fast"
        assert without_engine(found) == without_engine(said(careful, path))


_ONE_OF = {
    "PN": "Weaver^Ann",
    "DA": "20240229",
    "DT": "20240229",
    "AS": "045Y",
    "US": 1,
    "FD": 1.5,
    "OB": b"ab",
    "UN": b"ab",
}


def test_every_row_of_the_table_is_the_same_from_both_engines(tmp_path: Path) -> None:
    """Each attribute of Table E.1-1 in a file of its own series, so that nothing hides another."""
    careful = Deidentifier(node_profile(), KEY)
    fast = FastDeidentifier(careful)
    tried = 0
    for number, tag in enumerate(sorted(table_rules())):
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else ""
        if vr not in _VALUES or tag >> 16 < 8 or tag in (0x00080018, 0x0020000E):
            continue
        ds = image(number)
        ds.add_new(tag, vr, _ONE_OF.get(vr, "1"))
        path = written(ds, tmp_path / "one.dcm")
        assert without_engine(said(fast, path)) == without_engine(said(careful, path)), hex(tag)
        tried += 1
    assert tried > 400
