"""De-identification: nothing of the identity is left, and nothing of the image is lost."""

from __future__ import annotations

import csv
import io
import re
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from dicom.deid import Cleaned, Deidentifier, Identity, Quarantined
from dicom.errors import CannotDeidentify, InputError, NotDicom, UnsupportedTransferSyntax
from dicom.profile import Option, Profile, node_profile, table_rules
from dicom.uids import date_shift_days, patient_pseudonym, pseudonym_uid

KEY = bytes(range(32))
MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
SHARED = Path(__file__).parents[3] / "shared/data"
CORPUS = SHARED / "dicom-corpus"
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]

# Content Sequence holds itself to any depth, so that whatever is planted in it must be judged.
NEST = (0x0040A730,) * 4


@pytest.fixture(scope="module")
def engine() -> Deidentifier:
    return Deidentifier(node_profile(), KEY)


def corpus(name: str) -> Path:
    path = CORPUS / name
    if not path.exists():
        pytest.skip("../shared/data/dicom-corpus is not here")
    return path


def slice_of_mr(**attributes: object) -> Dataset:
    """Return one MR slice, explicit VR little endian, with a plain fake identity."""
    ds = Dataset()
    ds.SOPClassUID = MR_CLASS
    ds.SOPInstanceUID = "1.2.826.77.1.1"
    ds.StudyInstanceUID = "1.2.826.77.2"
    ds.SeriesInstanceUID = "1.2.826.77.3"
    ds.FrameOfReferenceUID = "1.2.826.77.4"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.Modality = "MR"
    ds.PatientName = "Wagner^Johanna"
    ds.PatientID = "MRN-4711"
    ds.IssuerOfPatientID = "St. Elsewhere"
    ds.PatientBirthDate = "19500102"
    ds.PatientSex = "F"
    ds.PatientAge = "093Y"
    ds.PatientWeight = "61.5"
    ds.StudyDate = "20240229"
    ds.StudyTime = "101500"
    ds.AccessionNumber = "ACC-9"
    ds.ReferringPhysicianName = "House^Gregory"
    ds.StudyID = "S1"
    ds.StudyDescription = "MR Brain"
    ds.SeriesNumber = "3"
    ds.InstanceNumber = "1"
    ds.ImagePositionPatient = [-1.5, 2, 3]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.9, 0.9]
    ds.Rows, ds.Columns = 4, 6
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.arange(24, dtype="<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.SourceApplicationEntityTitle = "SCANNER-7"
    ds.file_meta.ImplementationClassUID = "1.2.826.77.9"
    ds.file_meta.MediaStorageSOPClassUID = MR_CLASS
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def as_file(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    ds.file_meta.TransferSyntaxUID = syntax
    ds.preamble = b"WAGNER JOHANNA".ljust(128, b"\0")
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def clean_file(engine: Deidentifier, source: Path, tmp_path: Path) -> tuple[Path, Identity]:
    folder = tmp_path / "clean"
    folder.mkdir(exist_ok=True)
    instance, identity = engine.deidentify_file(source, folder)
    return instance.path, identity


def add(ds: Dataset, number: int, vr: str, value: object) -> None:
    """Put a value in unchecked: real files hold what no standard allows."""
    if vr == "UN":
        assert isinstance(value, bytes)
        padded = value + b"\0" * (len(value) % 2)
        ds[number] = RawDataElement(BaseTag(number), vr, len(padded), padded, 0, False, True)
    else:
        ds[number] = DataElement(number, vr, value, validation_mode=config.IGNORE)


def nested(ds: Dataset, depth: int) -> Dataset:
    """Return the item at that depth of NEST, made when absent."""
    for number in NEST[:depth]:
        if number not in ds:
            ds[number] = DataElement(number, "SQ", Sequence([Dataset()]))
        ds = ds[number].value[0]
    return ds


# --- planted tokens -------------------------------------------------------------------------------


class Planter:
    """Makes a value for a VR that occurs nowhere else, and knows how to look for it."""

    def __init__(self) -> None:
        self.count = 0
        self.days = 0
        self.tokens: dict[bytes, str] = {}

    def value(self, vr: str, where: str) -> object | None:
        """Return a value with a token in it; None for a VR that is too short to hold one."""
        self.count += 1
        n = self.count
        if vr in ("OB", "UN", "OW", "OB or OW"):
            return self._look_for(f"QZXB{n:06d}", where).encode()
        if vr == "DA":
            return self._look_for(self._next_day(), where)
        if vr == "DT":
            return self._look_for(f"{self._next_day()}101112", where)
        if vr == "TM":
            return "101112"  # kept: a time of day without its date
        if vr == "UI":
            return self._look_for(f"1.2.826.99.{n:06d}", where)
        if vr in ("DS", "IS"):
            return self._look_for(f"77{n:06d}", where)
        if vr == "AS":
            return "101Y"
        if vr in ("US", "SS", "UL", "SL", "FL", "FD", "AT"):
            return None
        if vr == "CS":
            return self._look_for(f"QZX{n:06d}", where)
        return self._look_for(f"Qzx{n:06d}", where)

    def _look_for(self, token: str, where: str) -> str:
        self.tokens[token.encode()] = where
        return token

    def _next_day(self) -> str:
        """Return days of a block that is shorter than the tests' shift: no two ever meet."""
        self.days += 1
        day = date(1801, 1, 1) + timedelta(days=self.days)
        return f"{day.year:04}{day.month:02}{day.day:02}"

    def found(self, content: bytes) -> list[str]:
        return [where for token, where in self.tokens.items() if token in content]


def plant_table(ds: Dataset, planter: Planter, where: str) -> int:
    """Plant a token in every attribute of the table; return how many."""
    planted = 0
    for number, rule in sorted(table_rules().items()):
        if number >> 16 in (0x0000, 0x0002, 0x7FE0, 0xFFFA, 0xFFFC):  # not in a data set's header
            continue
        try:
            vr = dictionary_VR(number)
        except KeyError:
            vr = "LO"  # newer than the dictionary
        name = f"{where} {rule.name}"
        if vr == "SQ":
            item = Dataset()
            add(item, 0x00080104, "LO", planter.value("LO", name))
            add(item, 0x0040A160, "UT", planter.value("UT", name))
            add(item, 0x00081155, "UI", planter.value("UI", name))
            add(item, 0x00100010, "PN", planter.value("PN", name))
            ds[number] = DataElement(number, "SQ", Sequence([item]))
        elif number in (0x00080016, 0x0020000D, 0x0020000E, 0x00080018):
            continue
        elif (value := planter.value(vr, name)) is not None:
            add(ds, number, vr, value)
        else:
            continue
        planted += 1
    return planted


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_no_token_in_any_attribute_of_the_table_at_any_depth_survives(engine, tmp_path, syntax):
    """Planted at depth 0 to 4 of public sequences: the bytes of the output hold none of it."""
    planter = Planter()
    ds = slice_of_mr()
    planted = sum(plant_table(nested(ds, depth), planter, f"depth {depth}:") for depth in range(5))
    ds.PatientID = "MRN-4711"
    assert planted > 3000
    assert planter.days < -date_shift_days(KEY, "MRN-4711", "St. Elsewhere")
    ds.IssuerOfPatientID = "St. Elsewhere"
    for number in (0x00280301, 0x00287FE0, 0x54000100, 0x00420011):  # those refuse the object
        if number in ds:
            del ds[number]
    source = as_file(ds, tmp_path / "planted.dcm", syntax)
    assert len(planter.found(source.read_bytes())) > 3000
    clean, _ = clean_file(engine, source, tmp_path)
    assert planter.found(clean.read_bytes()) == []


def test_no_token_in_any_text_outside_the_table_survives(engine, tmp_path):
    """Every attribute of the dictionary that can hold a text, at the top and two levels down."""
    planter = Planter()
    ds = slice_of_mr()
    texts = {"AE", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "PN", "UI", "DA", "DT", "OB", "UN"}
    profile = node_profile()
    planted = 0
    for depth in (0, 2):
        target = nested(ds, depth)
        for number in DicomDictionary:
            vr = dictionary_VR(number)
            if vr not in texts or number >> 16 in (0, 2, 4, 0x7FE0) or number in ds:
                continue
            if number in (0x00287FE0, 0x00420011, 0x00080005) or keyword_for_tag(number) == "":
                continue
            if profile.verdict(number, vr).action.name in ("TECHNICAL", "KEEP"):
                continue  # those have their own test
            if planter.count > 3000:
                break
            add(target, number, vr, planter.value(vr, f"depth {depth}: {keyword_for_tag(number)}"))
            planted += 1
    assert planted > 800
    source = as_file(ds, tmp_path / "planted.dcm")
    clean, _ = clean_file(engine, source, tmp_path)
    assert planter.found(clean.read_bytes()) == []


def test_private_attributes_go_at_every_depth_with_all_they_hold(engine, tmp_path):
    ds = slice_of_mr()
    for depth in range(5):
        item = nested(ds, depth)
        inner = Dataset()
        inner.PatientName = "Secret^Token"
        add(item, 0x00090010, "LO", "ACME SECRET")
        add(item, 0x00091001, "LO", "SECRET TOKEN")
        add(item, 0x00091002, "SQ", Sequence([inner]))
        add(item, 0x00091003, "UN", b"SECRET TOKEN")
    clean, _ = clean_file(engine, as_file(ds, tmp_path / "private.dcm"), tmp_path)
    content = clean.read_bytes().upper()
    assert b"SECRET" not in content
    assert b"ACME" not in content


def test_a_sequence_hidden_in_a_un_value_is_cleaned_too(engine, tmp_path):
    inner = Dataset()
    inner.PatientName = "Secret^Token"
    inner.ReferencedSOPClassUID = MR_CLASS
    inner.ReferencedSOPInstanceUID = "1.2.826.77.1.1"
    body = DicomBytesIO()
    body.is_little_endian, body.is_implicit_VR = True, True
    write_dataset(body, inner)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(body.getvalue())) + body.getvalue()
    ds = slice_of_mr()
    add(ds, 0x00082112, "UN", item)  # Source Image Sequence
    source = as_file(ds, tmp_path / "un.dcm")
    assert b"Secret" in source.read_bytes()
    clean, identity = clean_file(engine, source, tmp_path)
    assert b"Secret" not in clean.read_bytes()
    reference = dcmread(clean).SourceImageSequence[0]
    assert identity.uids[reference.ReferencedSOPInstanceUID] == "1.2.826.77.1.1"


def test_a_un_value_too_short_for_an_item_is_refused(engine):
    ds = slice_of_mr()
    add(ds, 0x00081140, "UN", b"Weaver")  # Referenced Image Sequence
    with pytest.raises(NotDicom):
        engine.deidentify(ds)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40))
