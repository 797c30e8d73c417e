"""An answer as the segments of a DICOM Segmentation: numbered 1, 2, 3 ... (PS3.3 C.8.20.4.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom.errors import UnsuitableSeries
from dicom.seg import Masks as SegMasks
from dicom.seg import Segment
from models.bundle import Bundle
from models.prediction import Answer, Boxes, Classes, Instances, Labels, Masks, labels_of

Segments: TypeAlias = tuple[NDArray[np.generic] | SegMasks, tuple[Segment, ...]]
_LONGEST = 64  # PS3.5 Table 6.2-1: LO


def as_segments(bundle: Bundle, answer: Answer) -> Segments:
    """Return an answer's voxels and its segments, as :func:`dicom.seg.encode_seg` takes them.

    Of instances each is a segment, called by its kind and its number.

    Raises
    ------
    UnsuitableSeries
        When the answer is a classification or a detection.
    """
    numbered = tuple(replace(each, number=n) for n, each in enumerate(bundle.segments, start=1))
    match answer:
        case Labels(labels_kji=labels_kji):
            numbers = np.zeros(256, np.uint8)
            for before, after in zip(bundle.segments, numbered, strict=True):
                numbers[before.number] = after.number
            same = numbered == bundle.segments
            return labels_kji if same else numbers[labels_kji], numbered
        case Masks(numbers=of_masks, masks_nkji=masks_nkji):
            ordered = (masks_nkji[of_masks.index(each.number)] for each in bundle.segments)
            return SegMasks.of(ordered), numbered
        case Instances(instances_kji=instances_kji, numbers=kinds):
            return _instances(bundle, instances_kji, kinds)
        case Classes() | Boxes():
            raise UnsuitableSeries("the model classifies or detects; it makes no segments")


def voxel_counts(answer: Answer) -> list[int]:
    """Return how many voxels each segment has, by the bundle's segment number, 0 to 255."""
    if isinstance(answer, Masks):
        counts = np.zeros(256, np.int64)
        counts[list(answer.numbers)] = [int(mask_kji.sum()) for mask_kji in answer.masks_nkji]
    else:
        counts = np.bincount(labels_of(answer).ravel(), minlength=256)
    return [int(count) for count in counts]


def _instances(
    bundle: Bundle, instances_kji: NDArray[np.uint16], kinds: tuple[int, ...]
) -> Segments:
    if not kinds:  # nothing was found: each kind is described, so that one sees what was sought
        empty = tuple(replace(each, number=n) for n, each in enumerate(bundle.segments, start=1))
        return instances_kji, empty
    kind_of = {each.number: each for each in bundle.segments}
    segments = []
    for number, kind in enumerate(kinds, start=1):
        name = f" {number}"
        label = kind_of[kind].label[: _LONGEST - len(name)] + name
        segments.append(replace(kind_of[kind], number=number, label=label))
    return instances_kji, tuple(segments)
