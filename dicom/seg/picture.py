"""What is to be written, slice by slice: from a label map, or from masks that may overlap."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidSegmentation
from dicom.seg.masks import Labels, Masks, label_type

Plane = npt.NDArray[np.bool_]
MAXIMUM_FRACTION = 255
"""What stands for a whole voxel in a fractional segmentation (MaximumFractionalValue)."""


class Picture(Protocol):
    """The voxels of every segment."""

    fractional: bool
    overlapping: bool

    def slices(self) -> list[int]:
        """Return the slices on which any segment has any voxel."""

    def slices_of(self, number: int) -> list[int]:
        """Return the slices on which a segment has any voxel."""

    def draw(self, number: int, k: int, plane_ji: Plane) -> tuple[int, int]:
        """Draw a segment's part of slice k where all is zero; return first row and end row."""

    def draw_shares(self, number: int, k: int, plane_ji: npt.NDArray[np.uint8]) -> None:
        """Draw a segment's shares of slice k, 0 to 255, where all is zero."""

    def labels(self) -> Labels:
        """Return one label map, shape (slices, rows, columns)."""


class LabelPicture:
    """A label map; where each label lies is found in one pass over its runs, when it is asked."""

    fractional = False
    overlapping = False

    def __init__(self, labels_kji: Labels) -> None:
        self._labels_kji = labels_kji

    @cached_property
    def _rows(self) -> dict[int, dict[int, tuple[int, int]]]:
        found: dict[int, dict[int, tuple[int, int]]] = {}
        highest = int(self._labels_kji.max(initial=0))
        for k, labels_ji in enumerate(self._labels_kji):
            for number, rows in _rows_of(labels_ji, highest).items():
                found.setdefault(number, {})[k] = rows
        return found

    def slices(self) -> list[int]:
        """Return the slices on which anything is."""
        return [k for k, labels_ji in enumerate(self._labels_kji) if labels_ji.any()]

    def slices_of(self, number: int) -> list[int]:
        """Return the slices on which a segment has any voxel."""
        return list(self._rows.get(number, ()))

    def draw(self, number: int, k: int, plane_ji: Plane) -> tuple[int, int]:
        """Draw a segment's part of slice k."""
        first, end = self._rows.get(number, {}).get(k, (0, 0))
        np.equal(self._labels_kji[k, first:end], number, out=plane_ji[first:end])
        return first, end

    def draw_shares(self, number: int, k: int, plane_ji: npt.NDArray[np.uint8]) -> None:
        """Draw whole voxels."""
        plane_ji[self._labels_kji[k] == number] = MAXIMUM_FRACTION

    def labels(self) -> Labels:
        """Return the label map."""
        return self._labels_kji


class MaskPicture:
    """Masks in their boxes."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.fractional = masks.fractional
        self.overlapping = masks.overlap()

    def slices(self) -> list[int]:
        """Return the slices on which anything is."""
        return sorted({k for number in self._masks.crops for k in self.slices_of(number)})

    def slices_of(self, number: int) -> list[int]:
        """Return the slices on which a segment has any voxel."""
        crop = self._masks.crops[number]
        first = crop.corner_kji[0]
        return [first + k for k in np.flatnonzero(crop.voxels_kji.any(axis=(1, 2))).tolist()]

    def draw(self, number: int, k: int, plane_ji: Plane) -> tuple[int, int]:
        """Draw a segment's part of slice k."""
        crop = self._masks.crops[number]
        slices, rows, columns = crop.within()
        if not slices.start <= k < slices.stop:
            return 0, 0
        plane_ji[rows, columns] = crop.voxels_kji[k - slices.start]
        return rows.start, rows.stop

    def draw_shares(self, number: int, k: int, plane_ji: npt.NDArray[np.uint8]) -> None:
        """Draw a segment's shares of slice k."""
        crop = self._masks.crops[number]
        slices, rows, columns = crop.within()
        if slices.start <= k < slices.stop:
            shares_ji = np.asarray(crop.voxels_kji[k - slices.start], np.float32)
            plane_ji[rows, columns] = np.rint(shares_ji * MAXIMUM_FRACTION)

    def labels(self) -> Labels:
        """Return the masks laid together."""
        return self._masks.labels()


def picture_of(
    labels: npt.NDArray[np.generic] | Masks, shape_kji: tuple[int, int, int], segments: int
) -> Picture:
    """Return what is to be written, once it is sure that it fits the source and its segments.

    Raises
    ------
    InvalidSegmentation
        When it has another size than the source, or holds what no segment describes.
    """
    if isinstance(labels, Masks):
        if labels.shape_kji != shape_kji:
            raise InvalidSegmentation("the masks do not have the size of the source series")
        if sorted(labels.crops) != list(range(1, segments + 1)):
            raise InvalidSegmentation("each segment needs one mask, and each mask a segment")
        return MaskPicture(labels)
    if labels.shape != shape_kji:
        raise InvalidSegmentation("the labels do not have the size of the source series")
    if labels.dtype.kind not in "bui":
        raise InvalidSegmentation("labels are whole numbers")
    if labels.min() < 0 or labels.max() > segments:
        raise InvalidSegmentation("the labels hold a value that no segment describes")
    wanted = label_type((segments,))
    return LabelPicture(np.ascontiguousarray(labels.astype(wanted, copy=False)))


def _rows_of(labels_ji: Labels, highest: int) -> dict[int, tuple[int, int]]:
    """Return the first row and the end row of each label in a slice."""
    values = labels_ji.ravel()
    begins = np.empty(labels_ji.shape, np.bool_)
    flat = begins.ravel()
    np.not_equal(values[1:], values[:-1], out=flat[1:])
    begins[:, 0] = True  # a run ends with its row
    at = np.flatnonzero(flat)
    rows, labels = at // labels_ji.shape[1], values[at]
    # Of several assignments to one place the last one stays (NumPy's rule for integer indices).
    firsts, lasts = np.full(highest + 1, -1), np.full(highest + 1, -1)
    firsts[labels[::-1]] = rows[::-1]
    lasts[labels] = rows
    found = np.flatnonzero(lasts[1:] >= 0) + 1
    return {
        int(number): (int(first), int(last) + 1)
        for number, first, last in zip(found, firsts[found], lasts[found], strict=True)
    }