def test_a_un_value_that_is_no_sequence_passes_nothing_on(noise):
    ds = slice_of_mr()
    add(ds, 0x00082112, "UN", noise + b"Wagner^Johanna, no sequence" + noise)
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    buffer.seek(0)
    try:
        clean, _ = Deidentifier(node_profile(), KEY).deidentify(dcmread(buffer))
    except (NotDicom, CannotDeidentify):
        return
    out = io.BytesIO()
    dcmwrite(out, clean, enforce_file_format=True)
    assert b"Johanna" not in out.getvalue()
    assert b"no sequence" not in out.getvalue()


def test_preamble_and_file_meta_say_nothing_of_the_source(engine, tmp_path):
    clean, _ = clean_file(engine, as_file(slice_of_mr(), tmp_path / "a.dcm"), tmp_path)
    content = clean.read_bytes()
    assert content[:128] == bytes(128)
    meta = dcmread(clean).file_meta
    assert "SourceApplicationEntityTitle" not in meta
    assert meta.ImplementationClassUID != "1.2.826.77.9"
    assert meta.MediaStorageSOPInstanceUID == pseudonym_uid(KEY, "1.2.826.77.1.1")
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert b"1.2.826.77" not in content


def test_what_follows_the_pixels_is_dropped_unread(engine, tmp_path):
    ds = slice_of_mr()
    add(ds, 0x7FE11010, "LO", "SECRET CSA")
    add(ds, 0xFFFCFFFC, "OB", b"SECRET PADDING")
    clean, _ = clean_file(engine, as_file(ds, tmp_path / "a.dcm"), tmp_path)
    assert b"SECRET" not in clean.read_bytes()
    assert dcmread(clean).PixelData == ds.PixelData


