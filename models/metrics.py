"""How alike two segmentations of one structure are, and how much work lies between them.

Masks are boolean, axes (slices, rows, columns); spacings in mm in the same order. No torch: the
front measures corrections with the same functions as an evaluation does models.

A surface is the set of a mask's voxels that have a neighbour outside of it (over a face); distances
are between voxel centres. That is MONAI's definition, and the figures are MONAI's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from models.prompts.values import around

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
Floats = npt.NDArray[np.float64]

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
    box = around(found_kji | truth_kji, (1, 1, 1))
    if box is None:
        return Likeness(None, None, None, None, 0.0, tolerance_mm)
    found, truth = found_kji[box], truth_kji[box]
    sizes = int(found.sum()), int(truth.sum())
    near, far = _surfaces(found, truth, spacing_kji, tolerance_mm)
    return Likeness(
        dice=2 * int((found & truth).sum()) / sum(sizes),
        surface_dice=near,
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
    side_mm = math.sqrt(spacing_kji[1] * spacing_kji[2])
    drawn = sum(
        int((_outline(truth) & ~_outline(found)).sum())
        for found, truth in zip(found_kji, truth_kji, strict=True)
        if truth.any()
    )
    return drawn * side_mm


def _outline(mask: Mask) -> Mask:
    """Return the voxels of a mask with a neighbour outside; what lies beyond the array is that."""
    outline: Mask = mask ^ scipy.ndimage.binary_erosion(mask)
    return outline


def _surfaces(
    found: Mask, truth: Mask, spacing: tuple[float, ...], tolerance_mm: float
) -> tuple[float, float | None]:
    """Return surface Dice and the distances' 95th percentile; the masks are not both empty."""
    if not found.any() or not truth.any():
        return 0.0, None
    if found.shape[0] == 1:  # of one image the surface is the outline, not the image
        return _surfaces(found[0], truth[0], spacing[1:], tolerance_mm)
    there = _distances(_outline(found), _outline(truth), spacing)
    back = _distances(_outline(truth), _outline(found), spacing)
    within = int((there <= tolerance_mm).sum() + (back <= tolerance_mm).sum())
    far = max(float(np.percentile(there, 95)), float(np.percentile(back, 95)))
    return within / (there.size + back.size), far


def _distances(surface: Mask, other: Mask, spacing: tuple[float, ...]) -> Floats:
    """Return how far each voxel of a surface lies from the nearest one of the other, mm."""
    distances: Floats = scipy.ndimage.distance_transform_edt(~other, sampling=spacing)[surface]
    return distances
