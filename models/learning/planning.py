"""What a training does, planned from the data and the device, each choice with its reason.

The way is nnU-Net's (Isensee et al., Nature Methods 2021): a fingerprint of the dataset fixes
spacing, patch and network. Everything planned is a field of :class:`Plan`, and can be changed; a
plan that does not fit together is refused before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dicom.errors import InvalidDesign
from models.designs.document import Design
from models.designs.monai import trace_densenet, trace_unet
from models.designs.tracing import Traced, trace
from models.learning.cases import DatasetFolder, TaskKind
from models.learning.fingerprint import Fingerprint, fingerprint
from models.learning.room import Room

Axes = tuple[int, ...]
"""Along the network's axes: x (columns), y (rows), and z (slices) in 3D."""

LossKind = Literal[
    "dice_ce", "dice_bce", "dice_focal", "tversky", "cross_entropy", "bce", "centres"
]

_DEEPEST: Final = 6
_SMALLEST_MAP: Final = 4  # voxels of the coarsest feature map along an axis
_FIRST_CHANNELS: Final = {2: 24, 3: 16}
_MOST_CHANNELS: Final = {2: 256, 3: 192}
_LARGEST_PATCH: Final = {2: 320, 3: 128}
_SMALLEST_PATCH: Final = 32  # along the longest side
_ANISOTROPIC: Final = 3.0
_BYTES_A_FEATURE: Final = 4 * 6  # float32; what autograd keeps of a block's two convolutions
_STEPS_A_MINUTE_GUESS: Final = 60
_SHARE_A_BATCH: Final = 0.05  # of all voxels, nnU-Net's
_USUAL_BOX: Final = 16.0  # voxels, where no case has a box


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UNetPlan(_Part):
    """MONAI's U-Net: a level for each entry of `channels`, halved by `strides` between them."""

    kind: Literal["unet"] = "unet"
    channels: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(min_length=2, max_length=8)
    strides: tuple[Annotated[int, Field(ge=1, le=4)], ...] = Field(min_length=1, max_length=7)
    residual_units: int = Field(2, ge=0, le=4)
    dropout: float = Field(0.0, ge=0, le=0.9)

    @model_validator(mode="after")
    def _one_stride_between_levels(self) -> UNetPlan:
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError("there is one stride fewer than there are channels")
        return self

    @property
    def factor(self) -> int:
        """What each side of a patch has to be a multiple of."""
        return math.prod(self.strides)


class ClassifierPlan(_Part):
    """MONAI's DenseNet, small: blocks of `layers`, each adding `growth` channels."""

    kind: Literal["densenet"] = "densenet"
    layers: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((3, 6, 12, 8), min_length=1)
    first_channels: int = Field(32, ge=4, le=256)
    growth: int = Field(16, ge=2, le=64)
    dropout: float = Field(0.1, ge=0, le=0.9)

    @property
    def factor(self) -> int:
        """What each side of a patch has to be a multiple of."""
        return 1


