"""What MONAI's own U-Net and DenseNet come to, in the same figures as a design's blocks.

They are no documents of blocks, but are drawn beside them: a plan's network is shown whoever made
it. Layers are as `monai.networks.nets.UNet` and `DenseNet` have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom.errors import InvalidDesign
from models.designs.document import IMAGE
from models.designs.tracing import BYTES, Figures, Reach, Shape, Traced, step_bytes

_STEM = 7  # the DenseNet's first kernel
_NECK = 4  # its narrow layers are so many times as wide as what they add


@dataclass(slots=True)
class _Flow:
    """A map on its way, and what it met."""

    shape: Shape
    batch: int
    channels: int
    reach: tuple[Reach, ...]
    level: int = 0
    blocks: list[Figures] = field(default_factory=list)

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    def convolve(self, kernel: int, stride: int = 1) -> None:
        self.reach = tuple(one.convolved(kernel).every(stride) for one in self.reach)
        self.shape = tuple(-(-side // stride) for side in self.shape)

    def add(
        self, name: str, kind: str, taken: Sequence[str], parameters: int, kept: int, says: str
    ) -> None:
        self.blocks.append(
            Figures(
                name=name,
                kind=kind,
                takes_from=tuple(taken),
                channels=self.channels,
                shape=self.shape,
                level=self.level,
                parameters=parameters,
                sees=tuple(one.widest for one in self.reach),
                kept_bytes=kept * self.batch * BYTES,
                says=says,
            )
        )

    def traced(self) -> Traced:
        parameters = sum(one.parameters for one in self.blocks)
        largest = max(math.prod(one.shape) * one.channels for one in self.blocks)
        return Traced(
            blocks=tuple(self.blocks),
            parameters=parameters,
            sees=self.blocks[-1].sees,
            step_bytes=step_bytes(self.blocks, parameters, largest * self.batch),
        )


def trace_unet(
    channels: Sequence[int],
    strides: Sequence[int],
    *,
    residual_units: int,
    dropout: float = 0.0,
    in_channels: int,
    out_channels: int,
    patch: Shape,
    batch: int = 1,
) -> Traced:
    """Return what MONAI's U-Net comes to: instance norm, leaky ReLU.

    Raises
    ------
    InvalidDesign
        When the patch is no multiple of the strides.
    """
    if any(side % math.prod(strides) for side in patch):
        raise InvalidDesign(
            f"the patch is no multiple of {math.prod(strides)}, which the strides make"
        )
    dimensions = len(patch)
    kept_a_unit = 3 if dropout else 2  # what the norm and the activation were given; what dropped
    flow = _Flow(patch, batch, in_channels, tuple(Reach.of_image(side) for side in patch))
    skipped: list[tuple[str, int, tuple[Reach, ...]]] = []
    taken = IMAGE
    for level, (count, stride) in enumerate(zip(channels, [*strides, 1], strict=True)):
        is_bottom = level == len(channels) - 1
        name = "bottom" if is_bottom else f"in{level}"
        before = flow.channels
        units = max(1, residual_units)
        parameters, kept = 0, 0
        flow.convolve(3, stride)
        for unit in range(units):
            if unit:
                flow.convolve(3)
            parameters += (before if not unit else count) * count * 3**dimensions + count
        if residual_units and (stride > 1 or before != count):
            parameters += before * count * (3 if stride > 1 else 1) ** dimensions + count
        flow.channels, flow.level = count, level + (0 if is_bottom else 1)
        kept += count * flow.voxels * (kept_a_unit * units + units - 1 + (not is_bottom))
        words = f"{units} x convolution 3{f', every {stride}nd' if stride == 2 else ''}"
        if stride > 2:
            words += f", every {stride}th"
        flow.add(name, "convolutions", [taken], parameters, kept, words + _residual(residual_units))
        if not is_bottom:
            skipped.append((name, count, flow.reach))
        taken = name
    for level in reversed(range(len(strides))):
        name, wide, reach = skipped[level]
        flow.channels += wide
        flow.reach = tuple(one.joined(two) for one, two in zip(flow.reach, reach, strict=True))
        flow.add(
            f"join{level}", "join", [name, taken], 0, flow.channels * flow.voxels, "side by side"
        )
        before, by = flow.channels, strides[level]
        flow.channels = channels[level - 1] if level else out_channels
        flow.reach = tuple(one.transposed(3, by) for one in flow.reach)
        flow.shape = tuple(side * by for side in flow.shape)
        flow.level = level
        parameters = (before * 3**dimensions + 1) * flow.channels
        kept = 0
        if level or residual_units:
            kept = kept_a_unit * flow.channels * flow.voxels
        if residual_units:
            flow.convolve(3)
            parameters += (flow.channels * 3**dimensions + 1) * flow.channels
            kept += flow.channels * flow.voxels * (1 + (kept_a_unit if level else 0))
        taken = f"up{level}"
        kind = "up" if level else "head"
        words = f"{by} times finer, learnt" + _residual(residual_units)
        flow.add(taken, kind, [f"join{level}"], parameters, kept, words)
    return flow.traced()


def trace_densenet(
    layers: Sequence[int],
    *,
    first_channels: int,
    growth: int,
    in_channels: int,
    out_channels: int,
    patch: Shape,
    batch: int = 1,
) -> Traced:
    """Return what MONAI's DenseNet comes to: batch norm, ReLU, one answer an image."""
    dimensions = len(patch)
    flow = _Flow(patch, batch, in_channels, tuple(Reach.of_image(side) for side in patch))
    parameters = in_channels * first_channels * _STEM**dimensions + 2 * first_channels
    flow.convolve(_STEM, 2)
    flow.channels = first_channels
    kept = 2 * first_channels * flow.voxels
    flow.convolve(3, 2)
    flow.level = 2
    kept += 3 * first_channels * flow.voxels  # the maximum, and where it was (8 bytes)
    flow.add("stem", "convolutions", [IMAGE], parameters, kept, "convolution 7, the largest of 3")
    taken = "stem"
    for at, count in enumerate(layers):
        parameters, kept = 0, 0
        neck = _NECK * growth
        for _ in range(count):
            wide = flow.channels
            parameters += 2 * wide + wide * neck + 2 * neck + neck * growth * 3**dimensions
            flow.convolve(3)
            flow.channels += growth
            kept += (wide + 2 * neck + flow.channels) * flow.voxels
        says = f"{count} dense layers, each adds {growth}"
        flow.add(f"dense{at + 1}", "convolutions", [taken], parameters, kept, says)
        taken = f"dense{at + 1}"
        wide = flow.channels
        if at == len(layers) - 1:
            flow.reach = tuple(one.whole() for one in flow.reach)
            kept = 2 * wide * flow.voxels + wide
            flow.channels, flow.shape = out_channels, (1,) * dimensions
            parameters = 2 * wide + (wide + 1) * out_channels
            flow.add("answer", "head", [taken], parameters, kept, "one answer an image")
            break
        parameters = 2 * wide + wide * (wide // 2)
        kept = (wide + wide // 2) * flow.voxels
        if any(side < 2 for side in flow.shape):
            raise InvalidDesign(f"block dense{at + 1}: the patch is too small for what follows")
        flow.reach = tuple(one.coarser(2) for one in flow.reach)
        flow.shape = tuple(side // 2 for side in flow.shape)
        flow.channels, flow.level = wide // 2, flow.level + 1
        kept += flow.channels * flow.voxels
        flow.add(f"down{at + 1}", "down", [taken], parameters, kept, "half as wide, half as fine")
        taken = f"down{at + 1}"
    return flow.traced()


def _residual(units: int) -> str:
    return ", residual" if units else ""