def test_overlays_go_as_whole_planes(engine):
    ds = slice_of_mr()
    for offset, vr, value in [(0x10, "US", 4), (0x3000, "OW", b"\1\0"), (0x22, "LO", "Secret")]:
        add(ds, 0x60020000 | offset, vr, value)
    add(ds, 0x50003000, "OW", b"\1\0")
    clean, _ = engine.deidentify(ds)
    assert not [tag for tag in clean.keys() if tag.group in (0x6002, 0x5000)]  # noqa: SIM118


# --- what stays -----------------------------------------------------------------------------------


def test_image_geometry_and_acquisition_stay(engine):
    ds = slice_of_mr(
        EchoTime="2.5",
        RepetitionTime="2000",
        MagneticFieldStrength="3",
        SequenceName="*tfl3d1",
        Manufacturer="SIEMENS",
        SoftwareVersions="syngo MR E11",
        RescaleSlope="1",
        WindowCenter=["40", "50"],
        BodyPartExamined="BRAIN",
    )
    clean, _ = engine.deidentify(ds)
    for keyword in [
        *("SOPClassUID", "Modality", "ImageType", "ImagePositionPatient", "PixelSpacing", "Rows"),
        *("ImageOrientationPatient", "PixelData", "EchoTime", "RepetitionTime", "SequenceName"),
        *("MagneticFieldStrength", "Manufacturer", "SoftwareVersions", "RescaleSlope"),
        *("WindowCenter", "BodyPartExamined", "SeriesNumber", "InstanceNumber", "BitsStored"),
    ]:
        assert clean[keyword].value == ds[keyword].value, keyword
    assert clean.StudyDescription == "MR Brain"


def test_the_object_says_what_was_done_to_it(engine):
    clean, _ = engine.deidentify(slice_of_mr())
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105", "113107"]
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "PS3.15 2026c Basic Profile" in clean.DeidentificationMethod
    plain, _ = Deidentifier(Profile(frozenset()), KEY).deidentify(slice_of_mr())
    assert plain.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in plain.DeidentificationMethodCodeSequence] == ["113100"]
    assert plain.StudyDate == ""


def test_the_input_is_left_as_it_is(engine):
    ds = slice_of_mr()
    before = ds.to_json()
    engine.deidentify(ds)
    assert ds.to_json() == before


# --- patient and dates ----------------------------------------------------------------------------


def test_a_patient_has_one_pseudonym_and_one_shift_in_all_studies(engine):
    first, _ = engine.deidentify(slice_of_mr())
    later = slice_of_mr(
        StudyInstanceUID="1.2.826.77.20",
        StudyDate="20240310",
        AcquisitionDateTime="20240310235959.5",
    )
    second, _ = engine.deidentify(later)
    assert (
        first.PatientID == second.PatientID == patient_pseudonym(KEY, "MRN-4711", "St. Elsewhere")
    )
    assert first.PatientName == first.PatientID

    def day(text: str) -> date:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))

    assert day(second.StudyDate) - day(first.StudyDate) == timedelta(days=10)
    shift = date_shift_days(KEY, "MRN-4711", "St. Elsewhere")
    assert day(first.StudyDate) == date(2024, 2, 29) + timedelta(days=shift)
    assert second.AcquisitionDateTime == second.StudyDate + "235959.5"
    assert first.StudyTime == "101500"
    assert first.PatientBirthDate == ""
    assert "PatientAge" not in first


