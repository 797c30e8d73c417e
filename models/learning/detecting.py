"""What a detection learns from and is judged by: centre maps, their loss, average precision.

Boxes on their way are rows of seven numbers: class, low edges (k, j, i), high edges; voxel n
reaches from n to n + 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.networks.centres import PRIOR, distances

Rows = npt.NDArray[np.float64]
"""Shape (boxes, 7)."""

_NARROW: Final = 0.54 / 6.0
"""A centre's bell has this share of the box's side as its width (TTFNet)."""
_LEAST_WIDTH: Final = 0.6  # voxels: of small boxes the voxels beside the centre are half right
_LEAST_VISIBLE: Final = 0.5
"""Of a box that is cut at the edge of a patch: with less of it left, there is no thing to see."""
_BOXES: Final = 2.0  # their weight, against that of the centres
_FOCUS, _SPARE = 2.0, 4.0  # of the focal loss, CornerNet's


def cut_rows(rows: Rows, first: Sequence[int], size: Sequence[int]) -> Rows:
    """Return the boxes as a part of the image has them; those that are mostly outside are gone."""
    if not len(rows):
        return rows
    low, high = rows[:, 1:4] - first, rows[:, 4:7] - first
    inner = np.clip(low, 0, size), np.clip(high, 0, size)
    whole = np.prod(high - low, axis=1)
    left = np.prod(inner[1] - inner[0], axis=1)
    cut: Rows = np.concatenate([rows[:, :1], *inner], axis=1)
    kept: Rows = cut[left >= _LEAST_VISIBLE * whole]
    return kept


def mirrored_rows(rows: Rows, axes: Iterable[int], shape: Sequence[int]) -> Rows:
    """Return boxes where an image that is mirrored along axes, of (k, j, i), has them."""
    turned = rows.copy()
    for axis in axes:
        turned[:, 1 + axis] = shape[axis] - rows[:, 4 + axis]
        turned[:, 4 + axis] = shape[axis] - rows[:, 1 + axis]
    return turned


def turned_rows(rows: Rows, matrix: npt.NDArray[np.float64], shape: Sequence[int]) -> Rows:
    """Return boxes where a turned image has them: as high and wide as what fills them, turned.

    A thing that fills its box is an ellipsoid rather than a brick: with the brick's corners boxes
    would grow by each turn.
    """
    if not len(rows):
        return rows
    back = np.linalg.inv(matrix)  # the matrix says where a voxel's value comes from
    middle = np.array(shape) / 2
    centres = ((rows[:, 1:4] + rows[:, 4:7]) / 2 - middle) @ back.T + middle
    halves = np.sqrt(((rows[:, 4:7] - rows[:, 1:4]) / 2) ** 2 @ (back**2).T)
    turned = np.concatenate([rows[:, :1], centres - halves, centres + halves], axis=1)
    return cut_rows(turned, (0, 0, 0), shape)


def shifted_rows(rows: Rows, shift: npt.NDArray[np.float32]) -> Rows:
    """Return boxes where a bent image has them: about the places that the middles of sides come to.

    Parameters
    ----------
    shift : ndarray, shape (3, slices, rows, columns)
        From where a voxel's value comes, beside its own place, in voxels (k, j, i).
    """
    if not len(rows):
        return rows
    most = np.array(shift.shape[1:]) - 1
    low, high = rows[:, 1:4].copy(), rows[:, 4:7].copy()
    for axis in range(3):
        for ends in (low, high):
            here = (rows[:, 1:4] + rows[:, 4:7]) / 2
            here[:, axis] = ends[:, axis]
            came = here.copy()
            for _ in range(3):  # a voxel takes from elsewhere: what lay here is where that is here
                k, j, i = np.clip(np.rint(came - 0.5).astype(int), 0, most).T
                came = here - shift[:, k, j, i].T
            ends[:, axis] = came[:, axis]
    return cut_rows(np.concatenate([rows[:, :1], low, high], axis=1), (0, 0, 0), shift.shape[1:])


def scaled_rows(rows: Rows, by: npt.NDArray[np.float64]) -> Rows:
    """Return boxes of an image that was resampled: so many times as many voxels along each axis."""
    return np.concatenate([rows[:, :1], rows[:, 1:4] * by, rows[:, 4:7] * by], axis=1)


def centre_maps(rows: Rows, shape_kji: Sequence[int], classes: int) -> npt.NDArray[np.float32]:
    """Return what a detection learns on one image.

    Returns
    -------
    ndarray, float32, shape (classes + 1 + 6, slices, rows, columns)
        How near a centre is, by class, 1 on it; how much a voxel's box counts; how far its sides
        are from the voxel's middle: low (k, j, i), then high.
    """
    maps = np.zeros((classes + 7, *shape_kji), np.float32)
    order = np.argsort(-np.prod(rows[:, 4:7] - rows[:, 1:4], axis=1))  # the smaller one over all
    for row in rows[order]:
        low, high = row[1:4], row[4:7]
        middle = np.minimum(np.floor((low + high) / 2).astype(int), np.array(shape_kji) - 1)
        width = np.maximum((high - low) * _NARROW, _LEAST_WIDTH)
        reach = np.ceil(3 * width).astype(int)
        begin, end = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, shape_kji)
        grid = np.ogrid[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))]
        far = sum(
            ((axis - at) / each) ** 2 for axis, at, each in zip(grid, middle, width, strict=True)
        )
        bell = np.exp(-np.asarray(far) / 2).astype(np.float32)
        place = tuple(slice(a, b) for a, b in zip(begin, end, strict=True))
        near = maps[int(row[0]) - 1][place]
        np.maximum(near, bell, out=near)
        mine = bell > maps[classes][place] * 0.999
        inside = mine & (bell > np.exp(-2))
        for axis in range(3):
            at = grid[axis] + 0.5
            for side, away in ((1 + axis, at - low[axis]), (4 + axis, high[axis] - at)):
                kept = maps[classes + side][place]
                kept[inside] = np.broadcast_to(np.maximum(away, 0.1), bell.shape)[inside]
        counts = maps[classes][place]
        counts[inside] = bell[inside]
    return maps


@dataclass(frozen=True, slots=True)
class CentreLoss:
    """A focal loss of the centres, and the overlap of boxes about them (GIoU)."""

    classes: int
    typical_box: tuple[float, ...]

    def __call__(self, maps: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a network's maps against :func:`centre_maps` on its axes.

        Parameters
        ----------
        maps : Tensor, shape (batch, classes + 2 * axes, x, y[, z])
        targets : Tensor, shape (batch, classes + 1 + 2 * axes, x, y[, z])
        """
        logits = maps[:, : self.classes].float() - PRIOR
        near = targets[:, : self.classes]
        counts = targets[:, self.classes]
        centres = near >= 1.0 - 1e-4
        sure = torch.sigmoid(logits)
        found = -((1 - sure) ** _FOCUS) * functional.logsigmoid(logits) * centres
        spared = (1 - near) ** _SPARE * sure**_FOCUS * functional.softplus(logits) * ~centres
        loss = (found.sum() + spared.sum()) / centres.sum().clamp(min=1)
        wanted = targets[:, self.classes + 1 :]
        apart = 1 - _overlap(distances(maps[:, self.classes :].float(), self.typical_box), wanted)
        return loss + _BOXES * (apart * counts).sum() / counts.sum().clamp(min=1)


