"""How alike two segmentations of one image are, and how much work lies between them.

One place for these figures: what a correction changed (:func:`compare`, segment by segment in their
boxes) and how far a model is from the truth (:func:`likeness`, mask by mask).

- Dice: 2 |A and B| / (|A| + |B|);
- surface Dice: which share of both surfaces lies within a tolerance of the other one (Nikolov et
  al., J Med Internet Res 2021);
- 95 % Hausdorff distance: the larger of both directions' 95th percentile of surface distances;
- added path length: how much outline had to be drawn anew, slice by slice: its pixels that were no
  outline before, times the side of a square as large as a pixel (Vaassen et al., Phys Imaging
  Radiat Oncol 2020). It tells a correction's time better than Dice does;
- changed voxels: how many belong to other segments than before.

Masks are boolean, axes (slices, rows, columns); surfaces and distances are those of
:mod:`dicom.masks`, and so MONAI's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom.masks import Mask, Spacing, around, distances_mm, outlines, surface
from dicom.seg import Crop

_ROUNDED_MM = 1e-6

TOLERANCE_MM = 2.0
"""Of the surface Dice, where a task does not say its own: what readers rarely agree better on."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two masks of one structure are; None where a figure has no meaning.

    Attributes
    ----------
    dice : float or None
        2 |A and B| / (|A| + |B|); None where both are empty.
    surface_dice : float or None
        The share of both surfaces that lies within `tolerance_mm` of the other one (Nikolov et al.,
        arXiv:1809.04430); 0 where one mask is empty, None where both are.
    hausdorff95_mm : float or None
        The larger of the two directions' 95th percentile of surface distances; None where a mask
        is empty: there is no distance to nothing.
    volume_error : float or None
        (|found| - |truth|) / |truth|; None where the truth is empty.
    added_path_mm : float
        What a reader would have to draw to mend `found`: see :func:`added_path_length`.
    """

    dice: float | None
    surface_dice: float | None
    hausdorff95_mm: float | None
    volume_error: float | None
    added_path_mm: float
    tolerance_mm: float


def likeness(
    found_kji: Mask, truth_kji: Mask, spacing_kji: Spacing, *, tolerance_mm: float = TOLERANCE_MM
) -> Likeness:
    """Compare what was found with what is true.

    Parameters
    ----------
    found_kji, truth_kji : ndarray of bool, shape (slices, rows, columns)
    spacing_kji : tuple of float
        mm.
    tolerance_mm : float
        Of the surface Dice, included.

    Raises
    ------
    ValueError
        When the shapes differ: a bug, not bad input.
    """
    if found_kji.shape != truth_kji.shape:
        raise ValueError(f"masks of shapes {found_kji.shape} and {truth_kji.shape}")
    box = around(found_kji | truth_kji)
    if box is None:
        return Likeness(None, None, None, None, 0.0, tolerance_mm)
    found, truth = found_kji[box], truth_kji[box]
    sizes = int(found.sum()), int(truth.sum())
    flat = found_kji.shape[0] == 1
    surfaces = surface(found, flat=flat), surface(truth, flat=flat)
    there = distances_mm(*surfaces, spacing_kji)
    back = distances_mm(*surfaces[::-1], spacing_kji)
    within = sum(
        int(np.count_nonzero(each <= tolerance_mm + _ROUNDED_MM)) for each in (there, back)
    )
    far = max(float(np.percentile(each, 95)) for each in (there, back)) if all(sizes) else None
    return Likeness(
        dice=2 * int((found & truth).sum()) / sum(sizes),
        surface_dice=within / (there.size + back.size),
        hausdorff95_mm=far,
        volume_error=(sizes[0] - sizes[1]) / sizes[1] if sizes[1] else None,
        added_path_mm=added_path_length(found, truth, spacing_kji),
        tolerance_mm=tolerance_mm,
    )


def dice(one_kji: Mask, other_kji: Mask) -> float | None:
    """Return the Dice coefficient of two masks; None where both are empty."""
    both = int(one_kji.sum()) + int(other_kji.sum())
    return 2 * int((one_kji & other_kji).sum()) / both if both else None


def added_path_length(found_kji: Mask, truth_kji: Mask, spacing_kji: Spacing) -> float:
    """Return the length in mm of the outlines, slice by slice, that a reader has to draw anew.

    The pixels of the truth's outlines that are not on the found one's (Vaassen et al., Phys Imaging
    Radiat Oncol 2020), times the pixel's size; it tells a correction's time better than Dice does.
    Where the truth is empty, what was found has to be taken away, which costs no drawing: 0.
    """
    drawn = outlines(truth_kji) & ~outlines(found_kji)
    return int(np.count_nonzero(drawn)) * _side_mm(spacing_kji)


def _side_mm(spacing_kji: Spacing) -> float:
    """Return the side of a square as large as a pixel."""
    return math.sqrt(spacing_kji[1] * spacing_kji[2])


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
    pairs: Sequence[Pair], spacing_kji: Spacing, *, tolerance_mm: float, flat: bool = False
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
    flat : bool
        The image is a single slice: a surface is an outline there.

    Returns
    -------
    tuple of Agreement, Agreement
        One a pair; and of all together, in which a voxel that went from one segment to another is
        one changed voxel.
    """
    counted = [_count(pair, spacing_kji, tolerance_mm, flat=flat) for pair in pairs]
    total = sum(counted, _Counted(0, 0.0, 0, 0, 0, 0))
    return (
        tuple(each.agreement(each.changed) for each in counted),
        total.agreement(_changed_anywhere(pairs)),
    )


def _count(pair: Pair, spacing_kji: Spacing, tolerance_mm: float, *, flat: bool) -> _Counted:
    box = _box_of([pair])
    if box is None:
        return _Counted(0, 0.0, 0, 0, 0, 0)
    before, after = (_in_box(crop, box) for crop in pair)
    surfaces = surface(before, flat=flat), surface(after, flat=flat)
    limit_mm = tolerance_mm + _ROUNDED_MM
    near = sum(
        int(np.count_nonzero(distances_mm(one, other, spacing_kji, at_most=limit_mm) <= limit_mm))
        for one, other in (surfaces, surfaces[::-1])
    )
    return _Counted(
        changed=int(np.count_nonzero(before ^ after)),
        path_mm=added_path_length(before, after, spacing_kji),
        near=near,
        surface=sum(int(np.count_nonzero(each)) for each in surfaces),
        shared=int(np.count_nonzero(before & after)),
        sizes=int(np.count_nonzero(before)) + int(np.count_nonzero(after)),
    )


def _changed_anywhere(pairs: Sequence[Pair]) -> int:
    box = _box_of(pairs)
    if box is None:
        return 0
    changed = np.zeros([part.stop - part.start for part in box], np.bool_)
    for pair in pairs:
        own = _box_of([pair])
        if own is not None:
            inner = tuple(
                slice(part.start - whole.start, part.stop - whole.start)
                for part, whole in zip(own, box, strict=True)
            )
            before, after = (_in_box(crop, own) for crop in pair)
            changed[inner] |= before ^ after
    return int(np.count_nonzero(changed))


def _box_of(pairs: Sequence[Pair]) -> tuple[slice, ...] | None:
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
