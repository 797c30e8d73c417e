"""One image with its labels, on its way through an augmentation graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.learning.cases import Case
from models.learning.detecting import Rows

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[Any]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image with its labels, on its way through a graph.

    Attributes
    ----------
    image : ndarray, float32, shape (channels, slices, rows, columns)
    label : ndarray or None
        Shape (slices, rows, columns), uint8; or (labels, slices, rows, columns), bool.
    spacing_kji : tuple of float
        mm; ones where the case does not say it.
    case : Case
        What it was made of.
    boxes : ndarray, shape (boxes, 7)
        Of a detection: class, low edges (k, j, i), high edges; voxel n reaches from n to n + 1.
    """

    image: Image
    label: Labels | None
    spacing_kji: Spacing
    case: Case
    boxes: Rows = field(default_factory=lambda: np.zeros((0, 7)))

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.image.shape[1:]
        return slices, rows, columns

    def labelled(self) -> npt.NDArray[np.bool_]:
        """Return the voxels that have a label, shape (slices, rows, columns)."""
        if self.label is None:
            return self._boxed()
        found: npt.NDArray[np.bool_] = self.label != 0
        return np.asarray(found.any(axis=0)) if found.ndim == 4 else found

    def _boxed(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(self.shape_kji, np.bool_)
        for row in self.boxes:
            k, j, i = (slice(int(a), math.ceil(b)) for a, b in zip(row[1:4], row[4:7], strict=True))
            found[k, j, i] = True
        return found
