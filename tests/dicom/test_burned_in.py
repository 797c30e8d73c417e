"""Text in pixels: found in every direction and colour, masked in every frame, all else kept."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
)

from dicom.burned_in import Box, Course, PixelCleaner, PixelPolicy, is_installed, judge, mask_of
from dicom.burned_in.reading import Reading
from dicom.burned_in.rules import is_marker, known_devices
from dicom.deid import Deidentifier
from dicom.errors import CannotDeidentify, UnreadablePixels
from dicom.frames.painting import Canvas
from dicom.profile import Option, Profile
from tests.drawn import FONTS, IDS, NAMES, background, covered, with_texts
from tests.series import DATA

DEID = DATA / "dicom-corpus" / "deid"
needs_corpus = pytest.mark.skipif(not DEID.exists(), reason="needs ../shared/data/dicom-corpus")
needs_networks = pytest.mark.skipif(not is_installed(), reason="needs rapidocr and onnxruntime")
needs_fonts = pytest.mark.skipif(not FONTS.exists(), reason="needs the DejaVu fonts")


@cache
def cleaner(*, keep_markers: bool = False) -> PixelCleaner:
    return PixelCleaner(PixelPolicy(keep_markers=keep_markers), threads=1)


def image(pixels: np.ndarray, **attributes: object) -> Dataset:
    """Return a secondary capture: (rows, columns), (rows, columns, 3) or frames of them."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.4", "1.2.5"
    colour = pixels.shape[-1] == 3
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    size = pixels.shape[:-1] if colour else pixels.shape
    ds.Rows, ds.Columns = size[-2:]
    if len(size) == 3:
        ds.NumberOfFrames = size[0]
    bits = 8 * pixels.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    ds.set_original_encoding(False, True)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def random() -> np.random.Generator:
    return np.random.default_rng(20)


# --- what is found ------------------------------------------------------------------------------


@needs_networks
@needs_fonts
@pytest.mark.parametrize("turn", [0, 90, 180, 270, 30])
@pytest.mark.parametrize(
    ("kind", "height", "ink"),
    [
        ("speckle", 9, 255),
        ("noise", 16, 255),
        ("soft", 34, 0),
        ("soft", 12, (255, 210, 0)),
        ("black", 14, (60, 60, 255)),
    ],
)
def test_drawn_text_is_masked_whole(
    turn: int, kind: str, height: int, ink: int | tuple[int, int, int]
) -> None:
    rng = random()
    size = (420, 480) if height < 20 else (640, 720)
    plain = background(kind, *size, rng)
    if isinstance(ink, tuple):
        plain = np.repeat(plain[..., None], 3, axis=2)
    drawn = with_texts(plain, [(NAMES[0], height, turn), (IDS[0], height, turn)], rng, ink=ink)
    ds = image(drawn.picture)
    cleaned = cleaner().clean(ds)
    mask = mask_of(cleaned.boxes, *size)
    assert [round(covered(letters, mask), 2) for letters in drawn.letters] == [1, 1]
    after = Canvas(cleaned.ds).samples(0)
    np.testing.assert_array_equal(after[~mask], drawn.picture[~mask])
    assert mask.mean() < 0.5


@needs_networks
@needs_fonts
def test_text_of_one_grey_among_twelve_bits_is_found() -> None:
    rng = random()
    soft = background("soft", 400, 400, rng).astype(np.int16) * 4 - 1000
    drawn = with_texts(soft.astype(np.float32), [(NAMES[1], 14, 0)], rng, ink=3071)
    ds = image(drawn.picture.astype("<i2"), BitsStored=12, HighBit=11, PixelRepresentation=1)
    cleaned = cleaner().clean(ds)
    assert covered(drawn.letters[0], mask_of(cleaned.boxes, 400, 400)) == 1


