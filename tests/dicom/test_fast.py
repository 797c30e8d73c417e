"""The fast engine: the same bytes as the careful one, and less of everything else."""

from __future__ import annotations

import gc
import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmwrite
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom.deid import Clean, Cleaned, Deidentifier, Engine, Quarantined
from dicom.deid.pixels import Heads
from dicom.errors import InputError, NeedsCarefulReading
from dicom.fast import EitherEngine, EngineChoice, FastDeidentifier, engine_for
from dicom.phantom import write_head_study
from dicom.profile import Option, Profile, node_profile, table_rules

KEY = bytes(range(32))
CORPUS = Path(__file__).parents[3] / "shared/data/dicom-corpus"
CT = "1.2.840.10008.5.1.4.1.1.2"
RETAINING = Profile(
    frozenset(
        {
            Option.RETAIN_SAFE_PRIVATE,
            Option.RETAIN_UIDS,
            Option.RETAIN_FULL_DATES,
            Option.RETAIN_DEVICE_IDENTITY,
            Option.RETAIN_INSTITUTION_IDENTITY,
            Option.RETAIN_PATIENT_CHARACTERISTICS,
            Option.CLEAN_DESCRIPTORS,
            Option.CLEAN_STRUCTURED_CONTENT,
            Option.CLEAN_GRAPHICS,
        }
    )
)
PROFILES = [node_profile(), Profile(frozenset()), RETAINING]


@pytest.fixture(autouse=True)
def _written_as_it_is() -> Iterator[None]:
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    yield
    config.settings.writing_validation_mode = before


def said(engine: Engine, path: Path) -> Clean | tuple[str, str]:
    """Return what an engine makes of a file; of a refusal, what it says."""
    with path.open("rb") as file:
        try:
            return engine.clean(file)
        except InputError as error:
            return error.code, error.message


def without_engine(clean: Clean | tuple[str, str]) -> object:
    if isinstance(clean, tuple):
        return clean
    way_back = json.dumps(dict(clean.identity.attributes))  # as text: NaN is not NaN
    rest = [getattr(clean, name) for name in Clean.__slots__ if name not in ("engine", "identity")]
    return [*rest, clean.identity.study_pseudonym, clean.identity.uids, way_back]


