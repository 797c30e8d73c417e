"""How sure a network is of each segment: its probabilities, summed up while it is stitched.

Two figures a segment, both of the network's grid and of what it said before any postprocessing:

- ``probability``: mean, over the segment's voxels, of the probability that the network gives them
  for it. That is the softmax of what the windows say together, or the sigmoid where segments may
  overlap; values that are probabilities already (none below 0, 1 in sum) are taken as they are.
- ``border_entropy``: mean, over those of its voxels that have a voxel of something else beside them
  (over a face), of the entropy of these probabilities, divided by the largest possible: 0 is
  certain, 1 is a guess.

What they are not: the chance that the segment is right. Networks are surer than they should be.

Sums alone are kept, so that memory does not grow with the image. Neighbours are looked for within a
block of the image, so that a few voxels of the border are missed where blocks meet.

Axes in names: ``c`` channel, ``xyz`` the spatial axes, ``n`` chosen voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from models.discrete import largest_channel
from models.prediction import SegmentConfidence

_BLOCK_VALUES = 1 << 21
_SUM_TO_ONE = 1e-3


class Tally:
    """Sums of probabilities, a block of an image at a time.

    Parameters
    ----------
    numbers : sequence of int
        Segment number of each channel; 0 is background.
    threshold : float or None
        None: the largest channel is where a voxel belongs. Else channels are judged each by itself:
        a voxel belongs to those whose sigmoid is at least this.
    """

    def __init__(self, numbers: Sequence[int], threshold: float | None = None) -> None:
        self._numbers = tuple(numbers)
        self._threshold = threshold
        # voxels, their probabilities, border voxels, their entropies: shape (4, channels)
        self._sums = torch.zeros((4, len(self._numbers)), dtype=torch.float64)

    def add_map(self, values_cxyz: torch.Tensor) -> None:
        """Count what a network says of a whole image, shape (c, ...), two or three spatial axes."""
        axis = 1 + max(range(values_cxyz.dim() - 1), key=lambda n: values_cxyz.shape[n + 1])
        plane = max(1, values_cxyz.numel() // max(1, values_cxyz.shape[axis]))
        for block in torch.split(values_cxyz, max(2, _BLOCK_VALUES // plane), axis):
            if self._threshold is None and len(self._numbers) > 1:
                self.add(block, largest_channel(block))
            elif self._threshold is not None:
                self._add_each(block.float(), self._threshold)

    def add(
        self,
        values_cxyz: torch.Tensor,
        largest_1xyz: torch.Tensor,
        weight_of: Callable[[], torch.Tensor] | None = None,
    ) -> None:
        """Count a block whose voxels belong to their largest channel.

        Parameters
        ----------
        values_cxyz : Tensor
            What the network says, or sums of it times weights.
        largest_1xyz : Tensor
            The largest channel of each voxel.
        weight_of : callable or None
            Called where the block holds a segment: the sums of the weights, shape (x, y, z).
        """
        if len(values_cxyz) != len(self._numbers):
            return  # the predictor refuses such a network with a message of its own
        largest = largest_1xyz[0]
        found = largest != 0
        if not bool(found.any()):
            return
        channel_n = largest[found].long()
        values_cn = values_cxyz[:, found].float()
        if weight_of is not None:
            values_cn /= weight_of()[found]
        border_n = _borders(largest)[found]
        self._count(channel_n, *_largest_and_entropy(values_cn), border_n)

    def _add_each(self, values_cxyz: torch.Tensor, threshold: float) -> None:
        if len(values_cxyz) != len(self._numbers):
            return
        for channel, values in enumerate(values_cxyz):
            probability = torch.sigmoid(values)
            found = probability >= threshold
            p = probability[found].double()
            entropy = (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)
            self._count(
                torch.full_like(p, channel, dtype=torch.long), p, entropy, _borders(found)[found]
            )

    def _count(
        self,
        channel_n: torch.Tensor,
        probability_n: torch.Tensor,
        entropy_n: torch.Tensor,
        border_n: torch.Tensor,
    ) -> None:
        border = border_n.double()
        terms = (
            torch.ones_like(border),
            probability_n.double(),
            border,
            border * entropy_n.double(),
        )
        counted = [
            torch.bincount(channel_n, weights=each, minlength=len(self._numbers)) for each in terms
        ]
        self._sums += torch.stack(counted).cpu()

    def result(self) -> tuple[SegmentConfidence, ...]:
        """Return the figures of the segments that were found, by their numbers."""
        found = []
        for number in sorted({number for number in self._numbers if number}):
            channels = [at for at, own in enumerate(self._numbers) if own == number]
            voxels, probability, border, entropy = self._sums[:, channels].sum(dim=1).tolist()
            if voxels:
                mean = min(max(entropy / border, 0.0), 1.0) if border else None
                found.append(SegmentConfidence(number, min(probability / voxels, 1.0), mean))
        return tuple(found)


def _largest_and_entropy(values_cn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each voxel's largest probability, and its entropy as a share of the largest one."""
    most = math.log(len(values_cn))
    sure = values_cn.sum(dim=0)
    if float(values_cn.min()) >= 0 and float((sure - 1).abs().max()) < _SUM_TO_ONE:
        return values_cn.amax(dim=0), torch.special.entr(values_cn).sum(dim=0) / most
    shifted = values_cn - values_cn.amax(dim=0, keepdim=True)
    parts = shifted.exp()
    whole = parts.sum(dim=0)
    entropy = whole.log() - (shifted * parts).sum(dim=0) / whole
    return 1 / whole, entropy / most


def _borders(labels_xyz: torch.Tensor) -> torch.Tensor:
    """Return which voxels have one of another label beside them, over a face."""
    edge = torch.zeros_like(labels_xyz, dtype=torch.bool)
    for axis, size in enumerate(labels_xyz.shape):
        low, high = labels_xyz.narrow(axis, 0, size - 1), labels_xyz.narrow(axis, 1, size - 1)
        differ = low != high
        edge.narrow(axis, 0, size - 1).logical_or_(differ)
        edge.narrow(axis, 1, size - 1).logical_or_(differ)
    return edge
