"""Region growing from a clicked seed: the connected voxels whose values are near the seed's.

Connected threshold as in ITK (Ibanez et al., The ITK Software Guide, "Region Growing"), on a slice
or through the volume, over shared faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dicom.masks import Mask
from models.prompts.values import Point, Voxels

_NEAR_KJI = (0, 2, 2)  # whose spread says how noisy the tissue at the seed is: slices may be thick
_SPREADS = 3.5  # of the median distance: two to three standard deviations of noise
_MOST_OF_RANGE = 1 / 6  # more floods the image from a click on an edge
_WHOLE_PERCENT = (0.5, 99.5)
_LEAST_OF_RANGE = 0.005
_SAMPLES = 200_000


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """What grew from a seed.

    Attributes
    ----------
    mask_kji : ndarray of bool, shape (slices, rows, columns)
    low, high : float
        The values that were taken, in the image's unit, both included.
    """

    mask_kji: Mask
    low: float
    high: float


def grow(
    voxels_kji: Voxels,
    seed: Point,
    *,
    tolerance: float | None = None,
    in_plane: bool = False,
) -> Grown:
    """Return the voxels that are connected with the seed and at most `tolerance` from its value.

    Parameters
    ----------
    voxels_kji : ndarray, shape (slices, rows, columns)
    seed : Point
        Within the array.
    tolerance : float or None
        In the image's unit, each way; None for :func:`suggested_tolerance`.
    in_plane : bool
        On the seed's slice alone.

    Raises
    ------
    IndexError
        When the seed lies outside: the caller has looked.
    """
    import SimpleITK as sitk  # 80 MB, and only readers who click need them

    value = _value_at(voxels_kji, seed)
    reach = suggested_tolerance(voxels_kji, seed) if tolerance is None else tolerance
    low, high = value - reach, value + reach
    part = slice(seed.k, seed.k + 1) if in_plane else slice(None)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels_kji[part]))
    inside = sitk.ConnectedThreshold(
        image,
        seedList=[(seed.i, seed.j, 0 if in_plane else seed.k)],
        lower=low,
        upper=high,
    )
    mask_kji = np.zeros(voxels_kji.shape, np.bool_)
    mask_kji[part] = sitk.GetArrayViewFromImage(inside)
    mask_kji[seed] = True  # a float that is rounded must not lose the click itself
    return Grown(mask_kji, low, high)


def suggested_tolerance(voxels_kji: Voxels, seed: Point) -> float:
    """Return a tolerance to begin with: the noise around the seed, 1/200 to 1/6 of the range.

    Half of the voxels around a seed on an edge are of another tissue: what counts is how far the
    nearer half lies from the seed's value.

    Returns
    -------
    float
        In the image's unit, above 0.
    """
    near = tuple(
        slice(max(0, at - reach), at + reach + 1) for at, reach in zip(seed, _NEAR_KJI, strict=True)
    )
    apart = np.abs(voxels_kji[near].astype(np.float64) - _value_at(voxels_kji, seed))
    whole = value_range(voxels_kji)
    reach = min(_SPREADS * float(np.median(apart)), _MOST_OF_RANGE * whole)
    return max(reach, _LEAST_OF_RANGE * whole, np.finfo(float).tiny)


def value_range(voxels_kji: Voxels) -> float:
    """Return the distance between the image's small and large values, without its strays."""
    step = max(1, voxels_kji.size // _SAMPLES)
    low, high = np.percentile(voxels_kji.reshape(-1)[::step].astype(np.float64), _WHOLE_PERCENT)
    return float(high - low)


def _value_at(voxels_kji: Voxels, seed: Point) -> float:
    if min(seed) < 0:
        raise IndexError("a seed outside the image")
    return float(np.asarray(voxels_kji[seed]).astype(np.float64))
