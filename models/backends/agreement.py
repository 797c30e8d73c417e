"""Whether two answers of a network are the same: by their values, and by the Dice of each class."""

from __future__ import annotations

from collections.abc import Iterator

import torch

DICE = 0.999
"""What the answer of another back-end must reach against plain torch, for each class."""

_LARGEST_PART = 0.05  # of the range of the logits, that one of them may differ by
_FEWEST_VOXELS = 2000  # of a class, for one voxel less not to decide


def disagreement(
    answer: torch.Tensor, reference: torch.Tensor, *, overlapping: bool = False
) -> str | None:
    """Return how logits of shape (n, classes, ...) differ too much; None when they do not."""
    if answer.shape != reference.shape:
        return "it answers in another shape"
    if not bool(torch.isfinite(answer).all()):
        return "its values are not finite"
    span = float(reference.max() - reference.min())
    apart = float((answer - reference).abs().max())
    if apart > _LARGEST_PART * span:
        return f"a value differs by {apart:.3g} of {span:.3g}"
    worst = min((_dice(a, b) for a, b in _masks(answer, reference, overlapping)), default=1.0)
    return f"its Dice is {worst:.5f}" if worst < DICE else None


def _masks(
    answer: torch.Tensor, reference: torch.Tensor, overlapping: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give each class that is large enough to be compared, in the answer and in the reference."""
    channels = range(reference.shape[1])
    if overlapping or len(channels) == 1:
        for threshold in (0.0, 0.5):  # of logits, of probabilities: which it is, is not known
            for channel in channels:
                mask = reference[:, channel] > threshold
                if _FEWEST_VOXELS <= int(mask.sum()) <= mask.numel() - _FEWEST_VOXELS:
                    yield answer[:, channel] > threshold, mask
        return
    of_answer, of_reference = answer.argmax(1), reference.argmax(1)
    sizes = torch.bincount(of_reference.flatten(), minlength=len(channels)).tolist()
    for number in (n for n in channels if sizes[n] >= _FEWEST_VOXELS):
        yield of_answer == number, of_reference == number


def shows_enough(reference: torch.Tensor, overlapping: bool) -> bool:
    """Return whether at least two classes, or an inside and an outside, can be judged."""
    one = overlapping or reference.shape[1] == 1
    return sum(1 for _ in _masks(reference, reference, overlapping)) >= (1 if one else 2)


def _dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
