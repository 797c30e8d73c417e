"""Every voxel where the patient has it, checked against readers that are not ours."""

from __future__ import annotations

import itertools
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless, RLELossless

from dicom.errors import MultiFrame
from dicom.study import Series
from dicom.volume import Volume, read_grid, read_volume
from tests.enhanced import Frame, write_enhanced
from tests.series import AXIAL, LEFT_BALL_LPS, grid_affine, picture_on, turned, write_series

SHAPE = (9, 14, 16)
SPACING = (4.0, 2.5, 2.25)

UNIT = np.eye(3)
AXIS_PLANES = [
    (sign_row * UNIT[row], sign_column * UNIT[column])
    for row, column in itertools.permutations(range(3), 2)
    for sign_row, sign_column in itertools.product((1, -1), repeat=2)
]
"""The 24 ways in which rows and columns can run along the body's axes; slices run along their
normal or against it, which makes 48."""


def letters(plane: tuple[np.ndarray, np.ndarray]) -> str:
    names = ("RL", "AP", "IS")
    return "".join(names[int(np.abs(vector).argmax())][int(vector.sum() > 0)] for vector in plane)


def by_simpleitk(series: Series, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and (k, j, i, 1) -> LPS mm as SimpleITK reads a classic series."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series.series_uid))
    image = reader.Execute()
    return SimpleITK.GetArrayFromImage(image), affine_of(image)


def affine_of(image: SimpleITK.Image) -> np.ndarray:
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, :3] = direction[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def assert_same_place(
    volume: Volume, voxels: np.ndarray, affine: np.ndarray, *, atol_mm: float = 1e-3
) -> None:
    """Compare voxel by voxel at the same place in the patient, whatever the order of the axes."""
    corners = np.array(
        [[*corner, 1] for corner in itertools.product(*((0, n - 1) for n in volume.shape_kji))]
    )
    there = np.linalg.solve(affine, volume.affine_lps @ corners.T)[:3].T
    assert np.abs(there - np.rint(there)).max() < atol_mm
    index = np.stack(
        np.meshgrid(*map(np.arange, volume.shape_kji), np.ones(1), indexing="ij"), axis=-1
    )[..., 0, :]
    exact = index @ np.linalg.solve(affine, volume.affine_lps).T
    k, j, i = np.moveaxis(np.rint(exact[..., :3]).astype(int), -1, 0)
    np.testing.assert_array_equal(volume.voxels_kji, voxels[k, j, i])


@pytest.mark.parametrize("downwards", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("plane", AXIS_PLANES, ids=letters)
def test_the_phantom_in_all_48_axis_orientations(
    tmp_path: Path, plane: tuple[np.ndarray, np.ndarray], downwards: bool
) -> None:
    order = range(SHAPE[0])[:: -1 if downwards else 1]
    classic = write_series(tmp_path, plane=plane, shape_kji=SHAPE, spacing_kji=SPACING)
    instances = tuple(classic.instances[index] for index in order)
    enhanced = write_enhanced(
        tmp_path / "enhanced",
        plane=plane,
        shape_kji=SHAPE,
        spacing_kji=SPACING,
        frames=[Frame(k) for k in order],
    )
    expected = grid_affine(plane, SHAPE, SPACING)
    for series in (Series(classic.series_uid, "CT", instances), enhanced):
        volume = read_volume(series)
        np.testing.assert_allclose(volume.affine_lps, expected, atol=1e-7)
        np.testing.assert_array_equal(volume.voxels_kji, picture_on(expected, SHAPE))
        ball = np.argwhere(volume.voxels_kji == 900)
        centre = (ball @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]).mean(axis=0)
        np.testing.assert_allclose(centre, LEFT_BALL_LPS, atol=1.5)
    for k, source in enumerate(volume.sources):
        frame = dcmread(source.instance.path).PerFrameFunctionalGroupsSequence[
            (source.frame_number or 0) - 1
        ]
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose((expected @ (k, 0, 0, 1))[:3], position, atol=1e-6)


@pytest.mark.parametrize("plane", AXIS_PLANES[::5], ids=letters)
def test_simpleitk_sees_the_same_in_classic_series(
    tmp_path: Path, plane: tuple[np.ndarray, np.ndarray]
) -> None:
    series = write_series(tmp_path, plane=plane, shape_kji=SHAPE, spacing_kji=SPACING)
    assert_same_place(read_volume(series), *by_simpleitk(series, tmp_path))


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (90, 0, 0), (25, -14, 40), (-8, 100, 3)], ids=str)
def test_highdicom_sees_the_same_in_enhanced_images(
    tmp_path: Path, modality: str, degrees: tuple[int, int, int]
) -> None:
    plane = turned(AXIAL, degrees)
    series = write_enhanced(
        tmp_path, modality=modality, plane=plane, shape_kji=SHAPE, spacing_kji=SPACING
    )
    other = highdicom.imread(series.instances[0].path).get_volume()
    assert_same_place(read_volume(series), other.array, other.affine)


