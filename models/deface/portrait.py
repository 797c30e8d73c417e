"""How the surface of a head looks from outside, to somebody who wants to know a face."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.deface.face import Floats, Mask, Upright, Values, head_of, painted_black, skin_value

Picture = npt.NDArray[np.uint8]

_LIGHT: Final = np.array((0.35, -0.35, 0.87))  # from above, the left, and the front
_SIDES: Final = (0, -40, -90)  # degrees: from the front, half from the left, from the left


def portrait(voxels_kji: Values, affine_lps: Floats, gone_kji: Mask | None = None) -> Picture:
    """Return the surface of a head, lit, from the front, half from the side, and from the side.

    Parameters
    ----------
    voxels_kji : ndarray, shape (slices, rows, columns)
    affine_lps : ndarray, float64, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.
    gone_kji : ndarray of bool, optional
        Voxels that are left out.

    Returns
    -------
    ndarray, uint8, shape (rows, columns)
        Three views side by side, 2 mm a pixel; rows run downwards.
    """
    shape = (voxels_kji.shape[0], voxels_kji.shape[1], voxels_kji.shape[2])
    grid = Upright.about(shape, affine_lps)
    whole = grid.taken(voxels_kji, order=1)
    values = whole
    if gone_kji is not None:
        values = grid.taken(painted_black(voxels_kji, gone_kji), order=1)
    head = head_of(values, skin_value(whole))
    views = [_lit(_turned(head, degrees)) for degrees in _SIDES]
    height = max(view.shape[0] for view in views)
    return np.hstack([np.pad(view, ((0, height - view.shape[0]), (4, 4))) for view in views])


def _turned(head: Mask, degrees: int) -> npt.NDArray[np.float32]:
    """Return how much of each voxel is head, turned about the upright axis."""
    soft = ndimage.gaussian_filter(head.astype(np.float32), 0.8)
    if not degrees:
        return np.asarray(soft, np.float32)
    turned: npt.NDArray[np.float32] = ndimage.rotate(soft, degrees, axes=(1, 2), order=1)
    return turned


def _lit(head: npt.NDArray[np.float32]) -> Picture:
    """Return what parallel rays from the front meet, lit by how the surface lies."""
    solid = head > 0.5
    hit = solid.any(axis=1)
    first = np.argmax(solid, axis=1)
    z, x = np.indices(first.shape)
    inside = head[z, first, x]
    outside = head[z, np.maximum(first - 1, 0), x]
    depth = first - (inside - 0.5) / np.maximum(inside - outside, 1e-3)  # between two voxels
    depth = ndimage.gaussian_filter(np.where(hit, depth, depth[hit].max(initial=0.0)), 0.7)
    up, side = np.gradient(depth)
    normal = np.stack([up, side, np.ones_like(depth)])
    normal /= np.linalg.norm(normal, axis=0)
    bright = np.clip(np.tensordot(_LIGHT, normal, axes=1), 0, 1) * hit
    picture: Picture = (bright[::-1] * 255).astype(np.uint8)
    return picture