class Plan(_Part):
    """A training, whole: what it takes, does, and stops at.

    Axes of `spacing_mm`, `patch` are the network's: x (columns), y (rows), z (slices).
    """

    task: TaskKind
    dimensions: Literal[2, 3]
    in_channels: int = Field(ge=1, le=64)
    classes: int = Field(ge=1, le=255, description="without background; of a classification: all")
    spacing_mm: tuple[float, ...] | None = Field(
        None, description="images are resampled to it; null: as they are"
    )
    size: Axes | None = Field(
        None, description="images are brought to this size instead, whatever theirs; null: not"
    )
    intensity: Literal["percentiles", "window", "spread"] = Field(
        "percentiles",
        description="0..1 from the image's own percentiles, 0..1 within `window`, or mean 0 and "
        "spread 1",
    )
    window: tuple[float, float] | None = Field(None, description="grey values that become 0 and 1")
    patch: Axes = Field(description="voxels that the network sees at once")
    batch: int = Field(2, ge=1, le=512)
    accumulate: int = Field(1, ge=1, le=64, description="batches to one step of the optimiser")
    labelled: float = Field(0.5, ge=0, le=1, description="share of patches that hold a label")
    typical_box: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="of a detection: sides of a usual box, voxels that the network sees"
    )
    network: UNetPlan | ClassifierPlan | Design = Field(discriminator="kind")
    frozen: tuple[str, ...] = Field(
        (), description="blocks of the network that keep the weights they begin with"
    )
    loss: LossKind = "dice_ce"
    rate: float = Field(2e-3, gt=0, le=1, description="highest learning rate")
    decay: float = Field(1e-4, ge=0, le=1, description="of weights (AdamW)")
    warm_up: float = Field(0.05, ge=0, le=0.5, description="share of the steps with a rising rate")
    steps: int = Field(1000, ge=1, le=10_000_000)
    steps_an_epoch: int = Field(100, ge=1, le=100_000, description="between two validations")
    patience: int = Field(0, ge=0, description="epochs without a better score; 0: to the end")
    average: float = Field(0.99, ge=0, lt=1, description="of the weights over steps; 0: none")
    precision: Literal["mixed", "single"] = Field(
        "mixed",
        description="mixed: half where the device is faster in it: a GPU, a processor with bf16",
    )
    seed: int = Field(0, ge=0)
    why: Mapping[str, str] = Field(default_factory=dict, description="the reason of each field")

    @property
    def out_channels(self) -> int:
        """Of the network."""
        if self.task == "segmentation":
            return self.classes + 1
        if self.task == "detection":  # how sure of each class, and how far to each side of a box
            return self.classes + 2 * self.dimensions
        return self.classes

    @property
    def resized_to(self) -> Axes | None:
        """The size that images are brought to; None where they keep theirs."""
        return self.patch if self.task == "classification" else self.size

    @field_validator("frozen", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: object) -> object:
        return () if value is None else value

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        for name in ("patch", "spacing_mm", "size", "typical_box"):
            axes = getattr(self, name)
            if axes is not None and len(axes) != self.dimensions:
                raise ValueError(f"{name} has {self.dimensions} axes")
        if self.size is not None and self.spacing_mm is not None:
            raise ValueError("size and spacing_mm say both what images are brought to; leave one")
        if self.size is not None and self.task == "classification":
            raise ValueError("size is the patch of a classification, which sees whole images")
        if (self.task == "detection") != (self.typical_box is not None):
            raise ValueError("typical_box is given of a detection, and only there")
        if (self.intensity == "window") != (self.window is not None):
            raise ValueError("window is given where intensity is 'window', and only there")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError("window is written from low to high")
        if isinstance(self.network, Design):
            self._design_fits(self.network)
        factor = 1 if isinstance(self.network, Design) else self.network.factor
        if any(side % factor or side < 2 * factor for side in self.patch):
            raise ValueError(
                f"each side of patch is a multiple of {factor}, the product of the strides, "
                f"and at least {2 * factor}"
            )
        seems = "densenet" if self.task == "classification" else "unet"
        if self.network.kind not in (seems, "blocks"):
            raise ValueError(f"network is a {seems} for {self.task}")
        if self.task == "multilabel" and self.loss in ("dice_ce", "cross_entropy", "tversky"):
            raise ValueError("loss is dice_bce, dice_focal or bce where labels overlap")
        if self.task == "classification" and self.loss != "cross_entropy":
            raise ValueError("loss is cross_entropy for a classification")
        if (self.task == "detection") != (self.loss == "centres"):
            raise ValueError("loss is centres for a detection, and only there")
        self._check_frozen()
        return self

    def _check_frozen(self) -> None:
        names = [block.name for block in trace_plan(self).blocks] if self.frozen else []
        unknown = [name for name in self.frozen if name not in names]
        if unknown:
            raise ValueError(
                f"frozen: the network has no block {unknown[0]}; it has: {', '.join(names)}"
            )
        if names and set(self.frozen) >= {name for name in names if not name.startswith("join")}:
            raise ValueError("frozen: nothing is left to learn")

    def _design_fits(self, design: Design) -> None:
        if design.head.whole != (self.task == "classification"):
            answers = "an image" if self.task == "classification" else "a voxel"
            raise ValueError(f"block {design.head.name}: the task wants one answer {answers}")
        try:
            trace_plan(self)
        except InvalidDesign as error:
            raise ValueError(error.message) from None


