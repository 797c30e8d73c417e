"""What a network's answer means: through the bundle's postprocessing, back to the source's grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor

from dicom.errors import InvalidBundle
from models import answers
from models.building import Data, Parts
from models.bundle import Bundle
from models.prediction import Answer, Boxes, Floats, Image
from models.tasks import Classification, Detection, InstanceSegmentation
from models.tensors import map_on_source_grid, on_source_grid, with_place, world_lps

_AT_HOME = "radloop_at_home"  # says of what is left that the threshold was applied
_IMAGE = "radloop_image"  # of what is left of a detection: what its boxes are places in


class Meaning:
    """A bundle's postprocessing, and what its task makes of what that leaves.

    Parameters
    ----------
    bundle : Bundle
    parts : Parts
        What the bundle's configuration makes.
    """

    def __init__(self, bundle: Bundle, parts: Parts) -> None:
        self._bundle = bundle
        self._parts = parts

    def postprocessed(
        self,
        data: Data,
        image: torch.Tensor,
        raw: Any,  # noqa: ANN401
        mapped: bool,
        source: MetaTensor,
    ) -> Data:
        """Return what the bundle's postprocessing leaves; a detection's is ours, not its."""
        task, name = self._bundle.task, self._bundle.output_name
        if isinstance(task, Detection):
            return {**data, name: raw, _IMAGE: image}
        if not isinstance(task, Classification):
            raw = self._in_place(raw, image)
        left = {**data, name: raw}
        home = self._parts.home_of_map if mapped else self._parts.home
        found = home.back(left, source, torch.get_num_threads()) if home is not None else None
        if found is not None:
            return {**found, _AT_HOME: True}
        if mapped and self._parts.after_argmax is not None:
            return self._parts.after_argmax({**left, name: raw.float()})  # as AsDiscreted gives it
        ours = isinstance(task, Classification) and task.activation != "none"
        return left if ours or self._parts.postprocess is None else self._parts.postprocess(left)

    def _in_place(self, raw: Any, image: torch.Tensor) -> Any:  # noqa: ANN401
        if isinstance(raw, Mapping):
            return {name: self._in_place(part, image) for name, part in raw.items()}
        if raw.shape[1:] != image.shape[1:]:
            raise self._bundle.fault("network_def gives another grid than it is given")
        try:
            return with_place(raw, image)
        except InvalidBundle as error:
            raise self._bundle.fault(error.message) from None

    def answer(
        self,
        left: Data,
        source: MetaTensor,
        spatial: tuple[int, ...],
        reference: Image | None = None,
        k: int = 0,
    ) -> Answer:
        """Return what the postprocessing left as an answer on the source's grid."""
        task = self._bundle.task
        try:
            if isinstance(task, Classification):
                return answers.classified(task, left[self._bundle.output_name])
            if isinstance(task, Detection):
                return self._boxes(task, left, reference, k)
            if isinstance(task, InstanceSegmentation):
                main = task.map_name or self._bundle.output_name
                kinds = task.kinds_name
                numbered = _volume(map_on_source_grid(left[main], source, spatial))
                if self._parts.threshold is not None:
                    numbered = (numbered >= self._parts.threshold).view(torch.uint8)
                return answers.instances(
                    task,
                    numbered,
                    _volume(map_on_source_grid(left[kinds], source, spatial)) if kinds else None,
                )
            answer = _volume(on_source_grid(left[self._bundle.output_name], source, spatial))
            if self._parts.threshold is not None and not left.get(_AT_HOME):
                answer = (answer >= self._parts.threshold).view(torch.uint8)
            return answers.segmented(task, answer)
        except KeyError as error:
            raise self._bundle.fault(f"postprocessing leaves no {error}") from None
        except InvalidBundle as error:
            raise self._bundle.fault(error.message) from None

    def _boxes(self, task: Detection, left: Data, reference: Image | None, k: int) -> Boxes:
        image = left[_IMAGE]
        corners, classes, scores = answers.boxes_of(left[self._bundle.output_name])
        size = np.array(image.shape[1:], dtype=np.float64)
        axes = len(size)
        # Voxel n reaches from n - 0.5 to n + 0.5: so does the image, from its first to its last.
        low = np.clip(corners[:, :axes], -0.5, size - 0.5)
        high = np.clip(corners[:, axes:], -0.5, size - 0.5)
        real = (high > low).all(axis=1)
        places = []
        for a, b in zip(low[real], high[real], strict=True):
            points = np.stack(np.meshgrid(*zip(a, b, strict=True), indexing="ij"), axis=-1)
            points = points.reshape(-1, axes)
            if reference is None:
                places.append(world_lps(points, image))
            else:
                places.append(_slice_places(points, image, reference, k))
        return answers.detected(task, places, classes[real].tolist(), scores[real].tolist())


def _volume(answer: torch.Tensor) -> torch.Tensor:
    """Return a picture, (c, i, j), as a volume of one slice; a volume as it is."""
    return answer if answer.ndim == 4 else answer[..., None]


def _slice_places(points_ij: Floats, image: torch.Tensor, reference: Image, k: int) -> Floats:
    """Return points of a preprocessed slice, shape (n, 2), in LPS, on both faces of slice k."""
    if not isinstance(image, MetaTensor):
        raise InvalidBundle("preprocessing loses the image's affine; leave MetaTensor tracking on")
    affine = image.affine.to(torch.float64).cpu().numpy()
    spacing = np.linalg.norm(reference.affine_lps[:3, [2, 1]], axis=0)
    i, j = ((points_ij @ affine[:2, :2].T + affine[:2, -1]) / spacing).T
    faces = [np.stack([np.full_like(i, k + side), j, i], axis=1) for side in (-0.5, 0.5)]
    index_kji = np.concatenate(faces)
    places: Floats = index_kji @ reference.affine_lps[:3, :3].T + reference.affine_lps[:3, 3]
    return places
