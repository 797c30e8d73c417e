"""Which voxels of a head go, so that no face can be rendered, and whether it is gone.

Axes: k, j, i as in the volume; the work is done on a grid of 2 mm whose axes z, y, x run up, back
and left (LPS). The brain decides where the face is: all that lies in front of it and below the brow
goes, and what stands out at the sides (the ears). Nothing within a margin of the brain does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom.errors import CannotDeface

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.generic]

_STEP_MM: Final = 2.0
_LEAST_BRAIN_ML, _MOST_BRAIN_ML = 500.0, 2200.0
_MARGIN_MM: Final = 8.0  # round the brain; its mask may be that much too small
_CLOSED_MM: Final = 12.0  # folds of the brain, between its lobes
_BROW_MM: Final = 22.0  # the face ends so far above the foremost point of the brain
_BEHIND_MM: Final = 5.0  # it ends so far in front of the brain's middle
_EAR_MM: Final = 12.0  # what is thinner than twice this and stands out at the sides
_SIDE: Final = 0.72  # of half the head's breadth
_AIR: Final = 0.4  # of Otsu's threshold: skin is darker than the brain

_FACE_HALF_MM: Final = 40.0  # the face that is judged: breadth, and height below the frontal lobes
_FACE_DOWN_MM: Final = 110.0
_LOBE_MM: Final = 30.0
_FEWEST_RAYS: Final = 150
_RECEDED_MM: Final = 10.0
_LEAST_MEDIAN_MM: Final = 15.0
_MOST_LEFT: Final = 0.03


@dataclass(frozen=True, slots=True)
class FaceCheck:
    """Whether the face is gone, and what of the brain was changed.

    Attributes
    ----------
    brain_ml : float
        Volume of the brain's mask.
    brain_voxels_changed : int
        Of that mask.
    rays : int
        From the front onto the face, 2 mm apart.
    median_mm : float
        How far the surface that they meet has moved back.
    left : float
        The share of rays that meet it within 10 mm of where it was.
    """

    brain_ml: float
    brain_voxels_changed: int
    rays: int
    median_mm: float
    left: float

    @property
    def holds(self) -> bool:
        """The brain is as it was, and no face is left."""
        return (
            self.brain_voxels_changed == 0
            and self.rays >= _FEWEST_RAYS
            and self.median_mm >= _LEAST_MEDIAN_MM
            and self.left <= _MOST_LEFT
        )


@dataclass(frozen=True, slots=True, eq=False)
class Upright:
    """A grid of 2 mm whose axes run up, back and left; leads to a volume's own grid and back.

    Attributes
    ----------
    shape_zyx : tuple of int
    to_voxels : ndarray, float64, shape (4, 4)
        From (z, y, x, 1) of this grid to (k, j, i, 1) of the volume.
    """

    shape_zyx: tuple[int, int, int]
    to_voxels: Floats

    @classmethod
    def about(cls, shape_kji: tuple[int, int, int], affine_lps: Floats) -> Upright:
        """Return the grid that holds a whole volume."""
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in shape_kji], indexing="ij")).reshape(3, -1)
        corners = affine_lps[:3, :3] @ ends + affine_lps[:3, 3:]
        low, high = corners.min(axis=1), corners.max(axis=1)
        count = np.ceil((high - low) / _STEP_MM).astype(int) + 1
        to_lps = np.zeros((4, 4))
        for axis, world in enumerate((2, 1, 0)):
            to_lps[world, axis] = _STEP_MM
        to_lps[:3, 3], to_lps[3, 3] = low, 1.0
        shape = (int(count[2]), int(count[1]), int(count[0]))
        return cls(shape, np.linalg.inv(affine_lps) @ to_lps)

    def taken(self, voxels_kji: Values, *, order: int) -> npt.NDArray[np.float32]:
        """Return a volume's values on this grid; zero outside."""
        taken: npt.NDArray[np.float32] = ndimage.affine_transform(
            voxels_kji.astype(np.float32),
            self.to_voxels[:3, :3],
            self.to_voxels[:3, 3],
            output_shape=self.shape_zyx,
            order=order,
        )
        return taken

    def given(self, mask_zyx: Mask, shape_kji: tuple[int, int, int]) -> Mask:
        """Return a mask of this grid on the volume's."""
        back = np.linalg.inv(self.to_voxels)
        given = ndimage.affine_transform(
            mask_zyx.astype(np.uint8),
            back[:3, :3],
            back[:3, 3],
            output_shape=shape_kji,
            order=0,
            mode="nearest",
        )
        return np.asarray(given, np.bool_)


def face_mask(voxels_kji: Values, affine_lps: Floats, brain_kji: Mask) -> tuple[Mask, FaceCheck]:
    """Return the voxels that go, and whether the face is gone with them.

    Parameters
    ----------
    voxels_kji : ndarray, shape (slices, rows, columns)
        MR of a head; the air around it is dark.
    affine_lps : ndarray, float64, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.
    brain_kji : ndarray, bool, same shape
        The brain, with its sulci and ventricles filled.

    Raises
    ------
    CannotDeface
        When the mask is no brain's, or the check does not hold: then nothing may be called defaced.
    """
    voxel_ml = abs(float(np.linalg.det(affine_lps[:3, :3]))) / 1000
    brain_ml = float(brain_kji.sum()) * voxel_ml
    if not _LEAST_BRAIN_ML <= brain_ml <= _MOST_BRAIN_ML:
        raise CannotDeface(f"what was found as the brain has {brain_ml:.0f} ml")
    shape = (brain_kji.shape[0], brain_kji.shape[1], brain_kji.shape[2])
    grid = Upright.about(shape, affine_lps)
    brain = grid.taken(brain_kji, order=1) > 0.5
    values = grid.taken(voxels_kji, order=1)
    skin = skin_value(values)
    head = head_of(values, skin)
    gone_kji = grid.given(_gone(head, brain), shape) & ~brain_kji
    painted = painted_black(voxels_kji, gone_kji)
    after = head_of(grid.taken(painted, order=1), skin)
    check = _check(head, after, brain, brain_ml, int((painted != voxels_kji)[brain_kji].sum()))
    if not check.holds:
        raise CannotDeface(
            f"the face is not surely gone: {check.rays} rays, {check.median_mm:.0f} mm, "
            f"{100 * check.left:.0f} % left"
        )
    return gone_kji, check


