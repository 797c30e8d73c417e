"""What a line of text says: for laterality markers that may stay, and for the second look.

What is read is compared and forgotten: no text of a picture is logged, raised or stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from dicom.burned_in.boxes import Box
from dicom.burned_in.finding import resized
from dicom.burned_in.networks import Run, open_network
from dicom.burned_in.views import Picture

_HEIGHT: Final = 48
_LEAST_WIDTH: Final = 48
_MOST_WIDTH: Final = 1600


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a box.

    Attributes
    ----------
    text : str
        Empty where nothing was recognised.
    confidence : float
        Of its characters, the mean; 0 to 1.
    """

    text: str
    confidence: float

    def __repr__(self) -> str:
        """Return nothing of the text: it may name a patient."""
        return f"Reading({len(self.text)} characters, {self.confidence:.2f})"


class TextReader:
    """Reads lines of text.

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
        self._run, facts = open_network("reader", threads=threads)
        # The network's classes: nothing, its characters, a space.
        self._characters = ("", *facts["character"].split("\n"), " ")

    def readings(self, picture: Picture, box: Box) -> Iterator[Reading]:
        """Yield what a box says upright, on its head, and, unless it is wide, on either side.

        Parameters
        ----------
        picture : ndarray, uint8, shape (rows, columns) or (rows, columns, 3)
        box : Box
            Of this picture.
        """
        part = picture[box.top : box.bottom, box.left : box.right]
        turns = (0, 2) if box.width > 2 * box.height else (0, 2, 1, 3)
        if box.height > 2 * box.width:
            turns = (1, 3)
        for turn in turns:
            yield self._read(np.rot90(part, turn))

    def best(self, picture: Picture, box: Box) -> Reading:
        """Return the surest of the ways to read a box."""
        return max(self.readings(picture, box), key=lambda one: (bool(one.text), one.confidence))

    def _read(self, line: Picture) -> Reading:
        rows, columns = line.shape[:2]
        width = min(max(_LEAST_WIDTH, round(_HEIGHT * columns / rows)), _MOST_WIDTH)
        colour = line if line.ndim == 3 else np.repeat(line[..., None], 3, axis=2)
        sized = resized(np.ascontiguousarray(colour), _HEIGHT, width)
        given = (sized[..., ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        likely = self._run(np.ascontiguousarray(given))[0]
        best = likely.argmax(axis=1)
        kept = (best != 0) & (np.diff(best, prepend=-1) != 0)  # repeated classes are one character
        if not kept.any():
            return Reading("", 0.0)
        classes = [min(int(one), len(self._characters) - 1) for one in best[kept]]
        text = "".join(self._characters[one] for one in classes)
        return Reading(text, float(likely.max(axis=1)[kept].mean()))
