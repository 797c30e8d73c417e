"""A network laid over an image window by window, its answers stitched in bounded memory.

Windows lie where MONAI's ``SlidingWindowInferer`` lays them, and weigh what they weigh there; the
sums are the same up to rounding. What differs is what is held: MONAI keeps every class of the
whole image, and a count beside it, until the last window. Here windows come strip by strip, and a
voxel is finished as soon as no later window reaches it; of an image whose classes are wanted as
one map, all classes exist at once only where windows overlap.

Axes in names: ``b`` batch, ``c`` channel, ``xyz`` the spatial axes as they are scanned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from monai.data.utils import compute_importance_map
from monai.inferers.inferer import SlidingWindowInferer
from torch.nn import functional

from dicom.errors import UnsuitableSeries

Finish = Literal["logits", "argmax"]
Network = Callable[[torch.Tensor], Any]
Skip = Callable[[torch.Tensor], bool]


class NotOneMap(ValueError):
    """The network does not answer with one map on the grid of a window."""


_HELD_BYTES = 1 << 30
"""What may wait for the next row of windows in float32; more waits in float16."""


@dataclass(frozen=True, slots=True)
class Sliding:
    """How windows lie over an image.

    Attributes
    ----------
    window : tuple of int
        Voxels along each spatial axis; not positive: the whole axis.
    overlap : tuple of float
        Share of a window that the next one covers again, 0 to below 1.
    importance : {'constant', 'gaussian'}
        What a voxel of a window weighs.
    sigma : float or tuple of float
        Of the Gaussian, as a share of the window.
    padding, fill : str, float
        How an image that is smaller than a window is made larger, around it; ``torch``'s mode.
    batch : int
        Windows that the network is given at once.
    """

    window: tuple[int, ...]
    overlap: tuple[float, ...]
    importance: Literal["constant", "gaussian"] = "constant"
    sigma: float | tuple[float, ...] = 0.125
    padding: str = "constant"
    fill: float = 0.0
    batch: int = 1

    def __post_init__(self) -> None:
        if len(self.window) != len(self.overlap) or len(self.window) not in (2, 3):
            raise ValueError("window and overlap have two or three axes, both as many")
        if not all(0 <= share < 1 for share in self.overlap):
            raise ValueError("overlap is at least 0 and less than 1")
        if self.batch < 1:
            raise ValueError("at least one window is looked at at once")

    @classmethod
    def of(cls, inferer: object, axes: int) -> Self | None:
        """Return how MONAI's inferer slides; None when it does something that is not done here."""
        if type(inferer) is not SlidingWindowInferer or inferer.with_coord:
            return None
        roi, overlap = inferer.roi_size, inferer.overlap
        window = (roi,) * axes if isinstance(roi, int) else tuple(int(n) for n in roi)
        shares = (overlap,) * axes if isinstance(overlap, int | float) else tuple(overlap)
        if len(window) != axes or len(shares) != axes:
            return None
        sigma = inferer.sigma_scale
        return cls(
            window,
            shares,
            "gaussian" if str(inferer.mode) == "gaussian" else "constant",
            float(sigma) if isinstance(sigma, int | float) else tuple(float(n) for n in sigma),
            str(inferer.padding_mode),
            float(inferer.cval),
            inferer.sw_batch_size,
        )

    def starts(self, size: Sequence[int]) -> list[list[int]]:
        """Return where windows begin along each axis of an image of that size, lowest first."""
        return [
            _starts(max(length, width), width, share)
            for length, width, share in zip(size, self.widths(size), self.overlap, strict=True)
        ]

    def widths(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return a window's voxels along each axis of an image of that size."""
        return tuple(w if w > 0 else n for w, n in zip(self.window, size, strict=True))


def slide(
    image_bcxyz: torch.Tensor,
    network: Network,
    sliding: Sliding,
    *,
    finish: Finish = "logits",
    skip: Skip | None = None,
    to: torch.device | None = None,
) -> torch.Tensor:
    """Return a network's answer on the grid of an image.

    Parameters
    ----------
    image_bcxyz : Tensor, shape (batch, channels, ...)
        Two or three spatial axes; on any device.
    network : callable
        Windows, shape (n, channels, ...), to logits on the windows' grid, shape (n, classes, ...).
        Progress and cancellation are its own: it is called between windows.
    finish : {'logits', 'argmax'}
        Float32 of all classes, or the number of the largest (uint8, or int16 beyond 256 classes;
        the first of equal ones), for which memory does not grow with classes times the image.
    skip : callable or None
        Told a window, shape (channels, ...); True lets its answer be zeros, which is class 0.
    to : device or None
        Where the network wants windows; None: where the image is. Stitching is where the image is.

    Returns
    -------
    Tensor
        Shape (batch, classes, ...), or (batch, 1, ...) for 'argmax'.

    Raises
    ------
    NotOneMap
        When the network answers on another grid, or with several maps.
    ValueError
        When image and windows differ in axes.
    """
    if image_bcxyz.dim() != len(sliding.window) + 2:
        raise ValueError("image and windows have not the same axes")
    each = [
        _one(image_bcxyz[n : n + 1], network, sliding, finish, skip, to)
        for n in range(len(image_bcxyz))
    ]
    return each[0] if len(each) == 1 else torch.cat(each)


def _one(
    image: torch.Tensor,
    network: Network,
    sliding: Sliding,
    finish: Finish,
    skip: Skip | None,
    to: torch.device | None,
) -> torch.Tensor:
    size = tuple(image.shape[2:])
    widths = sliding.widths(size)
    before = [max(w - n, 0) // 2 for w, n in zip(widths, size, strict=True)]
    after = [max(w - n, 0) - b for w, n, b in zip(widths, size, before, strict=True)]
    if any(before) or any(after):
        pads = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
        fill = sliding.fill if sliding.padding == "constant" else None
        image = functional.pad(image, pads, sliding.padding, fill)
    starts = sliding.starts(size)
    weights = _weights(sliding, widths, image.device)
    flat = len(widths) == 2
    if flat:  # a picture is a volume whose slowest axis has one voxel
        image, weights = image[:, :, None], weights[None]
        starts, widths = [[0], *starts], (1, *widths)
    order = _order(tuple(image.shape[2:]), widths, starts)
    run = _Windows(image, network, skip, to, flat, sliding.batch)
    stitch = _Stitch(
        tuple(image.shape[2:][n] for n in order),
        tuple(widths[n] for n in order),
        [starts[n] for n in order],
        weights.permute(order),
        finish,
    )
    made = stitch.over(run, order)
    back = [0, *(order.index(n) + 1 for n in range(3))]
    made = made.permute(back)[None]
    made = made[:, :, 0] if flat else made
    for axis, (b, n) in enumerate(zip(before, size, strict=True)):
        made = made.narrow(axis + 2, b, n)
    return made


def _starts(length: int, width: int, share: float) -> list[int]:
    """Return where windows begin; the last is pushed back into the image, as MONAI does."""
    step = width if width == length else max(int(width * (1 - share)), 1)
    count = math.ceil((length - width) / step) + 1
    return [min(n * step, length - width) for n in range(count)]


def _order(
    size: tuple[int, ...], widths: tuple[int, ...], starts: Sequence[Sequence[int]]
) -> list[int]:
    """Return the axes, slowest first, so that least has to wait for the next row of windows."""

    def waiting(axis: int) -> int:
        shared = max((a + widths[axis] - b for a, b in itertools.pairwise(starts[axis])), default=0)
        return max(shared, 0) * math.prod(n for k, n in enumerate(size) if k != axis)

    slowest = min(range(3), key=lambda n: (waiting(n), n))
    left = [n for n in range(3) if n != slowest]
    # a strip is as wide as a window along x and y, and as long as the image along z
    middle = min(left, key=lambda n: (widths[n] * math.prod(size[k] for k in left if k != n), n))
    return [slowest, middle, ({0, 1, 2} - {slowest, middle}).pop()]


def _weights(sliding: Sliding, widths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    if sliding.importance == "constant":
        return torch.ones(widths, device=device)
    sigma = sliding.sigma if isinstance(sliding.sigma, float) else list(sliding.sigma)
    made: torch.Tensor = compute_importance_map(
        widths, mode="gaussian", sigma_scale=sigma, device=device, dtype=torch.float32
    )
    return made


class _Windows:
    """The network's answers for windows of one image, a batch at a time."""

    def __init__(
        self,
        image: torch.Tensor,
        network: Network,
        skip: Skip | None,
        to: torch.device | None,
        flat: bool,
        batch: int,
    ) -> None:
        self._image, self._network, self._skip = image, network, skip
        self._to, self._flat, self.batch = to or image.device, flat, batch

    def answers(
        self,
        places: Sequence[tuple[int, ...]],
        widths: tuple[int, ...],
        *,
        all_of_them: bool = False,
    ) -> list[torch.Tensor | None]:
        """Return the answer at each place, shape (c, x, y, z); None where it is skipped."""
        cut = []
        for place in places:
            window = self._image
            for axis, (at, width) in enumerate(zip(place, widths, strict=True)):
                window = window.narrow(axis + 2, at, width)
            cut.append(window[:, :, 0] if self._flat else window)
        skip = None if all_of_them else self._skip
        wanted = [n for n, each in enumerate(cut) if skip is None or not skip(each[0])]
        found: list[torch.Tensor | None] = [None] * len(places)
        if wanted:
            together = torch.cat([cut[n] for n in wanted]) if len(wanted) > 1 else cut[wanted[0]]
            said = self._network(together.to(self._to))
            if not isinstance(said, torch.Tensor) or said.shape[2:] != together.shape[2:]:
                raise NotOneMap("the network gives another grid than it is given")
            answer = said.to(self._image.device)
            for n, one in zip(wanted, answer, strict=True):
                found[n] = one[:, None] if self._flat else one
        return found


class _Stitch:
    """Sums of weighted answers, finished strip by strip.

    Windows of one row begin at the same x, of one strip at the same x and y. A strip's sums are
    handed to the next strip where the two overlap; what a row shares with the next waits for it.
    """

    def __init__(
        self,
        size: tuple[int, ...],
        widths: tuple[int, ...],
        starts: Sequence[list[int]],
        weights_xyz: torch.Tensor,
        finish: Finish,
    ) -> None:
        self._size, self._widths, self._starts = size, widths, starts
        self._weights_xyz, self._finish = weights_xyz, finish
        self._classes = 0
        self._made = torch.empty(0)
        self._waiting = torch.empty(0)  # (c + 1, x shared with the next row, y, z)
        self._at = -1  # where the waiting begins along x

    def over(self, run: _Windows, order: Sequence[int]) -> torch.Tensor:
        """Return what all windows make, shape (c, x, y, z)."""
        xs, ys, zs = self._starts
        places = list(itertools.product(xs, ys, zs))
        widths = tuple(self._widths[order.index(n)] for n in range(3))
        strip = torch.empty(0)
        unanswered = []  # begun before the number of classes was known
        for first in range(0, len(places), run.batch):
            chosen = places[first : first + run.batch]
            natural = [tuple(place[order.index(n)] for n in range(3)) for place in chosen]
            for place, answer in zip(chosen, run.answers(natural, widths), strict=True):
                if not self._classes:
                    if answer is None:
                        unanswered.append(place)
                        continue
                    strip = self._begin(answer)
                    for earlier in unanswered:
                        strip = self._take(strip, earlier, None)
                turned = None if answer is None else answer.permute(0, *(n + 1 for n in order))
                strip = self._take(strip, place, turned)
        if not self._classes:  # all were skipped; how many classes there are, one of them tells
            (answer,) = run.answers([(0, 0, 0)], widths, all_of_them=True)
            if answer is not None:
                self._begin(answer)
            self._made.zero_()
        return self._made

    def _begin(self, answer: torch.Tensor) -> torch.Tensor:
        """Make room for the answers, whose classes are known by the first of them."""
        self._classes = len(answer)
        xs = self._starts[0]
        device = self._weights_xyz.device
        if self._finish == "argmax":
            kind = torch.uint8 if self._classes <= 256 else torch.int16
            self._made = torch.empty((1, *self._size), dtype=kind, device=device)
        else:
            self._made = torch.empty((self._classes, *self._size), device=device)
        shared = max((a + self._widths[0] - b for a, b in itertools.pairwise(xs)), default=0)
        room = (self._classes + 1, max(shared, 0), *self._size[1:])
        kind = torch.float32 if math.prod(room) * 4 <= _HELD_BYTES else torch.float16
        self._waiting = torch.zeros(room, dtype=kind, device=device)
        return self._empty_strip(device)

    def _empty_strip(self, device: torch.device) -> torch.Tensor:
        wide = (self._classes + 1, *self._widths[:2], self._size[2])
        return torch.zeros(wide, device=device)

    def _take(
        self, strip: torch.Tensor, place: tuple[int, ...], answer_cxyz: torch.Tensor | None
    ) -> torch.Tensor:
        """Add one window's answer to its strip, finished by the last of them; return the next."""
        x, y, z = place
        into = strip.narrow(3, z, self._widths[2])
        if answer_cxyz is not None:
            into[:-1].addcmul_(answer_cxyz.to(strip.dtype), self._weights_xyz)
        into[-1].add_(self._weights_xyz)  # the last channel is what they weigh together
        return self._ended(strip, x, y) if z == self._starts[2][-1] else strip

    def _ended(self, strip: torch.Tensor, x: int, y: int) -> torch.Tensor:
        """Finish what no later window reaches; return the strip that comes next."""
        ys, xs = self._starts[1], self._starts[0]
        next_y = ys[ys.index(y) + 1] if y != ys[-1] else self._size[1]
        next_x = xs[xs.index(x) + 1] if x != xs[-1] else self._size[0]
        wide, ended = min(next_y - y, self._widths[1]), min(next_x - x, self._widths[0])
        ready = strip[:, :, :wide]
        earlier = xs[xs.index(x) - 1] + self._widths[0] - x if x != xs[0] else 0
        if earlier > 0:
            ready[:, :earlier] += self._waiting[:, :earlier, y : y + wide]
        self._put(ready[:, :ended], x, y)
        later = self._widths[0] - ended
        if later:
            held = self._waiting[:, :later, y : y + wide]
            held.copy_(ready[:, ended:])
            if held.dtype is torch.float16 and not bool(torch.isfinite(held).all()):
                raise UnsuitableSeries("the network's values are too large to be stitched")
        kept = self._widths[1] - wide
        if y == ys[-1] or not kept:
            return strip.zero_()
        for n in range(strip.shape[1]):  # plane by plane: source and target overlap
            strip[:, n, :kept] = strip[:, n, wide:].clone()
        strip[:, :, kept:] = 0
        return strip

    def _put(self, sums_cxyz: torch.Tensor, x: int, y: int) -> None:
        into = self._made[:, x : x + sums_cxyz.shape[1], y : y + sums_cxyz.shape[2]]
        if self._finish == "logits":
            torch.div(sums_cxyz[:-1], sums_cxyz[-1:], out=into)
            return
        from models.discrete import largest_channel

        for n in range(sums_cxyz.shape[1]):  # what is compared is not divided: all by the same
            into[:, n] = largest_channel(sums_cxyz[:-1, n])
