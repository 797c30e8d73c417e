"""The fastest of the ways that agree with plain torch, found by running each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from models.backends.agreement import disagreement, shows_enough
from models.backends.ways import (
    Backend,
    LeanTorch,
    OpenVino,
    PlainTorch,
    ShortTorch,
    SideBySide,
    multiplies_bfloat16,
    side_by_side,
)
from models.memory import free_bytes, held_bytes, is_memory_error

_CANNOT = (RuntimeError, ImportError, TypeError, ValueError)
_SHORT_OF_THREE = 3  # times as fast as plain torch: no float32 on a CPU is
_PART_OF_FREE = 0.5  # of the memory, that another way may take for a large window


@dataclass(frozen=True, slots=True)
class Choice:
    """The back-end that was chosen, and why: what each took, and why others were not taken.

    Attributes
    ----------
    backend : str
        Its name: 'torch', 'torch bfloat16, lean', 'torch bfloat16', 'torch float16', 'openvino',
        'openvino, side by side'.
    reasons : tuple of str
        One for each that was tried, in plain words.
    settled : bool
        Whether it holds for the next image, too; False when the window showed too little.
    """

    backend: str
    reasons: tuple[str, ...]
    settled: bool


def choose(
    network: torch.nn.Module,
    device: torch.device,
    windows: torch.Tensor,
    plain: tuple[torch.Tensor, float],
    *,
    overlapping: bool = False,
    ways: Sequence[str] | None = None,
    example: torch.Tensor | None = None,
    times_as_large: float = 1.0,
) -> tuple[Backend, Choice]:
    """Return the fastest back-end that agrees with plain torch on these windows.

    Parameters
    ----------
    windows : Tensor, shape (n, channels, ...)
        Of a real image; several, where it has several: ways that are best given more than one at
        once are for these alone. Seconds that decide are those of all.
    plain : tuple of Tensor and float
        What plain torch says of them, and the seconds that it took.
    overlapping : bool
        As for :class:`models.backends.Chosen`.
    ways : sequence of str or None
        Names of back-ends to try; None: all that are for the device.
    example : Tensor or None
        Windows of another size, for back-ends that have to serve every size: where they learn the
        network from these, that they agree on `windows` says that they learnt it for any.
    times_as_large : float
        How much larger than these windows is what the back-end is for; one that would take more
        than half of the free memory for it is not taken.
    """
    reference, seconds = plain
    best: Backend = PlainTorch(network)
    best_s = seconds
    reasons = [f"torch: {seconds:.3f} s"]
    if not shows_enough(reference, overlapping):
        reasons.append("the window shows too little of any class to judge others by")
        return best, Choice(best.name, tuple(reasons), settled=False)
    for name, make in _candidates(network, device, windows, example):
        if ways is not None and name not in ways:
            continue
        if name == ShortTorch.cpu_name and best.name == LeanTorch.name:
            continue  # the same bits with more work
        if name.startswith(OpenVino.name) and best_s * _SHORT_OF_THREE < seconds:
            reasons.append(f"{name}: not tried, float32 in it would be slower")
            continue
        before = held_bytes()
        try:
            backend = make()
            run = partial(in_its_way, backend)
            run(windows)  # the first run prepares
            answer, took = timed(run, windows, device)
        except _CANNOT as error:
            if is_memory_error(error) and device.type == "cuda":
                torch.cuda.empty_cache()
            reasons.append(f"{name}: cannot run it ({type(error).__name__})")
            continue
        but = disagreement(answer, reference, overlapping=overlapping)
        if but is None and times_as_large > 1:
            but = _lack(times_as_large * (held_bytes() - before))
        reasons.append(f"{name}: {took:.3f} s" + (f", but {but}" if but else ""))
        if but is None and took < best_s:
            best, best_s = backend, took
    if best.name != PlainTorch.name and best_s * 2 > seconds:  # it was the first to run, and cold
        _, seconds = timed(network, windows, device)
        reasons.append(f"torch again: {seconds:.3f} s")
        best = best if best_s < seconds else PlainTorch(network)
    return best, Choice(best.name, tuple(reasons), settled=True)


def build(
    name: str,
    network: torch.nn.Module,
    device: torch.device,
    windows: torch.Tensor,
    example: torch.Tensor | None = None,
) -> Backend | None:
    """Return the back-end of that name; None when it cannot be made here, any more."""
    if name == PlainTorch.name:
        return PlainTorch(network)
    for each, make in _candidates(network, device, windows, example):
        if each == name:
            with suppress(*_CANNOT):
                return make()
    return None


def in_its_way(backend: Backend, windows: torch.Tensor) -> torch.Tensor:
    """Return what a back-end says of windows, given as many at once as it is best given."""
    if len(windows) <= backend.at_once:
        return backend(windows)
    parts = range(0, len(windows), backend.at_once)
    return torch.cat([backend(windows[n : n + backend.at_once]) for n in parts])


def timed(
    network: Callable[[torch.Tensor], Any], windows: torch.Tensor, device: torch.device
) -> tuple[Any, float]:
    """Return what a network says, and the seconds until its device has said it."""
    cuda = device.type == "cuda"
    with torch.cuda.device(device) if cuda else nullcontext():
        if cuda:
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        answer = network(windows)
        if cuda:
            torch.cuda.synchronize(device)
        return answer, time.perf_counter() - begun


def _candidates(
    network: torch.nn.Module,
    device: torch.device,
    windows: torch.Tensor,
    example: torch.Tensor | None,
) -> Iterator[tuple[str, Callable[[], Backend]]]:
    """Give the ways other than plain torch, with what makes them; the cheapest to try first."""
    if isinstance(network, torch.jit.ScriptModule):
        return  # it was frozen as it is
    short = ShortTorch(network, device)
    if device.type == "cuda":
        yield short.name, lambda: short
    if device.type == "cpu" and multiplies_bfloat16():
        yield LeanTorch.name, lambda: LeanTorch(network)
        yield short.name, lambda: short
    if device.type == "cpu":
        any_size = example is not None
        shown = windows if example is None else example
        yield OpenVino.name, lambda: OpenVino(network, shown, any_size=any_size)
        if len(windows) > 1 and side_by_side() > 1 and not any_size:
            yield SideBySide.name, lambda: SideBySide(network, shown)


def _lack(needed: float) -> str | None:
    """Return why so many bytes are too many; None when they are not."""
    free = free_bytes()
    if free is None or needed <= free * _PART_OF_FREE:
        return None
    return f"it would take {needed / 1e9:.1f} GB of the {free / 1e9:.1f} GB that are free"
