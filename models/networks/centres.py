"""Boxes from maps: how sure a network is of a centre at each voxel, and how far its box reaches.

After CenterNet (Zhou et al. 2019) and TTFNet (Liu et al. 2020): a thing is a peak in its class'
map, and the other maps say at the peak how far each side of its box is away. Any network that
answers voxel by voxel detects so, in two dimensions and in three; there are no anchors to choose.

Maps are (batch, channels, x, y[, z]): first a logit for each class, then for each axis the
logarithm of the distance to the low side, in halves of a usual box; then to the high side. Boxes
are (low corner, high corner) in voxels: voxel n is at n, and reaches from n - 0.5 to n + 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from monai.inferers.inferer import SlidingWindowInferer
from torch.nn import functional

PRIOR: Final = 4.6
"""Taken from each logit: at first, 1 of 100 voxels seems a centre (Lin et al. 2017)."""
FARTHEST: Final = 4.0
"""Of a logarithm: boxes are at most 55 times as large as usual, and as small."""

_POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}
_EPSILON: Final = 1e-9


class CentreInferer:
    """A network laid over an image window by window, and the boxes that its maps say.

    Parameters
    ----------
    labels : sequence of int
        The finding of each class' map.
    typical_box : sequence of float
        Sides of a usual box, voxels along the spatial axes.
    roi_size, overlap, sw_batch_size
        Of MONAI's sliding window.
    min_score : float
        Boxes that are less sure are dropped.
    most : int
        Boxes of an image.
    nms : float
        Of two boxes of a class that overlap more (intersection over union), the surer one stays.
    """

    def __init__(
        self,
        *,
        labels: Sequence[int],
        typical_box: Sequence[float],
        roi_size: Sequence[int],
        overlap: float = 0.25,
        sw_batch_size: int = 4,
        min_score: float = 0.05,
        most: int = 100,
        nms: float = 0.3,
    ) -> None:
        self._labels, self._typical = tuple(labels), tuple(typical_box)
        self._min_score, self._most, self._nms = min_score, most, nms
        self._window = SlidingWindowInferer(
            roi_size=tuple(roi_size),
            sw_batch_size=sw_batch_size,
            overlap=overlap,
            mode="gaussian",
        )

    def __call__(
        self, image: torch.Tensor, network: Callable[..., torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return the boxes, labels and scores of one image, shape (1, channels, x, y[, z])."""
        maps = self._window(image, network)
        assert isinstance(maps, torch.Tensor)  # one network, one answer
        boxes, classes, scores = boxes_at_centres(
            maps[0],
            len(self._labels),
            self._typical,
            min_score=self._min_score,
            most=self._most,
            nms=self._nms,
        )
        labels = torch.tensor(self._labels, device=classes.device)
        return {"boxes": boxes, "labels": labels[classes], "scores": scores}


def distances(maps: torch.Tensor, typical_box: Sequence[float]) -> torch.Tensor:
    """Return how far the sides of a box are from each voxel's middle, in voxels.

    Parameters
    ----------
    maps : Tensor, shape (batch, 2 * axes, ...)
        The network's last channels.
    """
    halves = torch.tensor([*typical_box, *typical_box], device=maps.device, dtype=maps.dtype) / 2
    halves = halves.view(1, -1, *[1] * (maps.ndim - 2))
    return halves * maps.clamp(-FARTHEST, FARTHEST).exp()


def boxes_at_centres(
    maps_cxyz: torch.Tensor,
    classes: int,
    typical_box: Sequence[float],
    *,
    min_score: float = 0.05,
    most: int = 100,
    nms: float = 0.3,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return boxes, shape (n, 2 * axes), their classes from 0 and their scores, the surest first.

    Parameters
    ----------
    maps_cxyz : Tensor, shape (classes + 2 * axes, x, y[, z])
        As the network gives them.
    """
    axes = len(typical_box)
    sure = torch.sigmoid(maps_cxyz[:classes].float() - PRIOR)
    peaks = _POOL[axes](sure[None], 3, stride=1, padding=1)[0] == sure
    flat = torch.where(peaks, sure, torch.zeros_like(sure)).flatten()
    scores, places = flat.topk(min(most, flat.numel()))
    kept = scores >= min_score
    scores, places = scores[kept], places[kept]
    index = torch.stack(torch.unravel_index(places, sure.shape), dim=1)
    at = index[:, 1:].float()
    away = distances(maps_cxyz[None, classes:].float(), typical_box)[0]
    reach = away[(slice(None), *index[:, 1:].T)].T
    boxes = torch.cat([at - reach[:, :axes], at + reach[:, axes:]], dim=1)
    alone = _apart(boxes, index[:, 0], nms)
    return boxes[alone], index[alone, 0], scores[alone]


def overlaps(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of each of n boxes with each of m, shape (n, m)."""
    axes = ours.shape[1] // 2
    low = torch.maximum(ours[:, None, :axes], theirs[None, :, :axes])
    high = torch.minimum(ours[:, None, axes:], theirs[None, :, axes:])
    both = (high - low).clamp(min=0).prod(dim=2)
    sizes = [(each[:, axes:] - each[:, :axes]).clamp(min=0).prod(dim=1) for each in (ours, theirs)]
    return both / (sizes[0][:, None] + sizes[1][None] - both).clamp(min=_EPSILON)


def _apart(boxes: torch.Tensor, classes: torch.Tensor, most_overlap: float) -> torch.Tensor:
    """Return the places of boxes that none of their class, surer than they, overlaps."""
    shared = (overlaps(boxes, boxes) > most_overlap) & (classes[:, None] == classes[None])
    kept: list[int] = []
    for at in range(len(boxes)):
        if not kept or not bool(shared[at, kept].any()):
            kept.append(at)
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
