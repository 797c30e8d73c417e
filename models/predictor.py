"""A bundle at work: voxels in, labels on the same grid out.

Axes in names: ``b`` batch, ``c`` channel, ``k`` slice, ``j`` row, ``i`` column. A volume comes with
its axes as (k, j, i) and an affine to LPS. A bundle's transforms are written for what MONAI's
``LoadImage`` gives: axes as (i, j, k), x first, and an affine to RAS. Here is the one place where
the two are turned into each other; windows, flips and orientations of a bundle then mean what its
author saw in training.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SliceInferer, SlidingWindowInferer
from monai.transforms.spatial.array import SpatialResample
from numpy.typing import NDArray

from dicom import errors
from dicom.errors import InvalidBundle, MissingDevice, OutOfMemory, UnsuitableSeries
from models.allowed import Json, allowed_configuration, find_class
from models.bundle import INFERENCE, Bundle
from models.prediction import Canceled, Labels, Prediction, Progress, check_volume

Transform = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
Network = Callable[[torch.Tensor], torch.Tensor]
Inferer = Callable[[torch.Tensor, Network], torch.Tensor]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Predictor:
    """One bundle, loaded on one device, ready for volumes.

    Parameters
    ----------
    bundle : Bundle
        From :func:`models.bundle.read_bundle` or a registry.
    device : str
        'auto' (the first GPU when there is one), 'cpu', 'cuda:0' ...
    threads : int or None
        CPU threads of torch, for the whole process; None leaves them as they are.

    Raises
    ------
    InvalidBundle
        When MONAI cannot build what the configuration says, or the weights do not fit.
    MissingDevice
        When the device is not there.
    OutOfMemory
        When the model does not fit into memory.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.bundle = bundle
        self.device = _device(device)
        with _memory_errors():
            parser = _parser(bundle, self.device)
            self._preprocess = cast(Transform, _part(parser, "preprocessing"))
            self._postprocess = cast(Transform, _part(parser, "postprocessing"))
            self._inferer = cast(Inferer, _part(parser, "inferer"))
            self._network = _network(bundle, parser, self.device)

    def predict(
        self,
        voxels_kji: NDArray[np.generic],
        affine_lps: NDArray[np.float64],
        *,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> Prediction:
        """Return the labels of one volume.

        Parameters
        ----------
        voxels_kji : ndarray, shape (slices, rows, columns)
            Image in the modality's unit (HU for CT).
        affine_lps : ndarray, float64, shape (4, 4)
            From index (k, j, i, 1) to LPS, mm.
        progress : callable or None
            Told the share of windows that are done, 0 to 1.
        canceled : callable or None
            Asked before each window; True ends the prediction.

        Returns
        -------
        Prediction
            `labels_kji` has the shape of `voxels_kji`.

        Raises
        ------
        UnsuitableSeries, NoGeometry
            When the volume is empty, not finite, or has no usable affine, or when the network
            answers it with values that are not finite.
        Canceled
            When `canceled` said so.
        OutOfMemory
            When memory, of the device or the machine, does not suffice.
        InvalidBundle
            When the bundle's transforms do not lead back to one label map on the given grid.
        """
        affine_lps = np.asarray(affine_lps, dtype=np.float64)
        check_volume(voxels_kji, affine_lps)
        begun = time.perf_counter()
        name, out_name = self.bundle.input_name, self.bundle.output_name
        with torch.inference_mode(), _memory_errors():
            source_ijk = _as_loaded(voxels_kji, affine_lps)
            data = self._preprocess({name: source_ijk})
            image_cijk = data[name]
            if image_cijk.ndim != 4:
                raise _wrong(
                    "preprocessing", f"gives {image_cijk.ndim} axes, not channel and three"
                )
            run = _Run(self._network, self.device, progress, canceled)
            run.expect_windows(self._inferer, image_cijk)
            logits_bcijk = self._inferer(_plain(image_cijk)[None].to(self.device), run)
            if logits_bcijk.shape[2:] != image_cijk.shape[1:]:
                raise _wrong("network_def", "gives another grid than it is given")
            if not bool(torch.isfinite(logits_bcijk).all()):
                raise UnsuitableSeries("the network answers with values that are no numbers")
            data[out_name] = _with_meta(logits_bcijk[0], image_cijk)
            answer_cijk = self._postprocess(data)[out_name]
            labels_ijk = self._labels(_on_source_grid(answer_cijk, source_ijk))
        if progress is not None:
            progress(1.0)
        return Prediction(
            answer=Labels(np.ascontiguousarray(labels_ijk.transpose(2, 1, 0))),
            forward_s=run.forward_s,
            total_s=time.perf_counter() - begun,
            device=str(self.device),
            bundle_sha256=self.bundle.sha256,
        )

    def _labels(self, answer_cijk: torch.Tensor) -> NDArray[np.uint8]:
        """Return segment numbers from one channel of indices, or from a channel per segment."""
        numbers = self.bundle.channel_numbers
        if answer_cijk.shape[0] == 1 and 0 in numbers and len(numbers) > 1:
            index_ijk = _whole_numbers(answer_cijk[0], len(numbers))
            return np.array(numbers, dtype=np.uint8)[index_ijk]
        if answer_cijk.shape[0] != len(numbers):
            raise _wrong("postprocessing", f"gives {answer_cijk.shape[0]} channels")
        index_ijk = answer_cijk.argmax(dim=0).cpu().numpy()
        labels_ijk = np.array(numbers, dtype=np.uint8)[index_ijk]
        if 0 not in numbers:  # no background channel: each channel is a mask or a probability
            labels_ijk[(answer_cijk <= 0.5).all(dim=0).cpu().numpy()] = 0
        return labels_ijk


class _Run:
    """The network of one prediction: times it, tells progress, and ends it when canceled."""

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device,
        progress: Progress | None,
        canceled: Canceled | None,
    ) -> None:
        self.forward_s = 0.0
        self._network = network
        self._device = device
        self._progress = progress
        self._canceled = canceled
        self._calls = 0
        self._expected: int | None = None

    def expect_windows(self, inferer: object, image_cijk: torch.Tensor) -> None:
        """Learn how many times the network will be called; other inferers do not say."""
        if isinstance(inferer, SlidingWindowInferer):
            roi = inferer.roi_size
            if isinstance(inferer, SliceInferer) and isinstance(roi, Sequence) and len(roi) == 2:
                roi = [*roi[: inferer.spatial_dim], 1, *roi[inferer.spatial_dim :]]
            windows = _windows(tuple(image_cijk.shape[1:]), roi, inferer.overlap)
            self._expected = math.ceil(windows / inferer.sw_batch_size)

    def __call__(self, windows_bcijk: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        if self._canceled is not None and self._canceled():
            raise errors.Canceled
        self._wait()
        begun = time.perf_counter()
        answer: torch.Tensor | Sequence[torch.Tensor] = self._network(windows_bcijk)
        self._wait()
        self.forward_s += time.perf_counter() - begun
        # deep supervision: several sizes, the full one first
        logits_bcijk = answer if isinstance(answer, torch.Tensor) else answer[0]
        self._calls += 1
        if self._progress is not None and self._expected is not None:
            self._progress(min(self._calls / self._expected, 1.0))
        return logits_bcijk

    def _wait(self) -> None:
        """Let the GPU finish, so that seconds are counted where they belong."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _device(wish: str) -> torch.device:
    if wish == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(wish)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingDevice(f"this machine has {torch.cuda.device_count()} GPUs, not {wish}")
    return device


def _parser(bundle: Bundle, device: torch.device) -> ConfigParser:
    """Return MONAI's parser over what is allowed, with classes in place of their names."""
    text = (bundle.root / INFERENCE).read_text("utf-8")
    configuration = cast(dict[str, Any], _with_classes(allowed_configuration(text)))
    configuration["device"] = device
    return ConfigParser(configuration)


def _with_classes(value: Json) -> object:
    """Return `value` with classes in place of their names: MONAI looks up no name itself."""
    if isinstance(value, list):
        return [_with_classes(item) for item in value]
    if isinstance(value, dict):
        return {
            key: find_class(str(item), value) if key == "_target_" else _with_classes(item)
            for key, item in value.items()
        }
    return value


def _part(parser: ConfigParser, section: str) -> object:
    """Return the object that a section of the configuration stands for."""
    try:
        part = parser.get_parsed_content(section)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        if _is_memory_error(error):
            raise
        raise _wrong(section, f"cannot be built: {_innermost(error)}") from error
    if not callable(part):
        raise _wrong(section, "is not something to call; it needs a _target_")
    return part


def _network(bundle: Bundle, parser: ConfigParser, device: torch.device) -> torch.nn.Module:
    """Return the network with its weights, ready to predict."""
    file = f"models/{bundle.weights.name}"
    try:
        if bundle.weights.suffix == ".ts":
            path = str(bundle.weights)
            network: object = torch.jit.load(path, device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        else:
            network = _part(parser, "network_def")
            if isinstance(network, torch.nn.Module):
                network.load_state_dict(_state(bundle))
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        if _is_memory_error(error):
            raise
        raise InvalidBundle(
            f"bundle {bundle.identity}: {file} cannot be loaded: {_innermost(error)}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise _wrong("network_def", "is not a network")
    return network.to(device).eval()


def _state(bundle: Bundle) -> dict[str, torch.Tensor]:
    """Return the state dict of model.pt: bare, or under the name that MONAI's trainers give it."""
    content: object = torch.load(bundle.weights, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        for name in ("model", "network", "state_dict"):
            if isinstance(content.get(name), dict):
                content = content[name]
                break
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no state dict")
    return cast(dict[str, torch.Tensor], content)


def _as_loaded(voxels_kji: NDArray[np.generic], affine_lps: NDArray[np.float64]) -> MetaTensor:
    """Return the volume as MONAI's LoadImage would: axes (i, j, k), float32, affine to RAS."""
    voxels_ijk = torch.from_numpy(np.ascontiguousarray(voxels_kji, dtype=np.float32)).permute(
        2, 1, 0
    )
    affine_ras = torch.from_numpy(_LPS_TO_RAS @ affine_lps[:, [2, 1, 0, 3]])
    meta = {
        "original_affine": affine_ras.clone(),
        "original_channel_dim": "no_channel",
        "spatial_shape": np.array(voxels_ijk.shape),
        "space": "RAS",
    }
    return MetaTensor(voxels_ijk, affine=affine_ras, meta=meta)


def _with_meta(logits_cijk: torch.Tensor, image_cijk: torch.Tensor) -> torch.Tensor:
    """Return the network's answer as a MetaTensor that lies where the image lies."""
    if not isinstance(image_cijk, MetaTensor):
        raise _wrong("preprocessing", "loses the image's affine; leave MetaTensor tracking on")
    return MetaTensor(_plain(logits_cijk), meta=dict(image_cijk.meta))


def _on_source_grid(answer_cijk: torch.Tensor, source_ijk: MetaTensor) -> torch.Tensor:
    """Return the answer on the source grid.

    A bundle that inverts its transforms is there already. One that left that to SaveImage's
    resampling, which was taken out, is brought there, to the nearest voxel.
    """
    if not isinstance(answer_cijk, MetaTensor) or answer_cijk.ndim != 4:
        raise _wrong("postprocessing", "gives no tensor with an affine, a channel and three axes")
    same_shape = answer_cijk.shape[1:] == source_ijk.shape
    if same_shape and torch.allclose(answer_cijk.affine, source_ijk.affine, atol=1e-3):
        return _plain(answer_cijk)
    resample = SpatialResample(mode="nearest", padding_mode="zeros")
    return _plain(
        resample(answer_cijk, dst_affine=source_ijk.affine, spatial_size=source_ijk.shape)
    )


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without metadata; no copy."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _whole_numbers(index_ijk: torch.Tensor, channels: int) -> NDArray[np.int64]:
    rounded_ijk = index_ijk.round()
    if not torch.equal(rounded_ijk, index_ijk):
        raise _wrong("postprocessing", "interpolates between labels; invert with nearest_interp")
    if rounded_ijk.min() < 0 or rounded_ijk.max() >= channels:
        raise _wrong("postprocessing", f"gives labels outside of 0 to {channels - 1}")
    return rounded_ijk.long().cpu().numpy()


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


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn each way in which torch and MONAI report lack of memory into :class:`OutOfMemory`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory_error(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory("the prediction needs more memory than is free") from error


def _is_memory_error(error: BaseException) -> bool:
    """Return whether `error`, or what it was raised from, is lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        # torch's allocator on the CPU has no class of its own
        if isinstance(cause, RuntimeError) and "DefaultCPUAllocator" in str(cause):
            return True
        cause = cause.__cause__
    return False


def _innermost(error: BaseException) -> str:
    """Return what the first error of a chain said, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _wrong(section: str, what: str) -> InvalidBundle:
    return InvalidBundle(f"{INFERENCE}: {section} {what}")
