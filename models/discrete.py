"""The channel of the largest value, whatever the order in memory.

torch.argmax along the channels of an image that lies in memory by slices takes 24 s for two
channels of 300 x 512 x 512; comparing channel with channel, plane by plane, takes half a second and
gives the same answer, the first of equal values included.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.transforms.compose import Compose
from monai.transforms.post.array import AsDiscrete
from monai.transforms.post.dictionary import AsDiscreted
from monai.utils.type_conversion import convert_to_dst_type

from models.tensors import plain

_AT_ONCE = 1 << 21  # values that are compared while they lie in a processor's cache


def largest_channel(values: torch.Tensor) -> torch.Tensor:
    """Return the index of the first largest of the channels, as torch.argmax has it.

    Parameters
    ----------
    values : Tensor, shape (channels, ...)
        Finite.

    Returns
    -------
    Tensor, uint8 or int16, shape (1, ...)
    """
    kind = torch.uint8 if len(values) <= 256 else torch.int16
    if len(values) == 1:
        return torch.zeros_like(values, dtype=kind)
    if len(values) == 2:
        return torch.gt(values[1:], values[:1]).to(kind)
    if len(values) <= 255 and values.dim() > 1:
        return _by_rank(values)
    index = torch.zeros_like(values[:1], dtype=kind)
    best = values[:1].clone()
    for channel in range(1, len(values)):
        larger = values[channel : channel + 1] > best
        index[larger] = channel
        best = torch.maximum(best, values[channel : channel + 1])
    return index


def _by_rank(values: torch.Tensor) -> torch.Tensor:
    """Return the first largest of up to 255 channels, by the largest rank of those that equal it.

    Twice as fast as channel after channel, while what is compared stays in the processor's cache.
    """
    count = len(values)
    index = torch.empty_like(values[:1], dtype=torch.uint8)
    shape = (count, *[1] * (values.dim() - 1))
    ranks = torch.arange(count, 0, -1, dtype=torch.uint8, device=values.device).reshape(shape)
    # planes along the axis whose neighbours lie farthest apart in memory
    axis = max(range(1, values.dim()), key=values.stride)
    plane = values.select(axis, 0).numel()
    thick = max(1, _AT_ONCE // max(plane, 1))
    parts, indices = torch.split(values, thick, axis), torch.split(index, thick, axis)
    for part, into in zip(parts, indices, strict=True):
        equal = torch.eq(part, torch.amax(part, 0, keepdim=True)).view(torch.uint8)
        torch.sub(count, torch.amax(equal.mul_(ranks), 0, keepdim=True), out=into)
    return index


class QuickDiscrete(AsDiscrete):
    """MONAI's AsDiscrete, with :func:`largest_channel` for its argmax."""

    def __call__(
        self,
        img: Any,  # noqa: ANN401 - as MONAI has it
        argmax: bool | None = None,
        to_onehot: int | None = None,
        threshold: float | None = None,
        rounding: str | None = None,
    ) -> Any:  # noqa: ANN401 - likewise
        """Return `img` made discrete; arguments as MONAI's."""
        wanted = self.argmax if argmax is None else argmax
        plainly = self.kwargs.get("dim", 0) == 0 and self.kwargs.get("keepdim", True)
        if wanted and plainly and isinstance(img, torch.Tensor) and len(img) > 1:
            img, *_ = convert_to_dst_type(largest_channel(plain(img)), img, dtype=torch.uint8)
            argmax = False
        return super().__call__(img, argmax, to_onehot, threshold, rounding)


def quicken(postprocess: object) -> None:
    """Give every AsDiscreted among a Compose's steps the quick argmax."""
    for step in postprocess.transforms if isinstance(postprocess, Compose) else ():
        if isinstance(step, AsDiscreted):
            old = step.converter
            step.converter = QuickDiscrete(
                argmax=old.argmax,
                to_onehot=old.to_onehot,
                threshold=old.threshold,
                rounding=old.rounding,
                **old.kwargs,
            )
