"""A case as the network sees it: the bundle's own preprocessing, done once and kept on disk.

The same MONAI transforms are written into the bundle's inference.json, so that a model sees in the
clinic what it saw in training.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.intensity.array import (
    NormalizeIntensity,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
)
from monai.transforms.spatial.array import Orientation, Resize, Spacing

from models.learning.cases import Case, DatasetFolder
from models.learning.planning import Plan
from models.tensors import LPS_TO_RAS

Steps = list[dict[str, Any]]
_PERCENTILES = (0.5, 99.5)
_MOST_PLACES = 20_000
_MOST_MAPPED = 256  # each keeps a file open: processes may have a thousand
_RESIZE = {2: "bilinear", 3: "trilinear"}


def spatial_steps(plan: Plan) -> Steps:
    """Return the transforms onto the network's grid, as a bundle writes them."""
    steps: Steps = []
    if plan.dimensions == 3:
        steps.append(
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
        )
    if plan.spacing_mm is not None:
        pixdim = list(plan.spacing_mm)
        steps.append(
            {"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"}
        )
    if plan.resized_to is not None:
        mode = _RESIZE[plan.dimensions]
        size = list(plan.resized_to)
        steps.append({"_target_": "Resized", "keys": "image", "spatial_size": size, "mode": mode})
    return steps


