"""A data set as plain values, fast: what a Segmentation's ten thousand frames are described in.

pydicom makes an object of every element, which takes seconds for a Segmentation of a hundred
segments. Here an item is a dict from tag to bytes, or to a list of items; most sequences repeat
from frame to frame and are parsed once. No length is believed: each value ends within what
encloses it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom.errors import ImpossibleSize, InvalidSegmentation, NotDicom
from dicom.part10 import PARSER_ERRORS, UNDEFINED_LENGTH, quiet_pydicom

Item = dict[int, "bytes | list[Item]"]

MOST_INFLATED: Final = 1 << 30
"""Bytes that a deflated Segmentation may become."""
_DEEPEST: Final = 16
_FIRST_LOOK: Final = 1 << 20
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_EXPLICIT: Final = struct.Struct("<HH2sH")
_IMPLICIT: Final = struct.Struct("<HHL")
_LENGTH: Final = struct.Struct("<L")


def tag_of(keyword: str) -> int:
    """Return the number of a tag: group and element.

    Raises
    ------
    KeyError
        When there is no such keyword: a bug.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


# What is looked into; every other sequence of known length is skipped as a whole.
_SEQUENCES: Final = frozenset(
    tag_of(keyword)
    for keyword in (
        "AlgorithmFamilyCodeSequence",
        "AnatomicRegionModifierSequence",
        "AnatomicRegionSequence",
        "DerivationImageSequence",
        "FrameContentSequence",
        "PerFrameFunctionalGroupsSequence",
        "PixelMeasuresSequence",
        "PlaneOrientationSequence",
        "PlanePositionSequence",
        "PlanePositionSlideSequence",
        "ReferencedInstanceSequence",
        "ReferencedSeriesSequence",
        "SegmentIdentificationSequence",
        "SegmentSequence",
        "SegmentationAlgorithmIdentificationSequence",
        "SegmentedPropertyCategoryCodeSequence",
        "SegmentedPropertyTypeCodeSequence",
        "SegmentedPropertyTypeModifierCodeSequence",
        "SharedFunctionalGroupsSequence",
        "SourceImageSequence",
        "TotalPixelMatrixOriginSequence",
    )
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A Segmentation's attributes, and where its pixel data lies.

    Parameters
    ----------
    source : Path or bytes
        What `start` and `end` count in; bytes where the file had to be rewritten.
    start, end : int
        The pixel data's value, without its own tag and length; equal where there is none.
    encapsulated : bool
        The value is a row of fragments (PS3.5 A.4).
    """

    item: Item
    syntax: str
    source: Path | bytes
    start: int
    end: int
    encapsulated: bool

    def open(self) -> BinaryIO:
        """Open what the pixel data is read from."""
        return self.source.open("rb") if isinstance(self.source, Path) else io.BytesIO(self.source)


def parse(seg: Path | Dataset) -> Parsed:
    """Read all of a Segmentation but its pixels.

    Raises
    ------
    NotDicom
        When it is no DICOM Part 10 file, or damaged.
    ImpossibleSize
        When it inflates to more than any Segmentation needs.
    """
    try:
        if isinstance(seg, Path):
            with seg.open("rb") as file:
                return _parse_file(file, seg)
        raw = _rewritten(seg)
        return _parse_file(io.BytesIO(raw), raw)
    except PARSER_ERRORS:
        raise NotDicom("the segmentation is no DICOM file, or damaged") from None


def _parse_file(file: BinaryIO, source: Path | bytes) -> Parsed:
    size = file.seek(0, io.SEEK_END)
    wanted = _FIRST_LOOK
    while True:
        file.seek(0)
        head = file.read(min(wanted, size))
        whole = len(head) >= size
        try:
            return _parse_head(head, source, size)
        except (struct.error, InvalidSegmentation):
            if whole:
                raise
            wanted *= 16


def _parse_head(head: bytes, source: Path | bytes, size: int) -> Parsed:
    if head[128:132] != b"DICM":
        raise NotDicom("the segmentation is no DICOM file")
    meta, begin = _file_meta(head)
    syntax = _plain(meta.get(tag_of("TransferSyntaxUID")))
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        content = source if isinstance(source, bytes) else source.read_bytes()
        if syntax == ExplicitVRBigEndian:
            plain = _rewritten(dcmread(io.BytesIO(content)))
        else:
            plain = _inflated(content, begin)
        return _parse_head(plain, plain, len(plain))
    if not syntax:
        raise NotDicom("the segmentation lacks its transfer syntax")
    reader = _Reader(head, implicit=syntax == ImplicitVRLittleEndian)
    item, end = reader.elements(begin, len(head), stop=_PIXELS)
    start, length = reader.head_of_value(end) if end < len(head) else (size, 0)
    if length == UNDEFINED_LENGTH:
        return Parsed(item, syntax, source, start, size, encapsulated=True)
    if start + length > size:
        raise NotDicom("the segmentation ends within its pixel data")
    return Parsed(item, syntax, source, start, start + length, encapsulated=False)


def _file_meta(head: bytes) -> tuple[Item, int]:
    """Return group 0002, which is explicit little endian always (PS3.10 7.1), and its end."""
    reader = _Reader(head, implicit=False)
    return reader.elements(132, len(head), below=0x00030000)


def _inflated(content: bytes, begin: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(content[begin:], MOST_INFLATED)
    if inflater.unconsumed_tail:
        raise ImpossibleSize("the segmentation inflates beyond all measure")
    # The file meta information goes on to say 'deflated', so the one word is replaced.
    meta = dcmread(io.BytesIO(content[:begin]), stop_before_pixels=True).file_meta
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    empty = Dataset()
    empty.file_meta = meta
    buffer = io.BytesIO()
    dcmwrite(buffer, empty, enforce_file_format=True, overwrite=True)
    return buffer.getvalue() + inflated


def _rewritten(ds: Dataset) -> bytes:
    """Return a data set as the bytes of a file; one that was big endian becomes little endian."""
    buffer = io.BytesIO()
    syntax = ds.file_meta.TransferSyntaxUID if hasattr(ds, "file_meta") else None
    with quiet_pydicom():
        if syntax != ExplicitVRBigEndian:
            dcmwrite(buffer, ds, enforce_file_format=True)
            return buffer.getvalue()
        turned = Dataset()
        for element in ds:  # walking converts each, so that it can be written the other way round
            turned.add(element)
        turned.file_meta = FileMetaDataset()
        for element in ds.file_meta:
            turned.file_meta.add(element)
        turned.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if "PixelData" in turned and turned["PixelData"].VR == "OW":
            words = bytearray(turned.PixelData)
            words[::2], words[1::2] = words[1::2], words[::2]
            turned.PixelData = bytes(words)
        dcmwrite(buffer, turned, enforce_file_format=True)
    return buffer.getvalue()


class _Reader:
    """Reads elements of one buffer; sequences that look the same are read once."""

    def __init__(self, buffer: bytes, *, implicit: bool) -> None:
        self._buffer = buffer
        self._implicit = implicit
        self._known: dict[tuple[bytes, bool], list[Item]] = {}

    def head_of_value(self, at: int) -> tuple[int, int]:
        """Return where the value of the element at a place starts, and its length."""
        _, vr, start, length = self._head(at, implicit=self._implicit)
        del vr
        return start, length

    def elements(
        self,
        at: int,
        end: int,
        *,
        stop: frozenset[int] = frozenset(),
        below: int = 1 << 32,
    ) -> tuple[Item, int]:
        """Return the elements up to `end`, or to one that is not wanted, and where that stands."""
        item: Item = {}
        while at < end:
            tag, vr, start, length = self._head(at, implicit=self._implicit)
            if tag in stop or tag >= below:
                break
            at = self._value(item, tag, vr, start, length, end, self._implicit, 0)
        return item, at

    def _head(self, at: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
        if implicit:
            group, element, length = _IMPLICIT.unpack_from(self._buffer, at)
            return group << 16 | element, b"", at + 8, length
        group, element, vr, length = _EXPLICIT.unpack_from(self._buffer, at)
        if vr in _LONG_VRS:
            return group << 16 | element, vr, at + 12, _LENGTH.unpack_from(self._buffer, at + 8)[0]
        return group << 16 | element, vr, at + 8, length

    def _value(
        self,
        item: Item,
        tag: int,
        vr: bytes,
        start: int,
        length: int,
        end: int,
        implicit: bool,
        depth: int,
    ) -> int:
        """Keep one value where it is of use, and return where the next element stands."""
        if length == UNDEFINED_LENGTH:
            if vr not in (b"SQ", b"UN", b""):
                raise InvalidSegmentation("a value of undefined length that is no sequence")
            # PS3.5 6.2.2: a sequence that travels as UN is coded with implicit VR.
            items, at = self._items(start, end, implicit or vr == b"UN", depth + 1, open_=True)
            item[tag] = items
            return at
        at = start + length
        if at > end:
            raise InvalidSegmentation("a value is longer than what encloses it")
        if tag in _SEQUENCES:
            item[tag] = self._closed(start, at, implicit or vr == b"UN", depth)
        elif vr != b"SQ":
            item[tag] = self._buffer[start:at]
        return at

    def _closed(self, start: int, end: int, implicit: bool, depth: int) -> list[Item]:
        """Return the items of a sequence of known length, from memory where it has come before."""
        if depth == 0:
            return self._items(start, end, implicit, depth + 1, open_=False)[0]
        key = (self._buffer[start:end], implicit)
        items = self._known.get(key)
        if items is None:
            items, _ = self._items(start, end, implicit, depth + 1, open_=False)
            self._known[key] = items
        return items

    def _items(
        self, at: int, end: int, implicit: bool, depth: int, *, open_: bool
    ) -> tuple[list[Item], int]:
        """Return a sequence's items, and where what follows the sequence stands."""
        if depth > _DEEPEST:
            raise InvalidSegmentation("sequences are nested too deeply")
        items: list[Item] = []
        while at < end:
            group, element, length = _IMPLICIT.unpack_from(self._buffer, at)
            tag = group << 16 | element
            at += 8
            if tag == _SEQUENCE_END and open_:
                return items, at
            if tag != _ITEM:
                raise InvalidSegmentation("a sequence holds something that is no item")
            item: Item = {}
            stop = end if length == UNDEFINED_LENGTH else at + length
            if stop > end:
                raise InvalidSegmentation("an item is longer than its sequence")
            while at < stop:
                tag, vr, start, size = self._head(at, implicit=implicit)
                if tag == _ITEM_END and length == UNDEFINED_LENGTH:
                    at += 8
                    break
                at = self._value(item, tag, vr, start, size, stop, implicit, depth)
            else:
                if length == UNDEFINED_LENGTH:
                    raise InvalidSegmentation("an item has no end")
            items.append(item)
        if open_:
            raise InvalidSegmentation("a sequence has no end")
        return items, at


# --- values -------------------------------------------------------------------------------------


def items_of(item: Item, tag: int) -> list[Item]:
    """Return a sequence's items; none where it is absent."""
    value = item.get(tag)
    return value if isinstance(value, list) else []


def text_of(item: Item, tag: int, encodings: tuple[str, ...] = ()) -> str:
    """Return a text without its padding; empty where it is absent."""
    value = item.get(tag)
    if not isinstance(value, bytes):
        return ""
    if encodings and not value.isascii():
        return decode_bytes(value, encodings, set()).strip(" \0")
    return _plain(value)


def numbers_of(item: Item, tag: int, count: int) -> tuple[float, ...] | None:
    """Return exactly so many finite numbers of a decimal or integer string, else None."""
    value = item.get(tag)
    if not isinstance(value, bytes):
        return None
    try:
        numbers = tuple(float(part) for part in value.strip(b" \0").split(b"\\"))
    except ValueError:
        return None
    finite = all(abs(number) < 1e9 for number in numbers)
    return numbers if len(numbers) == count and finite else None


def whole_of(item: Item, tag: int) -> int | None:
    """Return one whole number of an integer string, else None."""
    numbers = numbers_of(item, tag, 1)
    return int(numbers[0]) if numbers is not None and numbers[0].is_integer() else None


def words_of(item: Item, tag: int) -> tuple[int, ...]:
    """Return the unsigned 16-bit numbers of an element (US)."""
    value = item.get(tag)
    if not isinstance(value, bytes):
        return ()
    return struct.unpack(f"<{len(value) // 2}H", value[: len(value) // 2 * 2])


def word_of(item: Item, tag: int) -> int | None:
    """Return one unsigned 16-bit number, else None."""
    words = words_of(item, tag)
    return words[0] if len(words) == 1 else None


def encodings_of(item: Item) -> tuple[str, ...]:
    """Return Python's names of a data set's character sets (PS3.3 C.12.1.1.2)."""
    named = text_of(item, tag_of("SpecificCharacterSet"))
    with quiet_pydicom():
        try:
            return tuple(convert_encodings(named.split("\\"))) if named else ("iso8859",)
        except PARSER_ERRORS:
            return ("iso8859",)


def _plain(value: object) -> str:
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""


def walk(items: list[Item], tag: int) -> Iterator[Item]:
    """Yield the items of one nested sequence in each of the given items."""
    for item in items:
        yield from items_of(item, tag)
