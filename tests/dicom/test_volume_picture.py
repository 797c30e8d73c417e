"""Images without a place in the patient: their pixels, their pixel spacing, and who says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

from dicom import errors
from dicom.study import Instance, Series
from dicom.uids import derived_uid
from dicom.volume import Kind, Picture, describe_series, read_pictures, read_volume
from tests.enhanced import item
from tests.series import DATA, write_series

CLASSES = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "US cine": "1.2.840.10008.5.1.4.1.1.3.1",
    "OP": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "XC": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}


def write_picture(
    folder: Path, kind: str, pixels: np.ndarray, *, frames: int | None = None, **attributes: object
) -> Series:
    """Write one image; the last axis of `pixels` is colour where it has three samples."""
    colour = pixels.shape[-1] == 3
    ds = Dataset()
    ds.SOPClassUID = CLASSES[kind]
    ds.SOPInstanceUID, ds.SeriesInstanceUID = derived_uid("i", kind), derived_uid("s", kind)
    ds.Modality = kind.split(" ")[0]
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if frames is not None:
        ds.NumberOfFrames = frames
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    bits = 8 * pixels.itemsize
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation = bits - 1, 0
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    raw = pixels.tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "picture.dcm"
    ds.save_as(path, enforce_file_format=True)
    instance = Instance(ds.SOPInstanceUID, ds.SOPClassUID, path)
    return Series(ds.SeriesInstanceUID, ds.Modality, (instance,))


GREY = np.arange(6 * 7, dtype=np.uint16).reshape(6, 7) * 100
RGB = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


def picture_of(series: Series) -> Picture:
    (picture,) = read_pictures(series)
    return picture


@pytest.mark.parametrize("kind", ["DX", "CR", "MG", "US", "OT"])
def test_a_grey_image_is_one_frame(tmp_path: Path, kind: str) -> None:
    series = write_picture(tmp_path, kind, GREY)
    picture = picture_of(series)
    assert (picture.shape_fji, picture.is_colour, picture.kind) == ((1, 6, 7), False, Kind.PICTURE)
    assert (picture.modality, picture.spacing, picture.lossy) == (kind, None, False)
    np.testing.assert_array_equal(picture.pixels_fji[0], GREY)
    assert picture.sources[0].frame_number is None
    assert describe_series(series).kind == "picture"
    with pytest.raises(errors.NoGeometry, match="picture"):
        read_volume(series)


@pytest.mark.parametrize("kind", ["OP", "XC", "US", "OT"])
def test_a_colour_image_is_red_green_blue(tmp_path: Path, kind: str) -> None:
    picture = picture_of(write_picture(tmp_path, kind, RGB))
    assert (picture.shape_fji, picture.is_colour) == ((1, 5, 4), True)
    np.testing.assert_array_equal(picture.pixels_fji[0], RGB)


def test_a_cine_stays_a_film(tmp_path: Path) -> None:
    film = np.stack([GREY, GREY + 1, GREY + 2])
    series = write_picture(tmp_path, "US cine", film, frames=3, FrameTime="33.3")
    picture = picture_of(series)
    assert (picture.kind, picture.frame_time_ms) == (Kind.CINE, 33.3)
    np.testing.assert_array_equal(picture.pixels_fji, film)
    assert [source.frame_number for source in picture.sources] == [1, 2, 3]
    assert describe_series(series).slice_count == 3


@pytest.mark.parametrize(
    ("attributes", "attribute"),
    [
        ({"ImagerPixelSpacing": ["0.2", "0.1"]}, "ImagerPixelSpacing"),
        (
            {"ImagerPixelSpacing": ["0.3", "0.3"], "PixelSpacing": ["0.2", "0.1"]},
            "PixelSpacing",
        ),
        ({"NominalScannedPixelSpacing": ["0.2", "0.1"]}, "NominalScannedPixelSpacing"),
    ],
    ids=["detector", "calibrated", "scanned"],
)
def test_who_says_the_pixel_spacing(
    tmp_path: Path, attributes: dict[str, object], attribute: str
) -> None:
    spacing = picture_of(write_picture(tmp_path, "CR", GREY, **attributes)).spacing
    assert spacing is not None
    assert (spacing.row_mm, spacing.column_mm, spacing.attribute) == (0.2, 0.1, attribute)


@pytest.mark.parametrize("value", [["0", "0"], ["-1", "1"], ["1"]], ids=str)
def test_an_impossible_pixel_spacing_is_none(tmp_path: Path, value: list[str]) -> None:
    assert picture_of(write_picture(tmp_path, "DX", GREY, PixelSpacing=value)).spacing is None


def region(dx: float = 0.02, dy: float = 0.03, *, spatial: int = 1, unit: int = 3) -> Dataset:
    return item(
        RegionSpatialFormat=spatial,
        PhysicalUnitsXDirection=unit,
        PhysicalUnitsYDirection=unit,
        PhysicalDeltaX=dx,
        PhysicalDeltaY=dy,
    )


def test_ultrasound_regions_say_the_spacing(tmp_path: Path) -> None:
    doppler = region(0.5, 9.0, spatial=3, unit=4)
    regions = Items([region(), doppler, region(-0.02)])
    series = write_picture(tmp_path, "US", RGB, SequenceOfUltrasoundRegions=regions)
    picture = picture_of(series)
    assert picture.spacing is not None
    assert (picture.spacing.row_mm, picture.spacing.column_mm) == (pytest.approx(0.3), 0.2)
    assert picture.spacing.attribute == "PhysicalDelta"
    point = picture.affine_image @ (0, 2, 3, 1)  # row 2, column 3
    np.testing.assert_allclose(point[:3], (0.6, 0.6, 0))


@pytest.mark.parametrize(
    "regions",
    [[region(), region(0.04)], [region(unit=4)], [region(spatial=3)], [item()], [region(0.0)]],
    ids=["two scales", "seconds", "spectrum only", "empty", "zero"],
)
def test_ultrasound_regions_that_say_no_spacing(tmp_path: Path, regions: list[Dataset]) -> None:
    series = write_picture(tmp_path, "US", RGB, SequenceOfUltrasoundRegions=Items(regions))
    assert picture_of(series).spacing is None


def test_dark_and_bright_are_turned_round_in_monochrome1(tmp_path: Path) -> None:
    bits = {"BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME1"}
    picture = picture_of(write_picture(tmp_path, "DX", GREY // 2, **bits))
    np.testing.assert_array_equal(picture.pixels_fji[0], 4095 - GREY // 2)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    scale = {"RescaleSlope": "2", "RescaleIntercept": "-10"}
    picture = picture_of(write_picture(tmp_path, "CR", GREY, **scale))
    np.testing.assert_array_equal(picture.pixels_fji[0], 2 * GREY.astype(int) - 10)


def test_a_slice_can_be_looked_at_as_a_picture(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=(3, 5, 7))
    volume, pictures = read_volume(series), read_pictures(series)
    for picture in pictures:
        k = [source.instance for source in volume.sources].index(picture.sources[0].instance)
        np.testing.assert_array_equal(picture.pixels_fji[0], volume.voxels_kji[k])
        assert picture.spacing is not None
        assert picture.spacing.attribute == "PixelSpacing"


def test_a_document_is_no_picture(tmp_path: Path) -> None:
    report = write_picture(tmp_path, "OT", GREY)
    ds = dcmread(report.instances[0].path)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    ds.save_as(report.instances[0].path)
    with pytest.raises(errors.NotAnImage):
        read_pictures(report)


@pytest.mark.parametrize(
    ("file", "shape", "colour", "spacing"),
    [
        ("pydicom_MIT/test_files/examples_palette.dcm", (1, 350, 800), True, "PhysicalDelta"),
        ("pydicom_MIT/test_files/examples_ybr_color.dcm", (30, 240, 320), True, "PhysicalDelta"),
        ("pydicom-data_MIT/RG3_J2KR.dcm", (1, 1760, 1760), False, None),
        ("highdicom_MIT/dx_image.dcm", (1, 169, 211), False, "PixelSpacing"),
        ("deid/deid-data_MIT/us_greyscale.dcm", (1, 768, 1024), False, "PhysicalDelta"),
    ],
)
def test_real_pictures(
    file: str, shape: tuple[int, int, int], colour: bool, spacing: str | None
) -> None:
    path = DATA / "dicom-corpus" / file
    if not path.exists():
        pytest.skip("real data (shared/data) is absent")
    ds = dcmread(path)
    series = Series(
        ds.SeriesInstanceUID, ds.Modality, (Instance(ds.SOPInstanceUID, ds.SOPClassUID, path),)
    )
    picture = picture_of(series)
    assert (picture.shape_fji, picture.is_colour) == (shape, colour)
    assert (picture.spacing.attribute if picture.spacing else None) == spacing
    if not colour:
        stored = ds.pixel_array.astype(int)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            stored = 2**ds.BitsStored - 1 - stored
        np.testing.assert_array_equal(picture.pixels_fji[0], stored)
