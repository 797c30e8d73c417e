"""A network laid over an image window by window, its answers stitched in bounded memory.

Windows lie where MONAI's ``SlidingWindowInferer`` lays them, and weigh what they weigh there; the
sums are the same up to rounding. What differs is what is held: MONAI keeps every class of the
whole image, and a count beside it, until the last window. Here a voxel is finished as soon as no
later window reaches it; of an image whose classes are wanted as one map, all classes exist at once
only where windows overlap.

Axes in names: ``b`` batch, ``c`` channel, ``xyz`` the spatial axes as they are scanned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from monai.data.utils import compute_importance_map
from monai.inferers.inferer import SlidingWindowInferer
from torch.nn import functional

from models.confidence import Tally
from models.stitching import Finish, Stitch

Network = Callable[[torch.Tensor], Any]
Skip = Callable[[torch.Tensor], bool]
AtOnce = Callable[[tuple[int, ...]], int]


class NotOneMap(ValueError):
    """The network does not answer with one map on the grid of a window."""


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
        Windows that the network is given at once, at least.
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
    tally: Tally | None = None,
    at_once: AtOnce | None = None,
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
    tally : Tally or None
        For 'argmax': told each finished block, so that probabilities are summed up on the way.
    at_once : callable or None
        From the shape of a window, (channels, ...), to how many of them the network is best given
        together; asked anew for each call.

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
        _one(image_bcxyz[n : n + 1], network, sliding, finish, skip, to, tally, at_once)
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
    tally: Tally | None,
    at_once: AtOnce | None,
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
    shape = (image.shape[1], *widths[1:]) if flat else (image.shape[1], *widths)

    def batch() -> int:
        return max(sliding.batch, at_once(shape) if at_once else 1)

    run = _Windows(image, network, skip, to, flat, batch)
    stitch = Stitch(tuple(image.shape[2:]), widths, starts, weights, finish, tally)
    made = stitch.over(run)[None]
    made = made[:, :, 0] if flat else made
    for axis, (b, n) in enumerate(zip(before, size, strict=True)):
        made = made.narrow(axis + 2, b, n)
    return made


def _starts(length: int, width: int, share: float) -> list[int]:
    """Return where windows begin; the last is pushed back into the image, as MONAI does."""
    step = width if width == length else max(int(width * (1 - share)), 1)
    count = math.ceil((length - width) / step) + 1
    return [min(n * step, length - width) for n in range(count)]


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
        batch: Callable[[], int],
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
