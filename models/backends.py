"""How a network is run: plainly, with fewer bits, or by OpenVINO; chosen by measuring.

A processor that multiplies bfloat16 in hardware is five to eight times as fast with it as torch is
with float32, another is twice as fast with OpenVINO, and some networks answer differently with
fewer bits. So nothing is assumed: the first window that is slow enough to matter is run in each way
there is, and the fastest one that says the same as plain float32 is kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import torch

from models.memory import is_memory_error

DICE = 0.999
"""What the answer of another back-end must reach against plain torch, for each class."""

_LARGEST_PART = 0.05  # of the range of the logits, that one of them may differ by
_FEWEST_VOXELS = 2000  # of a class, for one voxel less not to decide
_WORTH_S = 0.05  # a window that takes less is not worth the test
# A window of more voxels is not run in other ways: what plain torch just managed might, twice as
# large in another back-end, cost the whole prediction.
_MOST_VOXELS = 5_000_000


class Backend(Protocol):
    """A network that can be called.

    `name` says how it is run.
    """

    name: str

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits, float32, for windows of shape (n, channels, ...), on their device."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """The back-end that was chosen, and why: what each took, and why others were not taken.

    Attributes
    ----------
    backend : str
        Its name: 'torch', 'torch bfloat16', 'torch float16', 'openvino'.
    reasons : tuple of str
        One for each that was tried, in plain words.
    settled : bool
        Whether it holds for the next image, too; False when the window showed too little.
    """

    backend: str
    reasons: tuple[str, ...]
    settled: bool


class PlainTorch:
    """The network as it is."""

    name = "torch"

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        answer: torch.Tensor = self._network(windows_bcxyz)
        return answer


class ShortTorch:
    """The network under autocast: convolutions and products in 16 bits, sums in 32."""

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self._kind = torch.float16 if device.type == "cuda" else torch.bfloat16
        self._device = device.type
        self.name = f"torch {str(self._kind).removeprefix('torch.')}"
        self._network = network

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        # With the channels of a voxel side by side, processors and GPUs use their wide units.
        beside = torch.channels_last_3d if windows_bcxyz.dim() == 5 else torch.channels_last
        with torch.autocast(self._device, self._kind):
            answer: torch.Tensor = self._network(windows_bcxyz.contiguous(memory_format=beside))
        return answer.float()


class OpenVino:
    """The network compiled by OpenVINO for this processor, in float32.

    Parameters
    ----------
    network : Module
        On the CPU. It is traced with `example`, and serves windows of that size, in any number.
    example : Tensor
        Windows, shape (n, channels, ...).

    Raises
    ------
    ImportError
        When the package is not installed.
    RuntimeError
        When OpenVINO cannot take the network.
    """

    name = "openvino"

    def __init__(self, network: torch.nn.Module, example: torch.Tensor) -> None:
        import openvino

        self._sizes = tuple(example.shape[1:])
        shape = openvino.PartialShape([-1, *self._sizes])
        with torch.inference_mode(False), torch.no_grad():
            traced = copy.deepcopy(network)  # inference tensors cannot be traced
            model = openvino.convert_model(
                traced, example_input=torch.zeros(example.shape), input=[shape]
            )
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._plain = PlainTorch(network)

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        if tuple(windows_bcxyz.shape[1:]) != self._sizes:
            return self._plain(windows_bcxyz)  # another image, smaller than a window
        found = self._request.infer([windows_bcxyz.contiguous().numpy()], share_inputs=True)[0]
        return torch.from_numpy(found)


class Chosen:
    """A network that finds its back-end with the first window that it is given.

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

    def __call__(self, windows_bcxyz: torch.Tensor) -> Any:  # noqa: ANN401 - what the network says
        """Return what the network says of windows, shape (n, channels, ...)."""
        shape = tuple(windows_bcxyz.shape[1:])
        backend = self._backends.get(shape)
        if backend is not None:
            return backend(windows_bcxyz)
        name = self._name(windows_bcxyz)
        known = _KNOWN.get(name) or _read(self._folder, name)
        if known is not None:
            found = _built(known.backend, self._network, self._device, windows_bcxyz)
            if found is not None:
                self._keep(shape, name, found, known)
                return found(windows_bcxyz)
        answer, seconds = _timed(self._network, windows_bcxyz, self._device)
        if not isinstance(answer, torch.Tensor) or answer.shape[2:] != windows_bcxyz.shape[2:]:
            self._backends[shape] = PlainTorch(self._network)  # it is no map of the window
        elif seconds >= _WORTH_S:
            chosen, choice = choose(
                self._network,
                self._device,
                windows_bcxyz,
                (answer, seconds),
                overlapping=self._overlapping,
            )
            self.choice = choice
            if choice.settled:
                self._keep(shape, name, chosen, choice)
                _write(self._folder, name, choice)
                return chosen(windows_bcxyz)  # as it will be the next time
        return answer

    def _keep(self, shape: tuple[int, ...], name: str, backend: Backend, choice: Choice) -> None:
        self._backends[shape] = backend
        self.choice = _KNOWN[name] = choice

    def _name(self, windows: torch.Tensor) -> str:
        """Return what a choice holds for: weights, window, device, threads and versions."""
        device = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        parts = [self._key, str(tuple(windows.shape[1:])), device, str(torch.get_num_threads())]
        parts += [torch.backends.cpu.get_cpu_capability(), *map(_version, ("torch", "openvino"))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


_KNOWN: dict[str, Choice] = {}  # of this process: a bundle may be loaded anew


def choose(
    network: torch.nn.Module,
    device: torch.device,
    windows: torch.Tensor,
    plain: tuple[torch.Tensor, float],
    *,
    overlapping: bool = False,
    ways: Sequence[str] | None = None,
) -> tuple[Backend, Choice]:
    """Return the fastest back-end that agrees with plain torch on these windows.

    Parameters
    ----------
    windows : Tensor, shape (n, channels, ...)
        Of a real image.
    plain : tuple of Tensor and float
        What plain torch says of them, and the seconds that it took.
    overlapping : bool
        As for :class:`Chosen`.
    ways : sequence of str or None
        Names of back-ends to try; None: all that are for the device.
    """
    reference, seconds = plain
    best: Backend = PlainTorch(network)
    best_s = seconds
    reasons = [f"torch: {seconds:.3f} s"]
    if windows.numel() // windows.shape[1] > _MOST_VOXELS:
        reasons.append("the window is too large to be run in several ways")
        return best, Choice(best.name, tuple(reasons), settled=True)
    if not _shows_enough(reference, overlapping):
        reasons.append("the window shows too little of any class to judge others by")
        return best, Choice(best.name, tuple(reasons), settled=False)
    for name, make in _candidates(network, device, windows):
        if ways is not None and name not in ways:
            continue
        if name == OpenVino.name and best.name != PlainTorch.name and best_s * 3 < seconds:
            reasons.append("openvino: not tried, float32 in it would be slower")
            continue
        try:
            backend = make()
            backend(windows)  # the first run prepares
            answer, took = _timed(backend, windows, device)
        except (RuntimeError, ImportError, TypeError, ValueError) as error:
            if is_memory_error(error) and device.type == "cuda":
                torch.cuda.empty_cache()
            reasons.append(f"{name}: cannot run it ({type(error).__name__})")
            continue
        apart = disagreement(answer, reference, overlapping=overlapping)
        reasons.append(f"{name}: {took:.3f} s" + (f", but {apart}" if apart else ""))
        if apart is None and took < best_s:
            best, best_s = backend, took
    return best, Choice(best.name, tuple(reasons), settled=True)


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


def _shows_enough(reference: torch.Tensor, overlapping: bool) -> bool:
    """Return whether at least two classes, or an inside and an outside, can be judged."""
    one = overlapping or reference.shape[1] == 1
    return sum(1 for _ in _masks(reference, reference, overlapping)) >= (1 if one else 2)


def _dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def _candidates(
    network: torch.nn.Module, device: torch.device, windows: torch.Tensor
) -> Iterator[tuple[str, Callable[[], Backend]]]:
    """Give the ways other than plain torch, with what makes them; the cheapest to try first."""
    if isinstance(network, torch.jit.ScriptModule):
        return  # it was frozen as it is
    short = ShortTorch(network, device)
    if device.type == "cuda" or _multiplies_bfloat16():
        yield short.name, lambda: short
    if device.type == "cpu":
        yield OpenVino.name, lambda: OpenVino(network, windows)


def _multiplies_bfloat16() -> bool:
    """Return whether the processor does; where it does not, bfloat16 is slower by far."""
    capabilities: Any = torch.backends.cpu.get_cpu_capability()
    with suppress(OSError):
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text("ascii", "ignore")
    return "BF16" in str(capabilities)


def _built(
    name: str, network: torch.nn.Module, device: torch.device, windows: torch.Tensor
) -> Backend | None:
    """Return the back-end of that name; None when it cannot be made here, any more."""
    if name == PlainTorch.name:
        return PlainTorch(network)
    for each, make in _candidates(network, device, windows):
        if each == name:
            with suppress(RuntimeError, ImportError, TypeError, ValueError):
                return make()
    return None


def _timed(
    network: Callable[[torch.Tensor], Any], windows: torch.Tensor, device: torch.device
) -> tuple[Any, float]:
    cuda = device.type == "cuda"
    with torch.cuda.device(device) if cuda else nullcontext():
        if cuda:
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        answer = network(windows)
        if cuda:
            torch.cuda.synchronize(device)
        return answer, time.perf_counter() - begun


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
