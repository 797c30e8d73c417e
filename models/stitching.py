"""Windows' answers summed into one map, each voxel finished as soon as no later window reaches it.

Axes in names: ``c`` channel, ``xyz`` the spatial axes of the image, in its order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch

from dicom.errors import UnsuitableSeries
from models.confidence import Tally
from models.discrete import largest_channel

Finish = Literal["logits", "argmax"]

_HELD_BYTES = 256 << 20
"""What may wait for later windows along an axis in float32; more waits in float16."""

_BLOCK_BYTES = 8 << 20
"""Of weighted answers that are looked at together: about what a processor's cache holds."""


class Windows(Protocol):
    """What answers for windows, so many at once as `batch` says before each call."""

    batch: Callable[[], int]

    def answers(
        self,
        places: Sequence[tuple[int, ...]],
        widths: tuple[int, ...],
        *,
        all_of_them: bool = False,
    ) -> list[torch.Tensor | None]:
        """Return the answer at each place, shape (c, x, y, z); None where there is none."""
        ...


class _Handed:
    """Sums that wait for the next windows along one axis.

    Of the faster axes all of the image waits, of the slower ones what a window covers.

    Parameters
    ----------
    axis : int
        The axis, of three.
    faster : set of int
        Axes along which windows change before they do along this one.
    classes : int
        Sums of each voxel.
    """

    def __init__(
        self,
        axis: int,
        faster: set[int],
        size: tuple[int, ...],
        widths: tuple[int, ...],
        starts: Sequence[int],
        classes: int,
        device: torch.device,
    ) -> None:
        self._axis, self._faster = axis, faster
        self._shared, self._ended = {}, {}
        for before, at, after in zip([None, *starts], starts, [*starts[1:], None], strict=False):
            width = widths[axis]
            self._shared[at] = max(before + width - at, 0) if before is not None else 0
            self._ended[at] = min(after - at, width) if after is not None else width
        room = [size[n] if n in faster else widths[n] for n in range(3)]
        room[axis] = _most_shared(starts, widths[axis])
        kind = torch.float32 if classes * math.prod(room) * 4 <= _HELD_BYTES else torch.float16
        self._held = torch.empty((classes, *room), dtype=kind, device=device)

    def through(
        self, sums_cxyz: torch.Tensor, place: tuple[int, ...], low: list[int], high: list[int]
    ) -> torch.Tensor | None:
        """Add what waited, keep what has to wait, and return the rest; None when there is none.

        Parameters
        ----------
        sums_cxyz : Tensor
            Of a block of the window at `place`, from `low` to `high` in it. `high` is lowered to
            where the rest ends.
        """
        axis, first, end = self._axis, low[self._axis], high[self._axis]
        shared, ended = self._shared[place[axis]], self._ended[place[axis]]
        if first < shared:
            waited = self._at(place, low, high, first, min(shared, end))
            sums_cxyz.narrow(axis + 1, 0, min(shared, end) - first).add_(waited)
        if end > ended:
            begin = max(ended, first)
            held = self._at(place, low, high, begin - ended, end - ended)
            held.copy_(sums_cxyz.narrow(axis + 1, begin - first, end - begin))
            if held.dtype is torch.float16 and not is_finite(held):
                raise UnsuitableSeries("the network's values are too large to be stitched")
            if begin == first:
                return None
            high[axis] = ended
        return sums_cxyz.narrow(axis + 1, 0, high[axis] - first)

    def _at(
        self, place: tuple[int, ...], low: list[int], high: list[int], first: int, end: int
    ) -> torch.Tensor:
        held = self._held
        for n in range(3):
            shift = place[n] if n in self._faster else 0
            a, b = (first, end) if n == self._axis else (low[n] + shift, high[n] + shift)
            held = held.narrow(n + 1, a, b - a)
        return held


