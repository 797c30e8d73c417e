"""The network of a plan, and its loss: MONAI's, by the words that a bundle's configuration uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss, DiceLoss
from monai.losses.tversky import TverskyLoss
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet

from models.learning.planning import Plan, UNetPlan

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def network_configuration(plan: Plan) -> dict[str, Any]:
    """Return the network as a bundle's ``network_def``."""
    network = plan.network
    if isinstance(network, UNetPlan):
        return {
            "_target_": "UNet",
            "spatial_dims": plan.dimensions,
            "in_channels": plan.in_channels,
            "out_channels": plan.out_channels,
            "channels": list(network.channels),
            "strides": list(network.strides),
            "num_res_units": network.residual_units,
            "norm": "INSTANCE",
            "act": "LEAKYRELU",
            "dropout": network.dropout,
        }
    return {
        "_target_": "DenseNet",
        "spatial_dims": plan.dimensions,
        "in_channels": plan.in_channels,
        "out_channels": plan.out_channels,
        "init_features": network.first_channels,
        "growth_rate": network.growth,
        "block_config": list(network.layers),
        "dropout_prob": network.dropout,
    }


def build_network(plan: Plan) -> torch.nn.Module:
    """Return the network with weights that PyTorch's generator draws now."""
    arguments = network_configuration(plan)
    kind = {"UNet": UNet, "DenseNet": DenseNet}[arguments.pop("_target_")]
    return cast(torch.nn.Module, kind(**arguments))


def build_loss(plan: Plan) -> Loss:
    """Return the loss of logits, shape (batch, channels, ...), against a feed's targets."""
    overlap = plan.task == "multilabel"
    dice: dict[str, Any] = {
        "softmax": not overlap,
        "sigmoid": overlap,
        "to_onehot_y": not overlap,
        "include_background": overlap,
        "smooth_nr": 1e-5,
        "smooth_dr": 1e-5,
        "batch": True,
    }
    if plan.loss == "dice_ce":
        return DiceCELoss(**dice)
    if plan.loss == "dice_focal":
        return DiceFocalLoss(**dice)
    if plan.loss == "tversky":
        return TverskyLoss(**dice, alpha=0.3, beta=0.7)  # what is missed costs more
    if plan.loss == "cross_entropy":
        return _cross_entropy
    one_by_one = torch.nn.BCEWithLogitsLoss()
    if plan.loss == "bce":
        return lambda logits, targets: one_by_one(*_as_masks(logits, targets, overlap=overlap))
    dice_loss = DiceLoss(**dice)
    return lambda logits, targets: cast(
        torch.Tensor,
        dice_loss(logits, targets) + one_by_one(*_as_masks(logits, targets, overlap=overlap)),
    )


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    classes = targets[:, 0] if targets.ndim > 1 else targets
    return torch.nn.functional.cross_entropy(logits, classes)


def _as_masks(
    logits: torch.Tensor, targets: torch.Tensor, *, overlap: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    if overlap:
        return logits, targets
    numbers = torch.arange(logits.shape[1], device=targets.device)
    numbers = numbers.view(1, -1, *[1] * (targets.ndim - 2))
    return logits, (targets == numbers).float()
