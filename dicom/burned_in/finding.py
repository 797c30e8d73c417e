"""Where text stands in a picture: differentiable binarisation, tiled, at several sizes.

The network gives for each pixel how likely it belongs to the inner part of a line of text.
Connected pixels are a line; its box is widened by what the network leaves out at the edges. It
knows letters of about 8 to 100 pixels: a large picture is looked at whole, made smaller, for its
large letters, and in overlapping tiles for its small ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy

from dicom.burned_in.boxes import Box, without_doubles
from dicom.burned_in.networks import Run, open_network
from dicom.burned_in.views import Picture

_TILE: Final = 960
_OVERLAP: Final = 160
_LEAST_SIDE: Final = 640
"""Smaller pictures are enlarged to it, at most by :data:`_MOST_ENLARGED`."""
_MOST_ENLARGED: Final = 3.0
_STEP: Final = 32  # the network halves the sides five times
_LIKELY: Final = 0.25
_SURE: Final = 0.4  # mean of a line; the authors use 0.5, where a missed one costs less
_THIN: Final = 15  # pixels as the network sees them
_SURER: Final = 0.006  # for each pixel that a line is thicker: a lung is no letter
_SUREST: Final = 0.95
_WIDENED: Final = 1.4  # of a line's thickness: half at each side
_LEAST_PIXELS: Final = 10
# A piece of a text that was missed: noise gives hairlines, and lines of lower mean.
_DOUBTED: Final = 0.35
_LEAST_DOUBTED: Final = 20  # pixels
_HAIRLINE: Final = 2.0
_FLAT: Final = 10  # grey levels of 255: no neighbours differ more, nobody could read a text there


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of a picture, and how much it is enlarged before it is looked at."""

    top: int
    left: int
    rows: int
    columns: int
    scale: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes
    ----------
    boxes : tuple of Box
        A line or a word each, in any direction; with a margin.
    doubts : tuple of Box
        What may be a piece of one: thin as letters are, and less sure than a box has to be. Beside
        a faint text that was missed there are some; in pictures without text there are few.
    """

    boxes: tuple[Box, ...]
    doubts: tuple[Box, ...]


class TextFinder:
    """Finds where text stands, without reading it.

    Parameters
    ----------
    threads : int, optional
        As many as there are cores that this process may use by default.

    Raises
    ------
    MissingPackage
        When the network is not installed.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        self._run: Run
        self._run, _ = open_network("finder", threads=threads)

    def find(self, picture: Picture) -> tuple[Box, ...]:
        """Return the boxes of text in a picture, as :meth:`search` does."""
        return self.search(picture).boxes

    def search(self, picture: Picture) -> Found:
        """Return the boxes of text in a picture, and what may be some.

        Parameters
        ----------
        picture : ndarray, uint8, shape (rows, columns) or (rows, columns, 3)
        """
        rows, columns = picture.shape[:2]
        found: list[Box] = []
        doubts: list[Box] = []
        for window in _windows(rows, columns):
            part = picture[
                window.top : window.top + window.rows, window.left : window.left + window.columns
            ]
            if _is_flat(part):
                continue
            likely = self._likely(part, window.scale)
            per_row, per_column = (likely.shape[n] / part.shape[n] for n in (0, 1))
            for box, is_sure in _lines(likely, per_row, per_column):
                moved = Box(
                    box.left + window.left,
                    box.top + window.top,
                    box.right + window.left,
                    box.bottom + window.top,
                    box.confidence,
                ).within(rows, columns)
                if moved is not None:
                    (found if is_sure else doubts).append(moved)
        boxes = without_doubles(found)
        left = [one for one in doubts if not any(map(one.common, boxes))]
        return Found(boxes, without_doubles(left))

    def _likely(self, part: Picture, scale: float) -> npt.NDArray[np.float32]:
        """Return for each pixel of the enlarged part how likely it belongs to text."""
        sides = [max(_STEP, round(side * scale / _STEP) * _STEP) for side in part.shape[:2]]
        colour = part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=2)
        sized = resized(colour, sides[0], sides[1])
        given = (sized[..., ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        likely: npt.NDArray[np.float32] = self._run(np.ascontiguousarray(given))[0, 0]
        return likely


def resized(picture: Picture, rows: int, columns: int) -> Picture:
    """Return a picture in another size; what is made smaller is averaged."""
    from PIL import Image

    how = Image.Resampling.BOX if rows < picture.shape[0] else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(picture).resize((columns, rows), how, reducing_gap=None))


def _windows(rows: int, columns: int) -> Iterator[_Window]:
    """Yield the whole picture, made smaller where it is large, and then its tiles."""
    longest, shortest = max(rows, columns), min(rows, columns)
    if longest <= _TILE + _OVERLAP:
        scale = min(max(1.0, _LEAST_SIDE / shortest), _MOST_ENLARGED, 2 * _TILE / longest)
        yield _Window(0, 0, rows, columns, scale)
        return
    yield _Window(0, 0, rows, columns, _TILE / longest)
    if longest > 3 * _TILE:
        yield from _tiles(rows, columns, 0.5)
    yield from _tiles(rows, columns, 1.0)


def _tiles(rows: int, columns: int, scale: float) -> Iterator[_Window]:
    for top, height in _spans(rows, scale):
        for left, width in _spans(columns, scale):
            yield _Window(top, left, height, width, scale)


def _spans(length: int, scale: float) -> list[tuple[int, int]]:
    """Return start and length of equal parts that overlap and cover a side."""
    tile, overlap = int(_TILE / scale), int(_OVERLAP / scale)
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = [round(n * (length - tile) / (count - 1)) for n in range(count)]
    return [(start, tile) for start in starts]


def _is_flat(part: Picture) -> bool:
    """Return whether no pixel differs from its neighbours by what a letter's edge needs."""
    values: npt.NDArray[Any] = part.astype(np.int16)
    return not any(
        (np.abs(np.diff(values, axis=axis)) > _FLAT).any()
        for axis in (0, 1)
        if part.shape[axis] > 1
    )


def _lines(
    likely: npt.NDArray[np.float32], per_row: float, per_column: float
) -> Iterator[tuple[Box, bool]]:
    """Yield the boxes of connected likely pixels, and whether they surely are text.

    In pixels of the picture; they may reach over.
    """
    labels, _ = scipy.ndimage.label(likely > _LIKELY, structure=np.ones((3, 3), np.int8))
    for number, where in enumerate(scipy.ndimage.find_objects(labels), start=1):
        inside = labels[where] == number
        area = int(inside.sum())
        if area < _LEAST_PIXELS:
            continue
        thickness = area / math.hypot(*inside.shape)  # whatever the line's direction
        confidence = float(likely[where][inside].mean())
        is_sure = confidence >= min(_SURE + _SURER * max(0.0, thickness - _THIN), _SUREST)
        if not is_sure and (
            confidence < _DOUBTED or area < _LEAST_DOUBTED or not _HAIRLINE <= thickness <= _THIN
        ):
            continue
        margin = _WIDENED * thickness / 2 + 2
        rows, columns = where
        box = Box(
            max(0, math.floor((columns.start - margin) / per_column)),
            max(0, math.floor((rows.start - margin) / per_row)),
            math.ceil((columns.stop + margin) / per_column),
            math.ceil((rows.stop + margin) / per_row),
            round(confidence, 3),
        )
        yield box, is_sure
