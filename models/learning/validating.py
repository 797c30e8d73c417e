"""How good a network is on cases that it does not learn from, on the network's own grid."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from models.learning.cases import Case
from models.learning.planning import Plan
from models.learning.preparing import Prepared
from models.sliding import Sliding, slide

_OVERLAP = 0.25


@dataclass(frozen=True, slots=True)
class Scores:
    """What validation came to.

    Attributes
    ----------
    mean : float
        What the best epoch is chosen by: the mean of `classes`; NaN where there is no case.
    classes : mapping of str to float
        By number: Dice over all cases' voxels of a segment; of a classification each class' recall.
    """

    mean: float
    classes: Mapping[str, float]


def validate(
    network: torch.nn.Module,
    prepared: Prepared,
    cases: Sequence[Case],
    plan: Plan,
    device: torch.device,
) -> Scores:
    """Return the scores of a network on cases.

    Notes
    -----
    Quick, for choosing among epochs; :mod:`models.learning.evaluating` measures on the images' own
    grid, through the bundle.
    """
    if not cases:
        return Scores(-math.inf, {})
    counts: dict[int, list[int]] = {}
    with _judging(network), torch.inference_mode():
        for case in cases:
            image = torch.from_numpy(np.array(prepared.image(case)))[None].to(device)
            if plan.task == "classification":
                said = int(network(image).argmax(dim=1))
                found = counts.setdefault(case.finding or 0, [0, 0])
                found[0] += said == case.finding
                found[1] += 1
                continue
            truth = torch.from_numpy(np.array(prepared.label(case))).to(device)
            for number, found_mask, true_mask in _masks(network, image, truth, plan):
                found = counts.setdefault(number, [0, 0])
                found[0] += 2 * int((found_mask & true_mask).sum())
                found[1] += int(found_mask.sum()) + int(true_mask.sum())
    classes = {str(number): a / b for number, (a, b) in sorted(counts.items()) if b}
    return Scores(statistics.fmean(classes.values()) if classes else 0.0, classes)


def _masks(
    network: torch.nn.Module, image: torch.Tensor, truth: torch.Tensor, plan: Plan
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yield each segment's number, what was found of it, and what is true; shape (x, y[, z])."""
    sliding = Sliding(
        window=plan.patch,
        overlap=(_OVERLAP,) * plan.dimensions,
        importance="gaussian",
        batch=plan.batch,
    )
    if plan.task == "multilabel":
        logits = slide(image, network, sliding)[0]
        for at in range(plan.classes):
            yield at + 1, logits[at] > 0, truth[at] > 0
        return
    labels = slide(image, network, sliding, finish="argmax")[0, 0]
    for number in range(1, plan.classes + 1):
        yield number, labels == number, truth[0] == number


@contextmanager
def _judging(network: torch.nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
