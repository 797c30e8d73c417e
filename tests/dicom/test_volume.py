from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
)

from dicom import errors
from dicom.study import Instance, Series
from dicom.volume import describe_series, read_grid, read_volume
from tests.series import (
    AXIAL,
    CORONAL,
    DATA,
    LEFT_BALL_LPS,
    PLANES,
    SAGITTAL,
    Edit,
    ds_text,
    grid_affine,
    picture_on,
    real_series,
    turned,
    write_series,
)

SHAPE = (12, 30, 34)
SPACING = (3.0, 1.5, 1.25)


# --- the right array in the right place ---------------------------------------------------------


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES.keys())
def test_every_voxel_lies_where_the_patient_has_it(tmp_path: Path, plane: tuple) -> None:
    volume = read_volume(write_series(tmp_path, plane=plane))
    np.testing.assert_allclose(volume.affine_lps, grid_affine(plane, SHAPE, SPACING), atol=1e-7)
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(volume.affine_lps, SHAPE))
    np.testing.assert_allclose(volume.spacing_kji, SPACING)


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES.keys())
def test_left_stays_left(tmp_path: Path, plane: tuple) -> None:
    volume = read_volume(write_series(tmp_path, plane=plane))
    indices = np.argwhere(volume.voxels_kji == 900)
    centre = (indices @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]).mean(axis=0)
    np.testing.assert_allclose(centre, LEFT_BALL_LPS, atol=0.7)


def test_slices_and_instances_go_together(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    for k, instance in enumerate(volume.instances):
        position = dcmread(instance.path).ImagePositionPatient
        np.testing.assert_allclose(volume.affine_lps @ (k, 0, 0, 1), [*position, 1], atol=1e-9)


def test_the_grid_is_the_volume_without_its_voxels(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    grid, volume = read_grid(series), read_volume(series)
    np.testing.assert_array_equal(grid.affine_lps, volume.affine_lps)
    assert grid.shape_kji == volume.shape_kji == SHAPE
    assert grid.instances == volume.instances
    assert grid.frame_of_reference_uid == volume.frame_of_reference_uid


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    degrees=st.tuples(*[st.integers(-180, 180)] * 3),
    step=st.floats(0.3, 8.0),
    order=st.randoms(use_true_random=False),
)
def test_any_plane_any_order_gives_the_same_places(
    tmp_path_factory: pytest.TempPathFactory,
    degrees: tuple[int, int, int],
    step: float,
    order: object,
) -> None:
    plane = turned(AXIAL, degrees)
    shape, spacing = (5, 8, 9), (step, 2.0, 1.7)
    series = write_series(
        tmp_path_factory.mktemp("any"), plane=plane, shape_kji=shape, spacing_kji=spacing
    )
    instances = list(series.instances)
    order.shuffle(instances)  # type: ignore[attr-defined]  # hypothesis' Random
    volume = read_volume(Series(series.series_uid, series.modality, tuple(instances)))
    np.testing.assert_allclose(
        volume.affine_lps, grid_affine(plane, shape, spacing), rtol=0, atol=1e-6
    )


def test_jitter_of_a_rounding_scanner_is_no_defect(tmp_path: Path) -> None:
    def rounded(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [f"{float(v):.1f}" for v in ds.ImagePositionPatient]

    volume = read_volume(write_series(tmp_path, spacing_kji=(0.625, 1.5, 1.25), edit=rounded))
    assert volume.spacing_kji[0] == pytest.approx(0.625, abs=0.02)


# --- values -------------------------------------------------------------------------------------


def test_hounsfield_units_are_whole_numbers(tmp_path: Path) -> None:
    def unsigned(k: int, ds: Dataset) -> None:
        ds.stored = ds.stored + 1024
        ds.PixelRepresentation, ds.RescaleIntercept = 0, "-1024"
        ds.BitsStored, ds.HighBit = 12, 11

    volume = read_volume(write_series(tmp_path, edit=unsigned))
    assert volume.voxels_kji.dtype == np.int16
    assert volume.unit == "HU"
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(volume.affine_lps, SHAPE))


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    slopes = [0.25 * (k + 1) for k in range(SHAPE[0])]

    def scaled(k: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = ds_text(slopes[k]), str(-k)

    volume = read_volume(write_series(tmp_path, modality="PT", edit=scaled))
    assert volume.voxels_kji.dtype == np.float32
    assert volume.unit == "BQML"
    stored = picture_on(volume.affine_lps, SHAPE)
    k = np.arange(SHAPE[0])[:, None, None]
    np.testing.assert_array_equal(
        volume.voxels_kji, (stored * np.array(slopes)[:, None, None] - k).astype(np.float32)
    )


def test_whole_slopes_stay_whole_numbers(tmp_path: Path) -> None:
    def scaled(k: int, ds: Dataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = "2", str(k)

    volume = read_volume(write_series(tmp_path, edit=scaled))
    k = np.arange(SHAPE[0])[:, None, None]
    assert volume.voxels_kji.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels_kji, 2 * picture_on(volume.affine_lps, SHAPE) + k)


def test_values_beyond_16_bits_are_floats(tmp_path: Path) -> None:
    def large(k: int, ds: Dataset) -> None:
        ds.PixelRepresentation = 0
        ds.stored = ds.stored + 60_000

    volume = read_volume(write_series(tmp_path, edit=large))
    assert volume.voxels_kji.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels_kji, 60_000 + picture_on(volume.affine_lps, SHAPE))


@pytest.mark.parametrize("rubbish", [0x0000, 0xF000])
def test_negative_values_of_12_bits_keep_their_sign(tmp_path: Path, rubbish: int) -> None:
    def twelve_bits(k: int, ds: Dataset) -> None:
        ds.BitsStored, ds.HighBit = 12, 11
        # unused bits hold nothing that counts, be it zeros or an old overlay
        ds.stored = ((ds.stored - 300) & 0x0FFF) | rubbish
        ds.stored = ds.stored.astype(np.uint16).view(np.int16)

    volume = read_volume(write_series(tmp_path, edit=twelve_bits))
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(volume.affine_lps, SHAPE) - 300)


