"""Instance norms that learn as quickly as convolutions like their maps to lie in memory.

On a processor convolutions are quickest on maps whose channels lie side by side. PyTorch's instance
norm turns such a map around, there and back, which costs more than is won; its batch norm does not.
An instance norm is a batch norm of each image by itself.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

_NORM = torch.ops.aten.native_batch_norm
_BACK = torch.ops.aten.native_batch_norm_backward
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def with_quick_norms(network: nn.Module) -> nn.Module:
    """Return the network, its instance norms changed in place for those of this file.

    Weights keep their names, and what is computed is the same, up to rounding.
    """
    for name, module in network.named_children():
        if isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d):
            if not module.track_running_stats:
                setattr(network, name, _QuickNorm(module))
        else:
            with_quick_norms(module)
    return network


class _QuickNorm(nn.Module):
    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps = norm.eps

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return each channel of each image with mean 0 and deviation 1, then weight and bias."""
        last = _LAST[given.ndim]
        is_one = given[0, 0].numel() == 1  # which PyTorch's own refuses
        if given.device.type != "cpu" or is_one or not given.is_contiguous(memory_format=last):
            return nn.functional.instance_norm(
                given, weight=self.weight, bias=self.bias, eps=self.eps
            )
        each: Any = _EachByItself  # its `apply` has no type
        return cast(torch.Tensor, each.apply(given, self.weight, self.bias, self.eps))


class _EachByItself(torch.autograd.Function):
    """A batch norm of each image of a batch; maps of shape (batch, channels, x, y[, z])."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - PyTorch's own, which has no type
        given: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
    ) -> torch.Tensor:
        made, kept = torch.empty_like(given), []
        for at in range(len(given)):
            one, *figures = _NORM(given[at : at + 1], weight, bias, None, None, True, 0.0, eps)
            made[at : at + 1] = one
            kept += figures  # mean, and one by the deviation
        ctx.save_for_backward(given, weight, *kept)
        ctx.eps = eps
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        given, weight, *kept = ctx.saved_tensors
        below, to_weight, to_bias = torch.empty_like(given), None, None
        wanted = [True, weight is not None, weight is not None]
        above = above.contiguous(memory_format=_LAST[above.ndim])
        for at in range(len(given)):
            one, *rest = _BACK(
                above[at : at + 1],
                given[at : at + 1],
                weight,
                None,
                None,
                *kept[2 * at : 2 * at + 2],
                True,
                ctx.eps,
                wanted,
            )
            below[at : at + 1] = one
            if weight is not None:
                to_weight = rest[0] if to_weight is None else to_weight + rest[0]
                to_bias = rest[1] if to_bias is None else to_bias + rest[1]
        return below, to_weight, to_bias, None
