"""What a bundle's postprocessing leaves, as the answer of its kind of task.

Everything here gets tensors on the source's grid, axes (c, i, j, k); pictures have k of length 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from dicom.errors import InvalidBundle, UnsuitableSeries
from models.prediction import Answer, Box, Boxes, Classes, Floats, Instances, Labels, Masks
from models.tasks import Classification, Detection, InstanceSegmentation, Segmentation, Task
from models.tensors import back_to_kji, plain

_UINT8 = 255
_MOST_INSTANCES = int(np.iinfo(np.uint16).max)
_BOX_NAMES = (("box", "boxes"), ("label", "labels"), ("label_scores", "scores"))


def segmented(task: Segmentation, answer_cijk: torch.Tensor) -> Answer:
    """Return labels, or masks where segments may overlap.

    Raises
    ------
    InvalidBundle
        When the channels are not those that the bundle describes.
    """
    if task.overlapping:
        return _masks(task, answer_cijk)
    return Labels(_labels(task.channel_numbers, task.value_numbers, answer_cijk))


def instances(
    task: InstanceSegmentation, answer_cijk: torch.Tensor, kinds_cijk: torch.Tensor | None
) -> Instances:
    """Return the instances of a segmentation.

    Parameters
    ----------
    answer_cijk : Tensor
        The map of instances, one channel, where the bundle makes one; else what segments.
    kinds_cijk : Tensor or None
        The kind of each voxel, where the bundle says it.

    Raises
    ------
    UnsuitableSeries
        When there are more than a map can number.
    """
    if task.map_name:
        numbered_kji = _numbered(answer_cijk)
        if kinds_cijk is None:
            kinds_kji = np.where(numbered_kji > 0, task.segments[0].number, 0).astype(np.uint8)
        else:
            kinds_kji = _labels(task.channel_numbers, None, kinds_cijk)
    else:
        kinds_kji = _labels(task.channel_numbers, None, answer_cijk)
        numbered_kji = np.zeros(kinds_kji.shape, np.int64)
        count = 0
        for segment in task.segments:
            parts_kji, found = scipy.ndimage.label(
                kinds_kji == segment.number, np.ones((3, 3, 3), dtype=int)
            )
            numbered_kji[parts_kji > 0] = parts_kji[parts_kji > 0] + count
            count += found
    return _told_apart(numbered_kji, kinds_kji, task)


def classified(task: Classification, answer: torch.Tensor) -> Classes:
    """Return the probability of each finding, from one number a class.

    Raises
    ------
    InvalidBundle
        When there are more or fewer numbers, or they are no probabilities.
    """
    values = plain(answer).detach().float().flatten().cpu()
    if values.numel() != len(task.findings):
        raise InvalidBundle(f"the network gives {values.numel()} classes, not {len(task.findings)}")
    if task.activation == "softmax":
        values = torch.softmax(values, dim=0)
    elif task.activation == "sigmoid":
        values = torch.sigmoid(values)
    if not bool(torch.isfinite(values).all()):
        raise UnsuitableSeries("the network answers with values that are no numbers")
    if float(values.min()) < 0 or float(values.max()) > 1:
        raise InvalidBundle("postprocessing gives no probabilities; say radloop.activation")
    numbers = tuple(finding.number for finding in task.findings)
    return Classes(numbers, values.double().numpy())


def _over_slices(task: Classification, each: Sequence[Classes]) -> Classes:
    """Return the slices' probabilities and the series', which is made of them."""
    by_slice_kn = np.stack([classes.probabilities for classes in each])
    whole = by_slice_kn.max(axis=0) if task.over_slices == "max" else by_slice_kn.mean(axis=0)
    return Classes(each[0].numbers, whole, by_slice_kn)


def stacked(task: Task, each: Sequence[Answer]) -> Answer:
    """Return the slices' answers, lowest first, as that of their volume."""
    if isinstance(task, Classification):
        return _over_slices(task, [one for one in each if isinstance(one, Classes)])
    if isinstance(task, Detection):
        boxes = [box for one in each if isinstance(one, Boxes) for box in one.boxes]
        return Boxes(tuple(sorted(boxes, key=_surest)))
    if isinstance(task, InstanceSegmentation):
        return _stacked_instances([one for one in each if isinstance(one, Instances)])
    if task.overlapping:
        masks = [one for one in each if isinstance(one, Masks)]
        return Masks(masks[0].numbers, np.concatenate([m.masks_nkji for m in masks], axis=1))
    return Labels(np.concatenate([one.labels_kji for one in each if isinstance(one, Labels)]))


