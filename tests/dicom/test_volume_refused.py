"""What makes no volume is refused with a code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SegmentationStorage,
)

from dicom import errors
from dicom.study import Instance, Series
from dicom.volume import describe_series, read_grid, read_volume
from tests.series import (
    AXIAL,
    CORONAL,
    Edit,
    ds_text,
    turned,
    write_series,
)


def _moved(vector: tuple[float, float, float], of: tuple[int, ...]) -> Edit:
    def edit(k: int, ds: Dataset) -> None:
        if k in of:
            ds.ImagePositionPatient = [
                ds_text(float(at) + by)
                for at, by in zip(ds.ImagePositionPatient, vector, strict=True)
            ]

    return edit


def having(of: tuple[int, ...] = tuple(range(99)), **attributes: object) -> Edit:
    """Return an edit that sets attributes of some slices, or deletes those given as None."""

    def edit(k: int, ds: Dataset) -> None:
        if k in of:
            for keyword, value in attributes.items():
                if value is None:
                    delattr(ds, keyword)
                else:
                    setattr(ds, keyword, value)

    return edit


def _sheared(k: int, ds: Dataset) -> None:
    _moved((0.0, 0.2 * k, 0.0), (k,))(k, ds)  # 0.2 mm sideways each 3 mm: 3.8 degrees


def _two_phases(k: int, ds: Dataset) -> None:
    x, y, _ = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, ds_text((k // 2) * 3.0)]


def _thick_then_thin(k: int, ds: Dataset) -> None:
    x, y, _ = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y, ds_text(3.0 * k if k < 6 else 15 + 2.0 * (k - 5))]


def _turned_slice(k: int, ds: Dataset) -> None:
    if k == 4:
        ds.ImageOrientationPatient = [
            ds_text(v) for vector in turned(AXIAL, (0, 0, 0.5)) for v in vector
        ]


def turned_away(k: int, ds: Dataset) -> None:
    if k == 0:
        ds.ImageOrientationPatient = [v for vector in CORONAL for v in vector]


def _rows(k: int, ds: Dataset) -> None:
    if k == 4:
        ds.Rows = 20
        ds.stored = ds.stored[:20]


def _no_pixels(k: int, ds: Dataset) -> None:
    if k == 4:
        ds.stored = None


def _short_pixels(k: int, ds: Dataset) -> None:
    if k == 4:
        ds.stored = ds.stored[:-1]


REFUSALS: dict[str, tuple[type[errors.RadloopError], Edit]] = {
    "two phases": (errors.DoubledSlice, _two_phases),
    "one slice on another": (errors.DoubledSlice, _moved((0, 0, 3.0), (4,))),
    "a tilted gantry": (errors.GantryTilt, _sheared),
    "one slice out of step": (errors.UnevenSpacing, _moved((0, 0, 0.4), (4,))),
    "one slice shifted sideways": (errors.UnevenSpacing, _moved((2.0, 0, 0), (4,))),
    "two spacings": (errors.UnevenSpacing, _thick_then_thin),
    "a turned slice": (errors.MixedOrientations, _turned_slice),
    "a localiser": (errors.MixedOrientations, turned_away),
    "another size": (errors.MixedSizes, _rows),
    "another pixel spacing": (
        errors.MixedSizes,
        having((4,), PixelSpacing=["1.51", "1.25"]),
    ),
    "another sign": (errors.MixedSizes, having((4,), PixelRepresentation=0)),
    "another series": (errors.MixedSeries, having((4,), SeriesInstanceUID="1.2.3")),
    "another frame of reference": (
        errors.MixedSeries,
        having((4,), FrameOfReferenceUID="1.2.3"),
    ),
    "no frame of reference": (errors.NoGeometry, having(FrameOfReferenceUID=None)),
    "no position": (errors.NoGeometry, having((4,), ImagePositionPatient=None)),
    "no orientation": (errors.NoGeometry, having(ImageOrientationPatient=None)),
    "no pixel spacing": (errors.NoGeometry, having(PixelSpacing=None)),
    "zero pixel spacing": (errors.NoGeometry, having(PixelSpacing=["0", "0"])),
    "two of three coordinates": (
        errors.NoGeometry,
        having((4,), ImagePositionPatient=["1", "2"]),
    ),
    "row along column": (
        errors.NoGeometry,
        having(ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]),
    ),
    "a document": (errors.NotAnImage, having(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")),
    "a segmentation": (errors.NotAnImage, having(SOPClassUID=SegmentationStorage)),
    "several frames": (errors.MultiFrame, having(NumberOfFrames=2)),
    "colour": (errors.UnsupportedPixelFormat, having(SamplesPerPixel=3)),
    "a palette": (
        errors.UnsupportedPixelFormat,
        having(PhotometricInterpretation="PALETTE COLOR"),
    ),
    "more stored than allocated": (errors.UnsupportedPixelFormat, having(BitsStored=17)),
    "a slope of zero": (errors.UnsupportedPixelFormat, having((4,), RescaleSlope="0")),
    "a modality table": (
        errors.UnsupportedPixelFormat,
        having(ModalityLUTSequence=[Dataset()]),
    ),
    "no pixels": (errors.UnreadablePixels, _no_pixels),
    "too few pixels": (errors.UnreadablePixels, _short_pixels),
}


@pytest.mark.parametrize(("error", "edit"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_makes_no_volume_is_refused_with_a_code(
    tmp_path: Path, error: type[errors.RadloopError], edit: Edit
) -> None:
    with pytest.raises(error) as refusal:
        read_volume(write_series(tmp_path, edit=edit))
    assert type(refusal.value) is error
    assert "Test" not in refusal.value.message


@pytest.mark.parametrize("left_out", [(4,), (3, 4, 5), (2, 8), (10,)])
def test_a_missing_slice_is_refused(tmp_path: Path, left_out: tuple[int, ...]) -> None:
    with pytest.raises(errors.MissingSlice, match=f"^{len(left_out)} slices"):
        read_volume(write_series(tmp_path, left_out=left_out))


def test_three_slices_of_four_are_not_taken_for_even(tmp_path: Path) -> None:
    with pytest.raises(errors.MissingSlice):
        read_volume(write_series(tmp_path, shape_kji=(4, 8, 8), left_out=(1,)))


def test_too_few_slices_are_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=(5, 8, 8))
    assert read_volume(series, min_slices=5).shape_kji[0] == 5
    with pytest.raises(errors.TooFewSlices):
        read_volume(series, min_slices=6)


def test_no_slice_at_all_is_too_few() -> None:
    with pytest.raises(errors.TooFewSlices):
        read_volume(Series("1.2.3", "CT", ()))


def test_one_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "one", shape_kji=(1, 8, 8)))
    assert volume.spacing_kji[0] == pytest.approx(7.7)
    with pytest.raises(errors.NoGeometry):
        read_volume(
            write_series(tmp_path / "flat", shape_kji=(1, 8, 8), edit=having(SliceThickness=None))
        )


def test_an_unknown_transfer_syntax_is_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=(3, 70, 66), transfer_syntax=JPEG2000Lossless)
    for instance in series.instances:
        content = instance.path.read_bytes()
        assert content.count(b"1.2.840.10008.1.2.4.90") == 1
        jpip = content.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.94")
        instance.path.write_bytes(jpip)
    with pytest.raises(errors.UnsupportedTransferSyntax):
        read_volume(series)


def test_a_damaged_codestream_is_refused(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=(5, 70, 66), transfer_syntax=JPEG2000Lossless)
    path = series.instances[3].path
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")  # start of codestream, image size
    content[start + 4 : start + 60] = bytes(56)
    path.write_bytes(content)
    with pytest.raises(errors.UnreadablePixels):
        read_volume(series)


@pytest.mark.parametrize("kept", [0, 100, 200, 500, 900, -10], ids=str)
@pytest.mark.parametrize(
    "transfer_syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, DeflatedExplicitVRLittleEndian],
    ids=lambda uid: uid.name,
)
def test_a_file_that_ends_too_early_is_refused(
    tmp_path: Path, transfer_syntax: object, kept: int
) -> None:
    series = write_series(tmp_path, transfer_syntax=transfer_syntax)
    path = series.instances[3].path
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises((errors.NotDicom, errors.UnreadablePixels)):
        read_volume(series)


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear colleague, " * 50)
    series = Series("1.2.3", "CT", (Instance("1.2.3.4", "1.2.3.5", path),))
    for read in (read_volume, read_grid, describe_series):
        with pytest.raises(errors.NotDicom):
            read(series)