def image(number: int = 1, **attributes: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID = UID(CT), UID(f"1.2.3.4.{number}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID("1.2.3"), UID("1.2.3.4")
    ds.PatientName, ds.PatientID, ds.Modality = "Weaver^Ann", "4711-A", "CT"
    ds.StudyDate, ds.InstanceNumber = "20240229", number
    ds.SeriesDescription = "Thorax Weaver 3mm"
    ds.ImagePositionPatient = [0, 0, 1.5 * number]
    ds.Rows = ds.Columns = 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = bytes([number % 256] * 4)
    ds["PixelData"].VR = "OB"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def written(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    ds.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, ds, enforce_file_format=True)
    return path


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
_LONG = ("OB", "UN", "SQ")
Attribute = tuple[str, int, object]


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


class Form(NamedTuple):
    """How a data set is written by hand."""

    syntax: UID
    implicit: bool = False
    order: str = "<"


EXPLICIT, IMPLICIT = Form(ExplicitVRLittleEndian), Form(ImplicitVRLittleEndian, implicit=True)
BIG, DEFLATED = Form(ExplicitVRBigEndian, order=">"), Form(DeflatedExplicitVRLittleEndian)


def encoded(attributes: list[Attribute], form: Form) -> bytes:
    """Write a data set as no library would refuse to: PS3.5 7.1, 7.5, by hand."""
    by_tag = {tag: (vr, value) for vr, tag, value in attributes}
    return b"".join(_element(tag, *by_tag[tag], form) for tag in sorted(by_tag))


def _element(tag: int, vr: str, value: object, form: Form) -> bytes:
    order = form.order
    length = -1
    if isinstance(value, bytes):
        content = value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
        length = len(content)
    else:
        is_open, made = value
        within = IMPLICIT if vr == "UN" else form
        content = b"".join(_item(*item, within) for item in made)
        if is_open:
            content += struct.pack(within.order + "HHL", 0xFFFE, 0xE0DD, 0)
        else:
            length = len(content)
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if form.implicit:
        return head + struct.pack(order + "L", length & 0xFFFFFFFF) + content
    if vr in _LONG:
        return head + vr.encode() + struct.pack(order + "HL", 0, length & 0xFFFFFFFF) + content
    return head + vr.encode() + struct.pack(order + "H", length) + content


def _item(is_open: bool, attributes: list[Attribute], form: Form) -> bytes:
    content = encoded(attributes, form)
    if is_open:
        end = struct.pack(form.order + "HHL", 0xFFFE, 0xE00D, 0)
        return struct.pack(form.order + "HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + end
    return struct.pack(form.order + "HHL", 0xFFFE, 0xE000, len(content)) + content


def part10(number: int, attributes: list[Attribute], form: Form) -> bytes:
    base: list[Attribute] = [
        ("UI", 0x00080016, CT.encode()),
        ("UI", 0x00080018, f"1.2.3.4.{number}".encode()),
        ("CS", 0x00080060, b"CT"),
        ("LO", 0x0008103E, b"Thorax Weaver 3mm"),
        ("PN", 0x00100010, b"Weaver^Ann"),
        ("LO", 0x00100020, b"4711-A"),
        ("UI", 0x0020000D, b"1.2.3"),
        ("UI", 0x0020000E, b"1.2.3.4"),
        ("IS", 0x00200013, str(number).encode()),
    ]
    meta = encoded([("UI", 0x00020010, form.syntax.encode())], EXPLICIT)
    body = encoded([*base, *attributes], form) + _element(0x7FE00010, "OB", b"\1\2\3\4", form)
    if form is DEFLATED:
        body = zlib.compress(body, wbits=-zlib.MAX_WBITS)
        body += bytes(len(body) % 2)
    return bytes(128) + b"DICM" + meta + body


@settings(
    max_examples=max(250, settings.default.max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
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


# --- who does it ----------------------------------------------------------------------------------


def _preamble_lost(content: bytes) -> bytes:
    return content[:128] + b"dicm" + content[132:]


def _cut_in_the_header(content: bytes) -> bytes:
    return content[:500]


def _tags_swapped(content: bytes) -> bytes:
    """Write modality before the series date: pydicom sorts them again."""
    at = content.index(b"\x08\0\x60\0CS\2\0CT")
    modality = content[at : at + 10]
    rest = content[:at] + content[at + 10 :]
    start = rest.index(b"\x08\0\x16\0UI")
    return rest[:start] + modality + rest[start:]


@pytest.mark.parametrize("damage", [_preamble_lost, _cut_in_the_header, _tags_swapped])
def test_what_the_fast_engine_cannot_read_with_certainty_goes_to_the_careful_one(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = written(image(), tmp_path / "odd.dcm")
    path.write_bytes(damage(path.read_bytes()))
    careful = Deidentifier(node_profile(), KEY)
    assert said(FastDeidentifier(careful), path)[0] == NeedsCarefulReading.code  # type: ignore[index]
    assert without_engine(said(EitherEngine(careful), path)) == without_engine(said(careful, path))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_orders_of_bytes_and_deflated_files_are_the_fast_engines_work_too(
    tmp_path: Path, syntax: UID
) -> None:
    path = written(image(), tmp_path / "in.dcm", syntax)
    careful = Deidentifier(node_profile(), KEY)
    clean = said(FastDeidentifier(careful), path)
    assert isinstance(clean, Clean)
    assert without_engine(clean) == without_engine(said(careful, path))


def test_pixels_that_have_to_be_looked_at_are_the_careful_engines_work(tmp_path: Path) -> None:
    profile = Profile(frozenset({Option.CLEAN_PIXEL_DATA}))
    careful = Deidentifier(profile, KEY, passes={Option.CLEAN_PIXEL_DATA: lambda ds: ds})
    clean = said(EitherEngine(careful), written(image(), tmp_path / "in.dcm"))
    assert isinstance(clean, Clean)
    assert clean.engine == "careful"
    assert b"113101" in clean.header


def test_a_head_that_a_project_refuses_is_refused_by_both(tmp_path: Path) -> None:
    careful = Deidentifier(node_profile(), KEY, heads=Heads.REFUSE)
    fast = FastDeidentifier(careful)
    chest = written(image(1, BodyPartExamined="CHEST"), tmp_path / "chest.dcm")
    head = written(image(2, BodyPartExamined="HEAD"), tmp_path / "head.dcm")
    assert isinstance(said(fast, chest), Clean)
    assert said(fast, head) == said(careful, head)
    assert said(fast, head)[0] == "head_not_defaced"  # type: ignore[index]


def test_a_file_cut_anywhere_is_what_the_careful_engine_says_it_is(tmp_path: Path) -> None:
    content = written(image(), tmp_path / "in.dcm").read_bytes()
    careful = Deidentifier(node_profile(), KEY)
    either = EitherEngine(careful)
    cut = tmp_path / "cut.dcm"
    for end in range(0, len(content), 5):
        cut.write_bytes(content[:end])
        assert without_engine(said(either, cut)) == without_engine(said(careful, cut)), end


def test_no_warning_quotes_what_was_met(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    odd: list[Attribute] = [
        ("UI", 0x00200052, b"Weaver 4711"),
        ("DA", 0x00080021, b"4711"),
        ("DS", 0x00101030, b"Weaver"),
    ]
    path = tmp_path / "in.dcm"
    path.write_bytes(part10(1, odd, EXPLICIT))
    recwarn.clear()
    said(FastDeidentifier(Deidentifier(RETAINING, KEY)), path)
    assert not [str(each.message) for each in recwarn]


def test_a_folder_says_who_did_what(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    written(image(1), source / "1.dcm")
    swapped = written(image(2), source / "2.dcm")
    swapped.write_bytes(_tags_swapped(swapped.read_bytes()))
    (source / "3.txt").write_text("no DICOM")
    done = list(
        engine_for(EngineChoice.AUTO, Deidentifier(node_profile(), KEY)).deidentify_folder(
            source, tmp_path / "out"
        )
    )
    assert [each.engine for each in done if isinstance(each, Cleaned)] == ["fast", "careful"]
    assert [each.error.code for each in done if isinstance(each, Quarantined)] == ["not_dicom"]


def test_the_fast_engine_alone_holds_back_what_is_not_its_own(tmp_path: Path) -> None:
    swapped = written(image(2), tmp_path / "2.dcm")
    swapped.write_bytes(_tags_swapped(swapped.read_bytes()))
    engine = engine_for(EngineChoice.FAST, Deidentifier(node_profile(), KEY))
    (held,) = engine.deidentify_folder(tmp_path / "2.dcm", tmp_path / "out")
    assert isinstance(held, Quarantined)
    assert held.error.code == NeedsCarefulReading.code


# --- less of everything else ----------------------------------------------------------------------


def test_threads_share_an_engine(tmp_path: Path) -> None:
    paths = [
        written(image(n, PatientID=f"p{n % 3}", StudyDate=f"2024010{n % 9 + 1}"), tmp_path / f"{n}")
        for n in range(24)
    ]
    careful = Deidentifier(node_profile(), KEY)
    expected = [without_engine(said(careful, path)) for path in paths]
    fast = FastDeidentifier(careful)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(lambda path: without_engine(said(fast, path)), paths)
            assert list(found) == expected


def test_memory_does_not_grow_with_the_study(tmp_path: Path) -> None:
    """What differs in every instance is soon no longer kept."""
    fast = FastDeidentifier(Deidentifier(node_profile(), KEY))

    def one(number: int) -> None:
        ds = image(number, ContentDate=f"2024{number % 12 + 1:02}{number % 28 + 1:02}")
        ds.ImageComments = f"a comment that differs {number} " * 20
        said(fast, written(ds, tmp_path / "one.dcm"))

    for number in range(100):
        one(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(100, 400):
            one(number)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 300_000, grown


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


def test_bytes_are_read_from_files_alone() -> None:
    """Pixels are copied within the kernel: something without a descriptor is a caller's mistake."""
    with pytest.raises(OSError):
        FastDeidentifier(Deidentifier(node_profile(), KEY)).clean(io.BytesIO(b""))
