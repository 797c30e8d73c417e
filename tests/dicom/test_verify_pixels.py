"""The second look at pixels: a name that stands in a picture is read, also where reading errs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import SegmentationStorage

from dicom.burned_in import PixelCleaner, is_installed
from dicom.errors import InputError
from dicom.profile import node_profile
from dicom.verify import Originals, Tokens
from dicom.verify.folders import verify_folders
from dicom.verify.pixels import PixelLook
from tests.dicom.test_burned_in import DEID, image, needs_corpus, needs_fonts
from tests.drawn import background, with_texts

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs rapidocr and onnxruntime")

TOKENS = Tokens(
    words=frozenset({"grünwald", "erika", "li"}),
    identifiers=frozenset({"mrn-0047-1193", "st. elsewhere"}),
    dates=frozenset({"19610803"}),
)


@pytest.fixture(scope="module")
def look() -> PixelLook:
    return PixelLook(TOKENS, threads=1)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("GRUNWALD", {"name"}),
        ("Grünwa1d, E.", {"name"}),  # one letter misread
        ("GRUNWALDERIKA", {"name"}),
        ("MRN 00471193", {"identifier"}),
        ("MRN O047II93", {"identifier"}),  # letters for digits
        ("St.Elsewhere", {"identifier"}),
        ("03.08.1961", {"date"}),
        ("08/03/61", {"date"}),
        ("1961-08-03 12:30", {"date"}),
        ("03 Aug 1961", {"date"}),
        ("19610803", {"date"}),
        ("03081961", {"date"}),
        ("L PORTABLE 80 kV", set()),
        ("04.08.1961", set()),
        ("LI", set()),  # too short to say anything
        ("", set()),
    ],
)
def test_near_spellings_count(look: PixelLook, text: str, rules: set[str]) -> None:
    assert set(look.rules_in(text)) == rules


def saved(ds, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


@needs_fonts
def test_what_stands_in_a_picture_is_found_and_not_told(look: PixelLook, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    frames = np.stack([background("soft", 300, 420, rng) for _ in range(2)])
    texts = [("GRUNWALD ERIKA", 14, 90), ("03.08.1961", 16, 0), ("MRN-0047-1193", 12, 180)]
    frames[1] = with_texts(frames[1], texts, rng).picture
    ds = image(frames)
    findings = look.look(saved(ds, tmp_path / "a.dcm"))
    assert {finding.rule for finding in findings} == {"name", "identifier", "date"}
    assert {finding.place for finding in findings} == {"pixels, frame 2"}
    assert "GRUNWALD" not in repr(findings).upper()
    cleaned = PixelCleaner(threads=1).clean(ds).ds
    assert look.look(saved(cleaned, tmp_path / "b.dcm")) == ()


def test_labels_hold_no_picture_and_broken_pixels_are_no_clean_ones(
    look: PixelLook, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    assert look.look(saved(image(noise, SOPClassUID=SegmentationStorage), tmp_path / "a.dcm")) == ()
    broken = image(noise)
    broken.PixelData = b"\0\0"
    with pytest.raises(InputError):
        look.look(saved(broken, tmp_path / "b.dcm"))


@needs_corpus
def test_a_real_name_in_real_pixels_is_read_until_it_is_masked(tmp_path: Path) -> None:
    (path,) = DEID.glob("*/2_ORIGINAL.dcm")
    originals = Originals(node_profile())
    originals.read(path)
    look = PixelLook(originals.tokens, threads=1)
    assert "name" in {finding.rule for finding in look.look(path)}
    cleaned = PixelCleaner(threads=1).clean(dcmread(path)).ds
    assert look.look(saved(cleaned, tmp_path / "clean.dcm")) == ()
    told = list(verify_folders(path, path, node_profile(), pixels=True))
    assert any(finding.place == "pixels, frame 1" for finding in told[0].findings)
