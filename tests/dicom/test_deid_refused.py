"""What de-identification refuses."""

from __future__ import annotations

import struct

import pytest
from pydicom import Dataset
from pydicom.uid import (
    JPEG2000Lossless,
)

from dicom.errors import CannotDeidentify, InputError, NotDicom, UnsupportedTransferSyntax
from tests.planted import (
    add,
    as_file,
    clean_file,
    slice_of_mr,
)


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
