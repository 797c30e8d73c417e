"""Between arrays of radloop and tensors of MONAI: one place for axes, signs and grids.

A volume comes with its axes as (k, j, i) and an affine to LPS. A bundle's transforms are written
for what MONAI's ``LoadImage`` gives: axes as (i, j, k), x first, and an affine to RAS; windows,
flips and orientations of a bundle then mean what its author saw in training. Axes in names: ``b``
batch, ``c`` channel, ``k`` slice, ``j`` row, ``i`` column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import SpatialResample
from numpy.typing import NDArray

from dicom.errors import InvalidBundle
from models.prediction import Floats, Image

_SHARED = frozenset(np.dtype(kind) for kind in ("u1", "i1", "i2", "i4", "f4", "f8"))
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_tensor(images: Sequence[Image], *, colour: bool = False) -> MetaTensor:
    """Return images of one grid as MONAI's LoadImage would give the volume in their files.

    Returns
    -------
    MetaTensor, float32
        Shape (i, j, k) for one grey image, (c, i, j, k) for several, (i, j, k, 3) for colour;
        with an affine to RAS.
    """
    affine_ras = torch.from_numpy(LPS_TO_RAS @ images[0].affine_lps[:, [2, 1, 0, 3]])
    planes = [_coloured(image) if colour else _grey(image) for image in images]
    turned = [plane.permute(2, 1, 0, *range(3, plane.ndim)) for plane in planes]
    return _tensor(turned, affine_ras, colour=colour)


def stand_in(image: Image) -> MetaTensor:
    """Return what :func:`volume_tensor` would of a grey image, with no voxels to look at."""
    affine_ras = torch.from_numpy(LPS_TO_RAS @ image.affine_lps[:, [2, 1, 0, 3]])
    return _tensor([torch.zeros(1).expand(image.shape_kji[::-1])], affine_ras, colour=False)


def slice_tensor(
    images: Sequence[Image], k: int, *, neighbours: int = 0, colour: bool = False
) -> MetaTensor:
    """Return slice k of images of one grid, as MONAI's LoadImage would give a picture.

    Parameters
    ----------
    neighbours : int
        So many slices on either side are channels too, lowest first; beyond an end it is the last
        slice that is repeated.

    Returns
    -------
    MetaTensor, float32
        Shape (i, j) for one grey slice, (c, i, j) for several, (i, j, 3) for colour; its affine is
        that of the plane: pixel spacing in mm, no more.
    """
    count = images[0].shape_kji[0]
    chosen = [min(max(n, 0), count - 1) for n in range(k - neighbours, k + neighbours + 1)]
    planes = [Image(image.voxels[n : n + 1], image.affine_lps) for image in images for n in chosen]
    affine_lps = images[0].affine_lps
    spacing_ij = [float(np.linalg.norm(affine_lps[:3, axis])) for axis in (2, 1)]
    affine = torch.diag(torch.tensor([*spacing_ij, 1.0, 1.0], dtype=torch.float64))
    tensors = [_coloured(plane)[0] if colour else _grey(plane)[0] for plane in planes]
    turned = [each.permute(1, 0, *range(2, each.ndim)) for each in tensors]
    return _tensor(turned, affine, colour=colour)


def _grey(image: Image) -> torch.Tensor:
    if image.is_colour:  # ITU-R BT.601, as PS3.3 C.7.6.3.1.2 has luminance
        weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return torch.from_numpy(image.voxels.astype(np.float32) @ weights)
    return _floats(image)


def _floats(image: Image) -> torch.Tensor:
    """Return an image's voxels as float32, in memory of its own."""
    voxels = image.voxels
    if voxels.dtype not in _SHARED or not voxels.flags.writeable or min(voxels.strides) < 0:
        return torch.from_numpy(voxels.astype(np.float32))
    return torch.from_numpy(voxels).to(torch.float32, copy=True)  # by all threads


