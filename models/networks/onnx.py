"""An ONNX file as a network of torch: run by onnxruntime, or by OpenVINO where only that is here.

Neither package is needed by radloop itself; one of them is imported when such a bundle is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from dicom.errors import InvalidBundle, MissingPackage
from models.vino import silent_openvino

Run: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class OnnxNetwork(torch.nn.Module):
    """A network from an ONNX file, with one input and its first output.

    Parameters
    ----------
    path : Path
        The file.
    device : torch.device
        Where it runs: a CUDA device where onnxruntime has its provider, else the processor.
    threads : int
        Of the processor.

    Attributes
    ----------
    runtime : str
        ``onnxruntime`` or ``openvino``.

    Raises
    ------
    MissingPackage
        When neither package is installed.
    InvalidBundle
        When the file cannot be read, or has not one input.
    """

    def __init__(self, path: Path, device: torch.device, *, threads: int | None = None) -> None:
        super().__init__()
        count = threads or torch.get_num_threads()
        self.runtime, self._run = _with_onnxruntime(path, device, count) or _with_openvino(
            path, count
        )
        self._device = device

    def forward(self, image_bcijk: torch.Tensor) -> torch.Tensor:
        """Return what the network says, where the image lies."""
        given = np.ascontiguousarray(image_bcijk.detach().float().cpu().numpy())
        return torch.from_numpy(self._run(given)).to(image_bcijk.device)


def _with_onnxruntime(path: Path, device: torch.device, threads: int) -> tuple[str, Run] | None:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    state = onnxruntime.capi.onnxruntime_pybind11_state
    unreadable = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except (*unreadable, state.InvalidArgument, state.RuntimeException) as error:
        raise InvalidBundle(f"{path.name} cannot be read: {type(error).__name__}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise InvalidBundle(f"{path.name} has {len(inputs)} inputs, not 1")
    name, output = inputs[0].name, session.get_outputs()[0].name

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run([output], {name: image})[0], dtype=np.float32)

    return "onnxruntime", run


def _with_openvino(path: Path, threads: int) -> tuple[str, Run]:
    try:
        openvino = silent_openvino()
    except ImportError:
        raise MissingPackage(
            "ONNX models need an extra: pip install 'radloop[onnx]' or 'radloop[openvino]'"
        ) from None
    try:
        model = openvino.Core().read_model(path)
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise InvalidBundle(f"{path.name} cannot be read: {type(error).__name__}") from error
    if len(compiled.inputs) != 1:
        raise InvalidBundle(f"{path.name} has {len(compiled.inputs)} inputs, not 1")

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(compiled(image)[0], dtype=np.float32)  # a copy: it reuses its memory

    return "openvino", run
