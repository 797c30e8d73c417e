"""Segments that may overlap, each cut down to the box that holds it.

A hundred whole masks of 512x512x600 voxels take 16 GB; their boxes take what the organs take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidSegmentation, OverlappingSegments

Labels = npt.NDArray[np.unsignedinteger]
Voxels = npt.NDArray[np.bool_] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """The box that holds one segment.

    Parameters
    ----------
    corner_kji : tuple of int
        Slice, row and column of the box's first voxel.
    voxels_kji : ndarray, bool, or float32 from 0 to 1
        What of each voxel belongs to the segment. Of size 0 where the segment has no voxel.
    """

    corner_kji: tuple[int, int, int]
    voxels_kji: Voxels

    def within(self) -> tuple[slice, slice, slice]:
        """Return where the box lies in the whole."""
        k, j, i = (
            slice(corner, corner + size)
            for corner, size in zip(self.corner_kji, self.voxels_kji.shape, strict=True)
        )
        return k, j, i


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """What each segment covers, by its number; segments may overlap.

    Parameters
    ----------
    shape_kji : tuple of int
        Slices, rows and columns of the whole.
    crops : Mapping
        From segment number to its box.

    Raises
    ------
    InvalidSegmentation
        When a box does not lie within the whole.
    """

    shape_kji: tuple[int, int, int]
    crops: Mapping[int, Crop]

    def __post_init__(self) -> None:
        for crop in self.crops.values():
            ends = [part.stop for part in crop.within()]
            if min(crop.corner_kji) < 0 or any(
                end > size for end, size in zip(ends, self.shape_kji, strict=True)
            ):
                raise InvalidSegmentation("a segment's box lies outside the image")

    @classmethod
    def of(cls, masks: Iterable[npt.NDArray[np.generic]]) -> Masks:
        """Cut masks of one size down to their boxes; the first one is segment 1.

        Parameters
        ----------
        masks : iterable of ndarray, shape (slices, rows, columns)
            Taken one after the other, so that a generator never holds two: bool or whole numbers
            (zero is outside), or floating-point shares from 0 to 1. An array of four dimensions
            with the segments first is such an iterable.

        Raises
        ------
        InvalidSegmentation
            When there is none, or they differ in size.
        """
        crops: dict[int, Crop] = {}
        shape_kji: tuple[int, ...] = ()
        for number, mask_kji in enumerate(masks, 1):
            if mask_kji.ndim != 3 or (shape_kji and mask_kji.shape != shape_kji):
                raise InvalidSegmentation("the masks are no volumes of one size")
            shape_kji = mask_kji.shape
            crops[number] = _cropped(mask_kji)
        if not crops:
            raise InvalidSegmentation("there is no mask")
        slices, rows, columns = shape_kji
        return cls((slices, rows, columns), crops)

    @property
    def fractional(self) -> bool:
        """Whether any segment has shares instead of a yes or no."""
        return any(crop.voxels_kji.dtype.kind == "f" for crop in self.crops.values())

    def whole(self, number: int) -> Voxels:
        """Return one segment, shape (slices, rows, columns), zero outside of its box."""
        crop = self.crops[number]
        whole_kji = _zeros(self.shape_kji, crop.voxels_kji)
        whole_kji[crop.within()] = crop.voxels_kji
        return whole_kji

    def overlap(self) -> bool:
        """Return whether any voxel belongs to two segments."""
        return self._laid_together() is None

    def labels(self) -> Labels:
        """Return one label map, shape (slices, rows, columns); 0 is background.

        Raises
        ------
        OverlappingSegments
            When segments overlap, so that no single label map can hold them.
        """
        labels_kji = self._laid_together()
        if labels_kji is None:
            raise OverlappingSegments("segments overlap; they do not fit in one label map")
        return labels_kji

    def _laid_together(self) -> Labels | None:
        labels_kji: Labels = np.zeros(self.shape_kji, label_type(self.crops))
        for number, crop in self.crops.items():
            inside = crop.voxels_kji != 0
            region = labels_kji[crop.within()]
            if (region[inside] != 0).any():
                return None
            region[inside] = number
        return labels_kji


def label_type(numbers: Iterable[int]) -> np.dtype[np.unsignedinteger]:
    """Return the smallest type that holds every segment number."""
    return np.dtype(np.uint8 if max(numbers, default=0) < 256 else np.uint16)


def _cropped(mask_kji: npt.NDArray[np.generic]) -> Crop:
    if mask_kji.dtype.kind == "f":
        voxels_kji: Voxels = mask_kji.astype(np.float32, copy=False)
        if not (voxels_kji.min(initial=0) >= 0 and voxels_kji.max(initial=0) <= 1):
            raise InvalidSegmentation("shares of a segment run from 0 to 1")
    elif mask_kji.dtype.kind in "bui":
        voxels_kji = mask_kji.astype(np.bool_, copy=False)
    else:
        raise InvalidSegmentation("masks are whole numbers, or shares from 0 to 1")
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(voxels_kji.any(axis=others))
        if not found.size:
            return Crop((0, 0, 0), _zeros((0, 0, 0), voxels_kji))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    k, j, i = box
    box_kji = _zeros((k.stop - k.start, j.stop - j.start, i.stop - i.start), voxels_kji)
    box_kji[...] = voxels_kji[k, j, i]
    return Crop((k.start, j.start, i.start), box_kji)


def _zeros(shape_kji: tuple[int, int, int], like: Voxels) -> Voxels:
    return np.zeros(shape_kji, np.float32 if like.dtype.kind == "f" else np.bool_)