@pytest.mark.parametrize("degrees", [(3, 0, 0), (25, -14, 40), (-61, 33, 178)], ids=str)
def test_obliques(tmp_path: Path, degrees: tuple[int, int, int]) -> None:
    plane = turned(AXIAL, degrees)
    series = write_series(tmp_path, plane=plane, shape_kji=SHAPE, spacing_kji=SPACING)
    volume = read_volume(series)
    np.testing.assert_allclose(volume.affine_lps, grid_affine(plane, SHAPE, SPACING), atol=1e-6)
    assert_same_place(volume, *by_simpleitk(series, tmp_path))


@pytest.mark.parametrize("spacing", [(0.3, 1.0, 1.0), (12.0, 0.2, 0.9), (1.0, 3.0, 0.25)], ids=str)
def test_anisotropy(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=spacing))
    np.testing.assert_allclose(volume.spacing_kji, spacing)
    expected = picture_on(grid_affine(AXIAL, SHAPE, spacing), SHAPE)
    np.testing.assert_array_equal(volume.voxels_kji, expected)


def test_one_slice_and_six_hundred(tmp_path: Path) -> None:
    one = read_volume(write_series(tmp_path / "one", shape_kji=(1, 5, 7)))
    assert one.shape_kji == (1, 5, 7)
    one = read_volume(write_enhanced(tmp_path / "frame", shape_kji=(1, 5, 7)))
    assert (one.shape_kji, one.spacing_kji[0]) == ((1, 5, 7), pytest.approx(7.7))
    shape, spacing = (600, 6, 8), (0.5, 2.0, 2.0)
    expected = grid_affine(AXIAL, shape, spacing)
    many = write_series(tmp_path / "many", shape_kji=shape, spacing_kji=spacing)
    frames = write_enhanced(tmp_path / "frames", shape_kji=shape, spacing_kji=spacing)
    for series in (many, frames):
        volume = read_volume(series)
        np.testing.assert_allclose(volume.affine_lps, expected, atol=1e-7)
        np.testing.assert_array_equal(volume.voxels_kji, picture_on(expected, shape))


@pytest.mark.parametrize("transfer_syntax", [RLELossless, JPEGLSLossless], ids=lambda u: u.name)
def test_compressed_frames_go_to_their_slices(tmp_path: Path, transfer_syntax: object) -> None:
    order = [4, 0, 8, 2, 7, 1, 3, 6, 5]
    series = write_enhanced(
        tmp_path,
        shape_kji=SHAPE,
        spacing_kji=SPACING,
        frames=[Frame(k) for k in order],
        transfer_syntax=transfer_syntax,
    )
    volume = read_volume(series)
    np.testing.assert_array_equal(
        volume.voxels_kji, picture_on(grid_affine(AXIAL, SHAPE, SPACING), SHAPE)
    )
    assert [source.frame_number for source in volume.sources] == [
        order.index(k) + 1 for k in range(SHAPE[0])
    ]


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    frames = [Frame(k, slope=0.5 * (k + 1)) for k in range(SHAPE[0])]
    series = write_enhanced(
        tmp_path, modality="PT", shape_kji=SHAPE, spacing_kji=SPACING, frames=frames
    )
    stored = picture_on(grid_affine(AXIAL, SHAPE, SPACING), SHAPE)
    slopes = np.array([frame.slope for frame in frames])[:, None, None]
    volume = read_volume(series)
    assert volume.voxels_kji.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels_kji, (stored * slopes).astype(np.float32))


def test_orientation_may_stand_in_each_frame(tmp_path: Path) -> None:
    series = write_enhanced(
        tmp_path, shape_kji=SHAPE, spacing_kji=SPACING, shared_orientation=False
    )
    grid = read_grid(series)
    np.testing.assert_allclose(grid.affine_lps, grid_affine(AXIAL, SHAPE, SPACING), atol=1e-7)
    assert grid.instances == (series.instances[0],) * SHAPE[0]


def test_frames_that_are_not_described_are_refused(tmp_path: Path) -> None:
    def short(ds: Dataset) -> None:
        ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:-1]

    with pytest.raises(MultiFrame):
        read_volume(write_enhanced(tmp_path, shape_kji=SHAPE, edit=short))


def test_a_volume_may_lie_in_several_enhanced_instances(tmp_path: Path) -> None:
    halves = [
        write_enhanced(
            tmp_path,
            name=name,
            shape_kji=SHAPE,
            spacing_kji=SPACING,
            frames=[Frame(k) for k in slices],
            edit=same_series,
        )
        for name, slices in (("upper", range(5, 9)), ("lower", range(5)))
    ]
    instances = tuple(instance for half in halves for instance in half.instances)
    volume = read_volume(Series("1.2.3.4", "CT", instances))
    expected = grid_affine(AXIAL, SHAPE, SPACING)
    np.testing.assert_array_equal(volume.voxels_kji, picture_on(expected, SHAPE))
    assert volume.instances == (instances[1],) * 5 + (instances[0],) * 4
    assert [source.frame_number for source in volume.sources] == [1, 2, 3, 4, 5, 1, 2, 3, 4]


def same_series(ds: Dataset) -> None:
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.4", "1.2.3.5"
