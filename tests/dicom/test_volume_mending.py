"""What is mended when a caller allows it, and that labels come back to the archive's slices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom import errors
from dicom.study import Series
from dicom.volume import Mending, read_grid, read_grids, read_volume
from dicom.volume.shear import Shear
from tests.series import (
    AXIAL,
    CORONAL,
    LEFT_BALL_LPS,
    Edit,
    ds_text,
    grid_affine,
    picture,
    picture_on,
    turned,
    write_series,
)

TILT, DOUBLED, STRAYS = Mending.TILT, Mending.DOUBLED, Mending.STRAYS
SHAPE = (12, 30, 34)
SPACING = (3.0, 1.5, 1.25)


def sheared(plane: tuple, step_j: float, step_i: float) -> tuple[Edit, np.ndarray]:
    """Return an edit that shifts each slice within its plane by so many mm, and its affine."""
    affine = grid_affine(plane, SHAPE, SPACING)
    row, column = (np.array(vector, float) for vector in plane)
    affine[:3, 0] += step_j * column + step_i * row
    values = picture_on(affine, SHAPE)

    def edit(k: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [ds_text(v) for v in (affine @ (k, 0, 0, 1))[:3]]
        ds.stored = values[k]

    return edit, affine


@pytest.mark.parametrize("step", [(0.9, 0.0), (-1.3, 0.0), (0.4, -0.7)], ids=str)
@pytest.mark.parametrize("degrees", [(0, 0, 0), (25, -14, 40)], ids=str)
def test_a_tilt_is_resampled_where_it_is_allowed(
    tmp_path: Path, degrees: tuple[int, int, int], step: tuple[float, float]
) -> None:
    edit, tilted = sheared(turned(AXIAL, degrees), *step)
    series = write_series(tmp_path, plane=turned(AXIAL, degrees), edit=edit)
    with pytest.raises(errors.GantryTilt):
        read_volume(series, mend={DOUBLED, STRAYS})
    volume = read_volume(series, mend={TILT})
    assert volume.mended == {TILT}
    k, j, i = volume.affine_lps[:3, :3].T
    assert max(abs(k @ j), abs(k @ i), abs(j @ i)) < 1e-9
    np.testing.assert_allclose(volume.spacing_kji, SPACING, rtol=1e-6)
    np.testing.assert_allclose(volume.source.affine_lps, tilted, atol=1e-6)
    np.testing.assert_allclose(volume.source.spacing_kji, SPACING, rtol=1e-6)

    index = np.stack(np.meshgrid(*map(np.arange, volume.shape_kji), indexing="ij"), axis=-1)
    points = index @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]
    there = (points - tilted[:3, 3]) @ np.linalg.inv(tilted[:3, :3]).T
    inside = ((there >= 0) & (there <= np.array(SHAPE) - 1)).all(axis=-1)
    far = np.linalg.norm(points - LEFT_BALL_LPS, axis=-1) > 9  # the ball's edge is no ramp
    wrong = np.abs(volume.voxels_kji - picture(points))[inside & far]
    assert wrong.max() <= 2  # the ramp is linear, so linear interpolation finds it again
    ball = np.argwhere(volume.voxels_kji > 700)
    centre = (ball @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]).mean(axis=0)
    np.testing.assert_allclose(centre, LEFT_BALL_LPS, atol=0.7)


@pytest.mark.parametrize("step", [(0.9, 0.0), (-1.3, 0.0), (0.4, -0.7)], ids=str)
def test_labels_come_back_to_the_tilted_slices(tmp_path: Path, step: tuple[float, float]) -> None:
    edit, tilted = sheared(AXIAL, *step)
    volume = read_volume(write_series(tmp_path, edit=edit), mend={TILT})
    labels = volume.to_source((volume.voxels_kji > 500).astype(np.uint8))
    assert (labels.shape, labels.dtype) == (SHAPE, np.uint8)
    truth = picture_on(tilted, SHAPE) == 900
    both = (labels == 1) & truth
    assert 2 * both.sum() / (labels.sum() + truth.sum()) > 0.9
    centre = np.argwhere(labels).mean(axis=0) @ tilted[:3, :3].T + tilted[:3, 3]
    np.testing.assert_allclose(centre, LEFT_BALL_LPS, atol=0.5)
    for k, source in enumerate(volume.sources):
        position = dcmread(source.instance.path).ImagePositionPatient
        np.testing.assert_allclose((tilted @ (k, 0, 0, 1))[:3], position, atol=1e-6)


def test_a_tilt_by_whole_voxels_loses_nothing() -> None:
    labels = np.random.default_rng(1).integers(0, 9, (6, 11, 13)).astype(np.uint8)
    for drift in [(1.0, 0.0), (-2.0, 3.0), (0.0, -1.0)]:
        shear = Shear(labels.shape, drift)
        np.testing.assert_array_equal(shear.back(shear.forth(labels)), labels)


def test_labels_of_another_size_are_a_mistake(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=(3, 5, 7)))
    labels = np.zeros((3, 5, 7), np.uint8)
    assert volume.to_source(labels) is labels
    with pytest.raises(ValueError, match="labels of shape"):
        volume.to_source(labels[1:])


def test_an_impossible_tilt_is_not_mended(tmp_path: Path) -> None:
    edit, _ = sheared(AXIAL, 3 * math.tan(math.radians(60)), 0.0)
    with pytest.raises(errors.GantryTilt, match="60"):
        read_volume(write_series(tmp_path, edit=edit), mend=frozenset(Mending))


def doubled(folder: Path) -> Series:
    """Write a series that has its slices 3 and 7 twice, and nothing to tell them apart."""
    first = write_series(folder / "a", name="a")

    def again(k: int, ds: Dataset) -> None:
        ds.SeriesInstanceUID = first.series_uid
        ds.FrameOfReferenceUID = dcmread(first.instances[0].path).FrameOfReferenceUID

    left_out = [k for k in range(12) if k not in (3, 7)]
    second = write_series(folder / "b", name="b", left_out=left_out, edit=again)
    return Series(first.series_uid, "CT", first.instances + second.instances)


def test_a_doubled_slice_is_dropped_where_it_is_allowed(tmp_path: Path) -> None:
    series = doubled(tmp_path)
    with pytest.raises(errors.DoubledSlice, match=r"^2 of 14"):
        read_volume(series, mend={TILT, STRAYS})
    volume = read_volume(series, mend={DOUBLED})
    assert volume.mended == {DOUBLED}
    expected = grid_affine(AXIAL, SHAPE, SPACING)
    np.testing.assert_allclose(volume.affine_lps, expected, atol=1e-7)
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(expected, SHAPE))
    backwards = Series(series.series_uid, "CT", series.instances[::-1])
    assert read_volume(backwards, mend={DOUBLED}).sources == volume.sources


def test_strays_are_left_out_where_it_is_allowed(tmp_path: Path) -> None:
    def odd(k: int, ds: Dataset) -> None:
        if k == 0:
            ds.ImageOrientationPatient = [v for vector in CORONAL for v in vector]
        if k == 11:
            ds.Rows, ds.stored = 20, ds.stored[:20]

    series = write_series(tmp_path, edit=odd)
    with pytest.raises((errors.MixedOrientations, errors.MixedSizes)):
        read_volume(series, mend={TILT, DOUBLED})
    volume = read_volume(series, mend={STRAYS})
    assert (volume.mended, volume.shape_kji) == ({STRAYS}, (10, 30, 34))
    expected = grid_affine(AXIAL, SHAPE, SPACING)
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(expected, SHAPE)[1:-1])
    np.testing.assert_allclose(volume.affine_lps[:3, 3], (expected @ (1, 0, 0, 1))[:3])
    assert read_grid(series, mend={STRAYS}).sources == volume.sources


def test_a_scout_among_slices_is_a_stray(tmp_path: Path) -> None:
    def scout(k: int, ds: Dataset) -> None:
        if k == 11:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    series = write_series(tmp_path, edit=scout)
    with pytest.raises(errors.Localiser, match=r"^1 of 12"):
        read_volume(series)
    (named,) = read_grids(series, mend={STRAYS})
    assert (named.mended, named.grid.shape_kji[0]) == ({STRAYS}, 11)


def test_half_of_a_series_is_no_stray(tmp_path: Path) -> None:
    def half(k: int, ds: Dataset) -> None:
        if k < 6:
            ds.ImageOrientationPatient = [v for vector in CORONAL for v in vector]

    with pytest.raises(errors.MixedOrientations):
        read_volume(write_series(tmp_path, edit=half), mend=frozenset(Mending))


def test_a_sound_series_is_left_as_it_is(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    allowed, strict = read_volume(series, mend=frozenset(Mending)), read_volume(series)
    assert allowed.mended == frozenset()
    np.testing.assert_array_equal(allowed.affine_lps, strict.affine_lps)
    np.testing.assert_array_equal(allowed.voxels_kji, strict.voxels_kji)


@pytest.mark.parametrize("left_out", [(4,), (2, 3)])
def test_a_missing_slice_is_never_invented(tmp_path: Path, left_out: tuple[int, ...]) -> None:
    with pytest.raises(errors.MissingSlice):
        read_volume(write_series(tmp_path, left_out=left_out), mend=frozenset(Mending))
