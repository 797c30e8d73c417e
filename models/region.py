"""A model on a part of an image: cut before it is run, and put back into the whole afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom.errors import InvalidRequest
from models.prediction import Answer, Image, Instances, Labels, Masks

_EVERY = 1 << 31

Index = tuple[int, int, int]
Voxel = TypeVar("Voxel", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Region:
    """A box of voxels: slice, row and column of its first and its last voxel, both within it.

    Raises
    ------
    InvalidRequest
        When the last lies before the first, or one is negative.
    """

    first_kji: Index
    last_kji: Index

    def __post_init__(self) -> None:
        if min(self.first_kji) < 0 or any(
            last < first for first, last in zip(self.first_kji, self.last_kji, strict=True)
        ):
            raise InvalidRequest("region: its last voxel lies before its first")

    def along_rows(self) -> Region:
        """Return the region over all rows: where slices are shifted along them, nothing is lost."""
        return replace(
            self,
            first_kji=(self.first_kji[0], 0, self.first_kji[2]),
            last_kji=(self.last_kji[0], _EVERY, self.last_kji[2]),
        )

    def within(self, shape_kji: Index) -> tuple[slice, slice, slice]:
        """Return the box as slices of an image of that shape; what reaches beyond it is cut off.

        Raises
        ------
        InvalidRequest
            When it lies outside altogether.
        """
        if any(first >= size for first, size in zip(self.first_kji, shape_kji, strict=True)):
            raise InvalidRequest("region: it lies outside the image")
        k, j, i = (
            slice(first, min(last + 1, size))
            for first, last, size in zip(self.first_kji, self.last_kji, shape_kji, strict=True)
        )
        return k, j, i


def cut(image: Image, region: Region) -> Image:
    """Return the part of an image; it lies where it lay.

    Raises
    ------
    InvalidRequest
        When the region lies outside the image.
    """
    box = region.within(image.shape_kji)
    affine_lps = image.affine_lps.copy()
    affine_lps[:3, 3] += affine_lps[:3, :3] @ [part.start for part in box]
    return replace(image, voxels=image.voxels[box], affine_lps=affine_lps)


def put_back(answer: Answer, region: Region, image: Image) -> Answer:
    """Return an answer about the part as one about the whole: outside of it, nothing was found."""
    box = region.within(image.shape_kji)

    def whole(part: NDArray[Voxel]) -> NDArray[Voxel]:
        voxels = np.zeros((*part.shape[:-3], *image.shape_kji), part.dtype)
        voxels[(..., *box)] = part
        return voxels

    match answer:
        case Labels(labels_kji=labels_kji):
            return replace(answer, labels_kji=whole(labels_kji))
        case Masks(masks_nkji=masks_nkji):
            return replace(answer, masks_nkji=whole(masks_nkji))
        case Instances(instances_kji=instances_kji):
            return replace(answer, instances_kji=whole(instances_kji))
        case _:  # findings lie in the patient, or nowhere
            return answer
