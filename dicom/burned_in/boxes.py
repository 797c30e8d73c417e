"""Rectangles in an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle of pixels, and how sure it is that something stands there.

    Attributes
    ----------
    left, top : int
        The first column and row, from 0.
    right, bottom : int
        The column and row after the last.
    confidence : float
        0 to 1; 1 where a rule says it.
    """

    left: int
    top: int
    right: int
    bottom: int
    confidence: float = 1.0

    def __post_init__(self) -> None:
        if self.left < 0 or self.top < 0 or self.right <= self.left or self.bottom <= self.top:
            raise ValueError("a box has at least one pixel, and none before the first")

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    def common(self, other: Box) -> int:
        """Return how many pixels both have."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0, width) * max(0, height)

    def around(self, other: Box) -> Box:
        """Return the smallest box that holds both, as sure as the surer of them."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
            max(self.confidence, other.confidence),
        )

    def within(self, rows: int, columns: int) -> Box | None:
        """Return what of it lies in an image of that size, None where nothing does."""
        right, bottom = min(self.right, columns), min(self.bottom, rows)
        if self.left >= right or self.top >= bottom:
            return None
        return Box(self.left, self.top, right, bottom, self.confidence)


def mask_of(boxes: Iterable[Box], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return where boxes lie, shape (rows, columns)."""
    mask = np.zeros((rows, columns), np.bool_)
    for box in boxes:
        mask[box.top : box.bottom, box.left : box.right] = True
    return mask


def without_doubles(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Return the boxes, those that lie nearly all in a larger one taken into it.

    The larger grows by what lies outside, so that no pixel is lost.
    """
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda one: one.width * one.height, reverse=True):
        area = box.width * box.height
        for number, larger in enumerate(kept):
            if box.common(larger) >= 0.9 * area:
                kept[number] = larger.around(box)
                break
        else:
            kept.append(box)
    return tuple(sorted(kept))
