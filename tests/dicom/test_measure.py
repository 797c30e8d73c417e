"""Figures of segments, beside an independent program and beside geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from dicom.measure import Measured, measure
from dicom.seg import Masks
from dicom.study import Instance
from dicom.volume import Grid, SliceSource, Volume
from tests.examples import examples

SHAPE = (14, 20, 26)


def volume(
    voxels_kji: np.ndarray,
    affine_lps: np.ndarray,
    *,
    unit: str = "HU",
    suv_factor: float | None = None,
) -> Volume:
    slices, rows, columns = voxels_kji.shape
    sources = tuple(
        SliceSource(Instance(f"2.25.{k}", "1.2.840.10008.5.1.4.1.1.2", Path("nowhere")))
        for k in range(slices)
    )
    grid = Grid((slices, rows, columns), affine_lps, sources, "2.25.9", "2.25.8", "CT")
    return Volume(voxels_kji, affine_lps, grid, unit, suv_factor)


def affine(spacing_kji: tuple[float, float, float], seed: int | None = None) -> np.ndarray:
    """Return an affine to LPS: axial, or turned at random."""
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])  # k to z, j to y, i to x
    if seed is not None:
        turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn)) * -1 or 1
    result = np.eye(4)
    result[:3, :3] = turn * np.array(spacing_kji)
    result[:3, 3] = (-31.0, 12.5, 400.25)
    return result


def by_simpleitk(
    labels_kji: np.ndarray, image: Volume
) -> tuple[sitk.LabelShapeStatisticsImageFilter, sitk.LabelStatisticsImageFilter]:
    def as_image(array: np.ndarray) -> sitk.Image:
        made = sitk.GetImageFromArray(array)
        steps = image.affine_lps[:3, [2, 1, 0]]
        spacing = np.linalg.norm(steps, axis=0)
        made.SetSpacing(spacing.tolist())
        made.SetDirection((steps / spacing).ravel().tolist())
        made.SetOrigin(image.affine_lps[:3, 3].tolist())
        return made

    labels = as_image(labels_kji.astype(np.uint8))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(labels)
    values = sitk.LabelStatisticsImageFilter()
    values.Execute(as_image(image.voxels_kji.astype(np.float64)), labels)
    return shape, values


def blobs(seed: int) -> np.ndarray:
    """Return labels 1 to 3, ragged and of different sizes."""
    draw = np.random.default_rng(seed)
    labels_kji = np.zeros(SHAPE, np.uint8)
    kji = np.indices(SHAPE)
    for number in (1, 2, 3):
        centre = [draw.integers(3, size - 3) for size in SHAPE]
        half = draw.uniform(1.2, 6, size=3)
        inside = sum(((kji[a] - centre[a]) / half[a]) ** 2 for a in range(3)) < 1
        labels_kji[inside & (draw.random(SHAPE) < 0.9)] = number
    return labels_kji


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.8, 1.5, 3.0)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_numbers_are_those_of_simpleitk(
    seed: int, spacing: tuple[float, float, float], turned: bool
) -> None:
    labels_kji = blobs(seed)
    draw = np.random.default_rng(seed + 100)
    image = volume(
        draw.integers(-1000, 2000, SHAPE).astype(np.int16),
        affine(spacing, seed if turned else None),
    )
    shape, values = by_simpleitk(labels_kji, image)
    found = measure(labels_kji, image)
    assert [one.number for one in found] == sorted(shape.GetLabels())
    for one in found:
        assert one.voxels == shape.GetNumberOfPixels(one.number)
        assert one.volume_ml == pytest.approx(shape.GetPhysicalSize(one.number) / 1000)
        assert one.diameter_mm == pytest.approx(shape.GetFeretDiameter(one.number))
        assert one.mean == pytest.approx(values.GetMean(one.number))
        assert one.sd == pytest.approx(values.GetSigma(one.number))
        assert one.minimum == values.GetMinimum(one.number)
        assert one.maximum == values.GetMaximum(one.number)
        assert one.unit == "HU"


def test_a_box_and_a_ball_measure_what_geometry_says() -> None:
    labels_kji = np.zeros((40, 40, 40), np.uint8)
    labels_kji[5:15, 10:14, 20:23] = 1
    kji = np.indices(labels_kji.shape)
    labels_kji[sum((kji[a] - 25.0) ** 2 for a in range(3)) <= 12**2] = 2
    image = volume(np.full(labels_kji.shape, 7, np.int16), affine((2.0, 1.0, 0.5)))
    box, ball = measure(labels_kji, image)
    assert box.volume_ml == pytest.approx(10 * 4 * 3 * 1.0 / 1000)
    assert box.diameter_mm == pytest.approx(np.linalg.norm([9 * 2.0, 3 * 1.0, 2 * 0.5]))
    assert box.axial_diameter_mm == pytest.approx(np.linalg.norm([3 * 1.0, 2 * 0.5]))
    assert (box.mean, box.sd, box.minimum, box.maximum) == (7, 0, 7, 7)
    assert ball.diameter_mm == pytest.approx(24 * 2.0)
    assert ball.axial_diameter_mm == pytest.approx(24 * 1.0)


def test_axial_means_the_patients_axial_planes_however_the_slices_lie() -> None:
    """A rod of 30 mm from foot to head, 8 mm from left to right, in a sagittal acquisition."""
    labels_kji = np.zeros((20, 40, 10), np.uint8)
    labels_kji[4:9, 5:36, 5] = 1
    sagittal = np.eye(4)
    sagittal[:3, :3] = np.array([[2.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])  # k to x, j to -z
    (rod,) = measure(labels_kji, volume(np.zeros(labels_kji.shape, np.int16), sagittal))
    assert rod.axial_diameter_mm == pytest.approx(8.0)
    assert rod.diameter_mm == pytest.approx(np.hypot(30, 8))


@examples(30)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6))
def test_the_longest_distance_is_never_missed(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    mask_kji = draw.random((4, 9, 11)) < share
    if not mask_kji.any():
        return
    steps = affine((3.1, 0.9, 1.2), seed % 1000)
    (found,) = measure(mask_kji.astype(np.uint8), volume(np.zeros(mask_kji.shape, np.int16), steps))
    points = np.argwhere(mask_kji) @ steps[:3, :3].T
    expected = float(pdist(points).max()) if len(points) > 1 else 0.0
    assert found.diameter_mm == pytest.approx(expected)


def test_what_makes_no_sense_is_not_given() -> None:
    labels_kji = np.zeros((1, 8, 8), np.uint8)
    labels_kji[0, 2:6, 2:4] = 1
    (flat,) = measure(
        labels_kji, volume(np.zeros((1, 8, 8), np.float32), affine((1, 2, 2)), unit="")
    )
    assert flat.volume_ml is None
    assert flat.diameter_mm is None
    assert flat.axial_diameter_mm == pytest.approx(np.hypot(6, 2))
    assert flat.unit == ""
    labels_kji = np.zeros((3, 8, 8), np.uint8)
    labels_kji[1, 1, 1] = 1
    (point,) = measure(labels_kji, volume(np.ones((3, 8, 8), np.int16), affine((1, 1, 1))))
    assert (point.diameter_mm, point.axial_diameter_mm, point.sd) == (0.0, 0.0, None)


def test_a_segment_that_was_looked_for_and_not_found_says_so() -> None:
    masks = Masks.of([np.zeros((3, 4, 4), bool), np.ones((3, 4, 4), bool)])
    nothing, whole = measure(masks, volume(np.ones((3, 4, 4), np.int16), affine((1, 1, 1))))
    assert nothing == Measured(1, 0, 0.0, None, None, None, None, None, None, "HU")
    assert whole.voxels == 48


def test_overlapping_segments_are_measured_whole() -> None:
    first, second = np.zeros((3, 6, 6), bool), np.zeros((3, 6, 6), bool)
    first[:, 0:4], second[:, 2:6] = True, True
    image = volume(np.ones((3, 6, 6), np.int16), affine((1, 1, 1)))
    assert [one.voxels for one in measure(Masks.of([first, second]), image)] == [72, 72]


def test_pet_is_measured_in_suv_where_it_says_what_that_needs() -> None:
    voxels = np.full((2, 3, 3), 5000, np.float32)
    labels = np.ones((2, 3, 3), np.uint8)
    (told,) = measure(labels, volume(voxels, affine((1, 1, 1)), unit="BQML", suv_factor=0.001))
    assert (told.mean, told.unit) == (pytest.approx(5.0), "SUVbw")
    (untold,) = measure(labels, volume(voxels, affine((1, 1, 1)), unit="BQML"))
    assert (untold.mean, untold.unit) == (pytest.approx(5000.0), "BQML")


def test_labels_of_another_grid_are_a_bug() -> None:
    with pytest.raises(ValueError, match="shape"):
        measure(
            np.zeros((2, 2, 2), np.uint8), volume(np.zeros((3, 3, 3), np.int16), affine((1, 1, 1)))
        )
