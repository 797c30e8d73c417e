"""How good a network is on cases that it does not learn from, on the network's own grid."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.learning.cases import Case
from models.learning.detecting import Detected, average_precision, matched
from models.learning.pictures import Look
from models.learning.planning import Plan
from models.learning.preparing import Prepared
from models.networks.centres import boxes_at_centres
from models.sliding import Sliding, slide

_OVERLAP = 0.25
_LOOKS = 2  # cases that are shown
_SURE = 0.3  # boxes that are drawn


@dataclass(frozen=True, slots=True)
class Scores:
    """What validation came to.

    Attributes
    ----------
    mean : float
        What the best epoch is chosen by: the mean of `classes`; NaN where there is no case.
    classes : mapping of str to float
        By number: Dice over all cases' voxels of a segment; of a classification each class' recall;
        of a detection each class' average precision, boxes being right that overlap by half.
    """

    mean: float
    classes: Mapping[str, float]


def validate(
    network: torch.nn.Module,
    prepared: Prepared,
    cases: Sequence[Case],
    plan: Plan,
    device: torch.device,
    *,
    looks: list[Look] | None = None,
) -> Scores:
    """Return the scores of a network on cases.

    Parameters
    ----------
    looks : list or None
        Gets a slice of each of the first cases, as the network sees it.

    Notes
    -----
    Quick, for choosing among epochs; :mod:`models.learning.evaluating` measures on the images' own
    grid, through the bundle.
    """
    if not cases:
        return Scores(math.nan, {})
    if plan.task == "detection":
        return _of_boxes(network, prepared, cases, plan, device, looks)
    counts: dict[int, list[int]] = {}
    shown = {case.id for case in cases[:_LOOKS]} if looks is not None else set()
    with _judging(network), torch.inference_mode():
        for case in cases:
            image = torch.from_numpy(np.array(prepared.image(case)))[None].to(device)
            if plan.task == "classification":
                said = int(network(image).argmax(dim=1))
                found = counts.setdefault(case.finding or 0, [0, 0])
                found[0] += said == case.finding
                found[1] += 1
                if looks is not None and case.id in shown:
                    flat = _slice(image[0].cpu().numpy(), image.shape[-1] // 2, plan.dimensions)
                    looks.append(Look(case.id, flat, true=case.finding, said=said))
                continue
            truth = torch.from_numpy(np.array(prepared.label(case))).to(device)
            look = _Shown(case, image, truth) if case.id in shown else None
            for number, found_mask, true_mask in _masks(network, image, truth, plan):
                found = counts.setdefault(number, [0, 0])
                found[0] += 2 * int((found_mask & true_mask).sum())
                found[1] += int(found_mask.sum()) + int(true_mask.sum())
                if look is not None:
                    look.draw(number, found_mask, true_mask)
            if looks is not None and look is not None:
                looks.append(look.finished())
    classes = {str(number): a / b for number, (a, b) in sorted(counts.items()) if b}
    return Scores(statistics.fmean(classes.values()) if classes else 0.0, classes)


def _of_boxes(
    network: torch.nn.Module,
    prepared: Prepared,
    cases: Sequence[Case],
    plan: Plan,
    device: torch.device,
    looks: list[Look] | None,
) -> Scores:
    found: list[Detected] = []
    typical, axes = plan.typical_box, plan.dimensions
    assert typical is not None  # a detection's plan has it
    with _judging(network), torch.inference_mode():
        for case in cases:
            image = torch.from_numpy(np.array(prepared.image(case)))[None].to(device)
            maps = slide(image, network, _sliding(plan))[0]
            boxes, labels, scores = boxes_at_centres(maps, plan.classes, typical)
            rows = prepared.boxes(case)
            true = rows[:, [*range(1, 1 + axes), *range(4, 4 + axes)]]
            ours = boxes.double().cpu().numpy() + 0.5  # edges, as the rows have them
            numbers = [int(label) + 1 for label in labels]
            found.append(
                matched(ours, numbers, scores.tolist(), true, rows[:, 0].astype(int).tolist())
            )
            if looks is not None and len(looks) < _LOOKS:
                sure = [at for at, score in enumerate(scores.tolist()) if score >= _SURE]
                flat = image[0].cpu().numpy()
                looks.append(
                    _look_at_boxes(
                        case.id,
                        flat,
                        (true, rows[:, 0].astype(int).tolist()),
                        (ours[sure], [numbers[at] for at in sure]),
                    )
                )
    classes = {
        str(number): value
        for number in range(1, plan.classes + 1)
        if (value := average_precision(found, number)) is not None
    }
    return Scores(statistics.fmean(classes.values()) if classes else 0.0, classes)


_Boxes = tuple[npt.NDArray[np.float64], list[int]]


def _look_at_boxes(case: str, image: npt.NDArray[np.float32], true: _Boxes, found: _Boxes) -> Look:
    """Return the slice of an image through its first box, with the boxes that lie on it."""
    dimensions = image.ndim - 1
    first = next((box for boxes, _ in (true, found) for box in boxes), None)
    deep = dimensions == 3
    at = int((first[2] + first[5]) / 2) if deep and first is not None else 0
    at = min(at, image.shape[-1] - 1) if deep else 0
    pictures = []
    for boxes, numbers in (true, found):
        drawn = np.zeros(image.shape[1:], np.uint8)
        for box, number in zip(boxes, numbers, strict=True):
            low = np.maximum(np.floor(box[:dimensions]).astype(int), 0)
            high = np.ceil(box[dimensions:]).astype(int)
            drawn[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = number
        pictures.append(_slice(drawn, at, dimensions))
    truth, ours = pictures
    return Look(case, _slice(image, at, dimensions), truth, ours)


class _Shown:
    """The slice of a case with most labelled voxels, on its way to a picture."""

    def __init__(self, case: Case, image: torch.Tensor, truth: torch.Tensor) -> None:
        labelled = (truth != 0).any(dim=0)
        by_slice = labelled.flatten(0, 1).sum(dim=0) if labelled.ndim == 3 else None
        self._at = 0 if by_slice is None else int(by_slice.argmax())
        self._case = case
        self._dimensions = labelled.ndim
        self._image = _slice(image[0].cpu().numpy(), self._at, self._dimensions)
        self._truth = np.zeros(self._image.shape[1:], np.uint8)
        self._found = np.zeros_like(self._truth)

    def draw(self, number: int, found: torch.Tensor, true: torch.Tensor) -> None:
        """Draw one segment; of those that overlap the later one is seen."""
        self._found[_slice(found.cpu().numpy(), self._at, self._dimensions)] = number
        self._truth[_slice(true.cpu().numpy(), self._at, self._dimensions)] = number

    def finished(self) -> Look:
        """Return the picture."""
        return Look(self._case.id, self._image, self._truth, self._found)


def _slice(array: npt.NDArray[Any], at: int, dimensions: int) -> npt.NDArray[Any]:
    """Return (..., x, y[, z]) as (..., rows, columns) of one slice, right on the left side.

    In three dimensions the network's axes are RAS; a picture is looked at in LPS.
    """
    flat = array[..., ::-1, ::-1, at] if dimensions == 3 else array
    return np.ascontiguousarray(np.swapaxes(flat, -1, -2))


def _masks(
    network: torch.nn.Module, image: torch.Tensor, truth: torch.Tensor, plan: Plan
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield each segment's number, what was found of it, and what is true; shape (x, y[, z])."""
    sliding = _sliding(plan)
    if plan.task == "multilabel":
        logits = slide(image, network, sliding)[0]
        for at in range(plan.classes):
            yield at + 1, logits[at] > 0, truth[at] > 0
        return
    labels = slide(image, network, sliding, finish="argmax")[0, 0]
    for number in range(1, plan.classes + 1):
        yield number, labels == number, truth[0] == number


def _sliding(plan: Plan) -> Sliding:
    return Sliding(
        window=plan.patch,
        overlap=(_OVERLAP,) * plan.dimensions,
        importance="gaussian",
        batch=plan.batch,
    )


@contextmanager
def _judging(network: torch.nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
