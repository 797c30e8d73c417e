"""The scan itself: tags and lengths of a data set, byte by byte (PS3.5 7.1, 7.5, PS3.10 7.1)."""

from __future__ import annotations

import os
import struct
import zlib
from functools import lru_cache
from typing import Final

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag

from dicom.errors import NotDicom
from dicom.header.values import PixelKeyword, PixelSpan
from dicom.part10 import PARSER_ERRORS, UNDEFINED_LENGTH, quiet_pydicom

INFLATED_LIMIT: Final = 2**30
"""The most bytes that a deflated file may inflate to; deflate packs up to a thousand into one."""

_FIRST_READ: Final = 1 << 16
_MAX_DEPTH: Final = 100  # sequences in sequences; pydicom gives up at about three times as many
PIXEL_TAGS: Final[dict[int, PixelKeyword]] = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
CHARACTER_SET: Final = 0x00080005
_TRANSFER_SYNTAX: Final = 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 7.1.2: these have two reserved bytes and a length of four bytes.
LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
EXPLICIT: Final = {order: struct.Struct(order + "HH2sH") for order in "<>"}
IMPLICIT: Final = {order: struct.Struct(order + "HHL") for order in "<>"}
LENGTH: Final = {order: struct.Struct(order + "L") for order in "<>"}


class Odd(Exception):
    """The scan met what it cannot judge."""


class Window:
    """The part of a file that is at hand: `data` begins at byte `base` of `size` bytes."""

    __slots__ = ("base", "data", "end", "file", "size")

    def __init__(self, file: int | None, size: int) -> None:
        self.file, self.size = file, size
        self.base, self.end, self.data = 0, 0, b""

    @classmethod
    def over(cls, content: bytes) -> Window:
        """Return a window that shows all of some bytes."""
        window = cls(None, len(content))
        window.data, window.end = content, len(content)
        return window

    def show(self, position: int, count: int) -> None:
        """Bring `count` bytes from `position` on to hand, and what follows them."""
        if self.base <= position and position + count <= self.end:
            return
        if position + count > self.size or self.file is None:
            raise Odd
        self.data = os.pread(self.file, max(count, _FIRST_READ), position)
        self.base, self.end = position, position + len(self.data)
        if len(self.data) < count:
            raise Odd  # the file is being cut off while it is read

    def bytes_at(self, position: int, count: int) -> bytes:
        """Return `count` bytes from `position` on."""
        if position < self.base or position + count > self.end:
            if position + count > self.size or self.file is None:
                raise Odd
            found = os.pread(self.file, count, position)
            if len(found) < count:
                raise Odd
            return found
        return self.data[position - self.base : position - self.base + count]


def scan_meta(window: Window) -> tuple[str, int]:
    """Return the transfer syntax, and where the data set starts (PS3.10 7.1)."""
    if window.end == 0:
        window.show(0, 132)
    if window.data[128:132] != b"DICM":
        raise Odd
    position, syntax = 132, None
    while True:
        if position + 12 > window.end:
            window.show(position, 12)
        group, number, vr, length = EXPLICIT["<"].unpack_from(window.data, position - window.base)
        if group != 2:
            break
        position += 8
        if vr in LONG:
            (length,) = LENGTH["<"].unpack(window.bytes_at(position, 4))
            position += 4
        elif vr not in _SHORT:
            raise Odd
        if number == _TRANSFER_SYNTAX & 0xFFFF:
            syntax = window.bytes_at(position, length).rstrip(b" \0").decode("latin-1")
        position += length
    if not syntax:
        raise Odd
    return syntax, position


def scan_elements(
    window: Window, position: int, wanted: frozenset[int], *, implicit: bool, order: str
) -> tuple[Dataset, PixelSpan | None]:
    """Walk over the elements of the top level, and keep those that are wanted."""
    explicit_head, implicit_head = EXPLICIT[order].unpack_from, IMPLICIT[order].unpack_from
    long_length = LENGTH[order].unpack_from
    little = order == "<"
    kept: dict[BaseTag, DataElement | RawDataElement] = {}
    encoding: str | list[str] = default_encoding
    pixels = None
    data, base, end, size = window.data, window.base, window.end, window.size
    vr: bytes | None
    if implicit and _looks_explicit(window, position):
        raise Odd
    while size - position >= 8:
        if position + 12 > end:
            window.show(position, min(12, size - position))
            data, base, end = window.data, window.base, window.end
        at = position - base
        if implicit:
            group, number, length = implicit_head(data, at)
            vr, value = None, position + 8
        else:
            group, number, vr, length = explicit_head(data, at)
            value = position + 8
            if vr in LONG:
                if position + 12 > size:
                    raise Odd
                (length,) = long_length(data, at + 8)
                value += 4
            elif vr not in _SHORT:
                raise Odd
        tag = group << 16 | number
        if tag in PIXEL_TAGS:
            pixels = pixel_span(tag, vr, value, length, size)
            break
        if group >= 0xFFFC:
            raise Odd
        if length == UNDEFINED_LENGTH:
            position = _end_of_items(window, value, implicit=implicit or vr == b"UN", order=order)
            data, base, end = window.data, window.base, window.end
            length = position - 8 - value
            if tag in wanted and (vr == b"UN" or not _is_sequence(tag, vr)):
                raise Odd
        else:
            position = value + length
            if position > size:
                raise Odd
        if tag in wanted:
            key = BaseTag(tag)
            content = window.bytes_at(value, length)
            name = None if vr is None else vr.decode("ascii")
            kept[key] = RawDataElement(key, name, length, content, value, implicit, little)
            if tag == CHARACTER_SET:
                encoding = _encodings(content)
    ds = Dataset(kept)
    ds.set_original_encoding(implicit, little, encoding)
    return ds, pixels


