"""Private attributes and whose they are (PS3.5 7.8.1)."""

from __future__ import annotations

from pydicom import Dataset

from dicom.elements import text_of


class PrivateCreators:
    """The private creators of one data set or item; read when the first is asked for.

    Parameters
    ----------
    ds : Dataset
        Its attributes stay raw.
    """

    def __init__(self, ds: Dataset) -> None:
        self._ds = ds
        self._found: dict[int, str] = {}

    def of(self, tag: int) -> str:
        """Return whose a private attribute is: its block's creator, or what a creator says.

        Parameters
        ----------
        tag : int
            Group and element.

        Returns
        -------
        str
            Empty for a public attribute, and where the block has no creator.
        """
        number = tag & 0xFFFF
        if not tag >> 16 & 1 or number < 0x10 or 0xFF < number < 0x1000:
            return ""
        block = number if number <= 0xFF else number >> 8
        place = tag & 0xFFFF0000 | block
        if place not in self._found:
            self._found[place] = text_of(self._ds, place)
        return self._found[place]
