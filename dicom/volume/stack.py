"""Planes -> a stack with one affine, or the reason why they make none.

Slices are ordered by where they lie along their normal. InstanceNumber and SliceThickness say
nothing about that and are never used for it. Geometry that one affine cannot hold (a gap, a
doubled slice, a tilt, mixed planes) is refused; what a caller allows is mended, and said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dicom.errors import (
    DoubledSlice,
    GantryTilt,
    MissingSlice,
    MixedOrientations,
    MixedSizes,
    NoGeometry,
    TooFewSlices,
    UnevenSpacing,
    UnreadablePixels,
)
from dicom.volume.planes import Plane
from dicom.volume.shear import Floats
from dicom.volume.values import Mending

GRID_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place on the even grid.

Scanners write positions rounded, some to 0.1 mm; the largest deviation met in sound series was
0.001 mm. A tenth of a millimetre is far below a voxel of CT or MR. For steps below 0.5 mm it is a
fifth of the step, so that a thin series is held to its own measure.
"""
SAME_PLACE_MM = 0.01
"""Two slices nearer than this lie at one position: no scanner reconstructs steps that small."""
TILT_TOLERANCE = 0.0017
"""Sideways run of the slices per mm along the normal (0.1 degree).

Cosines rounded to three digits can look like half of that; gantries tilt by half a degree or more.
"""
MOST_TILT_DEGREES = 45.0
"""Gantries tilt by up to 30 degrees; beyond this the positions are wrong, and are not mended."""
COSINE_TOLERANCE = 1e-3
"""How far direction cosines may differ: 0.06 degree, 0.13 mm at the rim of a 256 mm field."""
PIXEL_SPACING_TOLERANCE = 1e-4
"""Relative difference of PixelSpacing between slices: 0.05 mm over a field of 500 mm."""
FARTHEST_MM = 1e6
"""No patient is a kilometre from the isocentre: such a position, size or step is damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheets:
    """Planes of one orientation, size and pixel spacing, in no order yet.

    Parameters
    ----------
    row, column : ndarray, shape (3,)
        Unit vectors along a row and along a column, LPS.
    spacing : ndarray, shape (2,)
        Between rows, between columns; mm.
    positions : ndarray, shape (planes, 3)
        Centre of each first voxel, LPS mm.
    """

    planes: tuple[Plane, ...]
    rows: int
    columns: int
    row: Floats
    column: Floats
    spacing: Floats
    positions: Floats
    mended: frozenset[Mending] = frozenset()

    @property
    def normal(self) -> Floats:
        """Unit vector along which slices are counted."""
        return np.cross(self.row, self.column)

    @property
    def heights(self) -> Floats:
        """Where each plane lies along the normal, mm."""
        return self.positions @ self.normal

    def having(self, mended: Mending) -> Sheets:
        """Return the same planes, with a mending that was done to the series before."""
        return replace(self, mended=self.mended | {mended})

    def only(self, chosen: npt.NDArray[np.integer], *mended: Mending) -> Sheets:
        """Return some of the planes, in that order."""
        return Sheets(
            tuple(self.planes[index] for index in chosen),
            self.rows,
            self.columns,
            self.row,
            self.column,
            self.spacing,
            self.positions[chosen],
            self.mended.union(mended),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Planes in the order of their grid.

    Parameters
    ----------
    affine_lps : ndarray, float64, shape (4, 4)
        (k, j, i, 1) -> LPS mm. Sheared where a tilt was found and its mending is allowed.
    """

    planes: tuple[Plane, ...]
    shape_kji: tuple[int, int, int]
    affine_lps: Floats
    mended: frozenset[Mending]


def align(planes: list[Plane], mend: Set[Mending]) -> Sheets:
    """Return planes of one orientation, size and pixel spacing.

    Raises
    ------
    NoGeometry, MixedOrientations, MixedSizes, UnreadablePixels
    """
    sizes = [
        (plane.header.whole("Rows") or 0, plane.header.whole("Columns") or 0) for plane in planes
    ]
    cosines = np.array([plane.required("ImageOrientationPatient", 6) for plane in planes])
    spacings = np.array([plane.required("PixelSpacing", 2) for plane in planes])
    positions = np.array([plane.required("ImagePositionPatient", 3) for plane in planes])
    if np.abs(positions).max() > FARTHEST_MM or spacings.max() > FARTHEST_MM:
        raise NoGeometry("a position or pixel spacing is impossible")
    if spacings.min() <= 0:
        raise NoGeometry("PixelSpacing is not positive")

    mended: set[Mending] = set()
    kept = np.arange(len(planes))
    alike = _alike(sizes, cosines, spacings)
    if Mending.STRAYS in mend and 2 * len(alike) > len(planes) > len(alike):
        kept, mended = alike, {Mending.STRAYS}
        cosines, spacings, positions = cosines[kept], spacings[kept], positions[kept]
        sizes = [sizes[index] for index in kept]

    row, column = _directions(cosines)
    if len(set(sizes)) > 1:
        raise MixedSizes(f"slices of {len(set(sizes))} different sizes in one series")
    rows, columns = sizes[0]
    if rows < 1 or columns < 1:
        raise UnreadablePixels("Rows or Columns is missing")
    if not np.allclose(spacings, spacings[0], rtol=PIXEL_SPACING_TOLERANCE, atol=0):
        raise MixedSizes("slices of the series differ in PixelSpacing")
    chosen = tuple(planes[index] for index in kept)
    return Sheets(chosen, rows, columns, row, column, spacings[0], positions, frozenset(mended))


