"""How far two segmentations of one image are from each other: what a correction changed.

Three figures, each with a meaning for the one who drew:

- changed voxels: how many belong to other segments than before;
- added path length: how much contour had to be drawn anew, slice by slice: its pixels that were no
  contour before, times their size (Vaassen et al., Phys Imaging Radiat Oncol 2020);
- surface Dice: which share of both surfaces lies within a tolerance of the other one, here of the
  centres of surface voxels (Nikolov et al., J Med Internet Res 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from dicom.seg import Crop

_ROUNDED_MM = 1e-6

Mask = npt.NDArray[np.bool_]
Pair = tuple[Crop | None, Crop | None]
"""One segment before and after; None where it is not there."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The figures of one segment, or of all together.

    Attributes
    ----------
    changed_voxels : int
    added_path_mm : float
    surface_dice, dice : float or None
        0 to 1; None where the segment is empty before and after.
    """

    changed_voxels: int
    added_path_mm: float
    surface_dice: float | None
    dice: float | None


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the figures are made of; of several segments, the sums."""

    changed: int
    path_mm: float
    near: int
    surface: int
    shared: int
    sizes: int

    def __add__(self, other: _Counted) -> _Counted:
        return _Counted(
            self.changed + other.changed,
            self.path_mm + other.path_mm,
            self.near + other.near,
            self.surface + other.surface,
            self.shared + other.shared,
            self.sizes + other.sizes,
        )

    def agreement(self, changed_voxels: int) -> Agreement:
        return Agreement(
            changed_voxels,
            self.path_mm,
            self.near / self.surface if self.surface else None,
            2 * self.shared / self.sizes if self.sizes else None,
        )


def compare(
    pairs: Sequence[Pair], spacing_kji: tuple[float, float, float], *, tolerance_mm: float
) -> tuple[tuple[Agreement, ...], Agreement]:
    """Compare segments before and after.

    Parameters
    ----------
    pairs : sequence of (Crop or None, Crop or None)
        Each segment before and after, in its box, on one grid.
    spacing_kji : tuple of float
        mm between neighbouring voxels along slices, rows and columns.
    tolerance_mm : float
        How near two surfaces count as the same.

    Returns
    -------
    tuple of Agreement, Agreement
        One a pair; and of all together, in which a voxel that went from one segment to another is
        one changed voxel.
    """
    counted = [_count(pair, spacing_kji, tolerance_mm) for pair in pairs]
    total = sum(counted, _Counted(0, 0.0, 0, 0, 0, 0))
    return (
        tuple(each.agreement(each.changed) for each in counted),
        total.agreement(_changed_anywhere(pairs)),
    )


def _count(pair: Pair, spacing_kji: tuple[float, float, float], tolerance_mm: float) -> _Counted:
    box = _around([pair])
    if box is None:
        return _Counted(0, 0.0, 0, 0, 0, 0)
    before, after = (_in_box(crop, box) for crop in pair)
    path_px = int(np.count_nonzero(_contour(after) & ~_contour(before)))
    surfaces = _surface(before), _surface(after)
    near = _near(*surfaces, spacing_kji, tolerance_mm)
    near += _near(*surfaces[::-1], spacing_kji, tolerance_mm)
    return _Counted(
        changed=int(np.count_nonzero(before ^ after)),
        path_mm=path_px * (spacing_kji[1] + spacing_kji[2]) / 2,
        near=near,
        surface=sum(int(np.count_nonzero(surface)) for surface in surfaces),
        shared=int(np.count_nonzero(before & after)),
        sizes=int(np.count_nonzero(before)) + int(np.count_nonzero(after)),
    )


def _changed_anywhere(pairs: Sequence[Pair]) -> int:
    box = _around(pairs)
    if box is None:
        return 0
    changed = np.zeros([part.stop - part.start for part in box], np.bool_)
    for pair in pairs:
        own = _around([pair])
        if own is not None:
            inner = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(own, box, strict=True)
            )
            before, after = (_in_box(crop, own) for crop in pair)
            changed[inner] |= before ^ after
    return int(np.count_nonzero(changed))


def _around(pairs: Sequence[Pair]) -> tuple[slice, ...] | None:
    """Return the box that holds all of them, a voxel wider: what lies at its rim has a surface."""
    crops = [crop for pair in pairs for crop in pair if crop is not None and crop.voxels_kji.size]
    if not crops:
        return None
    ends = np.array([[part.stop for part in crop.within()] for crop in crops])
    begins = np.array([crop.corner_kji for crop in crops])
    low, high = begins.min(axis=0) - 1, ends.max(axis=0) + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _in_box(crop: Crop | None, box: tuple[slice, ...]) -> Mask:
    mask_kji = np.zeros([part.stop - part.start for part in box], np.bool_)
    if crop is not None and crop.voxels_kji.size:
        inside = tuple(
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in zip(crop.within(), box, strict=True)
        )
        voxels = crop.voxels_kji
        mask_kji[inside] = voxels >= 0.5 if voxels.dtype.kind == "f" else voxels
    return mask_kji


def _contour(mask_kji: Mask) -> Mask:
    """Return each slice's outline: voxels with a neighbour outside, in the plane."""
    cross = np.zeros((3, 3, 3), np.bool_)
    cross[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    inner: Mask = scipy.ndimage.binary_erosion(mask_kji, cross)
    return mask_kji & ~inner


def _surface(mask_kji: Mask) -> Mask:
    """Return the voxels with a neighbour outside, over shared faces."""
    inner: Mask = scipy.ndimage.binary_erosion(mask_kji)
    return mask_kji & ~inner


def _near(
    surface: Mask, other: Mask, spacing_kji: tuple[float, float, float], tolerance_mm: float
) -> int:
    """Return how many voxels of a surface lie within the tolerance of another one."""
    if not other.any() or not surface.any():
        return 0
    places_mm = (np.argwhere(mask) * spacing_kji for mask in (other, surface))
    tree = scipy.spatial.KDTree(next(places_mm))
    distance_mm, _ = tree.query(next(places_mm), distance_upper_bound=tolerance_mm + _ROUNDED_MM)
    return int(np.count_nonzero(np.isfinite(distance_mm)))
