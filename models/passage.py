"""There and back: a bundle's way to its network's grid and home again, each in one pass.

Most bundles begin with EnsureChannelFirstd, Orientationd, Spacingd, and end with Invertd and an
argmax or a threshold. Step by step, MONAI copies the whole volume for each of them, and brings home
every channel at full size to ask which is the largest. Here MONAI is asked what its steps would do,
on an image that holds nothing; :mod:`models.regrid` then does it, a few slices at a time. What is
recorded of the steps is MONAI's, so that a step which inverts them by itself finds what it needs.

Anything else than these steps goes MONAI's way: :meth:`Passage.of` is None, or `fits` says no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.post.dictionary import Activationsd, AsDiscreted, Invertd
from monai.transforms.spatial.dictionary import Orientationd, Spacingd
from monai.transforms.utility.dictionary import EnsureChannelFirstd
from monai.transforms.utils import allow_missing_keys_mode
from monai.utils.enums import LazyAttr, TraceKeys
from numpy.typing import NDArray

from models.prediction import Floats, Image
from models.regrid import (
    MOST_CHANNELS,
    Along,
    Axes,
    Padding,
    above_at,
    interpolated,
    largest_at,
)
from models.tensors import plain

Data: TypeAlias = dict[str, Any]
Finish: TypeAlias = Literal["argmax"] | float
"""The largest channel, or a threshold from which on a voxel is in its channel's segment."""

_PARALLEL: Final = 1e-6  # as models.separable has it
_WAITING: Final = (LazyAttr.SHAPE, LazyAttr.AFFINE)
_PLAIN: Final = frozenset(np.dtype(kind) for kind in ("u1", "i1", "u2", "i2", "f4"))


@dataclass(frozen=True, slots=True, eq=False)
class Grids:
    """What MONAI's steps have done, or would do, to one image.

    Attributes
    ----------
    source, turned, made : ndarray, float64, shape (4, 4)
        From index (i, j, k, 1) to RAS of the image as it came, turned, and resampled.
    counts : tuple of int
        Voxels of the source's axes, i, j, k.
    size : tuple of int
        Of the network's axes.
    """

    source: Floats
    turned: Floats
    made: Floats
    counts: tuple[int, ...]
    size: tuple[int, ...]
    padding: Padding

    def axes_there(self) -> tuple[tuple[int, ...], Axes] | None:
        """Return which of (i, j, k) each network axis is, and its places on that; None if none."""
        turn = self._turn()
        scale = _parallel(self.turned, self.made)
        if turn is None or scale is None:
            return None
        along: dict[int, Along] = {}
        for axis, (of_source, mirrored) in enumerate(turn):
            count = self.counts[of_source]
            places = np.arange(self.size[axis]) * scale[0][axis] + scale[1][axis]
            here = Along.at(places, count, self.padding)
            along[of_source] = here.mirrored(count) if mirrored else here
        return tuple(of_source for of_source, _ in turn), (along[2], along[1], along[0])

    def axes_back(self) -> tuple[tuple[int, ...], Axes] | None:
        """Return which network axis each of (i, j, k) is, and its places on that; None if none."""
        turn = self._turn()
        scale = _parallel(self.made, self.turned)
        if turn is None or scale is None:
            return None
        network_axis: dict[int, int] = {}
        along: dict[int, Along] = {}
        for axis, (of_source, mirrored) in enumerate(turn):
            places = np.arange(self.counts[of_source]) * scale[0][axis] + scale[1][axis]
            here = Along.at(places, self.size[axis], self.padding)
            network_axis[of_source] = axis
            along[of_source] = here.backwards() if mirrored else here
        return (network_axis[0], network_axis[1], network_axis[2]), (along[2], along[1], along[0])

    def _turn(self) -> list[tuple[int, bool]] | None:
        """Return, for each turned axis, which source axis it is, and whether it runs backwards."""
        steps = np.linalg.solve(self.source, self.turned)[:3, :3]
        signs = np.rint(steps)
        if not np.allclose(steps, signs, atol=_PARALLEL) or (np.abs(signs).sum(axis=0) != 1).any():
            return None
        of_source = np.abs(signs).argmax(axis=0)
        return [(int(n), bool(signs[n, axis] < 0)) for axis, n in enumerate(of_source)]


def _parallel(source: Floats, target: Floats) -> tuple[Floats, Floats] | None:
    """Return scale and shift of each axis, from the target's places to the source's."""
    matrix = np.linalg.solve(source, target)
    scale = np.asarray(np.diagonal(matrix)[:3], np.float64)
    if (np.abs(matrix[:3, :3] - np.diag(scale)) >= _PARALLEL).any():
        return None
    shift = np.asarray(matrix[:3, 3], np.float64)
    return scale, shift


