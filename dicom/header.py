"""A fast scan of a Part 10 header: the attributes asked for, and where the pixel data lies.

Elements that nobody asked for are stepped over, not parsed: a CT header of 300 elements takes a
tenth of pydicom's time. What the scan cannot judge (a value representation that PS3.5 does not
know, a length past the end of the file, an odd sequence) is read again by pydicom, so that both
give the same values. Memory is bounded by the size of the file.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom.errors import NotDicom
from dicom.part10 import DEFLATED, PARSER_ERRORS, UNDEFINED_LENGTH, quiet_pydicom

Floats = npt.NDArray[np.float64]
PixelKeyword = Literal["PixelData", "FloatPixelData", "DoubleFloatPixelData"]

INFLATED_LIMIT: Final = 2**30
"""The most bytes that a deflated file may inflate to; deflate packs up to a thousand into one."""

PIXEL_KEYWORDS: Final = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "LossyImageCompression",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
"""What decoding needs (PS3.3 C.7.6.3); every scan brings these."""

_FIRST_READ: Final = 1 << 16
_MAX_DEPTH: Final = 100  # sequences in sequences; pydicom gives up at about three times as many
_PIXEL_TAGS: Final[dict[int, PixelKeyword]] = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_CHARACTER_SET: Final = 0x00080005
_TRANSFER_SYNTAX: Final = 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 7.1.2: these have two reserved bytes and a length of four bytes.
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_PLAIN_TEXT: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"))
_NUMBERS: Final = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8"}


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
            except PARSER_ERRORS:
                return None

    def text(self, keyword: str) -> str | None:
        """Return a value as stripped text, None where it is absent or empty."""
        plain = self._plain(keyword)
        if plain is not None and "\\" not in plain:
            return plain.strip() or None
        value = self.value(keyword)
        return None if value is None else (str(value).strip() or None)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the parts of a multi-valued attribute."""
        plain = self._plain(keyword)
        if plain is not None:
            return tuple(part.strip() for part in plain.split("\\")) if plain else ()
        value = self.value(keyword)
        if isinstance(value, MultiValue):
            return tuple(str(part).strip() for part in value)
        return () if value is None or value == "" else (str(value).strip(),)

    def numbers(self, keyword: str, count: int) -> Floats | None:
        """Return exactly `count` finite numbers, None where there are not."""
        try:
            numbers = np.array(self._numbers(keyword), np.float64)
        except (ValueError, OverflowError):
            return None
        return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None

    def number(self, keyword: str) -> float | None:
        """Return one finite number, None where there is none."""
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else float(numbers[0])

    def whole(self, keyword: str) -> int | None:
        """Return one whole number, None where there is none."""
        number = self.number(keyword)
        return int(number) if number is not None and number.is_integer() else None

    def items(self, keyword: str) -> tuple[Dataset, ...]:
        """Return the items of a sequence; none where it is absent or damaged."""
        value = self.value(keyword)
        return tuple(value) if isinstance(value, ItemSequence) else ()

    def raw(self, keyword: str) -> bytes | None:
        """Return a value as its bytes in the file; None where it is absent or has been parsed."""
        element = self._element(keyword)
        return element.value if isinstance(element, RawDataElement) else None

    def _element(self, keyword: str) -> object:
        tag = _tag_of(keyword)
        return self.ds.get_item(tag) if tag in self.ds else None

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
                return list(np.frombuffer(element.value, order + _NUMBERS[vr]).astype(float))
        return [float(part) for part in self.texts(keyword)]


def read_header(path: Path, keywords: tuple[str, ...] = ()) -> Header:
    """Return the attributes of a Part 10 file that are asked for, and where its pixels lie.

    Parameters
    ----------
    path : Path
        A file with preamble and file meta information (PS3.10 7.1).
    keywords : tuple of str
        DICOM keywords of top-level attributes, sequences included. :data:`PIXEL_KEYWORDS` and
        SpecificCharacterSet come in any case.

    Raises
    ------
    NotDicom
        When the file cannot be opened, is no Part 10 file, names no transfer syntax or is damaged
        beyond what pydicom reads.
    """
    wanted = _tags_of(keywords)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise NotDicom("the file cannot be read") from None
    try:
        header = _scan_file(path, file, wanted)
    except _Odd:
        header = _read_by_pydicom(path, wanted)
    except OSError:
        raise NotDicom("the file cannot be read") from None
    finally:
        os.close(file)
    return header


