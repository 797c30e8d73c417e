"""Real files: clean or held back with a code, valid, and pointing where they pointed."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    generate_uid,
)

from dicom.deid import Deidentifier
from dicom.errors import CannotDeidentify, NotDicom, UnsupportedTransferSyntax
from dicom.profile import node_profile
from tests.planted import (
    KEY,
    clean_file,
    slice_of_mr,
)

SHARED = Path(__file__).parents[3] / "shared/data"
CORPUS = SHARED / "dicom-corpus"


def corpus(name: str) -> Path:
    path = CORPUS / name
    if not path.exists():
        pytest.skip("../shared/data/dicom-corpus is not here")
    return path


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
