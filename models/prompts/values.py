"""What prompts are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dicom.masks import Spacing, Within

Voxels = npt.NDArray[np.generic]
"""Grey values, shape (slices, rows, columns)."""


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

    def deepened(self, shape_kji: tuple[int, int, int], spacing_kji: Spacing) -> Box:
        """Return a box that was drawn on one slice as deep as its shorter side, within the array.

        One that is deeper than a slice is what somebody meant, and stays as it is.
        """
        sizes = [b - a + 1 for a, b in zip(self.first, self.last, strict=True)]
        if min(sizes) > 1:
            return self
        sides_mm = [n * step for n, step in zip(sizes, spacing_kji, strict=True) if n > 1]
        reach = voxels_in(min(sides_mm, default=0.0) / 2, spacing_kji)
        far = [n if size == 1 else 0 for n, size in zip(reach, sizes, strict=True)]
        first = (max(0, a - n) for a, n in zip(self.first, far, strict=True))
        last = (min(b + n, top - 1) for b, n, top in zip(self.last, far, shape_kji, strict=True))
        return Box(Point(*first), Point(*last))


def voxels_in(length_mm: float, spacing_kji: Spacing) -> tuple[int, int, int]:
    """Return how many voxels a length covers along each axis, rounded up."""
    k, j, i = (int(np.ceil(length_mm / step)) for step in spacing_kji)
    return k, j, i