def intensity_steps(plan: Plan) -> Steps:
    """Return the transforms of grey values, as a bundle writes them."""
    if plan.window is not None:
        low, high = plan.window
        return [
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": low,
                "a_max": high,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            }
        ]
    if plan.intensity == "spread":
        return [{"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}]
    low, high = _PERCENTILES
    return [
        {
            "_target_": "ScaleIntensityRangePercentilesd",
            "keys": "image",
            "lower": low,
            "upper": high,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
            "channel_wise": True,
        }
    ]


def prepare(image: npt.NDArray[Any], affine_lps: npt.NDArray[np.float64], plan: Plan) -> MetaTensor:
    """Return an image as the network sees it.

    Parameters
    ----------
    image : ndarray, shape (channels, slices, rows, columns)
    affine_lps : ndarray, shape (4, 4)
        (k, j, i, 1) -> LPS mm.

    Returns
    -------
    MetaTensor, float32
        Shape (channels, x, y) or (channels, x, y, z), with the affine that it lies on.
    """
    placed = _placed(image.astype(np.float32), affine_lps, plan)
    return _greys(_moved(placed, plan, "bilinear"), plan)


def prepare_label(
    label: npt.NDArray[Any], affine_lps: npt.NDArray[np.float64], plan: Plan
) -> npt.NDArray[np.uint8]:
    """Return labels on the grid of :func:`prepare`, by the nearest voxel.

    Returns
    -------
    ndarray, uint8
        Shape (labels or 1, x, y[, z]).
    """
    channels = label if label.ndim == 4 else label[None]
    placed = _placed(channels.astype(np.float32), affine_lps, plan)
    return np.asarray(_moved(placed, plan, "nearest")).round().astype(np.uint8)


def affine_of(case: Case) -> npt.NDArray[np.float64]:
    """Return where a case lies: its affine, or its own plane's where it has no place."""
    if case.affine_lps is not None:
        return np.array(case.affine_lps, np.float64)
    k, j, i = case.spacing_kji or (1.0, 1.0, 1.0)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = k, j, i, 1.0
    return affine


@dataclass(frozen=True, slots=True)
class Prepared:
    """The cases of a dataset as the network sees them, kept as files that are mapped.

    Parameters
    ----------
    folder : DatasetFolder
    plan : Plan
    cache : Path
        Where they are kept; a name is a hash over case and preprocessing, so that nothing stale is
        ever read, and trainings share it.
    """

    folder: DatasetFolder
    plan: Plan
    cache: Path
    _mapped: dict[tuple[str, str], npt.NDArray[Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def image(self, case: Case) -> npt.NDArray[np.float32]:
        """Return an image, shape (channels, x, y[, z])."""
        return self._kept(
            case,
            case.image_sha256,
            "image",
            lambda: np.asarray(prepare(self.folder.image(case), affine_of(case), self.plan)),
        )

    def label(self, case: Case) -> npt.NDArray[np.uint8]:
        """Return labels, shape (labels or 1, x, y[, z])."""
        return self._kept(
            case,
            case.label_sha256,
            "label",
            lambda: prepare_label(self.folder.label(case), affine_of(case), self.plan),
        )

    def boxes(self, case: Case) -> npt.NDArray[np.float64]:
        """Return boxes on the grid of :meth:`image`, rows of class, low and high edges (x, y, z).

        A picture has one z, from 0 to 1. Voxel n reaches from n to n + 1.
        """
        rows = self.folder.boxes(case)
        if not len(rows):
            return rows
        to_network = self._grid(case)
        ends = []
        for corner in np.ndindex(2, 2, 2):
            k, j, i = (rows[:, 1 + axis + 3 * side] for axis, side in enumerate(corner))
            ends.append(np.stack([i, j, k, np.ones(len(rows))], axis=1) @ to_network.T)
        points = np.stack(ends)[..., :3]
        low, high = points.min(axis=0), points.max(axis=0)
        return np.concatenate([rows[:, :1], low, high], axis=1)

    def _grid(self, case: Case) -> npt.NDArray[np.float64]:
        """Return what takes edges (i, j, k, 1) of a case to those of the network's grid."""

        def made() -> npt.NDArray[np.float64]:
            still = np.zeros((1, *case.shape), np.float32)
            before = _placed(still, affine_of(case), self.plan)
            axes = before.ndim - 1
            after = _moved(before, self.plan, "nearest")
            inner = np.linalg.inv(np.asarray(after.affine, np.float64)) @ np.asarray(
                before.affine, np.float64
            )
            matrix = np.eye(4)
            kept = [*range(axes), 3]
            matrix[np.ix_(kept, kept)] = inner
            half = np.eye(4)
            half[:axes, 3] = 0.5  # a voxel's middle is half behind its edge
            found: npt.NDArray[np.float64] = half @ matrix @ np.linalg.inv(half)
            return found

        return self._kept(case, str(case.shape), "grid", made)

    def places(self, case: Case) -> npt.NDArray[np.int32]:
        """Return voxels that have a label, a few thousand, evenly drawn; shape (n, axes)."""
        if self.plan.task == "detection":
            rows = self.boxes(case)
            middles = (rows[:, 1:4] + rows[:, 4:7]) / 2
            return np.floor(middles[:, : self.plan.dimensions]).astype(np.int32)

        def drawn() -> npt.NDArray[np.int32]:
            found = np.argwhere(self.label(case).any(axis=0)).astype(np.int32)
            step = max(1, len(found) // _MOST_PLACES)
            return found[::step]

        return self._kept(case, case.label_sha256, "places", drawn)

    def _key(self, case: Case, sha256: str, what: str) -> str:
        how = [what, sha256, affine_of(case).tolist(), spatial_steps(self.plan)]
        if what == "image":
            how.append(intensity_steps(self.plan))
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]

    def _kept(
        self,
        case: Case,
        sha256: str,
        what: str,
        make: Any,  # noqa: ANN401 - a thunk of an array
    ) -> npt.NDArray[Any]:
        """Return an array of a case; made, or mapped, where this process has not yet done so."""
        mapped = self._mapped.get((case.id, what))
        if mapped is not None:
            return mapped
        path = self.cache / f"{self._key(case, sha256, what)}.npy"
        if not path.is_file():
            self.cache.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{uuid4().hex}.part")  # ranks prepare side by side
            with beside.open("wb") as file:
                np.save(file, np.ascontiguousarray(make()), allow_pickle=False)
            beside.replace(path)
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if len(self._mapped) >= _MOST_MAPPED:
            self._mapped.clear()
        self._mapped[case.id, what] = found
        return found


def _placed(
    channels: npt.NDArray[np.float32], affine_lps: npt.NDArray[np.float64], plan: Plan
) -> MetaTensor:
    """Return an array as models.tensors gives it to a bundle: axes (c, i, j[, k]), RAS."""
    turned = torch.from_numpy(np.ascontiguousarray(channels.transpose(0, 3, 2, 1)))
    affine = LPS_TO_RAS @ affine_lps[:, [2, 1, 0, 3]]
    if plan.dimensions == 3:
        return MetaTensor(turned, affine=torch.from_numpy(affine))
    steps = [float(np.linalg.norm(affine_lps[:3, axis])) for axis in (2, 1)]
    return MetaTensor(turned[..., 0], affine=torch.diag(torch.tensor([*steps, 1.0])).double())


def _moved(placed: MetaTensor, plan: Plan, mode: str) -> MetaTensor:
    if plan.dimensions == 3:
        placed = cast(MetaTensor, Orientation(axcodes="RAS", labels=None)(placed))
    if plan.spacing_mm is not None:
        placed = cast(MetaTensor, Spacing(pixdim=plan.spacing_mm, mode=mode)(placed))
    if plan.resized_to is not None:
        how = _RESIZE[plan.dimensions] if mode == "bilinear" else "nearest-exact"
        placed = cast(MetaTensor, Resize(plan.resized_to, mode=how)(placed))
    return placed


def _greys(image: MetaTensor, plan: Plan) -> MetaTensor:
    if plan.window is not None:
        low, high = plan.window
        return cast(MetaTensor, ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(image))
    if plan.intensity == "spread":
        return cast(MetaTensor, NormalizeIntensity(channel_wise=True)(image))
    low, high = _PERCENTILES
    stretch = ScaleIntensityRangePercentiles(low, high, 0.0, 1.0, clip=True, channel_wise=True)
    return cast(MetaTensor, stretch(image))
