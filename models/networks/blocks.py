"""A network that is built from a design: a document of blocks (:mod:`models.designs.document`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from models.designs.document import (
    GROUPS,
    IMAGE,
    Activation,
    Attention,
    Block,
    Convolutions,
    Deep,
    Design,
    Down,
    Head,
    Join,
    Norm,
    Up,
    read_design,
)
from models.designs.tracing import channels_of

_CONVOLUTION: Mapping[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Mapping[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_DROPOUT: Mapping[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
_POOL: Mapping[tuple[str, int], type[nn.Module]] = {
    ("max", 2): nn.MaxPool2d,
    ("max", 3): nn.MaxPool3d,
    ("average", 2): nn.AvgPool2d,
    ("average", 3): nn.AvgPool3d,
}
_NORM: Mapping[tuple[Norm, int], type[nn.Module]] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}
_ACTIVATION: Mapping[Activation, Any] = {
    "leaky_relu": partial(nn.LeakyReLU, 0.01),
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}
_FINER = {2: "bilinear", 3: "trilinear"}


class BlockNetwork(nn.Module):
    """What a design says, as a module.

    Parameters
    ----------
    spatial_dims : int
        2 or 3.
    in_channels, out_channels : int
        Images in, logits out.
    norm, activation : str
    block : sequence of mapping
        The design's blocks.

    Raises
    ------
    InvalidDesign
        When the blocks do not hang together.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
        block: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__()
        design = read_design({"norm": norm, "activation": activation, "block": list(block)})
        self.design = design
        self._order = design.in_order()
        channels = channels_of(design, in_channels=in_channels, out_channels=out_channels)
        self.blocks = nn.ModuleDict(
            {
                one.name: _module(
                    one, [channels[name] for name in one.from_], out_channels, spatial_dims, design
                )
                for one in self._order
            }
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return logits; while training, those of `deep` blocks behind them, the finest first.

        Parameters
        ----------
        image : Tensor, shape (batch, channels, x, y[, z])
        """
        maps = {IMAGE: image}
        for block in self._order:
            if isinstance(block, Deep) and not self.training:
                continue
            given = [maps[name] for name in block.from_]
            maps[block.name] = self.blocks[block.name](*given)
        answer = maps[self.design.head.name]
        deep = [maps[one.name] for one in self._order if isinstance(one, Deep) and self.training]
        if not deep:
            return answer
        return (answer, *sorted(deep, key=lambda one: -one[0, 0].numel()))


def _module(
    block: Block, given: list[int], out_channels: int, dimensions: int, design: Design
) -> nn.Module:
    convolution = _CONVOLUTION[dimensions]
    if isinstance(block, Convolutions):
        return _Convolutions(block, given[0], dimensions, design)
    if isinstance(block, Down):
        if block.how == "convolution":
            return convolution(given[0], given[0], block.by, block.by)
        return _POOL[block.how, dimensions](block.by)
    if isinstance(block, Up):
        if block.how == "transposed":
            return _TRANSPOSED[dimensions](given[0], block.channels, block.by, block.by)
        finer = nn.Upsample(scale_factor=_floats(block.by), mode=_FINER[dimensions])
        return nn.Sequential(finer, convolution(given[0], block.channels, 1))
    if isinstance(block, Join):
        return _Join(block)
    if isinstance(block, Attention):
        return _Attention(block, given, dimensions, design)
    if isinstance(block, Head) and block.whole:
        return _Whole(given[0], out_channels)
    return convolution(given[0], out_channels, 1)


class _Convolutions(nn.Module):
    def __init__(
        self, block: Convolutions, in_channels: int, dimensions: int, design: Design
    ) -> None:
        super().__init__()
        widths = [in_channels, *[block.channels] * block.count]
        layers: list[nn.Module] = []
        for at in range(block.count):
            by = block.by if at == 0 else 1
            layers += _unit(widths[at], block.channels, block.kernel, by, dimensions, design)
            if block.dropout:
                layers.append(_DROPOUT[dimensions](block.dropout))
            if at < block.count - 1:
                layers.append(_ACTIVATION[design.activation]())
        self.layers = nn.Sequential(*layers)
        self.activation = _ACTIVATION[design.activation]()
        self.residual = block.residual
        self.shortcut: nn.Module = nn.Identity()
        is_coarser = math.prod(block.by if isinstance(block.by, tuple) else (block.by,)) > 1
        if block.residual and (in_channels != block.channels or is_coarser):
            self.shortcut = nn.Sequential(
                *_unit(in_channels, block.channels, 1, block.by, dimensions, design)
            )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        made = self.layers(given)
        if self.residual:
            made = made + self.shortcut(given)
        activated: torch.Tensor = self.activation(made)
        return activated


def _unit(
    before: int,
    after: int,
    kernel: int,
    by: int | tuple[int, ...],
    dimensions: int,
    design: Design,
) -> list[nn.Module]:
    """Return a convolution with its norm; the norm's shift makes the bias needless."""
    has_norm = design.norm != "none"
    made = [
        _CONVOLUTION[dimensions](
            before, after, kernel, stride=by, padding=kernel // 2, bias=not has_norm
        )
    ]
    if design.norm == "group":
        made.append(nn.GroupNorm(GROUPS, after))
    elif has_norm:
        kind = _NORM[design.norm, dimensions]
        made.append(kind(after, affine=True))
    return made


class _Join(nn.Module):
    def __init__(self, block: Join) -> None:
        super().__init__()
        self.adds = block.how == "add"

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        if not self.adds:
            return torch.cat(given, dim=1)
        total = given[0]
        for one in given[1:]:
            total = total + one
        return total


class _Attention(nn.Module):
    """An additive gate: what of the first map counts is decided by both."""

    def __init__(self, block: Attention, given: list[int], dimensions: int, design: Design) -> None:
        super().__init__()
        convolution = _CONVOLUTION[dimensions]
        self.features = convolution(given[0], block.channels, 1)
        self.gate = convolution(given[1], block.channels, 1)
        self.activation = _ACTIVATION[design.activation]()
        self.weight = convolution(block.channels, 1, 1)

    def forward(self, features: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        both = self.activation(self.features(features) + self.gate(gate))
        return features * torch.sigmoid(self.weight(both))


class _Whole(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.answer = nn.Linear(in_channels, out_channels)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.answer(given.flatten(2).mean(dim=2))
        return answer


def _floats(by: int | tuple[int, ...]) -> Any:  # noqa: ANN401 - torch takes either
    return float(by) if isinstance(by, int) else tuple(float(one) for one in by)
