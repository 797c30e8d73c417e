from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
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
)

from dicom.study import Instance, Series
from dicom.volume import read_grid, read_volume
from tests.examples import examples
from tests.series import (
    AXIAL,
    DATA,
    LEFT_BALL_LPS,
    PLANES,
    ds_text,
    grid_affine,
    picture_on,
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


@examples(8)
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


# --- real data ----------------------------------------------------------------------------------


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
