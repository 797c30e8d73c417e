"""Contours become voxels: those whose centres lie within, holes left out, on their own slices."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from skimage.draw import polygon2mask

from dicom.errors import InvalidSegmentation, NotDicom, OtherGrid
from dicom.folder import read_folder
from dicom.rtstruct import rasterise, read_structures
from dicom.volume import Grid, read_grid
from tests.series import DATA, PLANES, write_series
from tests.structures import square, structure_set

SHAPE = (5, 30, 32)


@pytest.fixture(params=["axial", "axial, rows upwards", "oblique"])
def grid(request, tmp_path: Path) -> Grid:
    series = write_series(tmp_path, plane=PLANES[request.param], shape_kji=SHAPE)
    return read_grid(series)


def drawn(grid: Grid, polygons) -> np.ndarray:
    return rasterise(read_structures(structure_set(grid, {"GTV": polygons})), grid).whole(1)


def test_a_voxel_belongs_where_its_centre_lies_within(grid):
    mask = drawn(grid, [(2, square(3.5, 9.5)), (3, square(3.5, 4.4))])
    wanted = np.zeros(SHAPE, bool)
    wanted[2, 4:10, 4:10] = True
    wanted[3, 4, 4] = True
    assert np.array_equal(mask, wanted)


def test_a_polygon_within_another_is_a_hole_and_one_within_that_is_none(grid):
    mask = drawn(grid, [(1, square(2.5, 20.5)), (1, square(5.5, 15.5)), (1, square(8.5, 12.5))])
    wanted = np.zeros(SHAPE, bool)
    wanted[1, 3:21, 3:21] = True
    wanted[1, 6:16, 6:16] = False
    wanted[1, 9:13, 9:13] = True
    assert np.array_equal(mask, wanted)


def test_a_hole_by_a_keyhole_is_one(grid):
    outer, inner = square(2.5, 20.5), square(5.5, 15.5)
    keyhole = [*outer, outer[0], *inner[::-1], inner[-1]]
    mask = drawn(grid, [(1, keyhole)])
    assert mask[1].sum() == 18 * 18 - 10 * 10


def test_any_polygon_is_filled_as_another_library_fills_it(grid):
    random = np.random.default_rng(4)
    angles = np.sort(random.uniform(0, 2 * np.pi, 40))
    radius = random.uniform(4, 12, 40)
    points = np.c_[15 + radius * np.sin(angles), 16 + radius * np.cos(angles)]
    mask = drawn(grid, [(0, points.tolist())])
    assert np.array_equal(mask[0], polygon2mask(SHAPE[1:], points))


def test_two_structures_may_share_voxels(grid):
    ds = structure_set(grid, {"a": [(1, square(2.5, 9.5))], "b": [(1, square(5.5, 12.5))]})
    masks = rasterise(read_structures(ds), grid)
    assert masks.overlap() and [int(masks.whole(n).sum()) for n in (1, 2)] == [49, 49]


@pytest.mark.parametrize("k", [-1, 5, 1.5])
def test_a_contour_off_the_slices_is_refused(grid, k):
    with pytest.raises(OtherGrid):
        drawn(grid, [(k, square(3.5, 9.5))])


def test_a_contour_across_the_slices_is_refused(grid):
    ds = structure_set(grid, {"a": [(1, square(2.5, 9.5))]})
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    places = np.array(contour.ContourData, float).reshape(-1, 3)
    places[0] += grid.affine_lps[:3, 0]
    contour.ContourData = [f"{value:.4f}" for value in places.ravel()]
    with pytest.raises(OtherGrid, match="off the slices"):
        rasterise(read_structures(ds), grid)


def test_what_is_no_structure_set_is_refused(grid, tmp_path):
    with pytest.raises(InvalidSegmentation):
        read_structures(grid.instances[0].path)
    (tmp_path / "text").write_text("no DICOM at all")
    with pytest.raises(NotDicom):
        read_structures(tmp_path / "text")
    ds = structure_set(grid, {"a": [(1, square(2.5, 9.5))]})
    ds.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0]
    with pytest.raises(InvalidSegmentation):
        read_structures(ds)
    empty = structure_set(grid, {})
    with pytest.raises(InvalidSegmentation, match="no closed contour"):
        rasterise(read_structures(empty), grid)


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
def test_a_real_tumour_has_the_volume_that_its_contours_enclose(tmp_path, modality):
    packed = DATA / "ct" / "sts" / "STS_008.tar.gz"
    if not packed.exists():
        pytest.skip("real data (shared/data) is absent")
    with tarfile.open(packed) as file:
        file.extractall(tmp_path, filter="data")
    folder = next(tmp_path.rglob(modality))
    (series,) = read_folder(folder / "image").studies[0].series
    grid = read_grid(series)
    structures = read_structures(next((folder / "mask").rglob("*.dcm")))
    assert not structures.instance_uids & {i.sop_instance_uid for i in grid.instances}  # broken
    assert grid.frame_of_reference_uid in structures.frame_of_reference_uids
    masks = rasterise(structures, grid)
    voxel = float(np.prod(grid.spacing_kji))
    for number, structure in enumerate(structures.structures, 1):
        enclosed = sum(area(polygon) for polygon in structure.contours_lps) * grid.spacing_kji[0]
        measured = int(masks.whole(number).sum()) * voxel
        assert measured == pytest.approx(enclosed, rel=0.03)


def area(polygon_lps: np.ndarray) -> float:
    """Return a plane polygon's area in mm^2 (the shoelace formula, in space)."""
    following = np.roll(polygon_lps, -1, axis=0)
    return float(np.linalg.norm(np.cross(polygon_lps, following).sum(axis=0)) / 2)
