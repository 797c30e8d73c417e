"""What a structure's voxels show: their box, their outlines, their surface.

Masks are boolean, axes (slices, rows, columns); spacings in mm in the same order. What lies beyond
the array is outside of the structure.

A surface is the set of a mask's voxels that have a neighbour outside of it, over a face; of a
single image it is the outline, since every pixel has nothing above it. Distances are between the
voxels' centres. That is MONAI's definition.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

Mask = npt.NDArray[np.bool_]
"""Shape (slices, rows, columns)."""
Spacing = tuple[float, float, float]
"""mm between neighbouring voxels along slices, rows and columns."""
Within = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float64]


def around(mask_kji: Mask, pad_kji: tuple[int, int, int] = (0, 0, 0)) -> Within | None:
    """Return the box of a mask, larger by so many voxels on each side; None where it is empty."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask_kji.any(axis=others))
        if not found.size:
            return None
        low, high = int(found[0]) - pad_kji[axis], int(found[-1]) + pad_kji[axis] + 1
        sides.append(slice(max(0, low), min(mask_kji.shape[axis], high)))
    k, j, i = sides
    return k, j, i


def outlines(mask_kji: Mask) -> Mask:
    """Return the voxels that have a neighbour outside within their own slice."""
    cross = np.zeros((3, 3, 3), np.bool_)
    cross[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    inner: Mask = scipy.ndimage.binary_erosion(mask_kji, cross)
    return mask_kji & ~inner


def surface(mask_kji: Mask, *, flat: bool = False) -> Mask:
    """Return the voxels that have a neighbour outside; `flat`: of an image that is one slice."""
    if flat:
        return outlines(mask_kji)
    inner: Mask = scipy.ndimage.binary_erosion(mask_kji)
    return mask_kji & ~inner


def distances_mm(
    surface_kji: Mask, other_kji: Mask, spacing_kji: Spacing, *, at_most: float = np.inf
) -> Floats:
    """Return how far each voxel of a surface lies from the nearest one of another surface.

    Infinite where that is farther than `at_most` (which makes it quick), or there is no other.
    """
    if not other_kji.any() or not surface_kji.any():
        return np.full(int(np.count_nonzero(surface_kji)), np.inf)
    tree = scipy.spatial.KDTree(np.argwhere(other_kji) * spacing_kji)
    found: Floats
    found, _ = tree.query(np.argwhere(surface_kji) * spacing_kji, distance_upper_bound=at_most)
    return found
