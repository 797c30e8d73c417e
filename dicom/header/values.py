"""The attributes of one file that were asked for, as values."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom.part10 import PARSER_ERRORS, quiet_pydicom

Floats = npt.NDArray[np.float64]
PixelKeyword = Literal["PixelData", "FloatPixelData", "DoubleFloatPixelData"]

_PLAIN_TEXT: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"))
_NUMBERS: Final = {  # VR -> how struct names it, and its bytes
    "US": ("H", 2),
    "SS": ("h", 2),
    "UL": ("L", 4),
    "SL": ("l", 4),
    "FL": ("f", 4),
    "FD": ("d", 8),
}


@dataclass(frozen=True, slots=True)
class PixelSpan:
    """Where the value of the pixel element lies.

    Parameters
    ----------
    start : int
        First byte of the value, counted from the start of the file; of a deflated file from the
        start of its inflated data set.
    length : int
        Bytes of the value as the header claims; the file may end before. For encapsulated
        pixel data all bytes up to the end of the file.
    encapsulated : bool
        The value is a sequence of fragments (PS3.5 A.4).
    words : bool
        The value is coded in words of two bytes (OW), which matters in big endian only.
    """

    keyword: PixelKeyword
    start: int
    length: int
    encapsulated: bool
    words: bool


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """The attributes of one file that were asked for, and where its pixel data lies.

    Parameters
    ----------
    ds : Dataset
        Raw elements, parsed when they are asked for; a broken value raises then. The methods
        below return None instead.
    pixels : PixelSpan or None
        None where the file has no pixel data.
    size : int
        Bytes of the file, or of the inflated data set of a deflated one.
    """

    path: Path
    ds: Dataset
    transfer_syntax: UID
    pixels: PixelSpan | None
    size: int

    def value(self, keyword: str) -> object:
        """Return a value as pydicom gives it; None where it is absent or breaks its own VR."""
        with quiet_pydicom():
            try:
                return self.ds.get(keyword)
            except (*PARSER_ERRORS, OSError):  # pydicom ends a cut sequence with OSError
                return None

    def text(self, keyword: str) -> str | None:
        """Return a value as stripped text, None where it is absent, empty or a sequence."""
        plain = self._plain(keyword)
        if plain is not None and "\\" not in plain:
            return plain.strip() or None
        value = self.value(keyword)
        if value is None or isinstance(value, ItemSequence):
            return None
        return str(value).strip() or None

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the parts of a multi-valued attribute; none of a sequence."""
        plain = self._plain(keyword)
        if plain is not None:
            return tuple(part.strip() for part in plain.split("\\")) if plain else ()
        value = self.value(keyword)
        if isinstance(value, MultiValue):
            return tuple(str(part).strip() for part in value)
        if value is None or value == "" or isinstance(value, ItemSequence):
            return ()
        return (str(value).strip(),)

    def numbers(self, keyword: str, count: int) -> Floats | None:
        """Return exactly `count` finite numbers, None where there are not."""
        try:
            numbers = np.array(self._numbers(keyword), np.float64)
        except ValueError:
            return None
        return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None

    def number(self, keyword: str) -> float | None:
        """Return one finite number, None where there is none."""
        try:
            numbers = self._numbers(keyword)
        except ValueError:
            return None
        return numbers[0] if len(numbers) == 1 and math.isfinite(numbers[0]) else None

    def whole(self, keyword: str) -> int | None:
        """Return one whole number, None where there is none."""
        element = self._element(keyword)
        if isinstance(element, RawDataElement) and element.VR == "US":  # what is asked most
            content: bytes = element.value or b""
            if len(content) == 2:
                return int.from_bytes(content, "little" if element.is_little_endian else "big")
        number = self.number(keyword)
        return int(number) if number is not None and number.is_integer() else None

    def items(self, keyword: str) -> tuple[Dataset, ...]:
        """Return the items of a sequence; none where it is absent or damaged."""
        value = self.value(keyword)
        return tuple(value) if isinstance(value, ItemSequence) else ()

    def raw(self, keyword: str) -> bytes | None:
        """Return a value as its bytes in the file; None where it is absent or was text."""
        value = getattr(self._element(keyword), "value", None)
        return value if isinstance(value, bytes) else None

    def _element(self, keyword: str) -> object:
        return self.ds.get_item(tag_of(keyword))

    def _plain(self, keyword: str) -> str | None:
        """Return text that is the same in every character set, without asking pydicom."""
        element = self._element(keyword)
        if not isinstance(element, RawDataElement) or element.value is None:
            return None
        if (element.VR or dictionary_VR(element.tag)) not in _PLAIN_TEXT:
            return None
        content: bytes = element.value
        return content.decode("ascii").rstrip(" \0") if content.isascii() else None

    def _numbers(self, keyword: str) -> list[float]:
        element = self._element(keyword)
        if isinstance(element, RawDataElement) and element.value:
            vr = element.VR or dictionary_VR(element.tag)
            if vr in ("DS", "IS"):
                return [float(part) for part in element.value.rstrip(b" \0").split(b"\\")]
            if vr in _NUMBERS:
                order = "<" if element.is_little_endian else ">"
                code, size = _NUMBERS[vr]
                count, rest = divmod(len(element.value), size)
                if rest:
                    raise ValueError("a binary number is cut off")
                return [float(n) for n in struct.unpack(f"{order}{count}{code}", element.value)]
        return [float(part) for part in self.texts(keyword)]


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of a DICOM keyword.

    Raises
    ------
    ValueError
        When there is no such keyword.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM keyword")
    return BaseTag(tag)
