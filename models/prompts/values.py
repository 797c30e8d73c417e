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


def voxels_in(length_mm: float, spacing_kji: Spacing) -> tuple[int, int, int]:
    """Return how many voxels a length covers along each axis, rounded up."""
    k, j, i = (int(np.ceil(length_mm / step)) for step in spacing_kji)
    return k, j, i