def painted_black(voxels_kji: Values, gone_kji: Mask) -> Values:
    """Return a volume as its slices will be: where they are painted, each has its darkest value."""
    return np.where(gone_kji, voxels_kji.min(axis=(1, 2), keepdims=True), voxels_kji)


def skin_value(values_zyx: npt.NDArray[np.float32]) -> float:
    """Return the value from which on a voxel is taken for head, not for air."""
    from skimage.filters import threshold_otsu

    high = float(np.percentile(values_zyx, 99.5))
    otsu: Callable[[Values], float] = threshold_otsu
    return _AIR * float(otsu(np.minimum(values_zyx, high)))


def head_of(values_zyx: npt.NDArray[np.float32], skin: float) -> Mask:
    """Return where the head is, its hollows filled; `skin` is from :func:`skin_value`."""
    inside = ndimage.binary_opening(ndimage.gaussian_filter(values_zyx, 0.7) > skin)
    labels, count = ndimage.label(inside)
    if not count:
        raise CannotDeface("no head was found")
    sizes = np.bincount(labels.ravel())[1:]
    closed = ndimage.binary_closing(labels == 1 + int(np.argmax(sizes)), iterations=2)
    filled: Mask = ndimage.binary_fill_holes(closed)
    return filled


def _gone(head: Mask, brain: Mask) -> Mask:
    """Return what goes: the face, the jaw, the ears, and the air before them."""
    z, y, x = np.nonzero(brain)
    front = np.percentile(y, 1)
    pole_z = float(np.mean(z[y <= front + 2]))
    middle_y, middle_x = float(np.mean(y)), float(np.mean(x))
    zs, ys, xs = np.ogrid[: head.shape[0], : head.shape[1], : head.shape[2]]
    safe = _grown(_closed(brain, _CLOSED_MM), _MARGIN_MM)
    before = (ys < middle_y - _BEHIND_MM / _STEP_MM) & (zs < pole_z + _BROW_MM / _STEP_MM)
    ears = head & ~_opened(head, _EAR_MM)
    half = (np.ptp(np.nonzero(head.any(axis=(0, 1)))[0]) + 1) / 2
    at_side = np.abs(xs - middle_x) > _SIDE * half
    low = zs < float(np.mean(z)) + 10 / _STEP_MM
    gone: Mask = (before | (_grown(ears & at_side & low, 4.0) & at_side & low)) & ~safe
    return gone


def _closed(mask: Mask, mm: float) -> Mask:
    return _distance(_grown(mask, mm)) > mm  # eroded by as much as it was grown


def _grown(mask: Mask, mm: float) -> Mask:
    return _distance(~mask) <= mm


def _opened(mask: Mask, mm: float) -> Mask:
    return _grown(_distance(mask) > mm, mm)


def _distance(mask: Mask) -> npt.NDArray[np.float32]:
    """Return how far each voxel of a mask is from what lies outside it, mm."""
    return np.asarray(ndimage.distance_transform_edt(mask, _STEP_MM), np.float32)


def depth_from_front(head: Mask) -> npt.NDArray[np.float32]:
    """Return how far from the front each ray meets the head, mm, shape (z, x); else infinite."""
    depth = np.where(head.any(axis=1), np.argmax(head, axis=1) * _STEP_MM, np.inf)
    return depth.astype(np.float32)


def _check(before: Mask, after: Mask, brain: Mask, brain_ml: float, changed: int) -> FaceCheck:
    """Return how the surface that is seen from the front has moved, over the face."""
    z, y, x = np.nonzero(brain)
    in_front = y <= np.percentile(y, 1) + _LOBE_MM / _STEP_MM
    # Above the base of the frontal lobes there is the forehead, right before the brain.
    base, middle_x = float(np.percentile(z[in_front], 5)), float(np.mean(x))
    was, now = depth_from_front(before), depth_from_front(after)
    zs, xs = np.ogrid[: was.shape[0], : was.shape[1]]
    face = (
        (zs < base - _MARGIN_MM / _STEP_MM)
        & (zs > base - _FACE_DOWN_MM / _STEP_MM)
        & (np.abs(xs - middle_x) < _FACE_HALF_MM / _STEP_MM)
        & (was < float(np.mean(y)) * _STEP_MM)
    )
    moved = np.minimum(now[face], 1000.0) - was[face]
    if not moved.size:
        return FaceCheck(brain_ml, changed, 0, 0.0, 1.0)
    median = float(np.median(moved))
    return FaceCheck(
        round(brain_ml, 1),
        changed,
        int(moved.size),
        round(median, 1),
        round(float(np.mean(moved < _RECEDED_MM)), 4),
    )
