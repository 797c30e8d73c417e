"""MeshNet: dilated 3x3x3 convolutions of one width at full resolution, then one voxel to classes.

The network of brainchop's models (Fedorov et al., "End-to-end learning of brain tissue segmentation
from imperfect labeling", IJCNN 2017). There is no pooling and nothing is skipped: all that a voxel
sees it sees through dilation, ``sum(dilations)`` voxels to each side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,  # the exact one, by the error function
    "relu": nn.ReLU,
}


class MeshNet(nn.Module):
    """A stack of dilated convolutions; each keeps the grid by zeros around it.

    Parameters
    ----------
    in_channels, out_channels : int
        Images in, classes out (logits).
    channels : int
        Width of every layer between.
    dilations : sequence of int
        One 3x3x3 convolution each, in this order.
    activation : str
        A name of :data:`ACTIVATIONS`, after each of them.
    instance_norm : bool
        Normalise each channel over the whole grid, before the activation: then a voxel sees the
        whole image, and windows of it give other numbers than the image at once.
    bias : bool
        Whether the dilated convolutions add a bias; the last one always does.

    Attributes
    ----------
    convolutions : nn.ModuleList of nn.Conv3d
        The dilated ones.
    head : nn.Conv3d
        1x1x1, to the classes.
    reach : int
        Voxels that an answer depends on to each side; beyond, for `instance_norm`, on all.

    Raises
    ------
    ValueError
        When there is no layer, or the activation has no such name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int,
        dilations: Sequence[int],
        *,
        activation: str = "relu",
        instance_norm: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if not dilations:
            raise ValueError("a MeshNet has at least one dilated convolution")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is not of {', '.join(ACTIVATIONS)}")
        widths = [in_channels, *[channels] * len(dilations)]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(width, channels, 3, padding=dilation, dilation=dilation, bias=bias)
            for width, dilation in zip(widths, dilations, strict=False)
        )
        # brainchop adds 1e-5 to the variance and learns no scale.
        self.norm = nn.InstanceNorm3d(channels, eps=1e-5) if instance_norm else nn.Identity()
        self.activation = ACTIVATIONS[activation]()
        self.head = nn.Conv3d(channels, out_channels, 1)
        self.reach = sum(dilations)
        self._by_voxel = not instance_norm  # which goes through the image channel by channel

    def forward(self, image_bcijk: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (batch, classes, i, j, k), on the grid of the image."""
        features_bcijk = image_bcijk
        for number, convolution in enumerate(self.convolutions):
            features_bcijk = self.activation(self.norm(convolution(features_bcijk)))
            if number == 0 and self._by_voxel and features_bcijk.device.type == "cpu":
                # A processor is about twice as fast with the few channels of a voxel side by side.
                features_bcijk = features_bcijk.contiguous(memory_format=torch.channels_last_3d)
        logits_bcijk: torch.Tensor = self.head(features_bcijk)
        return logits_bcijk