class Stitch:
    """Sums of weighted answers; a voxel is finished when no later window reaches it.

    Each window's answer is weighted block by block, so that what is done to a block is done while
    it lies in the processor's cache. What it shares with later windows is handed on to them, along
    the axis where they follow soonest; what is left is finished.
    """

    def __init__(
        self,
        size: tuple[int, ...],
        widths: tuple[int, ...],
        starts: Sequence[list[int]],
        weights_xyz: torch.Tensor,
        finish: Finish,
        tally: Tally | None = None,
    ) -> None:
        self._size, self._widths, self._starts = size, widths, starts
        self._tally = tally
        self._weights_xyz, self._finish = weights_xyz, finish
        self._order = _order(size, widths, starts)
        self._classes = 0
        self._thick = 1
        self._made = self._block = torch.empty(0)
        self._handed: list[_Handed] = []

    def over(self, run: Windows) -> torch.Tensor:
        """Return what all windows make, shape (c, x, y, z)."""
        back = [self._order.index(n) for n in range(3)]
        turned = itertools.product(*(self._starts[n] for n in self._order))
        places = [tuple(place[n] for n in back) for place in turned]
        unanswered = []  # begun before the number of classes was known
        remaining = iter(places)
        while chosen := list(itertools.islice(remaining, run.batch())):
            answers = run.answers(chosen, self._widths)
            for at, place in enumerate(chosen):
                answer, answers[at] = answers[at], None  # no answer waits while the next is made
                if not self._classes:
                    if answer is None:
                        unanswered.append(place)
                        continue
                    self._begin(answer)
                    for earlier in unanswered:
                        self._take(earlier, None)
                self._take(place, answer)
                del answer
        if not self._classes:  # all were skipped; how many classes there are, one of them tells
            (answer,) = run.answers(places[:1], self._widths, all_of_them=True)
            if answer is not None:
                self._begin(answer)
            self._made.zero_()
        return self._made

    def _begin(self, answer_cxyz: torch.Tensor) -> None:
        """Make room for the answers, whose classes are known by the first of them."""
        self._classes = len(answer_cxyz)
        device = self._weights_xyz.device
        kind, channels = torch.float32, self._classes
        if self._finish == "argmax":
            kind, channels = torch.uint8 if self._classes <= 256 else torch.int16, 1
        self._made = torch.empty((channels, *self._size), dtype=kind, device=device)
        sums = self._classes + (self._finish == "logits")  # and what they weigh together
        plane = math.prod(self._widths[1:])
        self._thick = max(1, min(self._widths[0], _BLOCK_BYTES // (4 * sums * plane)))
        self._block = torch.empty((sums, self._thick, *self._widths[1:]), device=device)
        self._handed = [
            _Handed(
                axis,
                set(self._order[at + 1 :]),
                self._size,
                self._widths,
                self._starts[axis],
                sums,
                device,
            )
            for at, axis in reversed(list(enumerate(self._order)))
            if len(self._starts[axis]) > 1
        ]

    def _take(self, place: tuple[int, ...], answer_cxyz: torch.Tensor | None) -> None:
        """Add one window's answer, or nothing with a window's weight."""
        for first in range(0, self._widths[0], self._thick):
            end = min(first + self._thick, self._widths[0])
            sums: torch.Tensor | None = self._weighted(answer_cxyz, first, end)
            low, high = [first, 0, 0], [end, *self._widths[1:]]
            for handed in self._handed:
                if sums is not None:
                    sums = handed.through(sums, place, low, high)
            if sums is not None:
                self._put(sums, [n + shift for n, shift in zip(low, place, strict=True)])

    def _weighted(self, answer_cxyz: torch.Tensor | None, first: int, end: int) -> torch.Tensor:
        """Return planes of an answer times their weights, with the weights as a last channel."""
        block, weights = self._block[:, : end - first], self._weights_xyz[first:end]
        into = block[: self._classes]
        if answer_cxyz is None:
            into.zero_()
        else:
            torch.mul(answer_cxyz[:, first:end], weights, out=into)
        block[self._classes :] = weights
        return block

    def _put(self, sums_cxyz: torch.Tensor, at: list[int]) -> None:
        into = self._made
        for n in range(3):
            into = into.narrow(n + 1, at[n], sums_cxyz.shape[n + 1])
        if self._finish == "logits":
            torch.div(sums_cxyz[:-1], sums_cxyz[-1:], out=into)
        else:  # what is compared is not divided: all by the same
            into.copy_(largest_channel(sums_cxyz))
            if self._tally is not None:
                shape = tuple(sums_cxyz.shape[1:])
                self._tally.add(sums_cxyz, into, lambda: self._weight_of(at, shape))

    def _weight_of(self, at: list[int], shape: tuple[int, ...]) -> torch.Tensor:
        """Return what all windows weigh together in a block of the image."""
        whole = torch.zeros(shape, device=self._weights_xyz.device)
        reaching = [
            [
                start
                for start in self._starts[n]
                if start - at[n] < shape[n] and at[n] < start + width
            ]
            for n, width in enumerate(self._widths)
        ]
        for place in itertools.product(*reaching):
            low = [max(a, p) for a, p in zip(at, place, strict=True)]
            sides = zip(at, shape, place, self._widths, strict=True)
            high = [min(a + size, p + width) for a, size, p, width in sides]
            into, weights = whole, self._weights_xyz
            for n in range(3):
                into = into.narrow(n, low[n] - at[n], high[n] - low[n])
                weights = weights.narrow(n, low[n] - place[n], high[n] - low[n])
            into += weights
        return whole


def is_finite(values: torch.Tensor) -> bool:
    """Return whether all values are finite; in one pass over them where they are."""
    if not values.is_floating_point():
        return True
    total = values.sum(dtype=torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(values).all())


def _order(
    size: tuple[int, ...], widths: tuple[int, ...], starts: Sequence[Sequence[int]]
) -> tuple[int, int, int]:
    """Return the axes, slowest first, so that least has to wait for later windows."""
    shared = [_most_shared(at, width) for at, width in zip(starts, widths, strict=True)]

    def waiting(order: tuple[int, ...]) -> int:
        slow, middle, fast = order
        return shared[slow] * size[middle] * size[fast] + widths[slow] * shared[middle] * size[fast]

    slow, middle, fast = min(itertools.permutations((0, 1, 2)), key=waiting)
    return slow, middle, fast


def _most_shared(starts: Sequence[int], width: int) -> int:
    """Return how many voxels two windows next to each other share at most, along one axis."""
    return max((max(a + width - b, 0) for a, b in itertools.pairwise(starts)), default=0)
