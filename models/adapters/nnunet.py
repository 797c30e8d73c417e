"""nnU-Net v2 around its network: preprocessing, windows and the way back, as its plans say.

nnU-Net thinks in arrays with the slice first, (k, j, i), which its plans may transpose again; the
axes of the network's grid are called ``n`` here. Of nnU-Net's packages only
dynamic_network_architectures is needed, for the network itself. All else follows the published
method (Isensee et al., Nature Methods 2021) and is compared with nnU-Net's own predictor by a test:

1. transpose, cut to what is not zero, normalise (on the original voxels), resample by splines of
   order 3; where one axis is more than three times coarser, only in its planes, and along it to the
   nearest;
2. windows that overlap by half or more, evenly spread, weighted by a Gaussian of an eighth of their
   length; each averaged over mirrored copies, and over the folds;
3. logits back to the voxels of 1 by order 1, class by class, then the highest wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations, product
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from dicom.errors import InvalidBundle, MissingPackage

Floats: TypeAlias = NDArray[np.float32]
Scheme = Literal[
    "CTNormalization",
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
]

ARCHITECTURES = re.compile(r"dynamic_network_architectures\.architectures\.\w+\.[A-Z]\w*")
_TORCH = re.compile(r"torch\.nn\.(\w+\.)*[A-Z]\w*")
_ANISOTROPIC = 3.0
_CASE = "nnunet_case"


@dataclass(frozen=True, slots=True)
class Case:
    """How one image came to the network's grid, to undo it.

    Attributes
    ----------
    affine_ras : tuple of tuple of float
        Of the image before, from (i, j, k) to RAS, mm.
    shape_n : tuple of int
        Of the image before, axes transposed as the plans say.
    begin_n, cut_n : tuple of int
        Where the part that is not zero begins, and its shape.
    spacing_n, target_n : tuple of float
        mm before and after resampling.
    order : tuple of int
        The plans' transposition of (k, j, i).
    """

    affine_ras: tuple[tuple[float, ...], ...]
    shape_n: tuple[int, ...]
    begin_n: tuple[int, ...]
    cut_n: tuple[int, ...]
    spacing_n: tuple[float, ...]
    target_n: tuple[float, ...]
    order: tuple[int, ...]


class NnunetPreprocessd(MapTransform):
    """Bring an image (channel, i, j, k) to the network's grid, as nnU-Net's preprocessor does.

    Parameters
    ----------
    keys : str or sequence of str
        Of the image.
    spacing_mm : sequence of float
        Of the network's grid, in its axes.
    transpose : sequence of int
        The plans' ``transpose_forward``.
    schemes : sequence of str
        Normalisation of each channel, by nnU-Net's names.
    use_mask : sequence of bool
        Whether a channel's mean and deviation are those of what is not zero.
    intensities : sequence of mapping
        For each channel mean, std, percentile_00_5 and percentile_99_5 of the training images.
    """

    def __init__(
        self,
        keys: str | Sequence[str],
        spacing_mm: Sequence[float],
        transpose: Sequence[int],
        schemes: Sequence[Scheme],
        use_mask: Sequence[bool],
        intensities: Sequence[Mapping[str, float]],
    ) -> None:
        super().__init__(keys)
        self._spacing_mm = tuple(float(each) for each in spacing_mm)
        self._order = tuple(int(axis) for axis in transpose)
        if sorted(self._order) != [0, 1, 2] or len(self._spacing_mm) != 3:
            raise ValueError("a grid has three axes, and a spacing for each")
        self._channels = tuple(zip(schemes, use_mask, intensities, strict=True))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the image on the network's grid."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = self._prepared(found[key])
        return found

    def _prepared(self, image_cijk: MetaTensor) -> MetaTensor:
        if image_cijk.ndim != 4 or image_cijk.shape[0] != len(self._channels):
            raise InvalidBundle(
                f"nnU-Net's plans are for {len(self._channels)} channels of three axes,"
                f" not for an image of shape {tuple(image_cijk.shape)}"
            )
        affine = image_cijk.affine.numpy().astype(np.float64)
        image_ckji = image_cijk.as_tensor().cpu().numpy().transpose(0, 3, 2, 1)
        image_cn = image_ckji.transpose(0, *(axis + 1 for axis in self._order)).astype(np.float32)
        axes_ijk = [2 - axis for axis in self._order]  # of the image before, for each of n
        spacing_n = [float(np.linalg.norm(affine[:3, axis])) for axis in axes_ijk]
        mask_n = ndimage.binary_fill_holes((image_cn != 0).any(axis=0))
        part = _box(mask_n)
        cut_cn, mask_n = image_cn[(slice(None), *part)].copy(), mask_n[part]
        for channel, (scheme, use_mask, intensity) in zip(cut_cn, self._channels, strict=True):
            _normalise(channel, scheme, mask_n if use_mask else None, intensity)
        shape = [
            round(size * old / new)
            for size, old, new in zip(mask_n.shape, spacing_n, self._spacing_mm, strict=True)
        ]
        through = _coarse_axis(spacing_n, self._spacing_mm)
        ready_cn = np.stack([_resized(channel, shape, 3, through) for channel in cut_cn])
        begin = [each.start for each in part]
        case = Case(
            affine_ras=tuple(tuple(float(value) for value in row) for row in affine),
            shape_n=image_cn.shape[1:],
            begin_n=tuple(begin),
            cut_n=mask_n.shape,
            spacing_n=tuple(spacing_n),
            target_n=self._spacing_mm,
            order=self._order,
        )
        steps = [old / new for old, new in zip(mask_n.shape, shape, strict=True)]
        grid = np.eye(4)
        grid[:3, :3] = affine[:3, axes_ijk] * steps
        corner = np.zeros(3)
        for axis, first, step in zip(axes_ijk, begin, steps, strict=True):
            corner[axis] = first + step / 2 - 0.5
        grid[:3, 3] = affine[:3, :3] @ corner + affine[:3, 3]
        meta = {**image_cijk.meta, "affine": torch.from_numpy(grid), _CASE: case}
        return MetaTensor(torch.from_numpy(ready_cn), meta=meta)


class NnunetRestored(MapTransform):
    """Turn logits on the network's grid into nnU-Net's labels on the image's own, (1, i, j, k).

    Parameters
    ----------
    keys : str or sequence of str
        Of the logits; they carry the image's metadata.
    regions : sequence of int, or None
        For a model that was trained on regions: the label that each channel writes where its
        probability is above one half, in this order. None: the highest channel wins.
    """

    def __init__(self, keys: str | Sequence[str], regions: Sequence[int] | None = None) -> None:
        super().__init__(keys)
        self._regions = None if regions is None else tuple(int(label) for label in regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with labels in place of the logits."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = self._restored(found[key])
        return found

    def _restored(self, logits_cn: MetaTensor) -> MetaTensor:
        case = logits_cn.meta.get(_CASE)
        if not isinstance(case, Case):
            raise InvalidBundle("NnunetRestored stands after NnunetPreprocessd only")
        through = _coarse_axis(case.target_n, case.spacing_n)
        labels_n = np.zeros(case.cut_n, dtype=np.int16)
        highest_n: Floats | None = None
        # One class at a time: all of them at the size of the image would not fit.
        for channel, logits_n in enumerate(logits_cn.as_tensor().float().cpu().numpy()):
            here_n = _resized(logits_n, case.cut_n, 1, through)
            if self._regions is not None:
                labels_n[here_n > 0] = self._regions[channel]  # sigmoid above one half
            elif highest_n is None:
                highest_n = here_n
            else:
                better_n = here_n > highest_n
                labels_n[better_n] = channel
                np.maximum(highest_n, here_n, out=highest_n)
        whole_n = np.zeros(case.shape_n, dtype=np.float32)
        part = zip(case.begin_n, case.cut_n, strict=True)
        whole_n[tuple(slice(begin, begin + size) for begin, size in part)] = labels_n
        labels_kji = whole_n.transpose(np.argsort(case.order))
        labels_ijk = np.ascontiguousarray(labels_kji.transpose(2, 1, 0))
        affine = torch.tensor(case.affine_ras, dtype=torch.float64)
        return MetaTensor(torch.from_numpy(labels_ijk)[None], affine=affine)


class EvenWindows(Inferer):
    """Lay windows over an image as nnU-Net does: evenly spread, the ends met exactly.

    Parameters
    ----------
    roi_size : sequence of int
        Voxels of a window along each axis.
    overlap : float
        Least share that neighbours have in common, 0 to less than 1.
    """

    def __init__(self, roi_size: Sequence[int], overlap: float = 0.5) -> None:
        super().__init__()
        self.roi_size = tuple(int(length) for length in roi_size)
        self.overlap = float(overlap)
        if not 0 <= self.overlap < 1:
            raise ValueError("the overlap is a share from 0 to less than 1")
        self._weights = torch.from_numpy(_gaussian(self.roi_size))

    def __call__(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        *_: object,
        **__: object,
    ) -> torch.Tensor:
        """Return the network's answer for the whole image (batch, channel, three axes)."""
        padded, inner = self._padded(inputs)
        weights = self._weights.to(inputs.device)
        total: torch.Tensor | None = None
        share = torch.zeros(padded.shape[2:], device=inputs.device)
        for begin in product(*self._begins(padded.shape[2:])):
            place: tuple[Any, ...] = tuple(
                slice(first, first + size) for first, size in zip(begin, self.roi_size, strict=True)
            )
            answer = network(padded[(..., *place)].contiguous()).float()
            if total is None:
                shape = (*answer.shape[:2], *padded.shape[2:])
                total = torch.zeros(shape, device=inputs.device)
            total[(..., *place)] += answer * weights
            share[place] += weights
        if total is None:
            raise InvalidBundle("an image without voxels has no windows")
        total /= share
        return total[(..., *inner)]

    def _begins(self, shape: Sequence[int]) -> list[list[int]]:
        """Return where windows begin, for each axis."""
        found = []
        for size, window in zip(shape, self.roi_size, strict=True):
            count = int(np.ceil((size - window) / (window * (1 - self.overlap)))) + 1
            step = (size - window) / (count - 1) if count > 1 else 0.0
            found.append([int(np.round(step * number)) for number in range(count)])
        return found

    def _padded(self, image: torch.Tensor) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """Return the image with zeros around it up to a window, and where it lies in that."""
        sizes = list(zip(image.shape[2:], self.roi_size, strict=True))
        below = [max(window - size, 0) // 2 for size, window in sizes]
        above = [
            max(window - size, 0) - before
            for (size, window), before in zip(sizes, below, strict=True)
        ]
        pads = [each for pair in zip(below[::-1], above[::-1], strict=True) for each in pair]
        inner = tuple(
            slice(before, before + size) for (size, _), before in zip(sizes, below, strict=True)
        )
        return torch.nn.functional.pad(image, pads), inner


class NnunetNetwork(torch.nn.Module):
    """One network for each fold, averaged, and over mirrored copies of the image.

    Parameters
    ----------
    architecture : str
        A class of dynamic_network_architectures, by its full name.
    arguments : mapping
        What it is built with; `imported` names those whose value is a class of torch.
    imported : sequence of str
        Likewise.
    in_channels, out_channels : int
        Images in, classes or regions out.
    folds : int
        How many networks there are.
    mirror_axes : sequence of int
        Axes of the network's grid that are mirrored, in every combination.

    Raises
    ------
    MissingPackage
        When dynamic_network_architectures is not installed.
    """

    def __init__(
        self,
        architecture: str,
        arguments: Mapping[str, Any],
        imported: Sequence[str],
        in_channels: int,
        out_channels: int,
        folds: int = 1,
        mirror_axes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if ARCHITECTURES.fullmatch(architecture) is None:
            raise ValueError(f"{architecture!r} is none of nnU-Net's architectures")
        given = {
            name: _torch_class(value) if name in imported and value is not None else value
            for name, value in arguments.items()
        }
        given |= {"input_channels": in_channels, "num_classes": out_channels}
        build = _architecture(architecture)
        self.folds = torch.nn.ModuleList(
            build(**given, deep_supervision=False) for _ in range(folds)
        )
        axes = [axis + 2 for axis in mirror_axes]
        counts = range(len(axes) + 1)
        self._flips = [flip for count in counts for flip in combinations(axes, count)]

    def forward(self, window_bcn: torch.Tensor) -> torch.Tensor:
        """Return the mean logits."""
        total: torch.Tensor | None = None
        for fold, axes in product(self.folds, self._flips):
            answer = torch.flip(fold(torch.flip(window_bcn, axes)), axes)
            total = answer if total is None else total + answer
        if total is None:
            raise InvalidBundle("an nnU-Net model has at least one fold")
        return total / (len(self.folds) * len(self._flips))


def _architecture(name: str) -> Callable[..., torch.nn.Module]:
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(import_module(module), kind, None)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "dynamic_network_architectures":
            raise MissingPackage(
                "nnU-Net's networks need the extra: pip install 'radloop[nnunet]'"
            ) from None
        raise
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise InvalidBundle(f"the installed dynamic_network_architectures has no {kind}")
    return found


def _torch_class(name: object) -> type:
    if not isinstance(name, str) or _TORCH.fullmatch(name) is None:
        raise InvalidBundle(f"{name!r} is no class of torch.nn")
    module, _, kind = name.rpartition(".")
    found = getattr(import_module(module), kind, None)
    if not isinstance(found, type):
        raise InvalidBundle(f"the installed torch has no {name}")
    return found


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around what is set; everything when nothing is."""
    if not mask.any():
        return tuple(slice(0, size) for size in mask.shape)
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(found)


def _normalise(
    channel: Floats, scheme: Scheme, mask: NDArray[np.bool_] | None, known: Mapping[str, float]
) -> None:
    """Bring one channel to the values that the network was trained on, in place."""
    if scheme == "CTNormalization":
        np.clip(channel, known["percentile_00_5"], known["percentile_99_5"], out=channel)
        channel -= np.float32(known["mean"])
        channel /= np.float32(max(known["std"], 1e-8))
    elif scheme == "ZScoreNormalization":
        chosen = channel[mask] if mask is not None else channel.ravel()
        scaled = (chosen - chosen.mean()) / max(float(chosen.std()), 1e-8)
        if mask is not None:
            channel[mask] = scaled
        else:
            channel[...] = scaled.reshape(channel.shape)
    elif scheme == "RescaleTo01Normalization":
        channel -= channel.min()
        channel /= max(float(channel.max()), 1e-8)
    elif scheme == "RGBTo01Normalization":
        channel /= 255.0
    elif scheme != "NoNormalization":
        raise InvalidBundle(f"the normalisation {scheme} is not supported")


def _coarse_axis(before: Sequence[float], after: Sequence[float]) -> int | None:
    """Return the one axis along which voxels are much longer; it is resampled to the nearest."""
    for spacing in (before, after):
        if max(spacing) / min(spacing) > _ANISOTROPIC:
            longest = [axis for axis, each in enumerate(spacing) if max(spacing) / each == 1]
            return longest[0] if len(longest) == 1 else None
    return None


def _resized(volume: Floats, shape: Sequence[int], order: int, through: int | None) -> Floats:
    """Return the volume in another shape, by splines; along `through` to the nearest."""
    if tuple(volume.shape) == tuple(shape):
        return volume
    if through is None:
        return _splined(volume, shape, order)
    plane = [size for axis, size in enumerate(shape) if axis != through]
    planes = [_splined(each, plane, order) for each in np.moveaxis(volume, through, 0)]
    count, wanted = volume.shape[through], shape[through]
    places = count / wanted * (np.arange(wanted) + 0.5) - 0.5
    numbers = np.arange(count, dtype=np.float64)
    nearest = ndimage.map_coordinates(numbers, [places], order=0, mode="nearest").astype(int)
    return np.moveaxis(np.stack([planes[number] for number in nearest]), 0, through)


def _splined(image: Floats, shape: Sequence[int], order: int) -> Floats:
    found = resize(  # type: ignore[no-untyped-call]  # scikit-image leaves it untyped
        image.astype(np.float64), tuple(shape), order, mode="edge", anti_aliasing=False
    )
    return np.asarray(found, dtype=np.float32)


def _gaussian(shape: Sequence[int]) -> Floats:
    """Return a window's weights: highest in the middle, nowhere zero."""
    point = np.zeros(tuple(shape))
    point[tuple(size // 2 for size in shape)] = 1
    weights = ndimage.gaussian_filter(point, [size / 8 for size in shape], mode="constant")
    weights /= weights.max()
    # As nnU-Net's half precision cuts them, so that the corners weigh alike.
    rounded = (weights * 10).astype(np.float16).astype(np.float32)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return np.asarray(rounded, dtype=np.float32)
