"""A network at work: timed, watched, and ended when it is no longer wanted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers.inferer import SliceInferer, SlidingWindowInferer

from dicom import errors
from models.backends import Chosen
from models.confidence import Tally
from models.prediction import Canceled, Progress


class Watch:
    """Time, progress and cancellation of one prediction, over all its networks and slices.

    Parameters
    ----------
    device : torch.device
        Where the networks run.
    progress, canceled : callable or None
        As for :meth:`models.predictor.Predictor.predict`.

    Attributes
    ----------
    tally : Tally or None
        Where the probabilities of the network that answers are summed up.
    """

    def __init__(
        self, device: torch.device, progress: Progress | None, canceled: Canceled | None
    ) -> None:
        self.forward_s = self.choosing_s = 0.0
        self.tally: Tally | None = None
        self._device = device
        self._progress = progress
        self._canceled = canceled
        self._from, self._to = 0.0, 1.0
        self._told = 0.0

    def part(self, begin: float, end: float) -> None:
        """Let what comes now count from `begin` to `end` of the whole."""
        self._from, self._to = begin, end

    def bounds(self) -> tuple[float, float]:
        """Return where the present part begins and ends."""
        return self._from, self._to

    def tell(self, share: float) -> None:
        """Tell that so much of the present part is done; never less than before."""
        done = self._from + min(max(share, 0.0), 1.0) * (self._to - self._from)
        self._told = max(self._told, done)
        if self._progress is not None:
            self._progress(self._told)

    def look(self) -> None:
        """Raise :class:`dicom.errors.Canceled` when the prediction is no longer wanted."""
        if self._canceled is not None and self._canceled():
            raise errors.Canceled

    def add(self, seconds: float, choosing_s: float = 0.0) -> None:
        """Count seconds that a network took, and those that finding out how to run it took."""
        self.forward_s += seconds
        self.choosing_s += choosing_s

    def wait(self) -> None:
        """Let the GPU finish, so that seconds are counted where they belong."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class Watched(torch.nn.Module):
    """The network as inferers and detectors call it; `chosen` runs it in the fastest way."""

    def __init__(
        self,
        network: torch.nn.Module,
        watch: Watch,
        chosen: Chosen | None = None,
    ) -> None:
        super().__init__()
        self._inner = [network]  # not registered: its device and its mode are its own
        self._chosen = chosen
        self._run: Callable[[torch.Tensor], Any] = chosen or network.__call__
        self._watch = watch
        self._looked_at = 0
        self._expected: int | None = None
        self.eval()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the network has
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_inner"][0], name)

    def expect_windows(self, inferer: object, image_cijk: torch.Tensor, images: int = 1) -> None:
        """Learn how many windows there will be; other inferers do not say."""
        self._looked_at = 0
        self._expected = None
        if isinstance(inferer, SlidingWindowInferer):
            roi = inferer.roi_size
            if isinstance(inferer, SliceInferer) and isinstance(roi, Sequence) and len(roi) == 2:
                roi = [*roi[: inferer.spatial_dim], 1, *roi[inferer.spatial_dim :]]
            windows = _windows(tuple(image_cijk.shape[1:]), roi, inferer.overlap)
            self._expected = windows * images

    def at_once(self, shape: tuple[int, ...]) -> int:
        """Return how many windows of a shape (channels, ...) the network is best given together."""
        return self._chosen.at_once(shape) if self._chosen is not None else 1

    def forward(self, windows_bcijk: torch.Tensor, *_: object, **__: object) -> Any:  # noqa: ANN401
        """Return what the network says, after a look at whether it is still wanted."""
        self._watch.look()
        self._watch.wait()
        begun, before = time.perf_counter(), self._choosing_s()
        answer = self._run(windows_bcijk)
        self._watch.wait()
        choosing_s = self._choosing_s() - before
        self._watch.add(time.perf_counter() - begun - choosing_s, choosing_s)
        self._looked_at += len(windows_bcijk)
        if self._expected is not None:
            self._watch.tell(self._looked_at / self._expected)
        # deep supervision: several sizes, the full one first
        return answer[0] if isinstance(answer, list | tuple) else answer

    def _choosing_s(self) -> float:
        return self._chosen.choosing_s if self._chosen is not None else 0.0


def _windows(
    size: tuple[int, ...], roi: Sequence[int] | int, overlap: Sequence[float] | float
) -> int:
    """Return how many windows MONAI's sliding window lays over an image of that size."""
    rois = (roi,) * len(size) if isinstance(roi, int) else tuple(roi)
    overlaps = (overlap,) * len(size) if isinstance(overlap, int | float) else tuple(overlap)
    count = 1
    for length, window, share in zip(size, rois, overlaps, strict=True):
        width = window if 0 < window < length else length  # not positive: the whole axis
        step = max(int(width * (1 - share)), 1)
        count *= math.ceil((length - width) / step) + 1
    return count
