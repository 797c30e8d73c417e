"""The second look: what leaks is seen, by whatever way it got there; what is clean is let pass."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from dicom.deid import Deidentifier
from dicom.errors import IdentityLeft, InputError, NotDicom
from dicom.phantom import write_head_study
from dicom.profile import Action, Option, Profile, Verdict, node_profile, table_rules
from dicom.verify import Finding, Originals, SecondLook, Tokens
from tests.planted import KEY, Planter, as_file, plant_table, slice_of_mr

CORPUS = Path(__file__).parents[3] / "shared/data/dicom-corpus"
NAME, ID, BIRTH, STUDY_DATE = "Grünwald^Jürgen", "MRN-4711", "19610203", "20240506"
UID = "1.2.840.99999.17"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return a file and what the engine made of it."""
    ds = slice_of_mr()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, ID, BIRTH
    ds.StudyDate, ds.AccessionNumber, ds.StudyInstanceUID = STUDY_DATE, "ACC00123", UID
    ds.InstitutionName, ds.PatientTelephoneNumbers = "St. Elsewhere", "030 555 0199"
    source = as_file(ds, tmp_path / "source.dcm", ExplicitVRLittleEndian)
    instance, _ = Deidentifier(node_profile(), KEY).deidentify_file(source, tmp_path / "clean")
    return source, instance.path


def rules(source: Path, clean: Path, profile: Profile | None = None) -> set[str]:
    """Return the rules that a file breaks."""
    originals = Originals(profile or node_profile())
    before = originals.read(source)
    look = SecondLook(profile or node_profile(), originals.tokens)
    return {finding.rule for finding in look.look(clean, before)}


def test_what_the_engine_made_passes(pair: tuple[Path, Path]) -> None:
    assert rules(*pair) == set()


def test_the_original_breaks_every_rule(pair: tuple[Path, Path]) -> None:
    source, _ = pair
    wanted = {"name", "identifier", "uid", "table", "declaration"}  # dates: where they stood
    assert wanted <= rules(source, source)


# --- leaks by every way ---------------------------------------------------------------------------


def text_in(keyword: str, text: str) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, text)


def nested_text(ds: Dataset) -> None:
    deep = Dataset()
    deep.TextValue = "as told by mr. gruenwald of ACC00123"
    item = Dataset()
    item.ContentSequence = Sequence([deep])
    ds.ContentSequence = Sequence([item])


def in_private(ds: Dataset) -> None:
    ds.private_block(0x0029, "ACME", create=True).add_new(0x01, "UN", b"x\0St. Elsewhere\0y")


def other_alphabet(ds: Dataset) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SeriesDescription = "for GRÜNWALD"


def in_meta(ds: Dataset) -> None:
    ds.file_meta.SourceApplicationEntityTitle = "CT7"


@pytest.mark.parametrize(
    ("leak", "rule"),
    [
        (text_in("SeriesDescription", "head of Jürgen"), "name"),
        (text_in("SeriesDescription", "JÜRGEN"), "name"),
        (other_alphabet, "name"),
        (text_in("ImageComments", f"study {UID} was repeated"), "uid"),
        (text_in("FrameOfReferenceUID", "1.2.840.113619.2"), "uid"),
        (text_in("SeriesDescription", "follow-up of 20240506"), "date"),
        (text_in("ProtocolName", "born 19610203"), "date"),
        (text_in("StudyDate", STUDY_DATE), "table"),
        (text_in("PatientID", ID), "identifier"),
        (text_in("PatientName", "REMOVED"), "table"),
        (text_in("SeriesDescription", "call 030 555 0199"), "identifier"),
        (text_in("PatientAddress", "Somewhere Else 7"), "table"),
        (nested_text, "identifier"),
        (in_private, "private"),
        (in_private, "identifier"),
        (in_meta, "table"),
        (text_in("PatientIdentityRemoved", "NO"), "declaration"),
        (text_in("DeidentificationMethodCodeSequence", ""), "declaration"),
        (text_in("SOPInstanceUID", "2.25.1"), "uid"),
    ],
)
def test_a_leak_is_seen(
    pair: tuple[Path, Path], leak: Callable[[Dataset], None], rule: str
) -> None:
    source, clean = pair
    ds = dcmread(clean)
    if rule == "declaration" and not isinstance(ds.get("PatientIdentityRemoved"), str):
        pytest.fail("the engine declared nothing")
    leak(ds)
    if ds.get("DeidentificationMethodCodeSequence") == "":
        del ds.DeidentificationMethodCodeSequence
    ds.save_as(clean)
    assert rule in rules(source, clean)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda b: b"Dr. Elsewhere" + b[13:], "trailing"),
        (lambda b: b + b"ACC00123", "identifier"),
        (lambda b: b + b"anything", "trailing"),
        (lambda b: b + "JÜRGEN".encode("latin-1"), "name"),
    ],
)
def test_bytes_around_the_data_set_are_seen(
    pair: tuple[Path, Path], change: Callable[[bytes], bytes], rule: str
) -> None:
    source, clean = pair
    clean.write_bytes(change(clean.read_bytes()))
    assert rule in rules(source, clean)


