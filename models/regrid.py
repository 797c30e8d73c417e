"""From one grid to another with parallel axes: interpolated axis by axis, a few slices at a time.

What stands between a scanner's grid and a network's is three linear interpolations. Done for the
whole volume at once, each of them writes hundreds of megabytes that are read once; done slice by
slice, they stay in the processor's cache, and of an answer with many channels no channel is ever
there at full size: only which of them is the largest.

Arrays only. Axes are (k, j, i) as in memory, of both grids; threads take their share of slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Padding: TypeAlias = Literal["border", "zeros"]
Plane: TypeAlias = NDArray[np.float32]

MOST_CHANNELS = 256
"""Channels that a map of the largest can number."""

_SLAB = 16  # slices at a time: what is made twice at their ends is a tenth


@dataclass(frozen=True, slots=True, eq=False)
class Along:
    """What each place of a target axis is made of: two neighbours of the source axis.

    Attributes
    ----------
    low, high : ndarray, int64, shape (places,)
        Their indices.
    of_low, of_high : ndarray, float32, shape (places,)
        Their shares; both are 0 beyond the border of what is padded with zeros.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    of_low: NDArray[np.float32]
    of_high: NDArray[np.float32]

    @classmethod
    def at(cls, places: NDArray[np.float64], count: int, padding: Padding) -> Along:
        """Return the neighbours of places, in voxels, along an axis of so many voxels."""
        last = count - 1
        if padding == "border":
            places = places.clip(0, last)
        below = np.floor(places)
        part = places - below
        return cls(
            low=below.clip(0, last).astype(np.int64),
            high=(below + 1).clip(0, last).astype(np.int64),
            of_low=((1 - part) * ((below >= 0) & (below <= last))).astype(np.float32),
            of_high=(part * ((below >= -1) & (below < last))).astype(np.float32),
        )

    def __len__(self) -> int:
        return len(self.low)

    def backwards(self) -> Along:
        """Return the same places in reverse order."""
        return Along(
            self.low[::-1].copy(),
            self.high[::-1].copy(),
            self.of_low[::-1].copy(),
            self.of_high[::-1].copy(),
        )

    def cut(self, part: slice) -> Along:
        """Return some of the places, one after the other."""
        return Along(self.low[part], self.high[part], self.of_low[part], self.of_high[part])

    def reached(self, of_source: NDArray[np.bool_]) -> slice | None:
        """Return between which places all lie that are made of certain indices; None: none is."""
        made = np.flatnonzero(of_source[self.low] | of_source[self.high])
        return slice(int(made[0]), int(made[-1]) + 1) if made.size else None

    def mirrored(self, count: int) -> Along:
        """Return the same places of a source axis that runs the other way."""
        last = count - 1
        return Along(last - self.low, last - self.high, self.of_low, self.of_high)


Axes: TypeAlias = tuple[Along, Along, Along]
"""Of slices, rows, columns."""


def interpolated(voxels_kji: NDArray[Any], axes: Axes, *, threads: int) -> NDArray[np.float32]:
    """Return voxels interpolated at the places of the axes.

    Parameters
    ----------
    voxels_kji : ndarray
        Of any real type, as it is read; only the slices in work are converted.
    """
    made = np.empty([len(each) for each in axes], np.float32)

    def fill(first: int, end: int) -> None:
        for k, plane in _planes(voxels_kji, axes, first, end):
            made[k] = plane

    _in_slabs(fill, len(axes[0]), threads)
    return made