def pile(sheets: Sheets, *, min_slices: int, mend: Set[Mending]) -> Stack:
    """Return planes that lie one above the other as a stack with one affine.

    Raises
    ------
    TooFewSlices, NoGeometry, DoubledSlice, GantryTilt, MissingSlice, UnevenSpacing
    """
    sheets = sheets.only(np.argsort(sheets.heights, kind="stable"))
    doubled = np.flatnonzero(np.diff(sheets.heights) < SAME_PLACE_MM) + 1
    if doubled.size:
        if Mending.DOUBLED not in mend:
            raise DoubledSlice(
                f"{doubled.size} of {len(sheets.planes)} slices lie where another one lies"
            )
        sheets = sheets.only(_first_of_each(sheets), Mending.DOUBLED)
    if len(sheets.planes) < max(1, min_slices):
        raise TooFewSlices(f"{len(sheets.planes)} slices; at least {max(1, min_slices)} are needed")
    step, tilted = _step_between(sheets, mend)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = sheets.column * sheets.spacing[0]  # j walks down the rows, along the columns
    affine[:3, 2] = sheets.row * sheets.spacing[1]
    affine[:3, 3] = sheets.positions[0]
    affine.setflags(write=False)
    return Stack(
        sheets.planes,
        (len(sheets.planes), sheets.rows, sheets.columns),
        affine,
        sheets.mended | ({Mending.TILT} if tilted else set()),
    )


def places(heights: Floats) -> npt.NDArray[np.intp]:
    """Return for each plane the number of its place along the normal, counted from below."""
    order = np.argsort(heights, kind="stable")
    numbers = np.empty(len(heights), np.intp)
    numbers[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[0]]) >= SAME_PLACE_MM)
    return numbers


def lower_median(steps: Floats) -> float:
    """Return the middle one, of two the smaller: with one step doubled, the whole one counts."""
    return float(np.sort(steps)[(len(steps) - 1) // 2])


def _alike(sizes: list[tuple[int, int]], cosines: Floats, spacings: Floats) -> npt.NDArray[np.intp]:
    """Return the planes that share orientation, size and pixel spacing with most others."""
    keys = [
        (size, *np.round(directions, 2), *np.round(np.log(spacing), 3))
        for size, directions, spacing in zip(sizes, cosines, spacings, strict=True)
    ]
    ((usual, _),) = Counter(keys).most_common(1)
    like = keys.index(usual)
    same = (
        (np.abs(cosines - cosines[like]).max(axis=1) <= COSINE_TOLERANCE)
        & (np.abs(spacings / spacings[like] - 1).max(axis=1) <= PIXEL_SPACING_TOLERANCE)
        & np.array([size == sizes[like] for size in sizes])
    )
    return np.flatnonzero(same)


def _directions(cosines: Floats) -> tuple[Floats, Floats]:
    """Return the unit vectors along a row and along a column, the same for all slices."""
    row, column = cosines[0, :3], cosines[0, 3:]
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
        sound = np.abs(lengths - 1).max() <= COSINE_TOLERANCE
        if not (sound and abs(row @ column) <= COSINE_TOLERANCE):
            raise NoGeometry("ImageOrientationPatient holds no pair of orthogonal unit vectors")
        if np.abs(cosines - cosines[0]).max() > COSINE_TOLERANCE:
            raise MixedOrientations("slices of the series lie in different planes")
    return row / lengths[0], column / lengths[1]


def _first_of_each(sheets: Sheets) -> npt.NDArray[np.intp]:
    """Return one plane for each place, lowest first: of several the one whose UID comes first.

    The UID is the same on every machine and in every order of files; which one is kept must not
    depend on that.
    """
    best: dict[int, int] = {}
    for index, place in enumerate(places(sheets.heights)):
        other = best.setdefault(int(place), index)
        if _identity(sheets.planes[index]) < _identity(sheets.planes[other]):
            best[int(place)] = index
    return np.array([best[place] for place in sorted(best)], np.intp)


def _identity(plane: Plane) -> tuple[str, int]:
    return plane.source.instance.sop_instance_uid, plane.source.frame_number or 0


def _step_between(sheets: Sheets, mend: Set[Mending]) -> tuple[Floats, bool]:
    """Return the vector from one slice to the next, LPS mm, and whether it runs oblique."""
    positions, normal = sheets.positions, sheets.normal
    if len(positions) == 1:
        thickness = sheets.planes[0].number("SliceThickness")  # a lone slice's only extent
        if thickness is None or not 0 < thickness < FARTHEST_MM:
            raise NoGeometry("one slice alone, and its SliceThickness is missing")
        return normal * thickness, False

    run = positions[-1] - positions[0]
    sideways = float(np.linalg.norm(run - (run @ normal) * normal))
    tilted = sideways > max(GRID_TOLERANCE_MM, TILT_TOLERANCE * float(np.linalg.norm(run)))
    if tilted:
        angle = math.degrees(math.atan2(sideways, float(run @ normal)))
        if Mending.TILT not in mend or angle > MOST_TILT_DEGREES:
            raise GantryTilt(f"slices run {angle:.1f} degrees beside their normal")

    step: Floats = run / (len(positions) - 1)
    steps = np.diff(sheets.heights)
    usual = lower_median(steps)
    tolerance = min(GRID_TOLERANCE_MM, usual / 5)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    deviation = float(np.linalg.norm(positions - even, axis=1).max())
    if deviation <= tolerance:
        return step, tilted
    multiples = np.round(steps / usual)
    if multiples.max() > 1 and np.abs(steps - multiples * usual).max() <= 2 * tolerance:
        missing = int((multiples - 1).sum())
        raise MissingSlice(f"{missing} slices are missing; the others are {usual:.3f} mm apart")
    raise UnevenSpacing(
        f"steps between slices run from {steps.min():.3f} to {steps.max():.3f} mm; "
        f"up to {deviation:.2f} mm off an even grid"
    )
