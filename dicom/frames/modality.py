"""From stored values to values with a meaning: slope and intercept, and which end is bright."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom.errors import UnsupportedPixelFormat
from dicom.frames.format import PixelFormat

Rescaled = npt.NDArray[np.int16] | npt.NDArray[np.float32]


def rescale(
    stored: npt.NDArray[Any],
    slopes: Sequence[float],
    intercepts: Sequence[float],
    *,
    overwrite: bool = False,
) -> Rescaled:
    """Return stored * slope + intercept, frame by frame (PS3.3 C.11.1.1.2).

    Parameters
    ----------
    stored : ndarray, integers or floats, shape (frames, ...)
        Stored values.
    slopes, intercepts : sequence of float
        One of each per frame.
    overwrite : bool
        The memory of `stored` may be used for the result.

    Returns
    -------
    ndarray, int16 or float32, same shape
        int16 where every value is exact in it, else float32 (computed in float64, rounded once).

    Raises
    ------
    UnsupportedPixelFormat
        When a slope is zero, or a number is not finite.
    """
    slope, intercept = np.array(slopes, np.float64), np.array(intercepts, np.float64)
    if slope.shape != (len(stored),) or intercept.shape != slope.shape:
        raise ValueError("one slope and one intercept a frame are needed")
    if not (np.isfinite(slope).all() and np.isfinite(intercept).all() and slope.all()):
        raise UnsupportedPixelFormat("a slope is zero, or slope or intercept is not finite")
    if stored.dtype.kind in "iu" and _fits_int16(stored, slope, intercept):
        return _whole(stored, slope, intercept, overwrite=overwrite)
    rescaled = np.empty(stored.shape, np.float32)
    for k in range(len(stored)):
        if slope[k] == 1 and intercept[k] == 0 and stored.dtype.itemsize <= 2:
            rescaled[k] = stored[k]
        else:
            rescaled[k] = stored[k] * slope[k] + intercept[k]
    return rescaled


def _fits_int16(
    stored: npt.NDArray[Any], slope: npt.NDArray[np.float64], intercept: npt.NDArray[np.float64]
) -> bool:
    if np.mod(slope, 1).any() or np.mod(intercept, 1).any() or not stored.size:
        return False
    for k in range(len(stored)):
        ends = np.array([stored[k].min(), stored[k].max()], np.float64) * slope[k] + intercept[k]
        if ends.min() < -(2**15) or ends.max() >= 2**15:
            return False
    return True


def _whole(
    stored: npt.NDArray[Any],
    slope: npt.NDArray[np.float64],
    intercept: npt.NDArray[np.float64],
    *,
    overwrite: bool,
) -> npt.NDArray[np.int16]:
    """Compute in 16 bits: arithmetic modulo 2**16 is exact where the result fits."""
    if stored.dtype.itemsize == 2 and stored.dtype.isnative:
        whole = stored.view(np.int16) if overwrite else stored.astype(np.int16)
    else:
        whole = stored.astype(np.int16)
    for k in range(len(whole)):
        if slope[k] != 1:
            whole[k] *= np.int64(slope[k]).astype(np.int16)
        if intercept[k] != 0:
            whole[k] += np.int64(intercept[k]).astype(np.int16)
    return whole


def mirrored(stored: npt.NDArray[Any], form: PixelFormat) -> npt.NDArray[Any]:
    """Return stored values turned round within BitsStored, for MONOCHROME1 (PS3.3 C.7.6.3.1.2).

    Raises
    ------
    UnsupportedPixelFormat
        For float pixel data and colour, which have no two ends to change.
    """
    if form.kind == "float" or form.is_colour:
        raise UnsupportedPixelFormat("only grey scale of whole numbers can be mirrored")
    if form.signed:
        turned: npt.NDArray[Any] = np.invert(stored)  # -1 - x maps the lowest value to the highest
    else:
        turned = np.subtract(2**form.bits_stored - 1, stored, dtype=stored.dtype)
    return turned
