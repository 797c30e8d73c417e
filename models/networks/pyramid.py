"""A residual network's levels as a pyramid of features, as RetinaNet looks at them.

MONAI builds the same from torchvision's parts; with these a detection bundle of MONAI's zoo, whose
state dict has the same names, needs no torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from torch import nn

_WIDTH = 256


class Levels(nn.ModuleDict):
    """The layers of a network up to the deepest that is wanted, in their order.

    Parameters
    ----------
    network : Module
        Its children are called one after the other.
    wanted : dict of str to str
        Name of a child to the name that its output gets.
    """

    def __init__(self, network: nn.Module, wanted: dict[str, str]) -> None:
        missing = wanted.keys() - dict(network.named_children()).keys()
        if missing:
            raise ValueError(f"the network has no {', '.join(sorted(missing))}")
        layers: dict[str, nn.Module] = {}
        left = set(wanted)
        for name, layer in network.named_children():
            layers[name] = layer
            left.discard(name)
            if not left:
                break
        super().__init__(layers)
        self._wanted = dict(wanted)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the wanted layers' outputs, the shallowest first."""
        found: dict[str, torch.Tensor] = {}
        for name, layer in self.items():
            image = layer(image)
            if name in self._wanted:
                found[self._wanted[name]] = image
        return found


class FeaturePyramid(nn.Module):
    """Levels of a residual network, and a pyramid over them.

    Attributes
    ----------
    out_channels : int
        Of every level of the pyramid; RetinaNet asks for it.
    """

    def __init__(self, backbone: nn.Module, spatial_dims: int, levels: Sequence[int]) -> None:
        super().__init__()
        if not levels or min(levels) < 1 or max(levels) > 4:
            raise ValueError("a residual network has the levels 1 to 4")
        self.out_channels = _WIDTH
        self.body = Levels(backbone, {f"layer{n}": str(at) for at, n in enumerate(levels)})
        narrow = int(backbone.in_planes) // 8  # type: ignore[arg-type]  # MONAI's ResNet has it
        self.fpn = FeaturePyramidNetwork(
            spatial_dims=spatial_dims,
            in_channels_list=[narrow * 2 ** (n - 1) for n in levels],
            out_channels=_WIDTH,
            extra_blocks=LastLevelMaxPool(spatial_dims),
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the pyramid's levels by name, the finest first."""
        levels: dict[str, torch.Tensor] = self.fpn(self.body(image))
        return levels


def resnet_fpn_feature_extractor(
    backbone: nn.Module,
    spatial_dims: int,
    pretrained_backbone: bool = False,
    returned_layers: Sequence[int] = (1, 2, 3),
    trainable_backbone_layers: int | None = None,
) -> FeaturePyramid:
    """Return the feature extractor of MONAI's function of that name, with its arguments."""
    return FeaturePyramid(backbone, spatial_dims, returned_layers)
