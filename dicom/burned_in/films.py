"""Which part of a frame has not been searched in another frame already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom.burned_in.boxes import Box

_SAME: Final = 4 / 255  # of the frame's range; text that differs less, no search finds
_MARGIN: Final = 32  # pixels around what changed: a letter more may make a word of an old line
_NEARLY_ALL: Final = 0.7  # of a frame: then the whole is searched, as a still picture is


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a frame.

    Parameters
    ----------
    top, left, bottom, right : int
        Pixels; the last two lie outside.
    """

    top: int
    left: int
    bottom: int
    right: int

    def of(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return that part of a picture, a view."""
        return picture[self.top : self.bottom, self.left : self.right]

    def in_frame(self, box: Box) -> Box:
        """Return where a box of the part lies in the frame."""
        return Box(
            box.left + self.left,
            box.top + self.top,
            box.right + self.left,
            box.bottom + self.top,
            box.confidence,
        )


class Film:
    """Remembers of each pixel the value that was searched last.

    A pixel that drifts is compared with what was searched, not with the frame before, so that text
    that fades in is met.
    """

    def __init__(self) -> None:
        self._searched: npt.NDArray[np.float32] | None = None

    def changed(self, picture: npt.NDArray[Any]) -> Part | None:
        """Return the part of the next frame that has to be searched; None where there is none.

        Parameters
        ----------
        picture : ndarray, shape (rows, columns) or (rows, columns, 3)
            Of the same shape each time; values that are not finite count as 0.
        """
        rows, columns = picture.shape[:2]
        whole = Part(0, 0, rows, columns)
        values = np.nan_to_num(picture.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if self._searched is None:
            self._searched = values
            return whole
        apart = np.abs(values - self._searched) > _SAME * float(np.ptp(values))
        if apart.ndim == 3:
            apart = apart.any(axis=2)
        down, across = np.flatnonzero(apart.any(axis=1)), np.flatnonzero(apart.any(axis=0))
        if not down.size:
            return None
        part = Part(
            max(0, int(down[0]) - _MARGIN),
            max(0, int(across[0]) - _MARGIN),
            min(rows, int(down[-1]) + 1 + _MARGIN),
            min(columns, int(across[-1]) + 1 + _MARGIN),
        )
        if (part.bottom - part.top) * (part.right - part.left) > _NEARLY_ALL * rows * columns:
            part = whole
        part.of(self._searched)[...] = part.of(values)
        return part