def _stacked_instances(each: Sequence[Instances]) -> Instances:
    """Return instances of single slices under numbers of their own."""
    numbers: tuple[int, ...] = ()
    parts = []
    for one in each:
        if len(numbers) + len(one.numbers) > _MOST_INSTANCES:
            raise UnsuitableSeries(f"more than {_MOST_INSTANCES} instances; the model does not fit")
        shifted = one.instances_kji + np.uint16(len(numbers))
        parts.append(np.where(one.instances_kji > 0, shifted, np.uint16(0)))
        numbers += one.numbers
    return Instances(np.concatenate(parts), numbers)


def boxes_of(found: Mapping[str, Any]) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return corners (low axes, then high axes, in voxels), classes and scores of a detector.

    Raises
    ------
    InvalidBundle
        When it does not give boxes, labels and scores, as many of each.
    """
    arrays = []
    for names in _BOX_NAMES:
        name = next((name for name in names if name in found), None)
        if name is None:
            raise InvalidBundle(f"the detector gives no {' or '.join(names)}")
        arrays.append(plain(torch.as_tensor(found[name])).detach().double().cpu().numpy())
    corners, classes, scores = arrays
    corners = corners.reshape(len(scores), -1)
    if corners.shape[1] not in (4, 6) and len(scores):
        raise InvalidBundle("the detector's boxes have neither 4 nor 6 numbers")
    if len(classes) != len(scores):
        raise InvalidBundle("the detector gives not as many labels as scores")
    return corners, classes.astype(np.int64), scores


def detected(
    task: Detection, corners_lps: Sequence[Floats], classes: Sequence[int], scores: Sequence[float]
) -> Boxes:
    """Return boxes around corner points, the surest first.

    Parameters
    ----------
    corners_lps : sequence of ndarray, shape (corners, 3)
        All corners of each box, mm.
    """
    known = {finding.number for finding in task.findings}
    found = []
    for points, number, score in zip(corners_lps, classes, scores, strict=True):
        if number not in known:
            raise InvalidBundle(f"the detector answers {number}, which is no finding of its table")
        if score < task.min_score:
            continue
        low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        found.append(Box(number, float(score), tuple(low), tuple(high)))
    return Boxes(tuple(sorted(found, key=_surest)))


def _surest(box: Box) -> tuple[float, int, tuple[float, float, float]]:
    return -box.score, box.number, box.low_lps


def _labels(
    numbers: tuple[int, ...], values: Mapping[int, int] | None, answer_cijk: torch.Tensor
) -> NDArray[np.uint8]:
    """Return segment numbers from one channel of indices, or from a channel per segment."""
    channels = answer_cijk.shape[0]
    if values is not None:
        if channels != 1:
            raise InvalidBundle(f"postprocessing gives {channels} channels, not one map of values")
        index_ijk = _whole_numbers(answer_cijk[0], max(values) + 1)
        if not set(np.unique(index_ijk).tolist()) <= values.keys():
            raise InvalidBundle("postprocessing gives values that the table does not name")
        look_up = np.zeros(max(values) + 1, dtype=np.uint8)
        look_up[list(values)] = list(values.values())
        return _uint8(look_up[index_ijk])
    if channels == 1 and 0 in numbers and len(numbers) > 1:
        index_ijk = _whole_numbers(answer_cijk[0], len(numbers))
        same = numbers == tuple(range(len(numbers)))
        return _uint8(index_ijk if same else np.array(numbers, dtype=np.uint8)[index_ijk])
    foreground = tuple(number for number in numbers if number != 0)
    if channels == len(foreground) < len(numbers):  # the background's channel was cut off
        numbers = foreground
    if channels != len(numbers):
        raise InvalidBundle(f"postprocessing gives {channels} channels")
    index_ijk = answer_cijk.argmax(dim=0).cpu().numpy()
    labels_ijk = np.array(numbers, dtype=np.uint8)[index_ijk]
    if 0 not in numbers:  # no background channel: each channel is a mask or a probability
        labels_ijk[(answer_cijk <= 0.5).all(dim=0).cpu().numpy()] = 0
    return _uint8(labels_ijk)


def _masks(task: Segmentation, answer_cijk: torch.Tensor) -> Masks:
    if answer_cijk.shape[0] != len(task.channel_numbers):
        raise InvalidBundle(f"postprocessing gives {answer_cijk.shape[0]} channels")
    chosen = [n for n, number in enumerate(task.channel_numbers) if number != 0]
    masks_cijk = (answer_cijk[chosen] > 0.5).cpu().numpy()
    numbers = tuple(task.channel_numbers[n] for n in chosen)
    return Masks(numbers, back_to_kji(masks_cijk).astype(np.bool_, copy=False))


def _told_apart(
    numbered_kji: NDArray[np.int64], kinds_kji: NDArray[np.uint8], task: InstanceSegmentation
) -> Instances:
    """Return instances 1, 2, 3 ..., each of the kind that most of it is."""
    found, flat, sizes = np.unique(numbered_kji, return_inverse=True, return_counts=True)
    kinds = np.zeros(len(found), np.int64)
    for segment in task.segments:
        votes = np.bincount(flat.ravel(), (kinds_kji == segment.number).ravel(), len(found))
        if segment is task.segments[0]:
            most = votes
            kinds[votes > 0] = segment.number
        else:
            kinds[votes > most] = segment.number
            most = np.maximum(most, votes)
    kept = (found != 0) & (kinds != 0) & (sizes >= task.min_voxels)
    if int(kept.sum()) > _MOST_INSTANCES:
        raise UnsuitableSeries(f"more than {_MOST_INSTANCES} instances; the model does not fit")
    numbers = np.zeros(len(found), np.uint16)
    numbers[kept] = np.arange(1, int(kept.sum()) + 1)
    instances_kji = numbers[flat].reshape(numbered_kji.shape)
    return Instances(instances_kji, tuple(kinds[kept].tolist()))


def _numbered(answer_cijk: torch.Tensor) -> NDArray[np.int64]:
    if answer_cijk.shape[0] != 1:
        raise InvalidBundle("the map of instances has more than one channel")
    return back_to_kji(_whole_numbers(answer_cijk[0], None)).astype(np.int64, copy=False)


def _uint8(labels_ijk: NDArray[np.integer]) -> NDArray[np.uint8]:
    return back_to_kji(labels_ijk).astype(np.uint8, copy=False)


def _whole_numbers(index_ijk: torch.Tensor, channels: int | None) -> NDArray[np.integer]:
    """Return a map of whole numbers as such, in as few bytes as hold them."""
    given: NDArray[Any] = index_ijk.cpu().numpy()  # whose ends are found quicker than torch's
    high = given.max()
    if given.min() < 0 or (channels is not None and high >= channels):
        raise InvalidBundle(f"postprocessing gives labels outside of 0 to {(channels or 1) - 1}")
    whole: NDArray[np.integer] = given.astype(np.uint8 if high <= _UINT8 else np.int64, copy=False)
    if given.dtype.kind == "f" and not np.array_equal(whole, given):
        raise InvalidBundle("postprocessing interpolates between labels (see nearest_interp)")
    return whole