@needs_networks
@pytest.mark.parametrize("kind", ["black", "noise", "speckle", "soft"])
def test_a_picture_without_text_stays_as_it_is(kind: str) -> None:
    ds = image(background(kind, 400, 500, random()))
    cleaned = cleaner().clean(ds)
    assert cleaned.boxes == ()
    assert cleaned.ds is ds
    assert cleaned.looked


@needs_networks
@needs_fonts
def test_text_of_one_frame_is_masked_in_all() -> None:
    rng = random()
    frames = np.stack([background("speckle", 240, 320, rng) for _ in range(3)])
    drawn = with_texts(frames[1], [(NAMES[3], 14, 0)], rng)
    frames[1] = drawn.picture
    ds = image(frames)
    ds.compress(RLELossless, generate_instance_uid=False)
    cleaned = cleaner().clean(ds)
    canvas = Canvas(cleaned.ds)
    mask = mask_of(cleaned.boxes, 240, 320)
    assert covered(drawn.letters[0], mask) == 1
    for frame in range(3):
        after = canvas.samples(frame)
        np.testing.assert_array_equal(after[~mask], frames[frame][~mask])
        assert len(np.unique(after[mask])) == 1
    assert cleaned.ds.file_meta.TransferSyntaxUID == RLELossless


@needs_networks
@needs_fonts
def test_text_in_a_palette_s_colours_is_found() -> None:
    drawn = with_texts(np.full((300, 300), 40, np.uint8), [(NAMES[2], 14, 0)], random(), ink=41)
    table = np.zeros(256, "<u2")
    table[41] = 0xFF00  # two neighbouring indices, black and white
    ds = image(drawn.picture, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", table.tobytes())
    cleaned = cleaner().clean(ds)
    assert covered(drawn.letters[0], mask_of(cleaned.boxes, 300, 300)) == 1
    assert not Canvas(cleaned.ds).picture(0)[mask_of(cleaned.boxes, 300, 300)].any()


@needs_networks
@needs_fonts
@pytest.mark.parametrize("signed", [False, True])
def test_an_overlay_in_unused_bits_goes(signed: bool) -> None:
    rng = random()
    values = background("soft", 200, 300, rng).astype(np.int16) * 8 - 900 * signed
    overlay = with_texts(np.zeros((200, 300)), [(NAMES[3], 14, 0)], rng, ink=1).picture > 0.5
    words = (values & 0x0FFF).astype("<u2") | (overlay.astype("<u2") << 12)
    ds = image(words, BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    ds.SOPClassUID, ds.ImageType = CTImageStorage, ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", 12)
    cleaned = cleaner().clean(ds)
    assert 0x60000102 not in cleaned.ds
    after = np.frombuffer(cleaned.ds.PixelData, "<i2" if signed else "<u2").reshape(200, 300)
    mask = mask_of(cleaned.boxes, 200, 300)
    np.testing.assert_array_equal(after[~mask], values[~mask])
    profile = Profile(options=frozenset({Option.CLEAN_PIXEL_DATA}))
    engine = Deidentifier(profile, bytes(32), passes={Option.CLEAN_PIXEL_DATA: cleaner()})
    with pytest.raises(CannotDeidentify):  # without the pass
        engine.deidentify(ds)
    engine.deidentify(cleaned.ds, done=frozenset({Option.CLEAN_PIXEL_DATA}))


# --- side markers -------------------------------------------------------------------------------


@needs_networks
@needs_fonts
def test_side_markers_stay_by_option_alone() -> None:
    rng = random()
    plain = background("soft", 400, 400, rng)
    drawn = with_texts(plain, [("L", 40, 0), (NAMES[4], 14, 0)], rng, font="DejaVuSans-Bold.ttf")
    side, name = drawn.letters
    kept = cleaner(keep_markers=True).clean(image(drawn.picture))
    mask = mask_of(kept.boxes, 400, 400)
    assert (covered(side, mask), covered(name, mask), kept.kept) == (0, 1, 1)
    mask = mask_of(cleaner().clean(image(drawn.picture)).boxes, 400, 400)
    assert (covered(side, mask), covered(name, mask)) == (1, 1)


@pytest.mark.parametrize("text", ["L", "r", "PA", "R PORTABLE", "L-MLO", "Semi-Upright"])
def test_what_names_a_side_or_a_view_is_a_marker(text: str) -> None:
    assert is_marker(text)


@pytest.mark.parametrize("text", ["", " ", "LR7", "L 12.3.61", "R MILLER", "LL4711", "口"])
def test_anything_beside_it_is_no_marker(text: str) -> None:
    assert not is_marker(text)


def test_what_was_read_is_never_shown() -> None:
    assert "MILLER" not in repr(Reading("MILLER", 0.9))


# --- rules --------------------------------------------------------------------------------------


def header(**attributes: object) -> Dataset:
    return image(np.zeros((8, 8), np.uint8), **attributes)


@pytest.mark.parametrize(
    ("attributes", "course"),
    [
        ({"SOPClassUID": CTImageStorage, "ImageType": ["ORIGINAL", "PRIMARY"]}, Course.PRIMARY),
        ({"SOPClassUID": CTImageStorage, "ImageType": ["DERIVED", "PRIMARY"]}, Course.LOOK),
        ({"SOPClassUID": CTImageStorage}, Course.LOOK),
        (
            {"SOPClassUID": CTImageStorage, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
            Course.LOOK,
        ),
        (
            {
                "SOPClassUID": CTImageStorage,
                "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
                "BurnedInAnnotation": "YES",
            },
            Course.LOOK,
        ),
        ({"ImageType": ["ORIGINAL", "PRIMARY"], "BurnedInAnnotation": "NO"}, Course.LOOK),
        ({"SOPClassUID": SegmentationStorage}, Course.NO_PICTURE),
    ],
)
def test_rules_say_what_is_looked_at(attributes: dict[str, object], course: Course) -> None:
    assert judge(header(**attributes), 8, 8).course is course


def test_a_skipped_object_comes_back_as_none() -> None:
    assert cleaner()(header(SOPClassUID=CTImageStorage, ImageType=["ORIGINAL", "PRIMARY"])) is None
    looked = judge(
        header(SOPClassUID=CTImageStorage, ImageType=["ORIGINAL", "PRIMARY"]),
        8,
        8,
        skip_primary=False,
    )
    assert looked.course is Course.LOOK


def region(left: int, top: int, right: int, bottom: int, kind: int = 1) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat = kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


def test_what_lies_outside_ultrasound_regions_is_masked() -> None:
    ds = header(SOPClassUID=UltrasoundImageStorage)
    ds.SequenceOfUltrasoundRegions = [
        region(2, 3, 5, 6),
        region(4, 5, 99, 99),
        region(0, 0, 7, 7, 5),
    ]
    kept = np.zeros((10, 9), bool)
    kept[3:7, 2:6] = True
    kept[5:, 4:] = True
    np.testing.assert_array_equal(~mask_of(judge(ds, 10, 9).boxes, 10, 9), kept)
    assert judge(ds, 10, 9, outside_regions=False).boxes == ()
    ds.SequenceOfUltrasoundRegions = [region(0, 0, 0, 0, 0)]
    assert judge(ds, 10, 9).boxes == ()


def test_the_banner_of_a_known_device_is_masked_in_its_size_alone() -> None:
    ds = header(
        SOPClassUID=UltrasoundImageStorage,
        Manufacturer="Philips Medical Systems",
        ManufacturerModelName="iU22",
    )
    assert judge(ds, 480, 640).boxes == (Box(0, 0, 640, 47),)
    assert judge(ds, 481, 640).boxes == ()
    assert len(known_devices()) > 50


# --- what is refused ----------------------------------------------------------------------------


@needs_networks
def test_text_that_is_announced_and_not_found_is_refused() -> None:
    with pytest.raises(CannotDeidentify):
        cleaner().clean(image(background("soft", 200, 200, random()), BurnedInAnnotation="YES"))


def test_pixels_that_cannot_be_decoded_are_refused() -> None:
    ds = image(np.zeros((40, 40), np.uint8))
    ds.PixelData = b"\0" * 100
    with pytest.raises(UnreadablePixels):
        cleaner().clean(ds)
    del ds.Rows
    with pytest.raises(UnreadablePixels):
        cleaner().clean(ds)


def test_the_networks_are_loaded_by_the_first_search_alone() -> None:
    told = "import sys, dicom.burned_in, dicom.deid; print('onnxruntime' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# --- real files ---------------------------------------------------------------------------------


@needs_networks
@needs_corpus
@pytest.mark.parametrize(
    "name", ["us_greyscale.dcm", "2_ORIGINAL.dcm", "0_ORIGINAL_compressed.dcm"]
)
def test_burned_in_names_of_real_files_are_masked_and_all_else_stays(name: str) -> None:
    (path,) = DEID.glob(f"*/{name}")
    ds = dcmread(path)
    cleaned = cleaner().clean(ds)
    before, after = Canvas(ds).samples(0), Canvas(cleaned.ds).samples(0)
    mask = mask_of(cleaned.boxes, *before.shape)
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert len(np.unique(after[mask])) == 1
    for word in truth(name):
        assert mask[word].all()
    assert mask.mean() < 0.15


def truth(name: str) -> list[tuple[slice, slice]]:
    """Return where words stand, as others marked them, in a picture with an edge of 25 pixels."""
    if name == "us_greyscale.dcm":  # by eye: the banner with name, birth date and number
        return [(slice(2, 18), slice(6, 1000))]
    marked = json.loads((DEID / "presidio_pseudo-phi/ground_truth_docs_sample.json").read_text())
    words = marked[f"sample_data/{name.replace('_compressed', '')}"]
    return [
        (
            slice(word["top"] - 25, word["top"] + word["height"] - 25),
            slice(word["left"] - 25, word["left"] + word["width"] - 25),
        )
        for word in words
    ]


@needs_networks
@needs_fonts
def test_decoded_values_of_a_lossy_image_stay_and_it_says_so() -> None:
    rng = random()
    soft = np.repeat(background("soft", 300, 400, rng)[..., None], 3, axis=2)
    drawn = with_texts(soft, [(NAMES[1], 16, 0)], rng, ink=(255, 255, 0))
    ds = image(drawn.picture, PhotometricInterpretation="YBR_FULL_422", LossyImageCompression="01")
    stream = imagecodecs.jpeg8_encode(drawn.picture, level=90, outcolorspace="YCBCR")
    ds.PixelData = encapsulate([bytes(stream)])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    cleaned = cleaner().clean(ds)
    assert ds.PhotometricInterpretation == "YBR_FULL_422"
    before, after = Canvas(ds).picture(0), Canvas(cleaned.ds).picture(0)
    mask = mask_of(cleaned.boxes, 300, 400)
    assert covered(drawn.letters[0], mask) == 1
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert not after[mask].any()
    assert cleaned.ds.LossyImageCompression == "01"
    assert cleaned.ds.PhotometricInterpretation == "RGB"
    assert cleaned.ds.file_meta.TransferSyntaxUID == JPEGLSLossless


@needs_networks
@needs_corpus
def test_it_is_a_pass_of_the_engine(tmp_path: Path) -> None:
    (path,) = DEID.glob("*/us_greyscale.dcm")
    profile = Profile(options=frozenset({Option.CLEAN_DESCRIPTORS, Option.CLEAN_PIXEL_DATA}))
    engine = Deidentifier(profile, bytes(32), passes={Option.CLEAN_PIXEL_DATA: cleaner()})
    instance, _ = engine.deidentify_file(path, tmp_path)
    clean = dcmread(instance.path)
    assert clean.BurnedInAnnotation == "NO"
    codes = {item.CodeValue for item in clean.DeidentificationMethodCodeSequence}
    assert "113101" in codes
    assert not clean.pixel_array[:14].any()
