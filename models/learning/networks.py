"""The network of a plan, and its loss, by the words that a bundle's configuration uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss, DiceLoss
from monai.losses.tversky import TverskyLoss
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.unet import UNet

from models.designs.document import Deep, Design
from models.learning.detecting import CentreLoss
from models.learning.planning import Plan, UNetPlan
from models.networks import BlockNetwork

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_FADING: Final = 0.5  # the weight of each coarser answer, as nnU-Net has it


def network_configuration(plan: Plan) -> dict[str, Any]:
    """Return the network as a bundle's ``network_def``."""
    network = plan.network
    if isinstance(network, Design):
        return {
            "_target_": "BlockNetwork",
            "spatial_dims": plan.dimensions,
            "in_channels": plan.in_channels,
            "out_channels": plan.out_channels,
            **network.model_dump(mode="json", by_alias=True, exclude={"kind"}),
        }
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
    kinds = {"UNet": UNet, "DenseNet": DenseNet, "BlockNetwork": BlockNetwork}
    kind = kinds[arguments.pop("_target_")]
    return cast(torch.nn.Module, kind(**arguments))


def set_learning(network: torch.nn.Module, plan: Plan) -> None:
    """Let a network learn, but for its frozen blocks: their weights stay, and their norms' figures.

    A batch norm that went on counting would change what a frozen block says.
    """
    network.train()
    for block in plan.frozen:
        for module in modules_of(network, plan, block):
            module.eval()
            module.requires_grad_(requires_grad=False)


def modules_of(network: torch.nn.Module, plan: Plan, block: str) -> list[torch.nn.Module]:
    """Return what a block that is drawn consists of; a join consists of nothing."""
    found: dict[str, list[Any]] = {}
    if isinstance(plan.network, Design):
        found = {name: [module] for name, module in cast(Any, network).blocks.items()}
    elif isinstance(plan.network, UNetPlan):
        level, deeper = 0, cast(Any, network).model
        for level in range(len(plan.network.strides)):
            found[f"in{level}"], found[f"up{level}"] = [deeper[0]], [deeper[2]]
            deeper = deeper[1].submodule
        found["bottom"] = [deeper]
    else:
        features = cast(Any, network).features
        found = {"stem": [features.conv0, features.norm0]}
        for at in range(1, len(plan.network.layers) + 1):
            found[f"dense{at}"] = [getattr(features, f"denseblock{at}")]
            if hasattr(features, f"transition{at}"):
                found[f"down{at}"] = [getattr(features, f"transition{at}")]
        found["answer"] = [features.norm5, cast(Any, network).class_layers]
    return found.get(block, [])


def build_loss(plan: Plan) -> Loss:
    """Return the loss of logits, shape (batch, channels, ...), against a feed's targets.

    Logits of several sizes, as deep supervision gives them, count less the coarser they are.
    """
    loss = _loss_of_one(plan)
    design = plan.network
    if isinstance(design, Design) and any(isinstance(block, Deep) for block in design.block):
        return partial(_loss_of_each, loss)
    return loss


def _loss_of_each(
    loss: Loss, answers: torch.Tensor | Sequence[torch.Tensor], targets: torch.Tensor
) -> torch.Tensor:
    found = [answers] if isinstance(answers, torch.Tensor) else list(answers)
    weights = [_FADING**at for at in range(len(found))]
    losses = [
        weight * loss(logits, _resized(targets, logits))
        for weight, logits in zip(weights, found, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def _resized(targets: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return targets on the grid of logits, by the nearest voxel; of whole images as they are."""
    size = logits.shape[2:]
    if targets.ndim < 3 or targets.shape[2:] == size:
        return targets
    finer = torch.nn.functional.interpolate(targets.float(), size=size, mode="nearest-exact")
    return finer.to(targets.dtype)


def _loss_of_one(plan: Plan) -> Loss:
    if plan.typical_box is not None:
        return CentreLoss(plan.classes, plan.typical_box)
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