def trace_plan(plan: Plan) -> Traced:
    """Return what a plan's network comes to: its blocks, parameters, memory, what it sees.

    Raises
    ------
    InvalidDesign
        When it does not fit the patch.
    """
    network = plan.network
    if isinstance(network, Design):
        return trace(
            network,
            in_channels=plan.in_channels,
            out_channels=plan.out_channels,
            patch=plan.patch,
            batch=plan.batch,
        )
    if isinstance(network, UNetPlan):
        return trace_unet(
            network.channels,
            network.strides,
            residual_units=network.residual_units,
            dropout=network.dropout,
            in_channels=plan.in_channels,
            out_channels=plan.out_channels,
            patch=plan.patch,
            batch=plan.batch,
        )
    return trace_densenet(
        network.layers,
        first_channels=network.first_channels,
        growth=network.growth,
        in_channels=plan.in_channels,
        out_channels=plan.out_channels,
        patch=plan.patch,
        batch=plan.batch,
    )


def make_plan(
    folder: DatasetFolder,
    *,
    modality: str = "",
    room: Room | None = None,
    minutes: float | None = None,
    seed: int = 0,
    painted: Collection[int] = frozenset(),
) -> Plan:
    """Return a plan for a dataset, each choice with its reason.

    Parameters
    ----------
    modality : str
        DICOM's; CT's grey values are a quantity, and windowed instead of stretched.
    room : Room or None
        What a step may take, and where; None: a processor's.
    minutes : float or None
        How long it may take; the trainer measures a step, this is the first guess.
    painted : collection of int
        Classes that need not occur: the augmentation paints them in.

    Raises
    ------
    CannotTrain
        As :func:`fingerprint`; or when nothing here learns such a task.
    """
    seen = fingerprint(folder, painted=painted)
    dataset = folder.dataset
    dimensions = dataset.dimensions
    why: dict[str, str] = {
        "dimensions": "every image is one slice" if dimensions == 2 else "images have slices",
        "in_channels": f"channels of an image: {', '.join(dataset.channels)}",
    }
    spacing, shape = _grid(seen, dimensions, why)
    window = None
    if modality == "CT":
        window = (round(seen.low), round(seen.high))
        why["window"] = "CT's values are Hounsfield units: 0.5th to 99.5th percentile of them all"
    else:
        why["intensity"] = "grey values mean nothing by themselves: the image's own percentiles"
    room = room or Room()
    batch = {2: 8, 3: 2}[dimensions]
    why["batch"] = "2 in 3D, nnU-Net's least; 8 in 2D, where more fit"
    network: UNetPlan | ClassifierPlan
    if dataset.task == "classification":
        network = ClassifierPlan()
        patch = tuple(_rounded(min(side, 224 if dimensions == 2 else 96), 32) for side in shape)
        why["network"] = "a DenseNet that is small enough for hundreds of images"
        why["patch"] = "whole images, at most 224 pixels (96 voxels) a side"
    else:
        network, patch = _unet_and_patch(shape, dimensions, batch, room, why)
        if room.is_gpu:
            batch = _batch_beside(network, patch, batch, room, seen, why)
    losses: Mapping[TaskKind, LossKind] = {
        "segmentation": "dice_ce",
        "multilabel": "dice_bce",
        "classification": "cross_entropy",
        "detection": "centres",
    }
    why["loss"] = {
        "segmentation": "Dice minds small structures, cross entropy every voxel",
        "multilabel": "labels overlap: each is a question of its own",
        "classification": "one answer an image",
        "detection": "a focal loss of where centres are, and how well boxes overlap",
    }[dataset.task]
    why["frozen"] = "nothing: everything learns; on few cases blocks on the way down may stay"
    steps = round((minutes or 30) * _STEPS_A_MINUTE_GUESS)
    why["steps"] = "measured at the start where a time is given"
    return Plan(
        task=dataset.task,
        dimensions=dimensions,
        in_channels=len(dataset.channels),
        classes=len(dataset.classes),
        spacing_mm=spacing,
        intensity="percentiles" if window is None else "window",
        window=window,
        patch=patch,
        batch=batch,
        labelled=0.0 if dataset.task == "classification" else 0.5,
        typical_box=_typical_box(folder, spacing, dimensions, why),
        network=network,
        loss=losses[dataset.task],
        steps=steps,
        steps_an_epoch=max(10, min(250, steps // 20)),
        seed=seed,
        why=why,
    )


def _typical_box(
    folder: DatasetFolder,
    spacing: tuple[float, ...] | None,
    dimensions: Literal[2, 3],
    why: dict[str, str],
) -> tuple[float, ...] | None:
    """Return the median sides of a detection's boxes, in voxels of the network's grid."""
    dataset = folder.dataset
    if dataset.task != "detection":
        return None
    sides = []
    for case in dataset.of("train"):
        step = np.array(folder.spacing(case))[::-1][:dimensions]
        scale = np.ones(dimensions) if spacing is None else step / np.array(spacing)
        for box in case.boxes:
            first, last = np.array(box.first), np.array(box.last)
            sides.append((last - first + 1)[::-1][:dimensions] * scale)
    why["typical_box"] = "the median of the boxes; the network says how much larger one is"
    if not sides:
        return (_USUAL_BOX,) * dimensions
    return tuple(round(float(side), 2) for side in np.median(sides, axis=0))


def _grid(
    seen: Fingerprint, dimensions: Literal[2, 3], why: dict[str, str]
) -> tuple[tuple[float, ...] | None, Axes]:
    """Return spacing and size of the median case as the network will see it."""
    k, j, i = seen.shape_kji
    if seen.spacing_kji is None:
        why["spacing_mm"] = "not all images say their spacing: pixels are taken as they are"
        return None, (i, j) if dimensions == 2 else (i, j, k)
    thick, row, column = seen.spacing_kji
    if dimensions == 2:
        why["spacing_mm"] = "the median of the dataset"
        return (column, row), (i, j)
    finest = min(row, column)
    if thick / finest > _ANISOTROPIC:
        why["spacing_mm"] = "the median of the dataset; thick slices stay thick"
    else:
        why["spacing_mm"] = "the median of the dataset"
    return (column, row, thick), (i, j, k)


def _unet_and_patch(
    shape: Axes, dimensions: Literal[2, 3], batch: int, room: Room, why: dict[str, str]
) -> tuple[UNetPlan, Axes]:
    """Return the deepest U-Net, and the largest patch, that the memory holds."""
    largest = _LARGEST_PATCH[dimensions]
    patch = [min(side, largest) for side in shape]
    while True:
        depth = 1 + min(
            _DEEPEST - 1, *(int(math.log2(max(side, 8) / _SMALLEST_MAP)) for side in patch)
        )
        depth = max(depth, 2)
        factor = 2 ** (depth - 1)
        first, most = _FIRST_CHANNELS[dimensions], _MOST_CHANNELS[dimensions]
        channels = tuple(min(first * 2**level, most) for level in range(depth))
        rounded = tuple(max(_rounded(side, factor), 2 * factor) for side in patch)
        need = _bytes_of(channels, rounded, batch)
        longest = int(np.argmax(rounded))
        if need <= room.memory_bytes or rounded[longest] <= max(_SMALLEST_PATCH, 2 * factor):
            why["patch"] = (
                "the largest within the median image, of which a step takes less than "
                f"{room.memory_bytes >> 20} MiB of {room.where} by a cautious count"
                if need <= room.memory_bytes
                else "the smallest that is worth learning from"
            )
            why["network"] = (
                f"a U-Net of {depth} levels, until its coarsest map is {_SMALLEST_MAP} to "
                f"{2 * _SMALLEST_MAP} voxels wide along the shortest side"
            )
            return UNetPlan(channels=channels, strides=(2,) * (depth - 1)), rounded
        patch[longest] = rounded[longest] - factor


def _batch_beside(
    network: UNetPlan, patch: Axes, least: int, room: Room, seen: Fingerprint, why: dict[str, str]
) -> int:
    """Return the largest batch that the room holds, of a share of what there is to learn from."""
    voxels = seen.cases * math.prod(seen.shape_kji)
    most = max(least, round(_SHARE_A_BATCH * voxels / math.prod(patch)))
    batch = least
    while 2 * batch <= most and _bytes_of(network.channels, patch, 2 * batch) <= room.memory_bytes:
        batch *= 2
    if batch > least:
        why["batch"] = f"what {room.where} holds, and no more than a twentieth of all voxels"
    return batch


def _bytes_of(channels: tuple[int, ...], patch: Axes, batch: int) -> int:
    voxels = math.prod(patch)
    features = sum(
        count * voxels / 2 ** (len(patch) * level) for level, count in enumerate(channels)
    )
    return int(2 * batch * features * _BYTES_A_FEATURE)  # once down, once up


def _rounded(side: int, factor: int) -> int:
    return max(factor, factor * round(side / factor))
