"""A transposed convolution with few output channels, as a convolution on the grid of its input.

Each voxel of the input makes a small block of the output. Made one output channel at a time, the
wide units of a processor are nearly empty; as the channels of one convolution they fill them, and
what is left is to put the blocks beside each other. The sums are the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional

MOST_CHANNELS = 4  # more of them fill the units as they are

_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

_Transposed: TypeAlias = nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True, slots=True)
class _Axis:
    """What a transposed convolution does along one axis.

    Output ``stride * j + r`` is made of inputs ``j + d``, by the tap ``r + padding - stride * d``.
    """

    width: int
    stride: int
    padding: int

    def tap(self, rest: int, step: int) -> int | None:
        """Return which tap leads from the input `step` further to the output `rest` further."""
        tap = rest + self.padding - self.stride * step
        return tap if 0 <= tap < self.width else None

    @property
    def first(self) -> int:
        """The lowest step that any output needs."""
        return -((self.width - 1 - self.padding) // self.stride)

    @property
    def last(self) -> int:
        """The highest one."""
        return (self.stride - 1 + self.padding) // self.stride

    @property
    def around(self) -> int:
        """Zeros on either side that the convolution needs."""
        return max(-self.first, self.last, 0)


def interleaved(convolution: nn.Module) -> Interleaved | None:
    """Return a module that does what a transposed convolution does; None where it is no gain.

    That is where it makes many channels, or another size than `stride` times that of its input.
    """
    if type(convolution) not in (nn.ConvTranspose2d, nn.ConvTranspose3d):
        return None  # subclasses may do more
    assert isinstance(convolution, _Transposed)
    if convolution.out_channels > MOST_CHANNELS or convolution.groups > 1:
        return None
    if any(one > 1 for one in convolution.dilation):
        return None
    assert isinstance(convolution.padding, tuple)  # names of paddings are for other convolutions
    axes = [
        _Axis(width, stride, padding)
        for width, stride, padding in zip(
            convolution.kernel_size, convolution.stride, convolution.padding, strict=True
        )
    ]
    more = [axis.stride - axis.width + 2 * axis.padding for axis in axes]
    if more != list(convolution.output_padding) or any(axis.first > axis.last for axis in axes):
        return None
    return Interleaved(convolution, axes)


def interleave(network: nn.Module) -> None:
    """Put such modules in the place of a network's transposed convolutions, where it is a gain."""
    for module in list(network.modules()):
        for name, child in list(module._modules.items()):
            other = interleaved(child) if child is not None else None
            if other is not None:
                module._modules[name] = other


class Interleaved(nn.Module):
    """The same sums as a transposed convolution's, a block of output for each voxel at once.

    Axes of what it is given, and gives: (b, c, ...), the channels of a voxel side by side.
    """

    def __init__(self, convolution: _Transposed, axes: Sequence[_Axis]) -> None:
        super().__init__()
        self._axes = tuple(axes)
        self._strides = tuple(axis.stride for axis in axes)
        weight = convolution.weight.detach()  # (in, out, ...)
        inputs, outputs = weight.shape[:2]
        wide = [axis.last - axis.first + 1 for axis in axes]
        made = weight.new_zeros((*self._strides, outputs, inputs, *wide))
        for rests in itertools.product(*(range(axis.stride) for axis in axes)):
            for at in itertools.product(*map(range, wide)):
                along = zip(axes, rests, at, strict=True)
                taps = [axis.tap(rest, step + axis.first) for axis, rest, step in along]
                if None not in taps:
                    _at(made[rests], at).copy_(_at(weight, taps).T)
        self.weight = nn.Parameter(made.reshape(-1, inputs, *wide), requires_grad=False)
        self.bias = None
        if convolution.bias is not None:
            bias = convolution.bias.detach().repeat(math.prod(self._strides))
            self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the transposed convolution returns."""
        convolve = functional.conv3d if len(self._axes) == 3 else functional.conv2d
        around = [axis.around for axis in self._axes]
        blocks = convolve(features, self.weight, self.bias, padding=around)
        for n, axis in enumerate(self._axes):
            blocks = blocks.narrow(2 + n, axis.around + axis.first, features.shape[2 + n])
        blocks = blocks.movedim(1, -1)
        return self._laid_out(blocks if blocks.stride(-1) == 1 else blocks.contiguous())

    def _laid_out(self, blocks: torch.Tensor) -> torch.Tensor:
        """Return blocks beside each other; given as (b, ..., channels of the block)."""
        count, *sizes, _ = blocks.shape
        kind, strides = blocks.dtype, self._strides
        run = blocks.shape[-1] // math.prod(strides[:-1])  # lies in one piece, before and after
        word = _WORDS.get(run * blocks.element_size())
        if word is not None:
            blocks = blocks.view(word)
        blocks = blocks.reshape(*blocks.shape[:-1], *strides[:-1], -1)
        spatial = len(sizes)
        order = [0]
        for n in range(spatial - 1):
            order += [1 + n, 1 + spatial + n]
        blocks = blocks.permute(*order, spatial, 2 * spatial).contiguous()
        if word is not None:
            blocks = blocks.view(kind)
        whole = [size * stride for size, stride in zip(sizes, strides, strict=True)]
        return blocks.reshape(count, *whole, -1).movedim(-1, 1)


def _at(weight: torch.Tensor, place: Sequence[int | None]) -> torch.Tensor:
    """Return the weights at one place of a kernel, its last axes."""
    for index in reversed(place):
        weight = weight.select(-1, index or 0)
    return weight
