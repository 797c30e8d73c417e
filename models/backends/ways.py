"""The ways to run a network.

Axes in names: ``b`` batch, ``c`` channel, ``xyz`` spatial axes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from models.backends.lean import lean, simplified
from models.vino import silent_openvino

_MOST_AT_ONCE: Final = 4


class Backend(Protocol):
    """A network that can be called.

    Attributes
    ----------
    name : str
        How it is run.
    at_once : int
        Windows that it is best given together.
    """

    name: str
    at_once: int

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits, float32, for windows of shape (n, channels, ...), on their device."""
        ...


class PlainTorch:
    """The network as it is."""

    name = "torch"
    at_once = 1

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        answer: torch.Tensor = self._network(windows_bcxyz)
        return answer


class ShortTorch:
    """The network under autocast: convolutions and products in 16 bits, sums in 32."""

    cpu_name = "torch bfloat16"
    at_once = 1

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self._kind = torch.float16 if device.type == "cuda" else torch.bfloat16
        self._device = device.type
        self.name = f"torch {str(self._kind).removeprefix('torch.')}"
        self._network = network

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        with torch.autocast(self._device, self._kind):
            answer: torch.Tensor = self._network(_beside(windows_bcxyz))
        return answer.float()


class LeanTorch:
    """A copy of the network whose weights and features are bfloat16 throughout; on the CPU.

    Raises
    ------
    RuntimeError, TypeError
        When the network cannot be copied, or makes float32 of its own.
    """

    name = "torch bfloat16, lean"
    at_once = 1

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = lean(network, torch.bfloat16)

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        answer: torch.Tensor = self._network(_beside(windows_bcxyz.to(torch.bfloat16)))
        return answer.float()


class OpenVino:
    """The network compiled by OpenVINO for this processor, in float32.

    Parameters
    ----------
    network : Module
        On the CPU.
    example : Tensor
        Windows, shape (n, channels, ...), that the network is traced with.
    any_size : bool
        Whether it serves windows of every size. Else it serves those of the example's, in any
        number, and others are left to torch.

    Raises
    ------
    ImportError
        When the package is not installed.
    RuntimeError
        When OpenVINO cannot take the network.
    """

    name = "openvino"
    at_once = 1

    def __init__(
        self, network: torch.nn.Module, example: torch.Tensor, *, any_size: bool = False
    ) -> None:
        openvino = silent_openvino()
        self._sizes = None if any_size else tuple(example.shape[1:])
        axes = [-1] * (example.dim() - 2) if any_size else list(example.shape[2:])
        # One window at a time: for any number of them, it takes a fifth longer for each.
        shape = openvino.PartialShape([1, example.shape[1], *axes])
        with torch.inference_mode(False), torch.no_grad():
            # a copy: inference tensors cannot be traced
            traced = simplified(network, in_blocks=not any_size)
            model = openvino.convert_model(
                traced, example_input=torch.zeros((1, *example.shape[1:])), input=[shape]
            )
        self._plain = PlainTorch(network)
        self._request = self._compiled(model).create_infer_request()

    def _compiled(self, model: Any, streams: int = 1) -> Any:  # noqa: ANN401 - OpenVINO's own
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(streams),
        }
        return silent_openvino().Core().compile_model(model, "CPU", settings)

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        if self._sizes is not None and tuple(windows_bcxyz.shape[1:]) != self._sizes:
            return self._plain(windows_bcxyz)  # another image, smaller than a window
        each = windows_bcxyz.contiguous().numpy()
        found = [
            self._request.infer([each[n : n + 1]], share_inputs=True)[0] for n in range(len(each))
        ]
        return torch.from_numpy(found[0] if len(found) == 1 else np.concatenate(found))


class SideBySide(OpenVino):
    """The same for several windows, each by some of the threads.

    What one window's threads wait for each other is not waited for; the answers are the same.
    """

    name = "openvino, side by side"

    def __init__(self, network: torch.nn.Module, example: torch.Tensor) -> None:
        self.at_once = side_by_side()
        self._requests: list[Any] = []
        super().__init__(network, example)

    def _compiled(self, model: Any, streams: int = 1) -> Any:  # noqa: ANN401 - as above
        several = super()._compiled(model, self.at_once)
        self._requests = [several.create_infer_request() for _ in range(self.at_once)]
        return super()._compiled(model, streams)  # for a last window, alone

    def __call__(self, windows_bcxyz: torch.Tensor) -> torch.Tensor:
        """Return logits; see :class:`Backend`."""
        if len(windows_bcxyz) == 1 or tuple(windows_bcxyz.shape[1:]) != self._sizes:
            return super().__call__(windows_bcxyz)
        count = len(windows_bcxyz)
        parts = [windows_bcxyz[n : n + self.at_once] for n in range(0, count, self.at_once)]
        said = [self._run(part) for part in parts]
        return torch.from_numpy(said[0] if len(said) == 1 else np.concatenate(said))

    def _run(self, windows_bcxyz: torch.Tensor) -> npt.NDArray[np.float32]:
        given = [windows_bcxyz[n : n + 1].contiguous() for n in range(len(windows_bcxyz))]
        requests = self._requests[: len(given)]
        for request, window in zip(requests, given, strict=True):  # held until all have ended
            request.start_async([window.numpy()], share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([each.get_output_tensor(0).data for each in requests])


def side_by_side() -> int:
    """Return how many windows are run beside each other: one a thread, and never many."""
    return min(torch.get_num_threads(), _MOST_AT_ONCE)


def multiplies_bfloat16() -> bool:
    """Return whether the processor does; where it does not, bfloat16 is slower by far."""
    try:
        flags = Path("/proc/cpuinfo").read_text("ascii", "ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _beside(windows_bcxyz: torch.Tensor) -> torch.Tensor:
    """Return windows with the channels of a voxel side by side, for wide units."""
    order = torch.channels_last_3d if windows_bcxyz.dim() == 5 else torch.channels_last
    return windows_bcxyz.contiguous(memory_format=order)
