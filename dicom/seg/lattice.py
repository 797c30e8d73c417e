"""Where a Segmentation's voxels may lie: on the slices of its source, or on a grid of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from dicom.errors import ImpossibleSize, InvalidSegmentation, OtherGrid
from dicom.volume import Grid, Picture, Volume

Floats = npt.NDArray[np.float64]
Voxel = TypeVar("Voxel", bound=np.generic)

MOST_VOXELS: Final = 1 << 31
"""More voxels than any image that a Segmentation is made on: 1024 x 1024 x 2048."""
SAME_PLACE_TOLERANCE = 0.25
"""How far a frame's corner may lie from its source's corner, in voxels' smallest side.

Writers round positions; a frame that is off by a quarter of a voxel lies on another grid.
"""
STEP_TOLERANCE = 0.05
"""How far a slice may lie off the even grid that others make, in steps."""
SAME_PLACE_MM = 0.01


@dataclass(frozen=True, eq=False)
class Lattice:
    """A grid of voxels, and which image lies on which of its slices.

    Parameters
    ----------
    shape_kji : tuple of int
        Slices, rows, columns.
    affine_lps : ndarray or None
        From index (k, j, i, 1) to LPS, mm; None where the images have no place in a patient.
    slices : Mapping
        From (SOP instance, frame from 1) to slice; frame 0 stands for an image of one frame.
    frame_of_reference_uid, series_uid : str
        Of the source; empty for a grid of the Segmentation's own.
    """

    shape_kji: tuple[int, int, int]
    affine_lps: Floats | None
    slices: Mapping[tuple[str, int], int]
    frame_of_reference_uid: str
    series_uid: str

    def __post_init__(self) -> None:
        slices, rows, columns = self.shape_kji
        if slices * rows * columns > MOST_VOXELS:
            raise ImpossibleSize("the segmentation spans more voxels than any image has")

    @cached_property
    def images(self) -> frozenset[str]:
        """Return the SOP instances that lie on it."""
        return frozenset(uid for uid, _ in self.slices)

    @cached_property
    def axes(self) -> Floats:
        """Return the steps along k, j and i, LPS in mm, as columns."""
        if self.affine_lps is None:
            raise ValueError("a lattice without a place in a patient has no axes")
        return self.affine_lps[:3, :3]

    @cached_property
    def tolerance_mm(self) -> float:
        """Return how far a voxel may lie from where it belongs."""
        return SAME_PLACE_TOLERANCE * float(np.linalg.norm(self.axes, axis=0).min())

    def index_of(self, point_lps: tuple[float, ...]) -> Floats:
        """Return the exact index (k, j, i) of a point in LPS, mm."""
        index: Floats = (self._inverse @ (*point_lps, 1.0))[:3]
        return index

    @cached_property
    def _inverse(self) -> Floats:
        affine_lps = np.eye(4) if self.affine_lps is None else self.affine_lps
        try:
            inverse = np.linalg.inv(affine_lps).astype(np.float64, copy=False)
        except np.linalg.LinAlgError:
            raise OtherGrid("the grid is flat") from None
        return inverse

    @property
    def own(self) -> bool:
        """Whether it is made from the Segmentation alone: nothing that it refers to is at hand."""
        return not self.series_uid


Source = Grid | Volume | Picture
"""What a Segmentation is made on: slices in a patient, or one picture without a place in one."""


def grid_of(source: Source) -> Grid:
    """Return where the images themselves lie, whatever was mended to make a volume of them.

    A picture becomes a grid of one slice without a frame of reference.

    Raises
    ------
    InvalidSegmentation
        When it is a film: its frames have no place by which a Segmentation could tell them apart.
    """
    if isinstance(source, Volume):
        return source.source
    if isinstance(source, Grid):
        return source
    if len(source.sources) > 1:
        raise InvalidSegmentation("a film of several frames without a place cannot be segmented")
    return Grid(
        shape_kji=source.shape_fji,
        affine_lps=source.affine_image,
        sources=source.sources,
        series_uid=source.series_uid,
        frame_of_reference_uid="",
        modality=source.modality,
    )


def lattice_of(source: Grid) -> Lattice:
    """Return the grid of a source series."""
    slices = {
        (each.instance.sop_instance_uid, each.frame_number or 0): k
        for k, each in enumerate(source.sources)
    }
    return Lattice(
        shape_kji=source.shape_kji,
        affine_lps=source.affine_lps if source.frame_of_reference_uid else None,
        slices=slices,
        frame_of_reference_uid=source.frame_of_reference_uid,
        series_uid=source.series_uid,
    )


def lattice_from(
    origins: Iterable[tuple[float, ...]],
    cosines: tuple[float, ...],
    spacing_mm: tuple[float, ...],
    step_mm: float | None,
    thickness_mm: float | None,
    shape_ji: tuple[int, int],
) -> Lattice:
    """Return the grid that frames make by themselves.

    Parameters
    ----------
    origins : iterable of tuple of float
        First voxel of each frame, LPS in mm.
    cosines : tuple of float
        Directions along a row and along a column.
    spacing_mm : tuple of float
        Between rows, and between columns.
    step_mm : float or None
        What the Segmentation says of the distance between its planes.
    thickness_mm : float or None
        The only extent that a lone plane has.

    Raises
    ------
    OtherGrid
        When the planes make no even grid.
    ImpossibleSize
        When they span more than any image.
    """
    points = np.unique(np.array(list(origins), np.float64), axis=0)
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    normal = np.cross(row, column)
    length = float(np.linalg.norm(normal))
    if not 0.9 < length < 1.1:
        raise OtherGrid("the directions of rows and columns do not stand upright on each other")
    points = points[np.argsort(points @ normal, kind="stable")]
    heights = points @ normal
    heights -= heights[0]
    steps = np.diff(heights)
    steps = steps[steps > SAME_PLACE_MM]
    step = _step(steps, step_mm) if steps.size else (step_mm or thickness_mm or 1.0)
    count = round(float(heights[-1]) / step) + 1
    affine = np.eye(4)
    affine[:3, 0] = normal / length * step
    affine[:3, 1] = column * spacing_mm[0]
    affine[:3, 2] = row * spacing_mm[1]
    affine[:3, 3] = points[0]
    return Lattice((count, *shape_ji), affine, {}, "", "")


def _step(steps: Floats, said_mm: float | None) -> float:
    """Return the distance of which every step is a multiple."""
    for step in (said_mm, float(steps.min())):
        if step and np.abs(steps / step - np.rint(steps / step)).max() < STEP_TOLERANCE:
            return step
    raise OtherGrid("the planes of the segmentation are not evenly spaced")


def onto_grid(voxels_kji: npt.NDArray[Voxel], affine_lps: Floats, grid: Grid) -> npt.NDArray[Voxel]:
    """Return an array of another program in the axes and directions of a grid.

    Parameters
    ----------
    voxels_kji : ndarray, shape of three axes
        On the grid's own voxels, whatever axis comes first and wherever it begins.
    affine_lps : ndarray, shape (4, 4)
        From its index to LPS, mm.
    grid : Grid
        Of the source series.

    Raises
    ------
    OtherGrid
        When its voxels are not the grid's: resampling is for the one who made it.
    """
    turn = np.linalg.solve(grid.affine_lps, affine_lps)
    axes = [int(np.abs(turn[:3, axis]).argmax()) for axis in range(3)]
    if sorted(axes) != [0, 1, 2]:
        raise OtherGrid("the labels have other directions than the series")
    signs = [float(np.sign(turn[to, axis])) for axis, to in enumerate(axes)]
    moved = voxels_kji.transpose([axes.index(to) for to in range(3)])
    moved = np.flip(moved, tuple(to for axis, to in enumerate(axes) if signs[axis] < 0))
    if moved.shape != grid.shape_kji:
        raise OtherGrid(f"labels of {moved.shape} voxels, a series of {grid.shape_kji}")
    corners = np.array([[0.0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1], [1, 0, 0, 1]])
    corners[:, :3] *= np.array(voxels_kji.shape) - 1
    expected = np.zeros((4, 3))
    for axis, to in enumerate(axes):
        along = corners[:, axis]
        expected[:, to] = along if signs[axis] > 0 else moved.shape[to] - 1 - along
    off = (corners @ turn.T)[:, :3] - expected
    off_mm = float(np.linalg.norm(off @ grid.affine_lps[:3, :3].T, axis=1).max())
    if off_mm > SAME_PLACE_TOLERANCE * min(grid.spacing_kji):
        raise OtherGrid(f"the labels lie {off_mm:.2f} mm off the voxels of the series")
    return np.ascontiguousarray(moved)
