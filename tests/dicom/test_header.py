"""The header scan beside pydicom: the same values, or a coded error, on sound and damaged files."""

from __future__ import annotations

import math
import os
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom.errors import InputError, NotDicom
from dicom.header import PIXEL_KEYWORDS, Header, read_header
from dicom.header.scan import Odd, Window, inflate, scan_elements, scan_meta
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from tests.examples import examples
from tests.series import DATA

CORPUS = DATA / "dicom-corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file()) if CORPUS.exists() else []
KEYWORDS = (
    "SOPClassUID",
    "PatientName",
    "Modality",
    "ImageType",
    "PixelSpacing",
    "WindowCenter",
    "ReferencedStudySequence",
    "ModalityLUTSequence",
    "SegmentSequence",
    "ContentSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "StructureSetROISequence",
)
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def by_pydicom(path: Path) -> Dataset | None:
    """Return what pydicom makes of the same question, None where it finds no DICOM file."""
    with quiet_pydicom():
        try:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=[*KEYWORDS, *PIXEL_KEYWORDS])
        except (*PARSER_ERRORS, OSError):
            return None
    syntax = ds.file_meta.get("TransferSyntaxUID")
    return ds if syntax and isinstance(syntax, str) else None


def value_of(ds: Dataset, keyword: str) -> str | None:
    """Return a value with all that is nested in it as text; None where it breaks its own VR."""
    with quiet_pydicom():
        try:
            return repr(ds.get(keyword))
        except (*PARSER_ERRORS, OSError):
            return None


def assert_same(header: Header, ds: Dataset) -> None:
    assert header.transfer_syntax == ds.file_meta.TransferSyntaxUID
    for keyword in (*KEYWORDS, *PIXEL_KEYWORDS):
        assert value_of(header.ds, keyword) == value_of(ds, keyword), keyword


# --- real files ---------------------------------------------------------------------------------


@pytest.mark.skipif(not FILES, reason="needs ../shared/data/dicom-corpus")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORPUS)))
def test_a_real_file_gives_the_values_that_pydicom_reads(path):
    expected = by_pydicom(path)
    if expected is None:
        with pytest.raises(NotDicom):
            read_header(path, KEYWORDS)
        return
    header = read_header(path, KEYWORDS)
    assert_same(header, expected)
    whole = dcmread(path)
    pixels = [word for word in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
              if word in whole]  # fmt: skip
    if header.transfer_syntax == DeflatedExplicitVRLittleEndian or not pixels:
        assert header.pixels is None or header.pixels.keyword in pixels or "too_short" in path.name
        return
    assert header.pixels is not None
    assert header.pixels.keyword == pixels[0]
    assert header.pixels.encapsulated == (header.transfer_syntax not in SYNTAXES)
    value = whole[pixels[0]].value
    found = path.read_bytes()[header.pixels.start :][: header.pixels.length]
    assert found.startswith(value)
    assert header.pixels.encapsulated or len(found) == len(value)


@pytest.mark.skipif(not FILES, reason="needs ../shared/data/dicom-corpus")
def test_sound_files_need_no_second_reader():
    """Without this, a scan that judges nothing would pass all other tests by pydicom's hand."""
    left_to_pydicom = []
    for path in FILES:
        content = path.read_bytes()
        if by_pydicom(path) is None or b"1.2.840.10008.1.2.1.99" in content[:1000]:
            continue
        window = Window.over(content)
        try:
            syntax, start = scan_meta(window)
            scan_elements(
                window,
                start,
                frozenset((0x00080060, 0x00280010)),
                implicit=syntax == ImplicitVRLittleEndian,
                order=">" if syntax == ExplicitVRBigEndian else "<",
            )
        except Odd:
            left_to_pydicom.append(path.name)
    assert left_to_pydicom == ["rtplan_truncated.dcm"]


# --- made files ---------------------------------------------------------------------------------


