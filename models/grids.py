"""Several images on one grid, and a region cut out of it and laid back: arrays only."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from dicom.errors import RegionNotFound
from models.prediction import (
    Answer,
    Boxes,
    Classes,
    Floats,
    Image,
    Instances,
    Labels,
    Masks,
)

Region: TypeAlias = tuple[slice, slice, slice]
Whole = TypeVar("Whole", np.uint8, np.uint16)

SAME_PLACE_MM = 1e-3
"""Grids whose voxels lie nearer than this to each other's are one grid."""


def is_same_grid(a: Image, b: Image) -> bool:
    """Return whether the voxels of two images lie at the same places, by shape and affine alone."""
    if a.shape_kji != b.shape_kji:
        return False
    far = np.array([*(n - 1 for n in a.shape_kji), 1.0])
    shift = np.abs(a.affine_lps - b.affine_lps)[:3]
    return bool((shift @ far < SAME_PLACE_MM).all())


def region_about(
    mask_kji: NDArray[np.bool_], spacing_kji: tuple[float, float, float], margin_mm: float
) -> Region:
    """Return the smallest block of a grid that holds a mask and a margin about it.

    Raises
    ------
    RegionNotFound
        When the mask is empty.
    """
    if not mask_kji.any():
        raise RegionNotFound("the first model found nothing where the second should look")
    blocks = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        (where,) = np.nonzero(mask_kji.any(axis=others))
        margin = int(np.ceil(margin_mm / spacing_kji[axis]))
        begin = max(int(where[0]) - margin, 0)
        blocks.append(slice(begin, min(int(where[-1]) + 1 + margin, mask_kji.shape[axis])))
    return blocks[0], blocks[1], blocks[2]


def cropped(image: Image, region: Region) -> Image:
    """Return the part of an image in a region, in its place."""
    affine_lps = image.affine_lps.copy()
    begin = np.array([block.start for block in region], dtype=np.float64)
    affine_lps[:3, 3] += affine_lps[:3, :3] @ begin
    return replace(image, voxels=image.voxels[region], affine_lps=affine_lps)


def laid_back(answer: Answer, region: Region, shape_kji: tuple[int, int, int]) -> Answer:
    """Return the answer for a region as that for the whole grid: nothing was found elsewhere."""
    match answer:
        case Labels(labels_kji=labels_kji):
            return Labels(_within(labels_kji, region, shape_kji))
        case Masks(numbers=numbers, masks_nkji=masks_nkji):
            whole = np.zeros((len(numbers), *shape_kji), np.bool_)
            whole[:, *region] = masks_nkji
            return Masks(numbers, whole)
        case Instances(instances_kji=instances_kji, numbers=numbers):
            return Instances(_within(instances_kji, region, shape_kji), numbers)
        case Classes(by_slice_kn=by_slice_kn) if by_slice_kn is not None:
            every: Floats = np.zeros((shape_kji[0], by_slice_kn.shape[1]))
            every[region[0]] = by_slice_kn
            return replace(answer, by_slice_kn=every)
        case Classes() | Boxes():  # boxes lie in the patient already
            return answer


def _within(
    part: NDArray[Whole], region: Region, shape_kji: tuple[int, int, int]
) -> NDArray[Whole]:
    whole = np.zeros(shape_kji, part.dtype)
    whole[region] = part
    return whole