def largest_at(
    channels_ckji: NDArray[np.float32], axes: Axes, *, threads: int
) -> NDArray[np.uint8]:
    """Return which channel is the first largest at the places of the axes.

    Of two channels it is their difference that is interpolated: interpolation is linear.

    Parameters
    ----------
    channels_ckji : ndarray
        2 to 256 channels, in any order in memory.

    Returns
    -------
    ndarray, uint8, shape (slices, rows, columns)
    """
    index_kji = np.zeros([len(each) for each in axes], np.uint8)
    count = len(channels_ckji)

    def fill(first: int, end: int) -> None:
        a, b = _reach(axes[0], first, end)
        if count == 2:
            step = _ordered(np.subtract(channels_ckji[1, a:b], channels_ckji[0, a:b]))
            part = _part_of(step > 0, axes)
            if part is not None:
                found = index_kji.view(np.bool_)
                for k, plane in _planes(step, part.axes(axes), first, end, a):
                    np.greater(plane, 0, out=found[k, part.rows, part.columns])
            return
        background = _ordered(channels_ckji[0, a:b])
        best = np.empty((end - first, *index_kji.shape[1:]), np.float32)
        for k, plane in _planes(background, axes, first, end, a):
            best[k - first] = plane
        for channel in range(1, count):
            values = _ordered(channels_ckji[channel, a:b])
            part = _part_of(values > background, axes)
            if part is None:
                continue
            for k, plane in _planes(values, part.axes(axes), first, end, a):
                so_far = best[k - first, part.rows, part.columns]
                larger = plane > so_far
                np.copyto(index_kji[k, part.rows, part.columns], np.uint8(channel), where=larger)
                np.maximum(so_far, plane, out=so_far)

    _in_slabs(fill, len(axes[0]), threads)
    return index_kji


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows and columns of a target beyond which a channel is nowhere larger than the first one.

    Interpolation keeps order: what is not larger at any neighbour is not larger between them.
    """

    rows: slice
    columns: slice

    def axes(self, whole: Axes) -> Axes:
        """Return the axes of the part."""
        slices, rows, columns = whole
        return slices, rows.cut(self.rows), columns.cut(self.columns)


def _part_of(larger_kji: NDArray[np.bool_], axes: Axes) -> _Part | None:
    """Return the part of the target that a few slices of the source reach; None: none of it."""
    larger_ji: NDArray[np.bool_] = np.logical_or.reduce(larger_kji, axis=0)
    _, rows, columns = axes
    j, i = (
        rows.reached(np.logical_or.reduce(larger_ji, axis=1)),
        columns.reached(np.logical_or.reduce(larger_ji, axis=0)),
    )
    return None if j is None or i is None else _Part(j, i)


def above_at(
    channels_ckji: NDArray[np.float32], axes: Axes, threshold: float, *, threads: int
) -> NDArray[np.bool_]:
    """Return where each channel reaches a threshold, shape (channels, slices, rows, columns)."""
    above_ckji = np.zeros([len(channels_ckji), *(len(each) for each in axes)], np.bool_)

    def fill(first: int, end: int) -> None:
        a, b = _reach(axes[0], first, end)
        for channel, above_kji in zip(channels_ckji, above_ckji, strict=True):
            for k, plane in _planes(_ordered(channel[a:b]), axes, first, end, a):
                np.greater_equal(plane, np.float32(threshold), out=above_kji[k])

    _in_slabs(fill, len(axes[0]), threads)
    return above_ckji


# --- slice by slice -----------------------------------------------------------------------------


def _in_slabs(fill: Callable[[int, int], None], count: int, threads: int) -> None:
    starts = range(0, count, _SLAB)
    ends = [min(start + _SLAB, count) for start in starts]
    if threads <= 1 or len(starts) == 1:
        for start, end in zip(starts, ends, strict=True):
            fill(start, end)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, starts, ends):
            pass


def _reach(slices: Along, first: int, end: int) -> tuple[int, int]:
    """Return from where to where slices of the source are needed."""
    low, high = slices.low[first:end], slices.high[first:end]
    return int(min(low.min(), high.min())), int(max(low.max(), high.max())) + 1


def _ordered(part_kji: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a few slices one after the other in memory; a network leaves them interleaved."""
    return np.ascontiguousarray(part_kji, np.float32)


def _planes(
    voxels_kji: NDArray[Any], axes: Axes, first: int, end: int, begins: int = 0
) -> Iterator[tuple[int, Plane]]:
    """Yield slices of the target; an array is good until the next one is asked for.

    Parameters
    ----------
    begins : int
        Which slice of the source is the first in `voxels_kji`.
    """
    slices, rows, columns = axes
    made: dict[int, Plane] = {}
    into = np.empty((len(rows), len(columns)), np.float32)
    other = np.empty_like(into)
    for k in range(first, end):
        low, high = int(slices.low[k]), int(slices.high[k])
        of_low, of_high = slices.of_low[k], slices.of_high[k]
        wanted = {low} if of_high == 0 else {low, high}
        made = {n: plane for n, plane in made.items() if n in wanted}
        for n in wanted - made.keys():
            made[n] = _in_plane(voxels_kji[n - begins], rows, columns)
        if of_high == 0 and of_low == 1:
            yield k, made[low]
            continue
        np.multiply(made[low], of_low, out=into)
        if of_high != 0:
            np.multiply(made[high], of_high, out=other)
            np.add(into, other, out=into)
        yield k, into


def _in_plane(plane_ji: NDArray[Any], rows: Along, columns: Along) -> Plane:
    """Return one slice of the source at the target's rows and columns: first what shrinks."""
    if len(rows) <= plane_ji.shape[0]:
        return _summed(_summed(plane_ji, rows, 0), columns, 1)
    return _summed(_summed(plane_ji, columns, 1), rows, 0)


def _summed(plane_ji: NDArray[Any], along: Along, axis: int) -> Plane:
    shape = (-1, 1) if axis == 0 else (1, -1)
    of_low, of_high = along.of_low.reshape(shape), along.of_high.reshape(shape)
    low = _taken(plane_ji, along.low, axis)
    made: Plane = np.multiply(low, of_low, dtype=np.float32, casting="unsafe")
    if of_high.any():
        high = _taken(plane_ji, along.high, axis)
        made += np.multiply(high, of_high, dtype=np.float32, casting="unsafe")
    return made


def _taken(plane_ji: NDArray[Any], index: NDArray[np.int64], axis: int) -> NDArray[Any]:
    # of its modes, "clip" is the quick one; no index is outside
    return np.take(plane_ji, index, axis=axis, mode="clip")