def _looks_explicit(window: Window, position: int) -> bool:
    """Return whether two capital letters stand where a data set begins with a length."""
    first, second = window.bytes_at(position + 4, 2)
    return ord("A") <= first <= ord("Z") and ord("A") <= second <= ord("Z")


def pixel_span(tag: int, vr: bytes | None, value: int, length: int, size: int) -> PixelSpan:
    """Return where a pixel element's value lies."""
    if vr is not None and vr not in (b"OB", b"OW", b"OF", b"OD", b"UN"):
        raise Odd
    encapsulated = length == UNDEFINED_LENGTH
    if encapsulated:
        length = max(0, size - value)
    return PixelSpan(PIXEL_TAGS[tag], value, length, encapsulated, vr in (None, b"OW"))


def _is_sequence(tag: int, vr: bytes | None) -> bool:
    if vr is not None:
        return vr == b"SQ"
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def _end_of_items(window: Window, position: int, *, implicit: bool, order: str) -> int:
    """Return where a value of undefined length ends, after its delimiter (PS3.5 7.5).

    A stack of open things says for each whether it is an item (else a sequence); only those of
    undefined length are entered, since the others can be stepped over.
    """
    explicit_head, implicit_head = EXPLICIT[order].unpack_from, IMPLICIT[order].unpack_from
    long_length = LENGTH[order].unpack_from
    open_items: list[bool] = [False]  # False: a sequence, True: an item of it
    encodings: list[bool] = [implicit]
    data, base, end = window.data, window.base, window.end
    while open_items:
        if position + 12 > end:
            window.show(position, min(12, window.size - position))
            data, base, end = window.data, window.base, window.end
        at = position - base
        if end - position < 8:
            raise Odd
        group, number, length = implicit_head(data, at)
        position += 8
        if group == 0xFFFE:
            in_item = open_items[-1]
            tag = group << 16 | number
            if tag == _ITEM and not in_item:
                if length == UNDEFINED_LENGTH:
                    open_items.append(True)
                else:
                    position += length
            elif length == 0 and tag == (_ITEM_END if in_item else _SEQUENCE_END):
                if not open_items.pop():
                    encodings.pop()
            else:
                raise Odd
        elif not open_items[-1]:
            raise Odd
        else:
            inner_implicit = encodings[-1]
            if not inner_implicit:
                _, _, vr, length = explicit_head(data, at)
                if vr in LONG:
                    if end - position < 4:
                        raise Odd
                    (length,) = long_length(data, at + 8)
                    position += 4
                    inner_implicit = vr == b"UN"  # PS3.5 6.2.2: in it all is implicit
                elif vr not in _SHORT:
                    raise Odd
            if length == UNDEFINED_LENGTH:
                open_items.append(False)
                encodings.append(inner_implicit)
                if len(open_items) > 2 * _MAX_DEPTH:
                    raise Odd
            else:
                position += length
        if position > window.size:
            raise Odd
    return position


def inflate(deflated: bytes, *, limit: int = INFLATED_LIMIT) -> bytes:
    """Return inflated bytes, of which there are at most `limit`.

    Raises
    ------
    NotDicom
        When they cannot be inflated, or would be more.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: without a zlib header
    try:
        inflated = inflater.decompress(deflated, limit)
    except zlib.error:
        raise NotDicom("the deflated file is damaged") from None
    if not inflater.eof and (len(inflated) == limit or inflater.unconsumed_tail):
        raise NotDicom(f"the deflated file holds more than {limit} bytes")
    return inflated


@lru_cache(maxsize=64)
def _encodings(value: bytes) -> str | list[str]:
    names = value.decode("latin-1").rstrip(" \0").split("\\")
    with quiet_pydicom():
        try:
            return convert_encodings(names if len(names) > 1 else names[0])
        except PARSER_ERRORS:
            raise Odd from None
