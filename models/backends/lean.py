"""A network's copy with the same answers and less work: fewer bits, no norm beside a convolution.

Five things cost time in a network that was written to be trained. A batch norm after a
convolution is, once trained, part of its weights. The norms of single images go through an image
with few channels once a channel, which with the channels of a voxel side by side is slow. And under
autocast weights and features are turned into 16 bits and back for every image. An activation keeps
what it was given, for a gradient that nobody asks for. A transposed convolution with few channels
leaves a processor's units empty (:mod:`models.backends.interleaved`).
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.backends.interleaved import Interleaved, interleave

_FORWARD = (nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Hardswish, nn.SiLU, nn.ReLU6)
_FEW_CHANNELS = 16  # that fill no register of a processor


def lean(network: nn.Module, kind: torch.dtype) -> nn.Module:
    """Return a copy of a network on the CPU for windows of another kind of float.

    Parameters
    ----------
    network : Module
        Ready to predict.
    kind : dtype
        Of weights and windows, such as ``torch.bfloat16``; norms of single images compute their
        sums in float32.

    Returns
    -------
    Module
        For windows with the channels of a voxel side by side; its answers are of `kind`.
    """
    with torch.inference_mode(False), torch.no_grad():
        made = simplified(network)
        _quicken_instance_norms(made)
        _overwrite_in_activations(made)
        made.to(kind)
        for each in made.parameters():
            if each.dim() in (4, 5):
                beside = torch.channels_last_3d if each.dim() == 5 else torch.channels_last
                each.data = each.data.contiguous(memory_format=beside)
        return made.eval()


def simplified(network: nn.Module, *, in_blocks: bool = True) -> nn.Module:
    """Return a copy of a network that does the same sums in fewer steps, whoever does them.

    Parameters
    ----------
    network : Module
        Ready to predict; not under inference mode, whose tensors cannot be changed.
    in_blocks : bool
        Whether transposed convolutions may become blocks, which are traced for one size.
    """
    made = copy.deepcopy(network)
    _fold_batch_norms(made)
    if in_blocks:
        interleave(made)
    return made


class _InstanceNorm(nn.Module):
    """torch's instance norm by its group norm, which takes any order in memory."""

    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> None:
        super().__init__()
        self._channels, self._eps = norm.num_features, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self._channels < _FEW_CHANNELS:
            features = features.contiguous()
        return nn.functional.group_norm(features, self._channels, self.weight, self.bias, self._eps)


def _quicken_instance_norms(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _INSTANCE_NORMS) and not child.track_running_stats:
                setattr(module, name, _InstanceNorm(child))


def _fold_batch_norms(network: nn.Module) -> None:
    """Work the batch norms that follow a convolution in a Sequential into its weights."""
    places = _places(network)
    for module in list(network.modules()):
        if not _is_plain(module):
            continue
        for step, after in itertools.pairwise(_in_a_row(module)):
            (parent, name, first), (parent_of_norm, name_of_norm, norm) = step, after
            if places[id(first)] == places[id(norm)] == 1:
                folded = _folded(first, norm)
                if folded is not None:
                    parent._modules[name] = folded
                    parent_of_norm._modules[name_of_norm] = nn.Identity()


def _places(network: nn.Module) -> Counter[int]:
    """Return in how many places each module stands; twice in one Sequential are two."""
    return Counter(id(child) for each in network.modules() for child in each._modules.values())


def _overwrite_in_activations(network: nn.Module) -> None:
    """Let activations overwrite what the step before them made, which nothing else looks at."""
    places = _places(network)
    fresh = (*_FORWARD, *_TRANSPOSED, *_BATCH_NORMS, *_INSTANCE_NORMS, _InstanceNorm, Interleaved)
    for module in list(network.modules()):
        if not _is_plain(module):
            continue
        for (_, _, first), (_, _, after) in itertools.pairwise(_in_a_row(module)):
            alone = places[id(first)] == places[id(after)] == 1
            of_its_own = type(first) in fresh and type(after) in _ACTIVATIONS
            if alone and of_its_own and isinstance(after, _ACTIVATIONS):
                after.inplace = True


def _folded(first: nn.Module, norm: nn.Module) -> nn.Module | None:
    """Return the convolution that does what it and the norm after it do; None: they are others."""
    # subclasses may do more
    if not isinstance(norm, _BATCH_NORMS) or norm.running_mean is None:
        return None
    if type(norm) not in _BATCH_NORMS:
        return None
    if isinstance(first, _FORWARD) and type(first) in _FORWARD:
        return fuse_conv_bn_eval(first, norm)
    if isinstance(first, _TRANSPOSED) and type(first) in _TRANSPOSED and first.groups == 1:
        return fuse_conv_bn_eval(first, norm, transpose=True)
    return None


def _in_a_row(sequential: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Give what a Sequential does, step by step: where it stands, its name, and itself."""
    for name, child in sequential._modules.items():
        if child is None or isinstance(child, nn.Identity | nn.Dropout | nn.Dropout3d):
            continue
        if _is_plain(child):
            yield from _in_a_row(child)
        else:
            yield sequential, name, child


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module does what a Sequential does, and no more."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