class Passage:
    """A bundle's way to its network's grid.

    Parameters
    ----------
    head, tail : Compose
        Steps up to Spacingd, and after it.
    """

    def __init__(self, head: Compose, tail: Compose) -> None:
        self.head = head
        self.tail = tail

    @classmethod
    def of(cls, preprocess: object) -> Passage | None:
        """Return the passage of a preprocessing; None where it does not begin as most do."""
        if not isinstance(preprocess, Compose):
            return None
        steps = list(preprocess.transforms)
        known = (EnsureChannelFirstd, Orientationd, Spacingd)
        count = next((n for n, step in enumerate(steps) if type(step) is Spacingd), -1) + 1
        head = steps[:count]
        order = [known.index(type(step)) if type(step) in known else -1 for step in head]
        if not head or order != sorted(set(order)) or order[0] != 0:
            return None
        if any(step.lazy for step in head[1:]) or len({tuple(step.keys) for step in head}) != 1:
            return None
        spacing = head[-1]
        if spacing.spacing_transform.recompute_affine or any(spacing.scale_extent):
            return None
        if preprocess.lazy is not False or preprocess.map_items is not True:
            return None
        return cls(Compose(head), Compose(steps[count:]))

    def forth(self, images: Mapping[str, tuple[Image, MetaTensor]], threads: int) -> Data | None:
        """Return what the whole preprocessing gives; None where MONAI has to do it.

        Parameters
        ----------
        images : Mapping
            By the keys of the preprocessing: an image, and what the preprocessing would be given,
            of which the voxels are not looked at.
        """
        if set(images) != set(self.head.transforms[0].keys):
            return None
        data: Data = {key: stand_in for key, (_, stand_in) in images.items()}
        for step in self.head.transforms:
            data = step(data, lazy=True) if hasattr(step, "lazy") else step(data)
        ready: Data = {}
        for key, (image, _) in images.items():
            made = _resampled(image, data[key], threads)
            if made is None:
                return None
            ready[key] = made
        done = self.tail(ready)
        return done if isinstance(done, dict) else None


class WayHome:
    """The steps from the network's answer to a map on the source's grid.

    Parameters
    ----------
    tail : Compose
        The preprocessing after Spacingd.
    before : Compose
        Steps on the network's grid.
    invert : Invertd
        What leads home, of the answer alone.
    finish : "argmax" or float
        What is done there, for each voxel by itself.
    after : Compose
        What is left to do with a map.
    """

    def __init__(
        self, tail: Compose, before: Compose, invert: Invertd, finish: Finish, after: Compose
    ) -> None:
        self.tail = tail
        self.before = before
        self.invert = invert
        self.finish: Finish = finish
        self.after = after

    @classmethod
    def of(
        cls,
        passage: Passage | None,
        preprocess: object,
        postprocess: object,
        name: str,
        threshold: float | None,
    ) -> WayHome | None:
        """Return it; None where the postprocessing has other steps.

        Parameters
        ----------
        passage : Passage or None
            Of the preprocessing.
        name : str
            The key of the answer.
        threshold : float or None
            What is done after the postprocessing.
        """
        if passage is None:
            return None
        tail = passage.tail
        steps = list(postprocess.transforms) if isinstance(postprocess, Compose) else []
        places = [n for n, step in enumerate(steps) if type(step) is Invertd]
        if len(places) != 1:
            return None
        (at,) = places
        invert, rest = steps[at], steps[at + 1 :]
        simple = not any((*invert.nearest_interp, *invert.post_func, *invert.device))
        if not simple or tuple(invert.keys) != (name,) or invert.transform is not preprocess:
            return None
        if threshold is not None:
            if rest:
                return None
            return cls(tail, Compose(steps[:at]), invert, threshold, Compose([]))
        if rest and is_softmax(rest[0], name):
            rest = rest[1:]
        if not rest or not is_argmax(rest[0], name):
            return None
        return cls(tail, Compose(steps[:at]), invert, "argmax", Compose(rest[1:]))

    def back(self, left: Data, source: MetaTensor, threads: int) -> Data | None:
        """Return what the postprocessing leaves, as maps; None where MONAI has to do it.

        Parameters
        ----------
        left : dict
            The answer, and what the preprocessing left.
        source : MetaTensor
            What the preprocessing was given: its affine and its shape, (i, j, k).

        Returns
        -------
        dict
            With the answer on the source's grid, shape (c, i, j, k): the number of the largest
            channel, or for each channel whether it reaches the threshold.
        """
        name, key = str(self.invert.keys[0]), str(self.invert.orig_keys[0])
        left = self.before(left)
        answer, image = left.get(name), left.get(key)
        if not isinstance(answer, MetaTensor) or not isinstance(image, MetaTensor):
            return None
        if self.finish == "argmax" and not 2 <= len(answer) <= MOST_CHANNELS:
            return None
        home = _before_tail(answer, image, self.tail, key)
        grids = _grids_done(home, source)
        turned = grids.axes_back() if grids is not None else None
        if turned is None:
            return None
        (i, j, k), axes = turned
        channels_ckji = plain(home).detach().float().cpu().numpy().transpose(0, k + 1, j + 1, i + 1)
        found: NDArray[Any]
        if self.finish == "argmax":
            found = largest_at(channels_ckji, axes, threads=threads)[None]
        else:
            found = above_at(channels_ckji, axes, self.finish, threads=threads).view(np.uint8)
        map_cijk = torch.from_numpy(found.transpose(0, 3, 2, 1))
        if self.after.transforms:
            map_cijk = map_cijk.float()  # as AsDiscreted gives it
        done = self.after({**left, name: MetaTensor(map_cijk, meta=deepcopy(dict(source.meta)))})
        return done if isinstance(done, dict) else None


