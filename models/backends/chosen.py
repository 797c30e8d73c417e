"""A network that finds its back-end with the first window, and remembers it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from models.backends.choosing import Choice, build, choose, in_its_way, timed
from models.backends.ways import Backend, PlainTorch, side_by_side

_WORTH_S = 0.05  # a window that takes less is not worth the test
_MOST_VOXELS = 5_000_000  # of a window that is run in every way; of a larger one a piece is
_PIECE, _STEP = 160, 32  # its longest edge; what networks that halve five times can divide


class Chosen:
    """A network that finds its back-end with the first windows that it is given.

    Who has several windows asks :meth:`at_once` how many to give: some back-ends are quicker with
    more than one, and are tried where the first call brings more than one.

    Of a window too large to be run several times over, a piece from its middle is; back-ends learn
    the network from a piece of half that size, so that agreement shows that the size is all one to
    them. A network that takes no pieces is run plainly.

    Parameters
    ----------
    network : Module
        On `device`, ready to predict.
    device : device
        A CPU or a GPU.
    key : str
        What stands for the weights and the configuration: a bundle's hash.
    overlapping : bool
        Whether each channel has a threshold of its own; else the largest channel wins.
    folder : Path or None
        Where choices are kept for the next process; None: nowhere.

    Attributes
    ----------
    choice : Choice or None
        The last that was made or found; None before that, and where it is not worth one.
    choosing_s : float
        Seconds that choosing took, in all.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device,
        *,
        key: str,
        overlapping: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._network, self._device = network, device
        self._key, self._overlapping, self._folder = key, overlapping, folder
        self._backends: dict[tuple[int, ...], Backend] = {}
        self.choice: Choice | None = None
        self.choosing_s = 0.0

    def __call__(self, windows_bcxyz: torch.Tensor) -> Any:  # noqa: ANN401 - what the network says
        """Return what the network says of windows, shape (n, channels, ...)."""
        backend = self._backends.get(tuple(windows_bcxyz.shape[1:]))
        if backend is not None:
            return backend(windows_bcxyz)
        if windows_bcxyz[:, 0].numel() > _MOST_VOXELS:
            return self._by_a_piece(windows_bcxyz)
        return self._by_the_whole(windows_bcxyz)

    def at_once(self, shape: tuple[int, ...]) -> int:
        """Return how many windows of a shape (channels, ...) it is best given together."""
        backend = self._backends.get(shape)
        if backend is not None:
            return backend.at_once
        large = math.prod(shape[1:]) * side_by_side() > _MOST_VOXELS
        return 1 if large or self._device.type != "cpu" else side_by_side()

    def _by_the_whole(self, windows: torch.Tensor) -> Any:  # noqa: ANN401 - as above
        shape, name = tuple(windows.shape[1:]), self._name(windows)
        begun = time.perf_counter()
        known = self._known(name)
        found = build(known.backend, self._network, self._device, windows) if known else None
        if known is not None and found is not None:
            self._keep(shape, name, found, known)
            self.choosing_s += time.perf_counter() - begun
            return in_its_way(found, windows)
        answer, seconds = timed(self._network, windows, self._device)
        if not _is_map(answer, windows):
            self._backends[shape] = PlainTorch(self._network)
        elif seconds >= _WORTH_S:
            begun = time.perf_counter()
            chosen, self.choice = choose(
                self._network,
                self._device,
                windows,
                (answer, seconds),
                overlapping=self._overlapping,
            )
            self.choosing_s += time.perf_counter() - begun
            if self.choice.settled:
                self._keep(shape, name, chosen, self.choice)
                self.choosing_s += seconds  # what was said is said anew, as the next time
                _write(self._folder, name, self.choice)
                return in_its_way(chosen, windows)
        return answer

    def _by_a_piece(self, windows: torch.Tensor) -> Any:  # noqa: ANN401 - as above
        begun = time.perf_counter()
        piece = _middle(windows[:1], _PIECE)
        example = _middle(piece, _PIECE // 2)
        name = self._name(piece)
        known = self._known(name)
        if known is not None:
            found = build(known.backend, self._network, self._device, piece, example)
        else:
            found, known = self._judged(piece, example, windows.numel() / piece.numel())
            if known is not None and known.settled:
                _write(self._folder, name, known)
        plain = PlainTorch(self._network)
        if known is not None and known.settled:
            self._keep(tuple(windows.shape[1:]), name, found or plain, known)
        self.choosing_s += time.perf_counter() - begun
        return (found or plain)(windows)

    def _judged(
        self, piece: torch.Tensor, example: torch.Tensor, times_as_large: float
    ) -> tuple[Backend | None, Choice | None]:
        """Return the back-end for a piece; None for a network that takes no pieces."""
        try:
            answer, seconds = timed(self._network, piece, self._device)
        except (RuntimeError, TypeError, ValueError):
            return None, Choice(PlainTorch.name, ("the network takes no pieces",), settled=True)
        if not _is_map(answer, piece) or seconds < _WORTH_S:
            return None, None
        chosen, self.choice = choose(
            self._network,
            self._device,
            piece,
            (answer, seconds),
            overlapping=self._overlapping,
            example=example,
            times_as_large=times_as_large,
        )
        return chosen, self.choice

    def _known(self, name: str) -> Choice | None:
        return _KNOWN.get(name) or _read(self._folder, name)

    def _keep(self, shape: tuple[int, ...], name: str, backend: Backend, choice: Choice) -> None:
        self._backends[shape] = backend
        self.choice = _KNOWN[name] = choice

    def _name(self, windows: torch.Tensor) -> str:
        """Return what a choice holds for: weights, window, device, threads and versions."""
        device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        parts = [self._key, str(tuple(windows.shape[1:])), device, str(torch.get_num_threads())]
        parts += ["several"] * (len(windows) > 1)
        parts += [torch.backends.cpu.get_cpu_capability(), *map(_version, ("torch", "openvino"))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


_KNOWN: dict[str, Choice] = {}  # of this process: a bundle may be loaded anew


def _middle(windows: torch.Tensor, edge: int) -> torch.Tensor:
    """Return the middle of windows, along each axis at most `edge` voxels, and a round number."""
    for axis in range(2, windows.dim()):
        length = windows.shape[axis]
        wanted = min(length, edge)
        wanted -= wanted % _STEP if wanted > _STEP else 0
        windows = windows.narrow(axis, (length - wanted) // 2, wanted)
    return windows.contiguous()


def _is_map(answer: object, windows: torch.Tensor) -> bool:
    return isinstance(answer, torch.Tensor) and answer.shape[2:] == windows.shape[2:]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _read(folder: Path | None, name: str) -> Choice | None:
    """Return the choice that another process wrote; None when there is none that can be read."""
    if folder is None:
        return None
    try:
        content = json.loads((folder / f"{name}.json").read_text("utf-8"))
        return Choice(str(content["backend"]), tuple(map(str, content["reasons"])), settled=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path | None, name: str, choice: Choice) -> None:
    """Keep a choice, whole or not at all; where the folder takes none, the next one measures."""
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            json.dump(asdict(choice), file)
        os.replace(file.name, folder / f"{name}.json")  # noqa: PTH105 - the atomic one