def test_eight_bits_are_read(tmp_path: Path) -> None:
    def eight_bits(k: int, ds: Dataset) -> None:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.stored = ds.stored % 256

    volume = read_volume(
        write_series(tmp_path, shape_kji=(5, 7, 9), modality="MR", edit=eight_bits)
    )
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(volume.affine_lps, (5, 7, 9)) % 256)


def test_monochrome1_keeps_hounsfield_units_and_turns_brightness(tmp_path: Path) -> None:
    def inverted(k: int, ds: Dataset) -> None:
        ds.PhotometricInterpretation = "MONOCHROME1"
        ds.BitsStored, ds.HighBit = 12, 11

    ct = read_volume(write_series(tmp_path / "ct", edit=inverted))
    np.testing.assert_array_equal(ct.voxels_kji, picture_on(ct.affine_lps, SHAPE))
    mr = read_volume(write_series(tmp_path / "mr", modality="MR", edit=inverted))
    np.testing.assert_array_equal(mr.voxels_kji, -1 - picture_on(mr.affine_lps, SHAPE))
    assert mr.unit == ""


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name,
)
@pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
def test_every_transfer_syntax_gives_the_same_voxels(
    tmp_path: Path, transfer_syntax: object, signed: int
) -> None:
    def stored_as(k: int, ds: Dataset) -> None:
        ds.PixelRepresentation = signed
        ds.BitsStored, ds.HighBit = 12, 11
        ds.stored = ds.stored + offset

    shape, offset = (3, 70, 66), -400 if signed else 300
    series = write_series(
        tmp_path, shape_kji=shape, transfer_syntax=transfer_syntax, edit=stored_as
    )
    assert dcmread(series.instances[0].path).file_meta.TransferSyntaxUID == transfer_syntax
    volume = read_volume(series)
    expected = picture_on(volume.affine_lps, shape) + offset
    np.testing.assert_array_equal(volume.voxels_kji, expected)


@pytest.mark.parametrize("option", ["+e1", "+el"], ids=["JPEG lossless SV1", "JPEG lossless P14"])
def test_jpeg_lossless_of_another_encoder_is_read(tmp_path: Path, option: str) -> None:
    def unsigned(k: int, ds: Dataset) -> None:
        ds.PixelRepresentation = 0

    shape = (3, 30, 34)
    series = write_series(tmp_path, shape_kji=shape, edit=unsigned)
    for instance in series.instances:
        subprocess.run(["dcmcjpeg", option, instance.path, instance.path], check=True)
    volume = read_volume(series)
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(volume.affine_lps, shape))


# --- refusals -----------------------------------------------------------------------------------