def made(path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write an image whose header has what makes a scan difficult."""
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    middle = Dataset()
    middle.ReferencedImageSequence = [inner, Dataset(), inner]
    middle.is_undefined_length_sequence_item = True
    middle["ReferencedImageSequence"].is_undefined_length = True
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.Modality, ds.PatientName, ds.ImageType = "CT", "Größe^Ä", ["ORIGINAL", "PRIMARY"]
    ds.ReferencedStudySequence = [middle, inner]
    ds["ReferencedStudySequence"].is_undefined_length = True
    ds.SourceImageSequence = [middle]  # not asked for, to be stepped over
    ds["SourceImageSequence"].is_undefined_length = True
    ds.add_new(0x00190010, "LO", "SOMEBODY")
    ds.add_new(0x00191001, "SQ", [middle, middle])
    ds.add_new(0x00191002, "UN", b"1234" * 40)
    ds.add_new(0x00191003, "OB", bytes(100_000))  # longer than what is read at once
    ds.PixelSpacing, ds.WindowCenter = ["0.5", "0.25"], "40"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = 3, 4
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes(range(24))
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_nested_sequences_are_kept_when_asked_for_and_stepped_over_when_not(tmp_path, syntax):
    path = made(tmp_path / "a.dcm", syntax)
    header = read_header(path, KEYWORDS)
    expected = by_pydicom(path)
    assert expected is not None
    assert_same(header, expected)
    assert "SourceImageSequence" not in header.ds
    item = header.items("ReferencedStudySequence")[0]
    assert item.ReferencedImageSequence[2].ReferencedSOPInstanceUID == "1.2.3"
    assert header.pixels is not None
    assert header.pixels.length == 24
    if syntax != DeflatedExplicitVRLittleEndian:
        place = slice(header.pixels.start, header.pixels.start + 24)
        assert path.read_bytes()[place] == dcmread(path).PixelData


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_values_come_as_texts_and_numbers_or_not_at_all(tmp_path, syntax):
    header = read_header(made(tmp_path / "a.dcm", syntax), (*KEYWORDS, "SliceThickness"))
    assert header.text("Modality") == "CT"
    assert header.text("PatientName") == "Größe^Ä"
    assert header.texts("ImageType") == ("ORIGINAL", "PRIMARY")
    numbers = header.numbers("PixelSpacing", 2)
    assert numbers is not None
    assert numbers.tolist() == [0.5, 0.25]
    assert header.numbers("PixelSpacing", 3) is None
    assert header.number("WindowCenter") == 40.0
    assert header.whole("Rows") == 3
    for absent in (header.text("SliceThickness"), header.number("SliceThickness")):
        assert absent is None
    assert header.number("Modality") is None
    assert header.items("Modality") == ()


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("number", [0xE000, 0xE00D, 0xE0DD])
def test_a_delimiter_where_none_belongs_means_what_it_means_to_pydicom(tmp_path, syntax, number):
    path = made(tmp_path / "a.dcm", syntax)
    order = "big" if syntax == ExplicitVRBigEndian else "little"
    content = path.read_bytes()
    place = content.index((0x0028).to_bytes(2, order) + (0x0030).to_bytes(2, order))
    tag = (0xFFFE).to_bytes(2, order) + number.to_bytes(2, order)
    path.write_bytes(content[:place] + tag + bytes(4) + content[place:])
    expected = by_pydicom(path)
    assert expected is not None
    assert_same(read_header(path, KEYWORDS), expected)


@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "a", "", "1\\2", "0x10"])
def test_a_number_is_finite_and_alone(tmp_path, text):
    ds = dcmread(made(tmp_path / "a.dcm"))
    with quiet_pydicom():
        ds.add_new("PatientSize", "DS", "1")
        path = tmp_path / "b.dcm"
        ds.save_as(path)
        content = path.read_bytes()
        plain = b"\x10\x00\x20\x10DS\x02\x001 "
        assert plain in content
        value = text.encode() + b" " * (len(text) % 2)
        odd = plain[:6] + len(value).to_bytes(2, "little") + value
        path.write_bytes(content.replace(plain, odd))
        number = read_header(path, ("PatientSize",)).number("PatientSize")
    assert number is None or math.isfinite(number)
    assert number is None


def test_a_keyword_that_does_not_exist_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="Modallity"):
        read_header(made(tmp_path / "a.dcm"), ("Modallity",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 128,
        b"\0" * 128 + b"DICM",
        b"\x89PNG" * 100,
        b"\0" * 128 + b"DICM" + b"\2\0" * 99,
    ],
    ids=["empty", "preamble", "prefix", "png", "noise"],
)
def test_what_is_no_part_10_file_is_refused(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(NotDicom):
        read_header(path, KEYWORDS)


def test_a_file_that_is_gone_is_refused_without_its_name(tmp_path):
    with pytest.raises(NotDicom) as caught:
        read_header(tmp_path / "secret-name.dcm")
    assert "secret" not in caught.value.message


# --- hostile files ------------------------------------------------------------------------------


def test_an_element_that_claims_four_gigabytes_takes_no_memory(tmp_path):
    path = made(tmp_path / "a.dcm")
    content = path.read_bytes()
    place = content.index(b"\x19\x00\x03\x10OB\0\0") + 8
    path.write_bytes(content[:place] + b"\xfe\xff\xff\xff" + content[place + 4 :])
    tracemalloc.start()
    try:
        read_header(path, KEYWORDS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_thousand_sequences_in_one_another_end_in_a_value_or_a_code(tmp_path):
    path = made(tmp_path / "a.dcm")
    content = path.read_bytes()
    place = content.index(b"\x19\x00\x02\x10UN")
    opened = b"\x19\x00\x01\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:place] + 1000 * opened + content[place:])
    with suppress(NotDicom):
        assert read_header(path, KEYWORDS).whole("Rows") in (3, None)


def test_a_deflated_file_may_not_inflate_without_end():
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = packer.compress(bytes(10_000)) + packer.flush()
    assert inflate(deflated, limit=10_000) == bytes(10_000)
    with pytest.raises(NotDicom, match="more than"):
        inflate(deflated, limit=9_999)


Change = tuple[str, int, int]
changes = st.lists(
    st.tuples(
        st.sampled_from(["byte", "bit", "drop", "add", "cut"]),
        st.integers(0, 1700),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def damaged(content: bytes, made_changes: list[Change]) -> bytes:
    """Return a file with bytes changed, left out or added behind its preamble."""
    bytes_ = bytearray(content)
    for what, where, value in made_changes:
        at = 132 + where % max(1, len(bytes_) - 132)
        if at >= len(bytes_):
            continue
        if what == "byte":
            bytes_[at] = value
        elif what == "bit":
            bytes_[at] ^= 1 << value % 8
        elif what == "drop":
            del bytes_[at : at + 1 + value % 12]
        elif what == "add":
            bytes_[at:at] = bytes([value]) * (1 + value % 8)
        elif value < 32:
            del bytes_[at:]
    return bytes(bytes_)


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda syntax: syntax.name)
@examples(40)
@given(made_changes=changes)
def test_a_damaged_header_gives_what_pydicom_reads_or_a_coded_error(
    tmp_path_factory, syntax, made_changes
):
    folder = tmp_path_factory.getbasetemp()
    sound = folder / f"{syntax}.dcm"
    if not sound.exists():
        made(sound, syntax)
    path = folder / f"damaged-{os.getpid()}.dcm"
    path.write_bytes(damaged(sound.read_bytes(), made_changes))
    try:
        header = read_header(path, KEYWORDS)
    except InputError as error:
        assert error.code
        assert by_pydicom(path) is None
        return
    expected = by_pydicom(path)
    if expected is None or header.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return  # only pydicom's stricter look at the file meta information
    assert_same(header, expected)
    for keyword in KEYWORDS:  # whatever is in them
        header.text(keyword), header.number(keyword), header.items(keyword)
        assert header.numbers(keyword, 2) is None or np.isfinite(header.numbers(keyword, 2)).all()
