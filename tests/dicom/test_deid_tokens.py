"""Whatever is planted in an object goes: at every depth, in every disguise."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from dicom.deid import Deidentifier
from dicom.errors import CannotDeidentify, NotDicom
from dicom.profile import node_profile
from dicom.uids import date_shift_days, pseudonym_uid
from tests.examples import examples
from tests.planted import (
    KEY,
    MR_CLASS,
    SYNTAXES,
    Planter,
    add,
    as_file,
    clean_file,
    nested,
    plant_table,
    slice_of_mr,
)


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


@examples(30)
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
