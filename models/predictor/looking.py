"""The network at work: what a bundle's preprocessing gave, in; what its network says, out.

What can be stitched by :mod:`models.sliding` is, in the way that :mod:`models.backends` found to be
the fastest; everything else is left to the inferer that the bundle names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers.inferer import SimpleInferer, SlidingWindowInferer

from dicom.errors import UnsuitableSeries
from models.backends import Choice, Chosen
from models.building import Data, Parts
from models.bundle import Bundle
from models.confidence import Tally
from models.networks.onnx import OnnxNetwork
from models.running import Watch, Watched
from models.sliding import NotOneMap, Skip, Sliding, slide
from models.stitching import is_finite
from models.tasks import Detection, Segmentation
from models.tensors import plain


class Looking:
    """A bundle's network on its device.

    Parameters
    ----------
    bundle : Bundle
    parts : Parts
        What the bundle's configuration makes.
    device : device
        Where the network is.
    choices : Path or None
        As for :class:`models.predictor.Predictor`.
    """

    def __init__(
        self, bundle: Bundle, parts: Parts, device: torch.device, choices: Path | None
    ) -> None:
        self._bundle = bundle
        self._parts = parts
        self._device = device
        self._network = self._chosen(choices)

    @property
    def choice(self) -> Choice | None:
        """How the network is run, and why; None where there is nothing to choose, or not yet."""
        return self._network.choice if self._network is not None else None

    def image_of(self, data: Data) -> torch.Tensor:
        """Return what the network is given: channel first, the spatial axes after it."""
        spatial = 3 if self._bundle.dimensions == "3d" else 2
        missing = [key for key in self._bundle.network_keys if key not in data]
        if missing:
            raise self._bundle.fault(f"preprocessing leaves no {', '.join(missing)}")
        given = [data[key] for key in self._bundle.network_keys]
        for image in given:
            if image.ndim != spatial + 1:
                axes = "three" if spatial == 3 else "two"
                raise self._bundle.fault(
                    f"preprocessing gives {image.ndim} axes, not channel and {axes}"
                )
        return given[0] if len(given) == 1 else torch.cat(given)

    def _chosen(self, folder: Path | None) -> Chosen | None:
        """Return the network run in the fastest way that says the same, for what can be judged."""
        task, network = self._bundle.task, self._parts.network
        if not isinstance(task, Segmentation) or isinstance(network, OnnxNetwork):
            return None
        return Chosen(
            network,
            self._device,
            key=self._bundle.sha256,
            overlapping=task.overlapping,
            folder=folder,
        )

    def look(self, images: Sequence[torch.Tensor], watch: Watch) -> tuple[list[Any], bool]:
        """Return what the network says of each image, and whether as a map of the largest."""
        network = Watched(self._parts.network, watch, self._network)
        if self._parts.detector is not None:
            return [self._detections(image, network) for image in images], False
        inferer = self._parts.inferer
        if inferer is None:
            raise self._bundle.fault("inferer is missing")
        plainly = isinstance(inferer, SimpleInferer | SlidingWindowInferer)
        together = plainly and len({tuple(image.shape) for image in images}) == 1
        batches = [list(images)] if together else [[image] for image in images]
        found: list[Any] = []
        mapped = False
        for batch in batches:
            network.expect_windows(inferer, batch[0], len(batch))
            plain_ones = [plain(image) for image in batch]
            stack = torch.stack(plain_ones) if len(batch) > 1 else plain_ones[0][None]
            answer = self._slid(stack, network, watch.tally) if plainly else None
            mapped = answer is not None and self._parts.after_argmax is not None
            if answer is None:
                answer = inferer(stack.to(self._device), network)
            found += [self._one(answer, n) for n in range(len(batch))]
            if watch.tally is not None and not mapped:
                for raw in found[-len(batch) :]:
                    if isinstance(raw, torch.Tensor):
                        watch.tally.add_map(raw)
        return found, mapped

    def _slid(
        self, images_bcxyz: torch.Tensor, network: Watched, tally: Tally | None
    ) -> torch.Tensor | None:
        """Return the answer of a sliding window; None for what is left to MONAI's inferer."""
        inferer = self._parts.inferer
        sliding = Sliding.of(inferer, images_bcxyz.dim() - 2)
        if sliding is None or not isinstance(self._bundle.task, Segmentation):
            return None

        def said(windows: torch.Tensor) -> Any:  # noqa: ANN401 - what the network says
            answer = network(windows)
            if isinstance(answer, torch.Tensor) and not is_finite(answer):
                raise UnsuitableSeries("the network answers with values that are no numbers")
            return answer

        stitched_at = torch.device(getattr(inferer, "device", None) or self._device)
        looked_at = torch.device(getattr(inferer, "sw_device", None) or self._device)
        argmax = self._parts.after_argmax is not None
        try:
            return slide(
                images_bcxyz.to(stitched_at),
                said,
                sliding,
                finish="argmax" if argmax else "logits",
                skip=_skip(self._bundle.task),
                to=looked_at,
                tally=tally,
                at_once=network.at_once,
            )
        except NotOneMap:
            return None

    def _one(self, answer: Any, n: int) -> Any:  # noqa: ANN401 - a tensor, or several by name
        """Return the nth of a batch's answers."""
        if isinstance(answer, Mapping):
            if isinstance(self._bundle.task, Detection):
                return answer
            return {name: self._one(part, n) for name, part in answer.items()}
        if isinstance(answer, list | tuple):
            return answer[n] if isinstance(answer[n], Mapping) else self._one(answer[0], n)
        if not is_finite(answer):
            raise UnsuitableSeries("the network answers with values that are no numbers")
        return answer[n]

    def _detections(self, image: torch.Tensor, network: Watched) -> Any:  # noqa: ANN401
        """Return the boxes that a detector finds; a large image window by window."""
        detector: Any = self._parts.detector
        detector.network = network
        window = getattr(detector.inferer, "roi_size", None)
        by_windows = window is not None and int(np.prod(image.shape[1:])) >= int(np.prod(window))
        return detector([plain(image).to(self._device)], use_inferer=by_windows)[0]


def _skip(task: Segmentation) -> Skip | None:
    """Return what says of a window that it is background; None where every one is looked at."""
    level = task.background
    return None if level is None else lambda window: float(window.amax()) <= level