def _moved(vector: tuple[float, float, float], of: tuple[int, ...]) -> Edit:
    def edit(k: int, ds: Dataset) -> None:
        if k in of:
            ds.ImagePositionPatient = [
                ds_text(float(at) + by)
                for at, by in zip(ds.ImagePositionPatient, vector, strict=True)
            ]

    return edit


def _with(of: tuple[int, ...] = tuple(range(99)), **attributes: object) -> Edit:
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


def _localiser(k: int, ds: Dataset) -> None:
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
    "a localiser": (errors.MixedOrientations, _localiser),
    "another size": (errors.MixedSizes, _rows),
    "another pixel spacing": (errors.MixedSizes, _with((4,), PixelSpacing=["1.51", "1.25"])),
    "another sign": (errors.MixedSizes, _with((4,), PixelRepresentation=0)),
    "another series": (errors.MixedSeries, _with((4,), SeriesInstanceUID="1.2.3")),
    "another frame of reference": (errors.MixedSeries, _with((4,), FrameOfReferenceUID="1.2.3")),
    "no frame of reference": (errors.NoGeometry, _with(FrameOfReferenceUID=None)),
    "no position": (errors.NoGeometry, _with((4,), ImagePositionPatient=None)),
    "no orientation": (errors.NoGeometry, _with(ImageOrientationPatient=None)),
    "no pixel spacing": (errors.NoGeometry, _with(PixelSpacing=None)),
    "zero pixel spacing": (errors.NoGeometry, _with(PixelSpacing=["0", "0"])),
    "two of three coordinates": (errors.NoGeometry, _with((4,), ImagePositionPatient=["1", "2"])),
    "row along column": (
        errors.NoGeometry,
        _with(ImageOrientationPatient=["1", "0", "0", "1", "0", "0"]),
    ),
    "a document": (errors.NotAnImage, _with(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")),
    "a segmentation": (errors.NotAnImage, _with(SOPClassUID=SegmentationStorage)),
    "several frames": (errors.MultiFrame, _with(NumberOfFrames=2)),
    "colour": (errors.UnsupportedPixelFormat, _with(SamplesPerPixel=3)),
    "a palette": (errors.UnsupportedPixelFormat, _with(PhotometricInterpretation="PALETTE COLOR")),
    "more stored than allocated": (errors.UnsupportedPixelFormat, _with(BitsStored=17)),
    "a slope of zero": (errors.UnsupportedPixelFormat, _with((4,), RescaleSlope="0")),
    "a modality table": (errors.UnsupportedPixelFormat, _with(ModalityLUTSequence=[Dataset()])),
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
            write_series(tmp_path / "flat", shape_kji=(1, 8, 8), edit=_with(SliceThickness=None))
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


# --- what routing asks --------------------------------------------------------------------------


def test_facts_of_a_sound_series(tmp_path: Path) -> None:
    def described(k: int, ds: Dataset) -> None:
        ds.BodyPartExamined, ds.ProtocolName = "HEAD", "T1 sag"
        ds.ContrastBolusAgent = "Agent"

    facts = describe_series(write_series(tmp_path, plane=SAGITTAL, modality="MR", edit=described))
    assert facts.modality == "MR"
    assert (facts.body_part, facts.description, facts.protocol) == ("HEAD", "synthetic", "T1 sag")
    assert facts.slice_count == 12
    assert facts.spacing_mm == 3.0
    assert facts.pixel_spacing_mm == (1.5, 1.25)
    assert facts.orientation == "sagittal"
    assert facts.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert facts.contrast_agent
    assert facts.manufacturer == "radloop tests"


@pytest.mark.parametrize(
    ("degrees", "plane"),
    [((0, 0, 0), "axial"), ((20, 0, 0), "axial"), ((45, 0, 0), "oblique"), ((90, 0, 0), "coronal")],
)
def test_the_plane_is_named_by_its_normal(
    tmp_path: Path, degrees: tuple[int, int, int], plane: str
) -> None:
    series = write_series(tmp_path, plane=turned(AXIAL, degrees), shape_kji=(3, 4, 4))
    assert describe_series(series).orientation == plane


@pytest.mark.parametrize("edit", [edit for _, edit in REFUSALS.values()], ids=REFUSALS.keys())
def test_facts_of_a_broken_series_are_told_without_complaint(tmp_path: Path, edit: Edit) -> None:
    facts = describe_series(write_series(tmp_path, edit=edit))
    assert facts.modality == "CT"
    assert facts.description == "synthetic"


def test_facts_of_mixed_planes_and_of_missing_slices(tmp_path: Path) -> None:
    mixed = describe_series(write_series(tmp_path / "mixed", edit=_localiser))
    assert mixed.orientation is None
    gap = describe_series(write_series(tmp_path / "gap", left_out=(3, 7)))
    assert (gap.spacing_mm, gap.slice_count) == (3.0, 10)
    assert not gap.contrast_agent


def test_facts_of_documents_and_of_nothing(tmp_path: Path) -> None:
    document = _with(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    facts = describe_series(write_series(tmp_path, edit=document))
    assert (facts.modality, facts.slice_count, facts.orientation) == ("SR", 0, None)
    assert facts.spacing_mm is None
    empty = describe_series(Series("1.2.3", "MR", ()))
    assert (empty.modality, empty.slice_count) == ("MR", 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_facts_of_values_that_break_their_type(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=(3, 8, 8))
    for instance in series.instances:
        content = instance.path.read_bytes()
        instance.path.write_bytes(content.replace(b"1.5000000000", b"one and half"))
    facts = describe_series(series)
    assert facts.pixel_spacing_mm is None
    assert facts.slice_count == 3
    with pytest.raises(errors.NoGeometry):
        read_volume(series)


# --- real data ----------------------------------------------------------------------------------


def test_chaos_ct_runs_downwards_and_is_two_millimetres_apart(tmp_path: Path) -> None:
    series = real_series("ct/chaos_ct_set3/DICOM_anon.tar.xz", tmp_path)
    volume = read_volume(series)
    assert volume.shape_kji == (78, 512, 512)
    np.testing.assert_allclose(volume.spacing_kji, (2.0, 0.7265625, 0.7265625))
    assert volume.affine_lps[2, 0] == pytest.approx(2.0)  # upwards, though file names run down
    assert volume.voxels_kji.dtype == np.int16
    assert volume.voxels_kji.min() == -1000
    assert describe_series(series).contrast_agent


@pytest.mark.parametrize(
    ("archive", "slices", "spacing"),
    [
        ("mr/sag_anon_t1_dicom/dicom.tar.xz", 192, (0.9, 0.859375, 0.859375)),
        ("mr/fruit_ge_t1_dicom/dicom.tar.gz", 196, (1.2, 1.0547, 1.0547)),
    ],
)
def test_real_sagittal_mr(
    tmp_path: Path, archive: str, slices: int, spacing: tuple[float, float, float]
) -> None:
    series = real_series(archive, tmp_path)
    volume = read_volume(series, min_slices=100)
    assert volume.shape_kji == (slices, 256, 256)
    np.testing.assert_allclose(volume.spacing_kji, spacing, atol=1e-4)
    assert describe_series(series).orientation == "sagittal"


def nema_picture(path: Path, folder: Path) -> np.ndarray:
    """Read one of NEMA's compression test images, which say nothing of the patient's space."""
    ds = dcmread(path, force=True)
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.FrameOfReferenceUID = ["1", "1"], "1", "1.2.3"
    copy = folder / f"{path.parent.name}.dcm"
    ds.save_as(copy)
    instance = Instance(ds.SOPInstanceUID, ds.SOPClassUID, copy)
    return read_volume(Series(ds.SeriesInstanceUID, ds.Modality, (instance,))).voxels_kji


@pytest.mark.parametrize("picture", ["CT1", "MR4"])
def test_the_same_picture_in_every_compression_of_nema(tmp_path: Path, picture: str) -> None:
    folder = DATA / "dicom-corpus" / "nema_wg04"
    if not folder.exists():
        pytest.skip("real data (shared/data) is absent")
    lossless = ("RLE", "J2KR", "JLSL", "JPLL")
    pictures = [nema_picture(folder / kind / f"{picture}_{kind}", tmp_path) for kind in lossless]
    for other in pictures[1:]:
        np.testing.assert_array_equal(other, pictures[0])


def test_lossy_jpeg_of_12_bits_is_read(tmp_path: Path) -> None:
    folder = DATA / "dicom-corpus" / "nema_wg04"
    if not folder.exists():
        pytest.skip("real data (shared/data) is absent")
    lossy = nema_picture(folder / "JPLY" / "MR4_JPLY", tmp_path).astype(float)
    exact = nema_picture(folder / "RLE" / "MR4_RLE", tmp_path).astype(float)
    assert np.abs(lossy - exact).mean() < 0.005 * np.ptp(exact)
    assert np.corrcoef(lossy.ravel(), exact.ravel())[0, 1] > 0.999