def _overlap(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return the generalised intersection over union of boxes about the same voxel."""
    axes = ours.shape[1] // 2
    inner = torch.minimum(ours, theirs)
    outer = torch.maximum(ours, theirs)

    def volume(sides: torch.Tensor) -> torch.Tensor:
        return (sides[:, :axes] + sides[:, axes:]).prod(dim=1)

    both, around = volume(inner), volume(outer)
    either = (volume(ours) + volume(theirs) - both).clamp(min=1e-6)
    around = around.clamp(min=1e-6)
    return both / either - (around - either) / around


# --- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hit:
    """A box that was found: how sure, whether a thing of its class is there, which box it is."""

    label: int
    score: float
    is_right: bool
    box: int = 0


@dataclass(frozen=True, slots=True)
class Detected:
    """What came of one image's boxes.

    Attributes
    ----------
    hits : tuple of Hit
        The surest first.
    true : tuple of int
        The class of each box that there is.
    missed : tuple of int
        Which of these were not found.
    """

    hits: tuple[Hit, ...]
    true: tuple[int, ...]
    missed: tuple[int, ...] = ()


def matched(
    found: npt.NDArray[np.float64],
    labels: Sequence[int],
    scores: Sequence[float],
    true: npt.NDArray[np.float64],
    true_labels: Sequence[int],
    *,
    least: float = 0.5,
) -> Detected:
    """Return which found boxes are right: each thing is found once, by the surest box on it.

    Parameters
    ----------
    found, true : ndarray, shape (boxes, 2 * axes)
        Low corner, high corner, in the same space.
    least : float
        Intersection over union from which on a box is on a thing.
    """
    shared = overlap_of(found, true)
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    free = set(range(len(true_labels)))
    hits = []
    for at in order:
        there = [
            other
            for other in free
            if true_labels[other] == labels[at] and shared[at, other] >= least
        ]
        if there:
            free.remove(max(there, key=lambda other: shared[at, other]))
        hits.append(Hit(labels[at], scores[at], bool(there), at))
    return Detected(tuple(hits), tuple(true_labels), tuple(sorted(free)))


def overlap_of(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the intersection over union of each of n boxes with each of m, shape (n, m)."""
    axes = ours.shape[1] // 2
    low = np.maximum(ours[:, None, :axes], theirs[None, :, :axes])
    high = np.minimum(ours[:, None, axes:], theirs[None, :, axes:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    one, other = (np.prod(each[:, axes:] - each[:, :axes], axis=1) for each in (ours, theirs))
    shared: npt.NDArray[np.float64] = both / np.clip(one[:, None] + other[None] - both, 1e-9, None)
    return shared


def average_precision(images: Iterable[Detected], label: int) -> float | None:
    """Return the area under precision over recall of one class; None where there is no such thing.

    Notes
    -----
    Over all points, precision made to fall (PASCAL VOC 2010 and after), not at eleven of them.
    """
    hits: list[Hit] = []
    things = 0
    for image in images:
        hits += [hit for hit in image.hits if hit.label == label]
        things += image.true.count(label)
    if not things:
        return None
    right = np.array([hit.is_right for hit in sorted(hits, key=lambda hit: -hit.score)], bool)
    if not right.size:
        return 0.0
    found = np.cumsum(right)
    precision = np.maximum.accumulate((found / np.arange(1, right.size + 1))[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], found / things]))
    return float(np.sum(steps * precision))