def read_inflated(path: Path) -> bytes:
    """Return the inflated data set of a file in Deflated Explicit VR Little Endian.

    Raises
    ------
    NotDicom
        When it cannot be inflated, or would be larger than :data:`INFLATED_LIMIT`.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise NotDicom("the file cannot be read") from None
    try:
        _, start = _scan_meta(_Window.over(content))
    except _Odd:
        raise NotDicom("the bytes are no DICOM file") from None
    return _inflate(content[start:])


# --- the scan -----------------------------------------------------------------------------------


class _Odd(Exception):
    """The scan met what it cannot judge."""


class _Window:
    """The part of a file that is at hand: `data` begins at byte `base` of `size` bytes."""

    __slots__ = ("base", "data", "end", "file", "size")

    def __init__(self, file: int | None, size: int) -> None:
        self.file, self.size = file, size
        self.base, self.end, self.data = 0, 0, b""

    @classmethod
    def over(cls, content: bytes) -> _Window:
        """Return a window that shows all of some bytes."""
        window = cls(None, len(content))
        window.data, window.end = content, len(content)
        return window

    def show(self, position: int, count: int) -> None:
        """Bring `count` bytes from `position` on to hand, and what follows them."""
        if position + count > self.size or self.file is None:
            raise _Odd
        self.data = os.pread(self.file, max(count, _FIRST_READ), position)
        self.base, self.end = position, position + len(self.data)
        if len(self.data) < count:
            raise _Odd  # the file is being cut off while it is read

    def bytes_at(self, position: int, count: int) -> bytes:
        """Return `count` bytes from `position` on."""
        if position < self.base or position + count > self.end:
            if position + count > self.size or self.file is None:
                raise _Odd
            found = os.pread(self.file, count, position)
            if len(found) < count:
                raise _Odd
            return found
        return self.data[position - self.base : position - self.base + count]


def _scan_file(path: Path, file: int, wanted: frozenset[int]) -> Header:
    window = _Window(file, os.fstat(file).st_size)
    syntax, start = _scan_meta(window)
    if syntax == DEFLATED:
        window = _Window.over(_inflate(window.bytes_at(start, window.size - start)))
        start = 0
    implicit = syntax == "1.2.840.10008.1.2"
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    ds, pixels = _scan_elements(window, start, wanted, implicit=implicit, order=order)
    return Header(path, ds, _uid(syntax), pixels, window.size)


def _scan_meta(window: _Window) -> tuple[str, int]:
    """Return the transfer syntax, and where the data set starts (PS3.10 7.1)."""
    if window.end == 0:
        window.show(0, 132)
    if window.data[128:132] != b"DICM":
        raise _Odd
    position, syntax = 132, None
    while True:
        if position + 12 > window.end:
            window.show(position, 12)
        group, number, vr, length = _EXPLICIT["<"].unpack_from(window.data, position - window.base)
        if group != 2:
            break
        position += 8
        if vr in _LONG:
            (length,) = _LENGTH["<"].unpack(window.bytes_at(position, 4))
            position += 4
        elif vr not in _SHORT:
            raise _Odd
        if number == _TRANSFER_SYNTAX & 0xFFFF:
            syntax = window.bytes_at(position, length).rstrip(b" \0").decode("latin-1")
        position += length
    if not syntax:
        raise _Odd
    return syntax, position


_EXPLICIT: Final = {order: struct.Struct(order + "HH2sH") for order in "<>"}
_IMPLICIT: Final = {order: struct.Struct(order + "HHL") for order in "<>"}
_LENGTH: Final = {order: struct.Struct(order + "L") for order in "<>"}


def _scan_elements(
    window: _Window, position: int, wanted: frozenset[int], *, implicit: bool, order: str
) -> tuple[Dataset, PixelSpan | None]:
    """Walk over the elements of the top level, and keep those that are wanted."""
    explicit_head, implicit_head = _EXPLICIT[order].unpack_from, _IMPLICIT[order].unpack_from
    long_length = _LENGTH[order].unpack_from
    little = order == "<"
    kept: dict[BaseTag, DataElement | RawDataElement] = {}
    encoding: str | list[str] = default_encoding
    pixels = None
    data, base, end, size = window.data, window.base, window.end, window.size
    vr: bytes | None
    while size - position >= 8:
        if position + 12 > end:
            window.show(position, min(12, size - position))
            data, base, end = window.data, window.base, window.end
        at = position - base
        if implicit:
            group, number, length = implicit_head(data, at)
            vr, value = None, position + 8
            if data[at + 4 : at + 6] in _SHORT | _LONG and length > size:
                raise _Odd  # it says implicit, and is explicit
        else:
            group, number, vr, length = explicit_head(data, at)
            value = position + 8
            if vr in _LONG:
                if position + 12 > size:
                    raise _Odd
                (length,) = long_length(data, at + 8)
                value += 4
            elif vr not in _SHORT:
                raise _Odd
        tag = group << 16 | number
        if tag in _PIXEL_TAGS:
            pixels = _pixel_span(tag, vr, value, length, size)
            break
        if group >= 0xFFFC:
            raise _Odd
        if length == UNDEFINED_LENGTH:
            position = _end_of_items(window, value, implicit=implicit or vr == b"UN", order=order)
            data, base, end = window.data, window.base, window.end
            length = position - 8 - value
            if tag in wanted and (vr == b"UN" or not _is_sequence(tag, vr)):
                raise _Odd
        else:
            position = value + length
            if position > size:
                raise _Odd
        if tag in wanted:
            key = BaseTag(tag)
            content = window.bytes_at(value, length)
            name = None if vr is None else vr.decode("ascii")
            kept[key] = RawDataElement(key, name, length, content, value, implicit, little)
            if tag == _CHARACTER_SET:
                encoding = _encodings(content)
    ds = Dataset(kept)
    ds.set_original_encoding(implicit, little, encoding)
    return ds, pixels


def _pixel_span(tag: int, vr: bytes | None, value: int, length: int, size: int) -> PixelSpan:
    if vr is not None and vr not in (b"OB", b"OW", b"OF", b"OD", b"UN"):
        raise _Odd
    encapsulated = length == UNDEFINED_LENGTH
    if encapsulated:
        length = max(0, size - value)
    return PixelSpan(_PIXEL_TAGS[tag], value, length, encapsulated, vr in (None, b"OW"))


def _is_sequence(tag: int, vr: bytes | None) -> bool:
    if vr is not None:
        return vr == b"SQ"
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def _end_of_items(window: _Window, position: int, *, implicit: bool, order: str) -> int:
    """Return where a value of undefined length ends, after its delimiter (PS3.5 7.5).

    A stack of open things says for each whether it is an item (else a sequence); only those of
    undefined length are entered, since the others can be stepped over.
    """
    explicit_head, implicit_head = _EXPLICIT[order].unpack_from, _IMPLICIT[order].unpack_from
    long_length = _LENGTH[order].unpack_from
    open_items: list[bool] = [False]  # False: a sequence, True: an item of it
    encodings: list[bool] = [implicit]
    data, base, end = window.data, window.base, window.end
    while open_items:
        if position + 12 > end:
            window.show(position, min(12, window.size - position))
            data, base, end = window.data, window.base, window.end
        at = position - base
        if end - position < 8:
            raise _Odd
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
                raise _Odd
        elif not open_items[-1]:
            raise _Odd
        else:
            inner_implicit = encodings[-1]
            if not inner_implicit:
                _, _, vr, length = explicit_head(data, at)
                if vr in _LONG:
                    if end - position < 4:
                        raise _Odd
                    (length,) = long_length(data, at + 8)
                    position += 4
                    inner_implicit = vr == b"UN"  # PS3.5 6.2.2: in it all is implicit
                elif vr not in _SHORT:
                    raise _Odd
            if length == UNDEFINED_LENGTH:
                open_items.append(False)
                encodings.append(inner_implicit)
                if len(open_items) > 2 * _MAX_DEPTH:
                    raise _Odd
            else:
                position += length
        if position > window.size:
            raise _Odd
    return position


# --- what the scan leaves to others -------------------------------------------------------------


def _read_by_pydicom(path: Path, wanted: frozenset[int]) -> Header:
    with quiet_pydicom():
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                ds = dcmread(file, stop_before_pixels=True, specific_tags=list(wanted))
                syntax = ds.file_meta.get("TransferSyntaxUID")
                if not syntax:
                    raise NotDicom("a file names no transfer syntax")
                if syntax == DEFLATED:
                    raise NotDicom("the deflated file is damaged")
                implicit, little = ds.original_encoding
                position = file.tell()
                head = file.read(12)
        except OSError:
            raise NotDicom("the file cannot be read") from None
        except PARSER_ERRORS:
            raise NotDicom("the bytes are no DICOM file, or damaged") from None
    pixels = _span_after(head, position, size, bool(implicit), "<" if little else ">")
    return Header(path, ds, UID(str(syntax)), pixels, size)


def _span_after(
    head: bytes, position: int, size: int, implicit: bool, order: str
) -> PixelSpan | None:
    """Return where the pixel data lies before which pydicom stopped."""
    if len(head) < 8:
        return None
    group, number, vr, length = _EXPLICIT[order].unpack_from(head)
    tag = group << 16 | number
    if tag not in _PIXEL_TAGS:
        return None
    value = position + 8
    if implicit:
        (length,) = _LENGTH[order].unpack_from(head, 4)
        vr = None
    elif vr in _LONG and len(head) == 12:
        (length,) = _LENGTH[order].unpack_from(head, 8)
        value += 4
    try:
        return _pixel_span(tag, vr, value, length, size)
    except _Odd:
        return None


def _inflate(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: without a zlib header
    try:
        inflated = inflater.decompress(deflated, INFLATED_LIMIT)
    except zlib.error:
        raise NotDicom("the deflated file is damaged") from None
    if inflater.unconsumed_tail:
        raise NotDicom("the deflated file claims to hold more than 1 GiB")
    return inflated


@lru_cache(maxsize=64)
def _tags_of(keywords: tuple[str, ...]) -> frozenset[int]:
    tags = {_tag_of(keyword) for keyword in (*keywords, *PIXEL_KEYWORDS)}
    return frozenset(tags | {_CHARACTER_SET})


@lru_cache(maxsize=4096)
def _tag_of(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM keyword")
    return tag


@lru_cache(maxsize=64)
def _uid(text: str) -> UID:
    return UID(text)


@lru_cache(maxsize=64)
def _encodings(value: bytes) -> str | list[str]:
    names = value.decode("latin-1").rstrip(" \0").split("\\")
    with quiet_pydicom():
        try:
            return convert_encodings(names if len(names) > 1 else names[0])
        except PARSER_ERRORS:
            raise _Odd from None