def test_patients_without_an_id_are_not_taken_for_one_another(engine):
    one, _ = engine.deidentify(slice_of_mr(PatientID=""))
    other, _ = engine.deidentify(slice_of_mr(PatientID="", StudyInstanceUID="1.2.826.77.21"))
    assert one.PatientID != other.PatientID


@pytest.mark.parametrize("text", ["2024.02.29", "yesterday", "20241399", "29FEB2024", "00010101"])
def test_a_date_that_cannot_be_shifted_is_lost(engine, text):
    ds = slice_of_mr()
    add(ds, 0x00080020, "DA", text)
    add(ds, 0x00080021, "DA", text)
    clean, _ = engine.deidentify(ds)
    assert clean.StudyDate == ""  # type 2
    assert "SeriesDate" not in clean


def test_ages_over_89_become_one_class_where_ages_are_kept():
    options = node_profile().options | {Option.RETAIN_PATIENT_CHARACTERISTICS}
    engine = Deidentifier(Profile(options), KEY)
    for age, expected in [("093Y", "090Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("011M", "011M")]:
        clean, _ = engine.deidentify(slice_of_mr(PatientAge=age))
        assert clean.PatientAge == expected
    assert clean.PatientSex == "F"
    assert clean.PatientWeight == 61.5
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113105", "113107", "113108"]
    ds = slice_of_mr()
    add(ds, 0x00101010, "AS", "born 1950")
    clean, _ = engine.deidentify(ds)
    assert "PatientAge" not in clean


# --- texts, codes, character sets -----------------------------------------------------------------


def test_the_patients_name_does_not_stay_in_any_text(engine, tmp_path):
    ds = slice_of_mr(
        PatientName="Head^Axial",
        StudyDescription="Head axial Wagner 19500102",
        SeriesDescription="axial T1 for Lady Head",
        ProtocolName="HEAD/t2",
        ManufacturerModelName="Axial 3000",
        ImageComments="Head",
        BodyPartExamined="HEAD",
    )
    clean, _ = engine.deidentify(ds)
    assert "StudyDescription" not in clean
    assert clean.SeriesDescription == "T1"
    assert clean.ProtocolName == "t2"
    assert "ImageComments" not in clean
    assert clean.BodyPartExamined == "HEAD"  # a defined term of the standard (PS3.16 Annex L)
    assert "Axial" not in clean.get("ManufacturerModelName", "")


def test_codes_of_a_published_scheme_stay_and_local_ones_are_hidden(engine):
    def item(value: str, scheme: str, meaning: str) -> Dataset:
        ds = Dataset()
        ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
        return ds

    ds = slice_of_mr()
    ds.AnatomicRegionSequence = [
        item("12738006", "SCT", "Brain"),
        item("MRB-WAGNER", "99ELSEWHERE", "Brain of Johanna"),
        item("12738006", "SCT", "Brain of Johanna"),
    ]
    clean, _ = engine.deidentify(ds)
    public, local, abused = clean.AnatomicRegionSequence
    assert (public.CodeValue, public.CodeMeaning) == ("12738006", "Brain")
    assert re.fullmatch(r"R[0-9A-F]{6}", local.CodeValue)
    assert re.fullmatch(r"99[0-9A-F]{6}", local.CodingSchemeDesignator)
    assert local.CodeMeaning == "Brain"
    assert abused.CodeMeaning == "Brain"


def test_content_that_says_who_the_subject_is_is_dropped(engine):
    """PS3.16 TID 1007: a birth date moved with the study's date would still tell the age."""

    def content(concept: str, **values: str) -> Dataset:
        item, name = Dataset(), Dataset()
        name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = concept, "DCM", "-"
        item.ConceptNameCodeSequence = [name]
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return item

    ds = slice_of_mr(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    ds.ContentSequence = [
        content("121031", Date="19500102"),
        content("121033", TextValue="74"),
        content("111060", Date="20240229"),
    ]
    clean, _ = engine.deidentify(ds)
    assert [item.Date for item in clean.ContentSequence] == [clean.StudyDate]


def test_a_misspelt_character_set_is_dropped_not_replaced(engine):
    ds = slice_of_mr()
    add(ds, 0x00080005, "CS", "iso ir wagner")
    clean, _ = engine.deidentify(ds)
    assert "SpecificCharacterSet" not in clean


def test_over_long_numbers_of_the_geometry_stay(engine, tmp_path):
    source = as_file(slice_of_mr(ImagePositionPatient=["1", "2.25", "3"]), tmp_path / "a.dcm")
    content = source.read_bytes()
    short, long = b"DS\x08\x001\\2.25\\3", b"DS\x28\x00-123.45678901234567890123456789\\2.25\\3 "
    assert content.count(short) == 1
    long = long[:2] + struct.pack("<H", len(long) - 4) + long[4:]
    source.write_bytes(content.replace(short, long))
    clean, _ = clean_file(engine, source, tmp_path)
    assert long in clean.read_bytes()


@pytest.mark.parametrize(
    ("charset", "name", "text"),
    [
        ("ISO_IR 100", "Müller^Jürgen", "Schädel Müller t1"),
        ("ISO_IR 192", "山田^太郎", "山田太郎 head t1"),
        ("GB18030", "王^小东", "王小东 t1"),
        ("ISO_IR 144", "Люкceмбypг", "Люкceмбypг t1"),  # noqa: RUF001 - Cyrillic is meant
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田 t1"),
    ],
)
def test_other_alphabets_are_read_dropped_and_given_back(engine, tmp_path, charset, name, text):
    ds = slice_of_mr()
    ds.SpecificCharacterSet = charset
    ds.PatientName = name
    ds.SeriesDescription = text
    ds.PatientComments = text
    source = as_file(ds, tmp_path / "a.dcm")
    clean, identity = clean_file(engine, source, tmp_path)
    written = dcmread(clean)
    assert written.get("SeriesDescription", "").removeprefix("head ") in ("t1", "")
    encoded = dcmread(source).get_item(0x00100010).value.strip()
    for part in re.split(rb"[\^=]", encoded):
        assert part not in clean.read_bytes()
    assert str(Dataset.from_json(dict(identity.attributes)).PatientName) == name


# --- the way back ---------------------------------------------------------------------------------


def test_the_identity_holds_every_uid_and_every_attribute_of_patient_and_study(engine):
    ds = slice_of_mr()
    ds.ReferencedImageSequence = [Dataset()]
    ds.ReferencedImageSequence[0].ReferencedSOPClassUID = MR_CLASS
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.826.77.1.9"
    clean, identity = engine.deidentify(ds)
    assert identity.study_pseudonym == clean.StudyInstanceUID
    assert set(identity.uids.values()) == {
        *("1.2.826.77.1.1", "1.2.826.77.2", "1.2.826.77.3", "1.2.826.77.4", "1.2.826.77.1.9")
    }
    assert all(pseudonym_uid(KEY, uid) == pseudonym for pseudonym, uid in identity.uids.items())
    original = Dataset.from_json(dict(identity.attributes))
    for keyword in [
        *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
        *("PatientAge", "PatientWeight", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"),
        *("ReferringPhysicianName", "StudyDescription"),
    ]:
        assert original[keyword].value == ds[keyword].value, keyword


def test_identities_of_one_study_add_up_and_of_two_do_not(engine):
    one = engine.deidentify(slice_of_mr())[1]
    two = engine.deidentify(slice_of_mr(SOPInstanceUID="1.2.826.77.1.2"))[1]
    assert set(one.merged(two).uids) == set(one.uids) | set(two.uids)
    assert one.merged(two).attributes == one.attributes
    strangers = [
        engine.deidentify(slice_of_mr(StudyInstanceUID="1.2.826.77.22"))[1],
        engine.deidentify(slice_of_mr(PatientID="MRN-4712"))[1],
        Identity(one.study_pseudonym, dict.fromkeys(one.uids, "1.2"), one.attributes),
    ]
    for stranger in strangers:
        with pytest.raises(CannotDeidentify):
            one.merged(stranger)
        with pytest.raises(CannotDeidentify):
            Identity.of([one, two, stranger])


def test_the_identity_of_many_instances_is_that_of_one_after_the_other(engine):
    parts = [
        engine.deidentify(slice_of_mr(SOPInstanceUID=f"1.2.826.77.1.{n}", PatientWeight=70 + n))[1]
        for n in range(5)
    ]
    before = [(dict(part.uids), dict(part.attributes)) for part in parts]
    whole = Identity.of(iter(parts))
    assert whole.uids == {k: v for part in parts for k, v in part.uids.items()}
    assert whole.attributes == parts[0].attributes
    assert whole.attributes["00101030"] != parts[1].attributes["00101030"]
    assert [(dict(part.uids), dict(part.attributes)) for part in parts] == before
    last = parts[-1]
    clash = Identity(last.study_pseudonym, dict.fromkeys(last.uids, "1.2"), last.attributes)
    with pytest.raises(CannotDeidentify, match="two UIDs"):
        Identity.of([*parts, clash])
    with pytest.raises(ValueError, match="at least one"):
        Identity.of([])


uids = st.from_regex(r"1\.2\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(uids, min_size=1, max_size=6), st.binary(min_size=32, max_size=32))
def test_a_uid_has_one_pseudonym_wherever_it_stands(originals, key):
    ds = slice_of_mr(SOPInstanceUID=originals[0])
    ds.SourceImageSequence = []
    for uid in originals:
        reference = Dataset()
        reference.ReferencedSOPInstanceUID = uid
        ds.SourceImageSequence.append(reference)
    add(ds, 0x00083010, "UI", originals)  # IrradiationEventUID, many values
    clean, identity = Deidentifier(node_profile(), key).deidentify(ds)
    replaced = [item.ReferencedSOPInstanceUID for item in clean.SourceImageSequence]
    assert [identity.uids[uid] for uid in replaced] == originals
    assert clean.SOPInstanceUID == replaced[0]
    assert len(set(replaced)) == len(set(originals))
    assert clean.get_item(0x00083010).value.rstrip(b"\0").decode().split("\\") == replaced


def test_uids_of_the_standard_stay(engine):
    ds = slice_of_mr(FrameOfReferenceUID="1.2.840.10008.1.4.1.1")  # Talairach atlas
    ds.CodingSchemeIdentificationSequence = [Dataset()]
    ds.CodingSchemeIdentificationSequence[0].CodingSchemeUID = "2.16.840.1.113883.6.96"
    fake = "1.2.840.10008.99.4711"
    ds.RelatedGeneralSOPClassUID = fake
    clean, identity = engine.deidentify(ds)
    assert clean.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert clean.CodingSchemeIdentificationSequence[0].CodingSchemeUID == "2.16.840.1.113883.6.96"
    assert clean.RelatedGeneralSOPClassUID == pseudonym_uid(KEY, fake)
    assert fake in identity.uids.values()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        {"BurnedInAnnotation": "YES"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.1"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.1.1"},
        {"SOPClassUID": "1.3.46.670589.11.0.0.12.1"},
        {"SOPClassUID": ""},
        {"StudyInstanceUID": ""},
        {"SOPInstanceUID": ""},
        {"PixelDataProviderURL": "http://elsewhere/"},
        {"EncapsulatedDocument": b"%PDF"},
        {"WaveformSequence": [Dataset()]},
    ],
    ids=lambda attributes: "-".join(f"{k}={v}" for k, v in attributes.items())[:60],
)
def test_what_no_rule_judges_is_refused(engine, attributes):
    with pytest.raises(CannotDeidentify):
        engine.deidentify(slice_of_mr(**attributes))


@pytest.mark.parametrize("depth", [41, 400])
def test_sequences_nested_without_end_are_refused(engine, tmp_path, depth):
    """A value of defined length inside another, hundreds deep, must not exhaust the stack."""
    item = b""
    for _ in range(depth):
        head = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
        item = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, len(head)) + head
    source = as_file(slice_of_mr(), tmp_path / "deep.dcm")
    content = source.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00OW")  # before the pixels
    source.write_bytes(content[:place] + item + content[place:])
    with pytest.raises((CannotDeidentify, NotDicom)):
        clean_file(engine, source, tmp_path)


def test_an_overlay_in_the_bits_of_the_pixels_is_refused(engine):
    ds = slice_of_mr()
    add(ds, 0x60000100, "US", 16)
    add(ds, 0x60000102, "US", 12)
    with pytest.raises(CannotDeidentify, match="overlay"):
        engine.deidentify(ds)


def test_a_transfer_syntax_that_is_private_or_absent_or_a_video_is_refused(engine):
    for syntax, error in [
        ("1.2.826.77.1", UnsupportedTransferSyntax),
        ("1.2.840.10008.1.2.4.102", CannotDeidentify),
        ("1.2.840.10008.1.2.4.94", CannotDeidentify),
        ("", NotDicom),
    ]:
        ds = slice_of_mr()
        ds.file_meta.TransferSyntaxUID = syntax
        with pytest.raises(error):
            engine.deidentify(ds)


def test_a_file_that_ends_too_early_is_refused_wherever_it_was_cut(engine, tmp_path):
    whole = as_file(slice_of_mr(), tmp_path / "whole.dcm").read_bytes()
    source = tmp_path / "cut.dcm"
    passed = 0
    for length in range(0, len(whole), 3):
        source.write_bytes(whole[:length])
        try:
            clean_file(engine, source, tmp_path)
        except InputError:
            continue
        passed += 1
    # A cut between two attributes leaves a readable header; without pixels it is one all the same.
    assert passed < len(whole) / 3 / 4
    assert not list((tmp_path / "clean").glob("*.part"))


def test_encapsulated_pixels_are_copied_fragment_by_fragment(engine, tmp_path):
    ds = slice_of_mr()
    fragments = b"".join(
        struct.pack("<HHL", 0xFFFE, 0xE000, len(part)) + part for part in (b"", b"ABCD", b"EF")
    )
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    add(ds, 0x7FE00010, "OB", fragments)
    ds["PixelData"].is_undefined_length = True
    source = as_file(ds, tmp_path / "a.dcm", JPEG2000Lossless)
    trailing = source.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0\x06\0\0\0SECRET"
    source.write_bytes(trailing)
    clean, _ = clean_file(engine, source, tmp_path)
    assert clean.read_bytes().endswith(fragments + end)
    source.write_bytes(trailing[: trailing.index(end)])
    with pytest.raises(NotDicom):
        clean_file(engine, source, tmp_path)


def test_no_error_quotes_what_it_met(engine, tmp_path, recwarn):
    ds = slice_of_mr(PatientWeight="123.45", EchoTime="234.56", SeriesNumber="345678")
    ds.StudyDate, ds.SeriesDate, ds.AcquisitionTime = "20240405", "20240406", "060708"
    source = as_file(ds, tmp_path / "a.dcm")
    content = source.read_bytes()
    for good in (b"123.45", b"234.56", b"345678", b"240405", b"240406", b"060708"):
        assert good in content
        content = content.replace(good, b"Wagner")
    source.write_bytes(content)
    clean, _ = clean_file(engine, source, tmp_path)
    assert b"Wagner" not in clean.read_bytes()
    assert "Wagner" not in " ".join(str(warning.message) for warning in recwarn)


# --- files ----------------------------------------------------------------------------------------


def test_the_same_file_gives_the_same_bytes(engine, tmp_path):
    source = as_file(slice_of_mr(), tmp_path / "a.dcm")
    first = clean_file(engine, source, tmp_path)[0].read_bytes()
    again = clean_file(Deidentifier(node_profile(), KEY), source, tmp_path)[0].read_bytes()
    assert first == again


def test_a_file_name_gives_nothing_away_and_nothing_half_written_stays(engine, tmp_path):
    source = as_file(slice_of_mr(), tmp_path / "WAGNER_JOHANNA.dcm")
    clean, _ = clean_file(engine, source, tmp_path)
    assert clean.name == pseudonym_uid(KEY, "1.2.826.77.1.1") + ".dcm"
    assert [path.name for path in clean.parent.iterdir()] == [clean.name]


def test_a_deflated_file_stays_deflated(engine, tmp_path):
    source = as_file(slice_of_mr(), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    clean, _ = clean_file(engine, source, tmp_path)
    written = dcmread(clean)
    assert written.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert written.PixelData == slice_of_mr().PixelData
    assert written.PatientIdentityRemoved == "YES"


def test_a_folder_is_done_file_by_file_and_the_rest_is_quarantined(engine, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    as_file(slice_of_mr(), source / "a.dcm")
    as_file(slice_of_mr(), source / "b.dcm")  # the same instance again
    as_file(slice_of_mr(SOPInstanceUID="1.2.826.77.1.2"), source / "deep" / "c")
    as_file(slice_of_mr(BurnedInAnnotation="YES"), source / "d.dcm")
    (source / "notes.txt").write_text("Wagner, Johanna")
    (source / "empty.dcm").touch()
    outcomes = {path.source.name: path for path in engine.deidentify_folder(source, target)}
    done = [outcome for outcome in outcomes.values() if isinstance(outcome, Cleaned)]
    held = {
        name: outcome.error.code
        for name, outcome in outcomes.items()
        if isinstance(outcome, Quarantined)
    }
    assert held == {
        "b.dcm": "cannot_deidentify",
        "d.dcm": "burned_in_text",
        "notes.txt": "not_dicom",
        "empty.dcm": "not_dicom",
    }
    assert sorted(outcome.instance.path for outcome in done) == sorted(target.rglob("*.dcm"))
    ds = dcmread(done[0].instance.path)
    parts = done[0].instance.path.relative_to(target).parts
    assert parts[:3] == (ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID)


def test_the_target_must_not_lie_in_the_source(engine, tmp_path):
    with pytest.raises(ValueError, match="within"):
        next(engine.deidentify_folder(tmp_path, tmp_path / "out"))


# --- real files -----------------------------------------------------------------------------------


def originals_of(ds: Dataset) -> Iterator[bytes]:
    """Yield what must not be found in the output: names, ids and UIDs of the source's header."""
    for element in ds.iterall():
        if element.VR == "PN" and element.value:
            yield from (part.encode() for part in re.split(r"[\^= ,]", str(element.value)))
        if element.keyword in ("PatientID", "AccessionNumber", "DeviceSerialNumber"):
            yield str(element.value).encode()
        if element.VR == "UI" and not str(element.value).startswith("1.2.840.10008."):
            values = [element.value] if isinstance(element.value, str) else element.value or []
            yield from (str(value).encode() for value in values)


@cache
def _words_of_dicom() -> bytes:
    """Words that stand in many headers by right (method codes, terms), in one text."""
    clean, _ = Deidentifier(node_profile(), KEY).deidentify(slice_of_mr())
    clean.PixelData = b""
    buffer = io.BytesIO()
    dcmwrite(buffer, clean, enforce_file_format=True)
    return buffer.getvalue()


def header_of(path: Path) -> bytes:
    """Return the bytes of a file before its pixels: noise may look like a short name."""
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)
        end = file.tell()
        file.seek(0)
        return file.read(end)


@pytest.mark.filterwarnings("ignore")
def test_every_file_of_the_corpus_is_clean_or_refused_with_a_code(engine, tmp_path):
    index = corpus("INDEX.csv")
    rows = list(csv.DictReader(index.open()))
    results: Counter[str] = Counter()
    for row in rows:
        source = CORPUS / row["path"]
        try:
            clean, identity = clean_file(engine, source, tmp_path)
        except (NotDicom, CannotDeidentify, UnsupportedTransferSyntax) as error:
            results[error.code] += 1
            if row["read"] == "force-only":
                assert error.code == "not_dicom", row["path"]
            continue
        assert row["read"] == "ok", row["path"]
        results["clean"] += 1
        before, after = dcmread(source), dcmread(clean)
        assert after.PatientIdentityRemoved == "YES"
        assert not [tag for tag in after.keys() if tag.is_private]  # noqa: SIM118 - tags
        assert after.get("Rows") == before.get("Rows")
        assert after.get("PixelData") == before.get("PixelData"), row["path"]
        header = header_of(clean)
        for token in originals_of(before):
            says_something = int(token) > 9999 if token.isdigit() else len(token) >= 4
            if says_something and token not in _words_of_dicom():
                assert token not in header, (row["path"], token)
        assert identity.uids[after.SOPInstanceUID] == before.SOPInstanceUID
    assert results["clean"] >= 190, results
    codes = ("not_dicom", "cannot_deidentify", "burned_in_text", "unsupported_transfer_syntax")
    assert results["clean"] + sum(results[code] for code in codes) == len(rows)


CT = "dcmqi_BSD3/segmentations/ct-3slice/"
CT_SMALL = "pydicom_MIT/test_files/CT_small.dcm"


@pytest.mark.parametrize(
    ("images", "result"),
    [
        ([CT + "01.dcm", CT + "02.dcm", CT + "03.dcm"], "dcmqi_BSD3/segmentations/liver.dcm"),
        (
            ["pydicom_MIT/test_files/CT_small.dcm"],
            "highdicom_MIT/seg_image_ct_binary_single_frame.dcm",
        ),
        (["highdicom_MIT/sm_image.dcm"], "highdicom_MIT/seg_image_sm_control.dcm"),
        (["rt-utils_MIT/mock_data/ct_2.dcm"], "rt-utils_MIT/mock_data/rt.dcm"),
        ([CT_SMALL], "highdicom_MIT/sr_document.dcm"),
    ],
)
def test_a_result_still_points_at_its_images(engine, images, result):
    """References and frames of reference keep their meaning when both sides are de-identified."""
    sources = [dcmread(corpus(image)) for image in images]
    clean_images = [engine.deidentify(source)[0] for source in sources]
    found = dcmread(corpus(result))
    clean, _ = engine.deidentify(found)

    def references(ds: Dataset) -> list[str]:
        return [
            str(element.value)
            for element in ds.iterall()
            if element.keyword == "ReferencedSOPInstanceUID"
        ]

    assert {source.SOPInstanceUID for source in sources} <= set(references(found))
    assert {image.SOPInstanceUID for image in clean_images} <= set(references(clean))
    assert len(set(references(clean))) == len(set(references(found)))
    for source, image in zip(sources, clean_images, strict=True):
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            same = source.get(keyword) == found.get(keyword)
            assert (image.get(keyword) == clean.get(keyword)) is same


def test_a_segmentation_keeps_what_it_is_about(engine):
    found = dcmread(corpus("dcmqi_BSD3/segmentations/liver.dcm"))
    clean, _ = engine.deidentify(found)
    before, after = found.SegmentSequence[0], clean.SegmentSequence[0]
    assert after.SegmentedPropertyTypeCodeSequence == before.SegmentedPropertyTypeCodeSequence
    assert after.SegmentLabel
    assert clean.NumberOfFrames == found.NumberOfFrames
    assert clean.PixelData == found.PixelData
    assert clean.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence == (
        found.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    )


def test_a_report_keeps_its_codes_and_numbers_and_loses_its_sentences(engine):
    clean, _ = engine.deidentify(dcmread(corpus("pydicom_MIT/test_files/reportsi.dcm")))
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert "113104" in codes
    texts = [str(e.value) for e in clean.iterall() if e.keyword == "TextValue"]
    assert set(texts) == {"REMOVED"}


def errors_of(path: Path) -> set[str]:
    """Return dciodvfy's errors, without the values that they quote."""
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, check=False)
    lines = (run.stderr + run.stdout).decode("latin-1").splitlines()
    quoted = re.compile(r"<[^>]*>|\b\d+(\.\d+){2,}\b|value .*? (?=for|in|of)")
    return {quoted.sub("", line) for line in lines if "Error" in line}


@pytest.mark.parametrize(
    "name",
    [
        "pydicom_MIT/test_files/CT_small.dcm",
        "pydicom_MIT/test_files/MR_small.dcm",
        "pydicom_MIT/test_files/rtplan.dcm",
        "pydicom_MIT/test_files/test-SR.dcm",
        "pydicom-data_MIT/eCT_Supplemental.dcm",
        "pydicom-data_MIT/MR-SIEMENS-DICOM-WithOverlays.dcm",
        "highdicom_MIT/dx_image.dcm",
        "dcmqi_BSD3/segmentations/liver.dcm",
        "rt-utils_MIT/mock_data/rt.dcm",
        "highdicom_MIT/sm_image.dcm",
    ],
)
def test_dciodvfy_finds_no_new_error(engine, tmp_path, name):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    source = corpus(name)
    clean, _ = clean_file(engine, source, tmp_path)
    assert errors_of(clean) <= errors_of(source)


def test_generated_uids_are_not_of_the_standard():
    """The tests above rely on it: a fresh UID is replaced."""
    clean, identity = Deidentifier(node_profile(), KEY).deidentify(
        slice_of_mr(SOPInstanceUID=generate_uid())
    )
    assert clean.SOPInstanceUID in identity.uids
