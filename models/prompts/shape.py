"""What changes a mask by its shape alone: margins, holes, islands, rough edges, missing slices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy

from dicom.masks import Mask, Spacing, around
from models.prompts.values import voxels_in

_SMOOTHING_MM = 1.0  # at least one voxel
_ONE = (1, 1, 1)


def margin(mask_kji: Mask, spacing_kji: Spacing, mm: float, *, in_plane: bool = False) -> Mask:
    """Return the mask grown by `mm` all around, or shrunk where `mm` is negative.

    Distances are between voxel centres, in mm, so that thick slices do not grow as thin ones do.
    The edge of the image is no edge of the structure: a mask does not shrink from there.

    Parameters
    ----------
    in_plane : bool
        Each slice by itself.
    """
    if in_plane:
        return _by_slice(mask_kji, lambda one: margin(one, spacing_kji, mm))
    box = around(mask_kji, voxels_in(mm, spacing_kji) if mm > 0 else _ONE)
    changed_kji = mask_kji.copy()
    if box is None or mask_kji[box].all():
        return changed_kji
    part = mask_kji[box]
    if mm > 0:
        changed_kji[box] = scipy.ndimage.distance_transform_edt(~part, sampling=spacing_kji) <= mm
    elif mm < 0:
        changed_kji[box] = scipy.ndimage.distance_transform_edt(part, sampling=spacing_kji) > -mm
    return changed_kji


def fill_holes(mask_kji: Mask, *, in_plane: bool = False) -> Mask:
    """Return the mask with the background that it encloses, on each slice or in the volume."""
    if in_plane:
        return _by_slice(mask_kji, lambda one: _per_plane(one, scipy.ndimage.binary_fill_holes))
    box = around(mask_kji, (0, 0, 0))
    filled_kji = mask_kji.copy()
    if box is not None:
        filled_kji[box] = scipy.ndimage.binary_fill_holes(mask_kji[box])
    return filled_kji


def largest(mask_kji: Mask, *, in_plane: bool = False) -> Mask:
    """Return the largest connected part of the mask, of each slice or of the volume.

    Voxels are connected over shared faces; of equal parts the first one is kept.
    """
    if in_plane:
        return _by_slice(mask_kji, largest)
    box = around(mask_kji, (0, 0, 0))
    kept_kji = np.zeros_like(mask_kji)
    if box is not None:
        labels, count = scipy.ndimage.label(mask_kji[box])
        sizes = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
        kept_kji[box] = labels == 1 + int(np.argmax(sizes))
    return kept_kji


def smooth(mask_kji: Mask, spacing_kji: Spacing, *, in_plane: bool = False) -> Mask:
    """Return the mask with its rough edges rounded off, as large as before.

    Smoothed by a Gaussian of 1 mm, at least a voxel's size in the plane; then the same number of
    voxels is taken as the mask had (where several are equal, all of them), so that a volume does
    not shrink from being smoothed.
    """
    if in_plane:
        return _by_slice(mask_kji, lambda one: smooth(one, spacing_kji))
    finest = min(step for step, size in zip(spacing_kji, mask_kji.shape, strict=True) if size > 1)
    width_mm = max(_SMOOTHING_MM, finest)
    sides = zip(spacing_kji, mask_kji.shape, strict=True)
    sigmas = [0.0 if size == 1 else width_mm / step for step, size in sides]
    box = around(mask_kji, voxels_in(4 * width_mm, spacing_kji))
    rounded_kji = mask_kji.copy()
    if box is None:
        return rounded_kji
    blurred = scipy.ndimage.gaussian_filter(
        mask_kji[box].astype(np.float32), sigmas, mode="nearest"
    )
    count = int(mask_kji[box].sum())
    least = np.partition(blurred.reshape(-1), -count)[-count]
    rounded_kji[box] = blurred >= least
    return rounded_kji


def interpolate(mask_kji: Mask, spacing_kji: Spacing) -> Mask:
    """Return the mask with the empty slices between drawn ones filled in.

    By shape (Raya and Udupa, IEEE Trans Med Imaging 1990): the signed distances to the two outlines
    are mixed by where the slice lies, after both were moved to the place between their centres, so
    that a structure that runs obliquely is followed. Slices that were drawn stay as they are.
    """
    filled_kji = mask_kji.copy()
    drawn = np.flatnonzero(mask_kji.any(axis=(1, 2))).tolist()
    for below, above in pairwise(drawn):
        if above - below > 1:
            _between(filled_kji, below, above, spacing_kji)
    return filled_kji


def _between(mask_kji: Mask, below: int, above: int, spacing_kji: Spacing) -> None:
    ends = mask_kji[[below, above]]
    reach = _reach(ends)
    box = around(ends, (0, *reach))
    assert box is not None  # both ends are drawn
    inside = (box[1], box[2])
    outlines = [_signed(mask_kji[k][inside], spacing_kji) for k in (below, above)]
    centres = [np.array(scipy.ndimage.center_of_mass(mask_kji[k][inside])) for k in (below, above)]
    for k in range(below + 1, above):
        share = (k - below) / (above - below)
        centre = (1 - share) * centres[0] + share * centres[1]
        moved = [
            scipy.ndimage.shift(outline, centre - own, order=1, mode="nearest")
            for outline, own in zip(outlines, centres, strict=True)
        ]
        mask_kji[k][inside] = (1 - share) * moved[0] + share * moved[1] <= 0


def _reach(ends: Mask) -> tuple[int, int]:
    """Return how far the two outlines may move: the distance of their centres, in pixels."""
    first, last = (np.array(scipy.ndimage.center_of_mass(one)) for one in ends)
    j, i = np.ceil(np.abs(last - first)).astype(int) + 1
    return int(j), int(i)


def _signed(mask_ji: Mask, spacing_kji: Spacing) -> npt.NDArray[np.float64]:
    """Return the distance to the outline in mm, negative within; the edge lies between pixels."""
    framed = np.pad(mask_ji, 1)  # a mask that fills its box has an outline too
    within = scipy.ndimage.distance_transform_edt(framed, sampling=spacing_kji[1:])
    beyond = scipy.ndimage.distance_transform_edt(~framed, sampling=spacing_kji[1:])
    signed: npt.NDArray[np.float64] = (beyond - within)[1:-1, 1:-1]
    half = 0.5 * min(spacing_kji[1:])
    return signed - np.sign(signed) * half


def _by_slice(mask_kji: Mask, change: Callable[[Mask], Mask]) -> Mask:
    changed_kji = mask_kji.copy()
    for k in np.flatnonzero(mask_kji.any(axis=(1, 2))):
        changed_kji[k : k + 1] = change(mask_kji[k : k + 1])
    return changed_kji


def _per_plane(mask_kji: Mask, change: Callable[[Mask], Mask]) -> Mask:
    return change(mask_kji[0])[np.newaxis]