def test_a_file_name_that_tells_is_seen(pair: tuple[Path, Path]) -> None:
    source, clean = pair
    told = clean.with_name(f"{ID}.dcm")
    clean.rename(told)
    assert rules(source, told) == {"file_name"}


def test_what_another_study_of_the_patient_says_is_searched_too(pair: tuple[Path, Path]) -> None:
    source, clean = pair
    originals = Originals(node_profile())
    originals.read(source)
    ds = dcmread(clean)
    ds.SeriesDescription = "before the operation by Krause"
    ds.save_as(clean)
    assert SecondLook(node_profile(), originals.tokens).look(clean) == ()
    both = originals.tokens | Tokens(words=frozenset({"krause"}))
    assert SecondLook(node_profile(), both).look(clean) == (Finding("name", "header"),)


def test_a_finding_never_says_what_was_found(pair: tuple[Path, Path]) -> None:
    source, _ = pair
    originals = Originals(node_profile())
    look = SecondLook(node_profile(), originals.tokens)
    before = originals.read(source)
    look = SecondLook(node_profile(), originals.tokens)
    with pytest.raises(IdentityLeft) as refused:
        look.check(source, before)
    for secret in ("rünwald", "4711", BIRTH, UID, "Elsewhere"):
        assert secret not in str(refused.value)
        assert secret not in repr(look.look(source, before))


def test_texts_beside_the_images_are_searched(pair: tuple[Path, Path]) -> None:
    source, _ = pair
    originals = Originals(node_profile())
    originals.read(source)
    look = SecondLook(node_profile(), originals.tokens)
    look.check_text(b'{"SeriesDescription": "t1 mprage"}')
    with pytest.raises(IdentityLeft):
        look.check_text(b'{"Comment": "mrn-4711"}')


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", bytes(500)])
def test_a_file_that_nobody_can_read_is_no_clean_file(
    pair: tuple[Path, Path], content: bytes
) -> None:
    source, clean = pair
    clean.write_bytes(content)
    with pytest.raises(NotDicom):
        rules(source, clean)


# --- no false alarm -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Head^Primary", "Axial^Original", "Li^Yu", "Siemens^Magnetom"])
def test_a_patient_may_be_called_like_a_word_of_the_standard(tmp_path: Path, name: str) -> None:
    ds = slice_of_mr()
    ds.PatientName, ds.BodyPartExamined = name, "HEAD"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer = "SIEMENS"
    source = as_file(ds, tmp_path / "source.dcm", ExplicitVRLittleEndian)
    instance, _ = Deidentifier(node_profile(), KEY).deidentify_file(source, tmp_path)
    assert rules(source, instance.path) == set()


def test_phantoms_pass(tmp_path: Path) -> None:
    engine = Deidentifier(node_profile(), KEY)
    for seed in range(1, 6):
        head = write_head_study(tmp_path / str(seed), seed=seed, slices=3, size=32)
        for one in head.series.instances:
            instance, _ = engine.deidentify_file(one.path, tmp_path / "clean")
            assert rules(one.path, instance.path) == set()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="shared/data is not here")
