"""Frames as pictures of 8 bits, in which text can be found whatever the window.

Text is drawn at an end of the range, or in its middle: what is shown between the smallest and the
largest value is looked at, and, where few pixels spread that range, what most pixels span as well.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

_FEW: Final = 0.5  # per cent of the pixels at either end
_NARROW: Final = 0.6  # of the range: then a window of its own shows more


def views_of(picture: npt.NDArray[Any]) -> tuple[Picture, ...]:
    """Return a frame as pictures of 8 bits, one or two.

    Parameters
    ----------
    picture : ndarray, shape (rows, columns) or (rows, columns, 3)
        Any numbers; values that are not finite count as the smallest.

    Returns
    -------
    tuple of ndarray, uint8, same shape
        None where all values are the same: nothing is drawn there.
    """
    if picture.dtype == np.uint8:
        values = picture
    else:
        values = picture.astype(np.float32)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return ()
    if values.dtype == np.uint8 and picture.ndim == 3:
        return (picture,)
    seen = values[:: max(1, values.shape[0] // 512), :: max(1, values.shape[1] // 512)]
    inner_low, inner_high = (float(end) for end in np.percentile(seen, (_FEW, 100 - _FEW)))
    whole = _windowed(values, low, high)
    if inner_high <= inner_low or inner_high - inner_low > _NARROW * (high - low):
        return (whole,)
    return whole, _windowed(values, inner_low, inner_high)


def _windowed(values: npt.NDArray[Any], low: float, high: float) -> Picture:
    scaled = (values.astype(np.float32) - low) * (255.0 / (high - low))
    view: Picture = np.clip(scaled, 0, 255).astype(np.uint8)
    return view