def is_softmax(step: object, name: str) -> bool:
    """Return whether a step is a softmax of the answer and no more: it changes no argmax."""
    if not isinstance(step, Activationsd) or tuple(step.keys) != (name,):
        return False
    return all(step.softmax) and not any((*step.sigmoid, *step.other))


def is_argmax(step: object, name: str) -> bool:
    """Return whether a step is an argmax over the answer's channels and no more."""
    if not isinstance(step, AsDiscreted) or tuple(step.keys) != (name,):
        return False
    others = (*step.to_onehot, *step.rounding)
    if not all(step.argmax) or any(others) or step.threshold[0] is not None:
        return False
    options = step.converter.kwargs
    return bool(options.get("dim", 0) == 0 and options.get("keepdim", True))


# --- what MONAI's steps do ----------------------------------------------------------------------


def _resampled(image: Image, pending: MetaTensor, threads: int) -> MetaTensor | None:
    """Return an image as steps would leave it that wait on a stand-in of it."""
    operations = pending.pending_operations
    if image.is_colour or image.voxels.dtype not in _PLAIN or not operations:
        return None
    source = plain(pending.affine).double().numpy()
    made = plain(pending.peek_pending_affine()).double().numpy()  # type: ignore[no-untyped-call]  # MONAI's
    size = tuple(int(n) for n in pending.peek_pending_shape())  # type: ignore[no-untyped-call]  # MONAI's
    grids = _grids(operations, source, made, image.shape_kji[::-1], size)
    turned = grids.axes_there() if grids is not None else None
    if turned is None:
        return None
    of_source, axes = turned
    voxels = torch.from_numpy(interpolated(image.voxels, axes, threads=threads))
    # (k, j, i) as in memory; which of these is the network's first, second, third axis
    voxels = voxels.permute(*(2 - axis for axis in of_source))[None]
    result = MetaTensor(voxels, meta=deepcopy(pending.meta))
    result.affine = torch.from_numpy(made)
    for operation in operations:
        done = {name: value for name, value in operation.items() if name not in _WAITING}
        result.push_applied_operation({**done, TraceKeys.LAZY: False})
    return result


def _before_tail(answer: MetaTensor, image: MetaTensor, tail: Compose, key: str) -> MetaTensor:
    """Return the answer as it was before the steps after Spacingd, which MONAI inverts."""
    inputs = MetaTensor(plain(answer).detach(), meta=deepcopy(dict(image.meta)))
    inputs.applied_operations = deepcopy(image.applied_operations)
    steps = tail.flatten().transforms  # type: ignore[no-untyped-call]  # MONAI's
    if not any(isinstance(step, InvertibleTransform) for step in steps):
        return inputs
    with allow_missing_keys_mode(tail):
        inverted = tail.inverse({key: inputs})[key]  # type: ignore[no-untyped-call]  # MONAI's
    return inverted if isinstance(inverted, MetaTensor) else inputs


def _grids_done(home: MetaTensor, source: MetaTensor) -> Grids | None:
    made = plain(home.affine).double().cpu().numpy()
    start = plain(source.affine).double().cpu().numpy()
    counts, size = tuple(source.shape[-3:]), tuple(home.shape[1:])
    return _grids(home.applied_operations, start, made, counts, size)


def _grids(
    operations: Sequence[Mapping[str, Any]],
    source: Floats,
    made: Floats,
    counts: tuple[int, ...],
    size: tuple[int, ...],
) -> Grids | None:
    """Return the grids of a turn and a resampling, or of a resampling; None where it is not so."""
    names = [operation["class"] for operation in operations]
    if names not in (["Orientation", "SpatialResample"], ["SpatialResample"]):
        return None
    resampling = operations[-1]["extra_info"]
    if resampling["mode"] != "bilinear" or resampling["padding_mode"] not in ("border", "zeros"):
        return None
    turned = plain(torch.as_tensor(resampling["src_affine"])).double().cpu().numpy()
    if turned.shape != (4, 4) or source.shape != (4, 4) or made.shape != (4, 4):
        return None
    return Grids(source, turned, made, counts, size, resampling["padding_mode"])