def test_every_file_of_the_corpus_that_the_engine_passed_is_clean(tmp_path: Path) -> None:
    engine = Deidentifier(node_profile(), KEY)
    passed, told = 0, []
    for path in sorted(p for p in CORPUS.rglob("*") if p.is_file()):
        try:
            instance, _ = engine.deidentify_file(path, tmp_path)
        except InputError:
            continue
        passed += 1
        if found := rules(path, instance.path):
            told.append((path.name, found))
    assert passed > 150
    assert told == []


# --- every rule, switched off ---------------------------------------------------------------------


@dataclass(frozen=True)
class Lame(Profile):
    """The node's profile with one attribute's rule switched off."""

    off: int = 0

    def verdict(
        self, tag: int, vr: str, *, iod: str = "", parent: int = 0, creator: str = ""
    ) -> Verdict:
        right = Profile.verdict(self, tag, vr, iod=iod, parent=parent, creator=creator)
        if tag != self.off or parent:
            return right
        return Verdict(Action.KEEP, right.otherwise, right.vr or vr, "switched off")


def test_each_rule_of_the_table_that_is_switched_off_is_caught(tmp_path: Path) -> None:
    """Planted in every attribute of the table: one rule at a time is off, and is told of."""
    planter = Planter()
    ds = slice_of_mr()
    plant_table(ds, planter, "top")
    for number in (0x00280301, 0x00287FE0, 0x54000100, 0x00420011):  # those refuse the object
        if number in ds:
            del ds[number]
    source = as_file(ds, tmp_path / "source.dcm", ExplicitVRLittleEndian)
    originals = Originals(node_profile())
    before = originals.read(source)
    look = SecondLook(node_profile(), originals.tokens)
    missed, tried = [], 0
    for tag in sorted(table_rules()):
        if tag not in ds or dictionary_vr(tag) == "SQ" or tag in (0x00100010, 0x00100020):
            continue
        right = node_profile().verdict(tag, dictionary_vr(tag), iod="MR Image")
        if right.action in (Action.KEEP, Action.TECHNICAL, Action.NUMERAL, Action.AGE, Action.CODE):
            continue
        if dictionary_vr(tag) == "TM":  # a time of day is kept
            continue
        instance, _ = Deidentifier(Lame(off=tag), KEY).deidentify_file(source, tmp_path / "out")
        tried += 1
        if not look.look(instance.path, before):
            missed.append(f"{tag:08X}")
    assert tried > 400
    assert missed == []


def dictionary_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "LO"


def test_what_a_profile_keeps_is_no_finding(tmp_path: Path) -> None:
    profile = Profile(frozenset({*node_profile().options, Option.RETAIN_PATIENT_CHARACTERISTICS}))
    ds = slice_of_mr()
    ds.PatientSex, ds.PatientAge, ds.PatientWeight = "F", "044Y", "71.5"
    source = as_file(ds, tmp_path / "source.dcm", ExplicitVRLittleEndian)
    instance, _ = Deidentifier(profile, KEY).deidentify_file(source, tmp_path)
    assert dcmread(instance.path).PatientAge == "044Y"
    assert rules(source, instance.path, profile) == set()
    assert "table" in rules(source, instance.path)


def test_a_stream_of_deflated_bytes_is_searched_as_it_reads(tmp_path: Path) -> None:
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    ds = slice_of_mr()
    ds.PatientName = NAME
    source = as_file(ds, tmp_path / "source.dcm", DeflatedExplicitVRLittleEndian)
    instance, _ = Deidentifier(node_profile(), KEY).deidentify_file(source, tmp_path)
    assert rules(source, instance.path) == set()
    leaky = dcmread(instance.path)
    leaky.SeriesDescription = "for Jürgen"
    out = io.BytesIO()
    leaky.save_as(out)
    instance.path.write_bytes(out.getvalue())
    assert "name" in rules(source, instance.path)
