"""The slices of a tilted gantry, shifted within their planes onto an orthogonal grid, and back.

Each slice keeps its plane; only its rows and columns move. So every slice of the orthogonal grid
belongs to exactly one slice of the archive, and labels find their way back by whole voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Shear:
    """How far the slices of one series drift within their planes.

    Parameters
    ----------
    shape_kji : tuple of int
        Of the slices in the archive.
    drift_ji : tuple of float
        By how many rows and columns each slice lies beside the one before it.
    """

    shape_kji: tuple[int, int, int]
    drift_ji: tuple[float, float]

    @classmethod
    def of(cls, affine_lps: Floats, shape_kji: tuple[int, int, int]) -> Shear:
        """Return the shear of a grid whose k axis does not run along its normal."""
        step, column, row = affine_lps[:3, :3].T
        return cls(
            shape_kji,
            (float(step @ column / (column @ column)), float(step @ row / (row @ row))),
        )

    @property
    def orthogonal_shape_kji(self) -> tuple[int, int, int]:
        """Size of the grid that holds every slice whole."""
        slices, rows, columns = self.shape_kji
        (first_j, last_j), (first_i, last_i) = self._reach(0), self._reach(1)
        return slices, rows + last_j - first_j, columns + last_i - first_i

    def orthogonal(self, affine_lps: Floats) -> Floats:
        """Return (k, j, i, 1) -> LPS mm of the orthogonal grid."""
        affine = affine_lps.copy()
        dj, di = self.drift_ji
        affine[:3, 0] -= dj * affine[:3, 1] + di * affine[:3, 2]
        affine[:3, 3] += self._reach(0)[0] * affine[:3, 1] + self._reach(1)[0] * affine[:3, 2]
        affine.setflags(write=False)
        return affine

    def forth(self, voxels_kji: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return voxels on the orthogonal grid, linear within each slice; the type stays.

        What no slice covers holds the smallest value of all: air in CT, no signal elsewhere.
        """
        fill = voxels_kji.min()
        moved = np.full(self.orthogonal_shape_kji, fill, voxels_kji.dtype)
        _, rows, columns = self.shape_kji
        for k, slice_ji in enumerate(voxels_kji):
            (j, part_j), (i, part_i) = self._place(k, 0), self._place(k, 1)
            framed = np.pad(slice_ji.astype(np.float64), 1, constant_values=fill)
            framed = (1 - part_j) * framed[1:] + part_j * framed[:-1]
            framed = (1 - part_i) * framed[:, 1:] + part_i * framed[:, :-1]
            if voxels_kji.dtype.kind in "iu":
                framed = np.rint(framed)
            # One row and column more than the slice, which the canvas lacks where nothing is in it.
            room = moved[k, j : j + rows + 1, i : i + columns + 1]
            room[...] = framed[: room.shape[0], : room.shape[1]]
        return moved

    def back(self, labels_kji: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """Return labels of the orthogonal grid on the slices of the archive, nearest neighbour."""
        _, rows, columns = self.shape_kji
        back = np.empty(self.shape_kji, labels_kji.dtype)
        for k in range(len(labels_kji)):
            j, i = (place + round(part) for place, part in (self._place(k, 0), self._place(k, 1)))
            back[k] = labels_kji[k, j : j + rows, i : i + columns]
        return back

    def _reach(self, axis: int) -> tuple[int, int]:
        """Return how far the first and the last slice lie outside, in whole voxels."""
        last = (self.shape_kji[0] - 1) * self.drift_ji[axis]
        return math.floor(min(0.0, last)), math.ceil(max(0.0, last))

    def _place(self, k: int, axis: int) -> tuple[int, float]:
        """Return where slice k begins on the canvas: whole voxels, and the part of one more."""
        exact = k * self.drift_ji[axis] - self._reach(axis)[0]
        whole = math.floor(exact)
        return whole, exact - whole
