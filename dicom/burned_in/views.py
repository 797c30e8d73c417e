"""Frames as pictures of 8 bits, in which text can be found whatever the window.

Text is drawn at an end of the range, or in its middle: what is shown between the smallest and the
largest value is looked at, and, where few pixels spread that range, what most pixels span as well.
Faint text is drawn a little lighter or darker than what lies around it: so the picture is looked at
once more with its contrast evened, as if it were as strong everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy

Picture = npt.NDArray[np.uint8]

_FEW: Final = 0.5  # per cent of the pixels at either end
_NARROW: Final = 0.6  # of the range: then a window of its own shows more
_AROUND: Final = 12  # pixels to each side: whose mean is what a letter stands out from
_MIDDLE: Final = 128
_GAIN: Final = 40.0  # grey levels that one standard deviation becomes
_LEAST_DEVIATION: Final = 4.0 / 255  # of the range: less is noise of black and white areas


def searched_views(
    picture: npt.NDArray[Any], masked: npt.NDArray[np.bool_] | None = None
) -> Iterator[Picture]:
    """Yield every view of a frame that text is looked for in.

    Parameters
    ----------
    picture : ndarray, shape (rows, columns) or (rows, columns, 3)
        As for :func:`views_of`.
    masked : ndarray of bool, shape (rows, columns), optional
        What is masked anyway: nothing is found there.
    """
    views = views_of(picture)
    fills = [0] * len(views)
    if views:
        views = (*views, evened(picture))
        fills.append(_MIDDLE)
    for view, fill in zip(views, fills, strict=True):
        if masked is not None and masked.any():
            view = view.copy()
            view[masked] = fill
        yield view


def evened(picture: npt.NDArray[Any]) -> Picture:
    """Return a frame in grey with the same contrast everywhere.

    Each pixel's difference from the mean of its neighbourhood, in deviations of a neighbourhood
    twice as large, about middle grey.

    Parameters
    ----------
    picture : ndarray, shape (rows, columns) or (rows, columns, 3)
        As for :func:`views_of`.

    Returns
    -------
    ndarray, uint8, shape (rows, columns)
    """
    values = np.nan_to_num(picture.astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim == 3:
        values = values.mean(axis=2)
    low, high = (float(end) for end in np.percentile(values[::4, ::4], (_FEW, 100 - _FEW)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    least = max((high - low) * _LEAST_DEVIATION, float(np.finfo(np.float32).tiny))
    difference = values - scipy.ndimage.uniform_filter(values, 2 * _AROUND + 1)
    variance = scipy.ndimage.uniform_filter(difference**2, 4 * _AROUND + 1)
    deviation = np.maximum(np.sqrt(np.maximum(variance, 0.0)), least)
    view: Picture = np.clip(_MIDDLE + _GAIN * difference / deviation, 0, 255).astype(np.uint8)
    return view


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
