"""What prompts are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
"""Shape (slices, rows, columns)."""
Voxels = npt.NDArray[np.generic]
"""Grey values, shape (slices, rows, columns)."""
Spacing = tuple[float, float, float]
"""mm between neighbouring voxels along slices, rows and columns."""
Within = tuple[slice, slice, slice]


class Point(NamedTuple):
    """A voxel: slice, row, column, from 0."""

    k: int
    j: int
    i: int


@dataclass(frozen=True, slots=True)
class Box:
    """A box of voxels, both corners within it."""

    first: Point
    last: Point

    def within(self) -> Within:
        """Return the slices that cut it out of an array."""
        k, j, i = (slice(a, b + 1) for a, b in zip(self.first, self.last, strict=True))
        return k, j, i


def around(mask_kji: Mask, pad_kji: tuple[int, int, int]) -> Within | None:
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


def voxels_in(length_mm: float, spacing_kji: Spacing) -> tuple[int, int, int]:
    """Return how many voxels a length covers along each axis, rounded up."""
    k, j, i = (int(np.ceil(length_mm / step)) for step in spacing_kji)
    return k, j, i