def _coloured(image: Image) -> torch.Tensor:
    voxels = _floats(image)
    return voxels if image.is_colour else voxels[..., None].expand(*voxels.shape, 3)


def _tensor(
    planes: Sequence[torch.Tensor], affine_ras: torch.Tensor, *, colour: bool
) -> MetaTensor:
    """Return tensors of one grid as one; colours come last in each, channels first of several."""
    channel_dim: int | str = "no_channel"
    pixels = planes[0]
    if len(planes) > 1:
        pixels = torch.cat([each.movedim(-1, 0) if colour else each[None] for each in planes])
        channel_dim = 0
    elif colour:
        channel_dim = -1
    shape = list(pixels.shape)
    if channel_dim != "no_channel":
        shape.pop(int(channel_dim))
    meta = {
        "original_affine": affine_ras.clone(),
        "original_channel_dim": channel_dim,
        "spatial_shape": np.array(shape),
        "space": "RAS",
    }
    return MetaTensor(pixels, affine=affine_ras, meta=meta)


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor without metadata; no copy."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def with_place(answer: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return the network's answer as a MetaTensor that lies where the image lies.

    Raises
    ------
    InvalidBundle
        When the preprocessing lost the image's place.
    """
    if not isinstance(image, MetaTensor):
        raise InvalidBundle("preprocessing loses the image's affine; leave MetaTensor tracking on")
    return MetaTensor(plain(answer), meta=dict(image.meta))


def on_source_grid(
    answer: torch.Tensor, source: MetaTensor, spatial: tuple[int, ...]
) -> torch.Tensor:
    """Return an answer, shape (c, i, j) or (c, i, j, k), on the source's grid.

    A bundle that inverts its transforms is there already. One that left that to SaveImage's
    resampling, which was taken out, is brought there, to the nearest voxel.

    Parameters
    ----------
    spatial : tuple of int
        Shape of the source's grid.
    """
    if not isinstance(answer, MetaTensor) or answer.ndim != len(spatial) + 1:
        axes = "two axes" if len(spatial) == 2 else "three axes"
        raise InvalidBundle(f"postprocessing gives no tensor with an affine, a channel and {axes}")
    same_shape = tuple(answer.shape[1:]) == spatial
    if same_shape and torch.allclose(
        answer.affine.to(torch.float64), source.affine.to(torch.float64), atol=1e-3
    ):
        return plain(answer)
    resample = SpatialResample(mode="nearest", padding_mode="zeros")
    return plain(resample(answer, dst_affine=source.affine, spatial_size=spatial))


def map_on_source_grid(
    answer: object, source: MetaTensor, spatial: tuple[int, ...]
) -> torch.Tensor:
    """Return a map of instances or kinds, shape (1, ...), on the source's grid.

    What tells instances apart often ends in an array without a place; it lies on the source's grid
    where it has its size.
    """
    if isinstance(answer, MetaTensor):
        return on_source_grid(answer, source, spatial)
    found = torch.as_tensor(np.asarray(answer))
    found = found[None] if found.ndim == len(spatial) else found
    if tuple(found.shape) != (1, *spatial):
        raise InvalidBundle(f"postprocessing gives a map of {tuple(found.shape)} voxels")
    return found


def back_to_kji(array_ijk: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array of axes (..., i, j, k) with axes (..., k, j, i)."""
    leading = list(range(array_ijk.ndim - 3))
    last = array_ijk.ndim - 1
    return np.ascontiguousarray(array_ijk.transpose(*leading, last, last - 1, last - 2))


def world_lps(points_ijk: Floats, image: torch.Tensor) -> Floats:
    """Return points of an image's index space, shape (n, 3), in LPS, mm."""
    if not isinstance(image, MetaTensor):
        raise InvalidBundle("preprocessing loses the image's affine; leave MetaTensor tracking on")
    affine = LPS_TO_RAS @ image.affine.to(torch.float64).cpu().numpy()
    world: Floats = points_ijk @ affine[:3, :3].T + affine[:3, 3]
    return world
