"""brainchop's MeshNets: from TensorFlow.js' layers to :class:`models.networks.MeshNet`.

Keras keeps a kernel as (i, j, k, in, out), torch as (out, in, i, j, k). brainchop marks a
convolution that is followed by instance normalisation (no scale, 1e-5 added to the variance) with
``_gn`` at the end of its name; the file says nothing else of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dicom.errors import CannotImport
from models.importing.tfjs import Activation, BatchNorm, Convolution, Layer, read_layers
from models.networks.meshnet import ACTIVATIONS, MeshNet

_INSTANCE_NORM = "_gn"


@dataclass(frozen=True, slots=True)
class Architecture:
    """The arguments of :class:`models.networks.MeshNet`, as they stand in an inference.json."""

    in_channels: int
    out_channels: int
    channels: int
    dilations: tuple[int, ...]
    activation: str
    instance_norm: bool
    bias: bool


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """A MeshNet in torch's terms: what to build, and the weights to put into it."""

    architecture: Architecture
    state: dict[str, torch.Tensor]

    def network(self) -> MeshNet:
        """Return the network with its weights, ready to predict."""
        network = build(self.architecture)
        network.load_state_dict(self.state)
        return network.eval()


def build(architecture: Architecture) -> MeshNet:
    """Return the network of an architecture, with weights of chance."""
    return MeshNet(
        architecture.in_channels,
        architecture.out_channels,
        architecture.channels,
        architecture.dilations,
        activation=architecture.activation,
        instance_norm=architecture.instance_norm,
        bias=architecture.bias,
    )


def convert_meshnet(folder: Path) -> Converted:
    """Return the MeshNet of a brainchop folder.

    Parameters
    ----------
    folder : Path
        With model.json and the binary files that it names.

    Raises
    ------
    CannotImport
        When it cannot be read, or its layers are not those of a MeshNet.
    """
    *stack, head = _blocks(read_layers(folder))
    first = stack[0] if stack else head
    names = {block.activation for block in stack}
    norms = {block.convolution.name.endswith(_INSTANCE_NORM) for block in stack}
    biases = {block.convolution.bias is not None for block in stack}
    widths = {block.convolution.kernel.shape[4] for block in stack}
    shapes = {block.convolution.kernel.shape[:3] for block in stack}
    if (
        shapes != {(3, 3, 3)}
        or {len(names), len(norms), len(biases), len(widths)} != {1}
        or not names <= ACTIVATIONS.keys()
        or head.convolution.kernel.shape[:3] != (1, 1, 1)
        or head.convolution.bias is None
        or head.activation is not None
    ):
        raise CannotImport(
            "the layers are no MeshNet: equal 3x3x3 convolutions, each with one of "
            f"{', '.join(ACTIVATIONS)}, then one of 1x1x1 without"
        )
    architecture = Architecture(
        in_channels=first.convolution.kernel.shape[3],
        out_channels=head.convolution.kernel.shape[4],
        channels=widths.pop(),
        dilations=tuple(block.convolution.dilation for block in stack),
        activation=str(names.pop()),
        instance_norm=norms.pop(),
        bias=biases.pop(),
    )
    state: dict[str, torch.Tensor] = {}
    for number, block in enumerate(stack):
        state |= _state(f"convolutions.{number}", block.convolution)
    state |= _state("head", head.convolution)
    expected = build(architecture).state_dict()
    for name in sorted(expected):
        if name not in state or state[name].shape != expected[name].shape:
            raise CannotImport(f"the weights of {name} do not fit the layers around them")
    return Converted(architecture, state)


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """A convolution and what follows it."""

    convolution: Convolution
    activation: str | None


def _blocks(layers: tuple[Layer, ...]) -> list[_Block]:
    """Return convolutions with their activations; batch norms are worked into their weights."""
    blocks: list[_Block] = []
    for layer in layers:
        if isinstance(layer, Convolution):
            blocks.append(_Block(layer, None))
            continue
        if not blocks or blocks[-1].activation is not None:
            # After the activation it could not be told from the zeros around the grid.
            raise CannotImport(f"layer {layer.name} does not follow a convolution")
        last = blocks.pop().convolution
        if isinstance(layer, Activation):
            blocks.append(_Block(last, layer.function))
        else:
            blocks.append(_Block(_with_norm(last, layer), None))
    if not blocks:
        raise CannotImport("there is no convolution in it")
    return blocks


def _with_norm(convolution: Convolution, norm: BatchNorm) -> Convolution:
    """Return the convolution that does what it and the batch norm after it do."""
    if norm.scale.shape != convolution.kernel.shape[4:]:
        raise CannotImport(f"layer {norm.name} has another width than the convolution before it")
    bias = norm.shift if convolution.bias is None else norm.shift + norm.scale * convolution.bias
    return Convolution(
        convolution.name, convolution.kernel * norm.scale, bias, convolution.dilation
    )


def _state(name: str, convolution: Convolution) -> dict[str, torch.Tensor]:
    kernel = np.ascontiguousarray(convolution.kernel.transpose(4, 3, 0, 1, 2))
    state = {f"{name}.weight": torch.from_numpy(kernel)}
    if convolution.bias is not None:
        state[f"{name}.bias"] = torch.from_numpy(convolution.bias.copy())
    return state
