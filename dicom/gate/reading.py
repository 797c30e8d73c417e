"""A file's elements, found by PS3.5 alone: where each begins and ends.

The gate's own reader, for headers that hold thousands of frames. It knows no attribute, shares
nothing with the reader of series or of Segmentations, and what it reads is compared with pydicom
on a sample of slices and frames each time.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom.errors import WrongGeometry
from dicom.part10 import PARSER_ERRORS, UNDEFINED_LENGTH, quiet_pydicom

Buffer = bytes | mmap.mmap
Span = tuple[int, int]
"""Where a value begins and ends in its buffer."""

_HEAD: Final = struct.Struct("<HH2sH")
_LENGTH: Final = struct.Struct("<L")
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5 7.1.2
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_META_AT: Final = 132
_DATASET: Final = 0x00030000  # the first tag that may follow the file meta information
_PIXELS: Final = 0x7FE00008
_OF_FRAGMENTS: Final = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")


def tag_of(keyword: str) -> int:
    """Return the tag of an attribute by its keyword."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no attribute")
    return tag


_SYNTAX: Final = tag_of("TransferSyntaxUID")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A data set, or an item of a sequence: its elements' places in a buffer."""

    data: Buffer
    spans: dict[int, Span]
    implicit: bool

    def raw(self, tag: int) -> bytes:
        """Return an element's bytes, empty where it is absent."""
        span = self.spans.get(tag)
        return b"" if span is None else self.data[span[0] : span[1]]

    def text(self, tag: int) -> str:
        """Return a value of the default repertoire without its padding, empty where absent."""
        return self.raw(tag).decode("ascii", "replace").strip("\0 ")

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Return the values of a decimal or integer string (DS, IS), none where absent."""
        text = self.text(tag)
        return tuple(float(part) for part in text.split("\\")) if text else ()

    def word(self, tag: int) -> int | None:
        """Return the first value of an unsigned short (US)."""
        raw = self.raw(tag)
        return int.from_bytes(raw[:2], "little") if len(raw) >= 2 else None

    def items(self, tag: int) -> Iterator[Item]:
        """Yield the items of a sequence, none where it is absent."""
        span = self.spans.get(tag)
        if span is None:
            return
        for start, end in _item_spans(self.data, *span, implicit=self.implicit)[0]:
            yield item_at(self.data, start, end, implicit=self.implicit)

    def item_spans(self, tag: int) -> list[Span]:
        """Return where the items of a sequence are."""
        span = self.spans.get(tag)
        if span is None:
            return []
        return _item_spans(self.data, *span, implicit=self.implicit)[0]


def item_at(data: Buffer, start: int, end: int, *, implicit: bool) -> Item:
    """Return the item whose content lies between two places."""
    return Item(data, _elements(data, start, end, implicit=implicit)[0], implicit)


@contextmanager
def opened(path: Path, *, explicit: bool = False) -> Iterator[Item]:
    """Give the data set of a file up to its pixels, while the file is open.

    What is not little endian as it stands, such as a deflated file, is written anew by pydicom;
    with `explicit`, what has no explicit VR as well.

    Raises
    ------
    WrongGeometry
        When the file cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            meta, at = _elements(data, _META_AT, len(data), until=_DATASET)
            syntax = Item(data, meta, implicit=False).text(_SYNTAX)
            implicit = syntax == ImplicitVRLittleEndian
            if (explicit or not implicit) and not _is_explicit(syntax):
                yield _anew(path)
                return
            spans, _ = _elements(data, at, len(data), implicit=implicit, until=_PIXELS)
            yield Item(data, spans, implicit)
    except PARSER_ERRORS:
        raise WrongGeometry("an object that the gate shall judge cannot be read") from None


def _is_explicit(syntax: str) -> bool:
    """Whether a header is Explicit VR Little Endian, as those before fragments are (PS3.5 A.4)."""
    return syntax == ExplicitVRLittleEndian or syntax.startswith(_OF_FRAGMENTS)


def _anew(path: Path) -> Item:
    """Return a header as pydicom writes it in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    with quiet_pydicom():
        ds = dcmread(path, stop_before_pixels=True)
        write_dataset(buffer, ds)
    data = buffer.getvalue()
    return item_at(data, 0, len(data), implicit=False)


def _elements(
    data: Buffer, at: int, end: int, *, implicit: bool = False, until: int = _END_OF_ITEM
) -> tuple[dict[int, Span], int]:
    """Return where each element's value is, and where the first one from tag `until` on begins."""
    found: dict[int, Span] = {}
    while at + 8 <= end:
        group, number, vr, length = _HEAD.unpack_from(data, at)
        tag = group << 16 | number
        if tag >= until:
            break
        at += 8
        if implicit:
            (length,) = _LENGTH.unpack_from(data, at - 4)
        elif vr in _LONG:
            (length,) = _LENGTH.unpack_from(data, at)
            at += 4
        if length == UNDEFINED_LENGTH:
            # PS3.5 6.2.2: of an element that was UN, the items are in Implicit VR.
            _, after = _item_spans(data, at, end, implicit=implicit or vr == b"UN")
        else:
            after = at + length
        if after > end:
            raise ValueError("an element ends behind its item")
        found[tag] = (at, after)
        at = after
    return found, at


def _item_spans(data: Buffer, at: int, end: int, *, implicit: bool) -> tuple[list[Span], int]:
    """Return where a sequence's items are, and where the sequence ends (PS3.5 7.5)."""
    spans: list[Span] = []
    while at + 8 <= end:
        group, number, length = struct.unpack_from("<HHL", data, at)
        tag, at = group << 16 | number, at + 8
        if tag == _END_OF_SEQUENCE:
            return spans, at
        if tag != _ITEM:
            raise ValueError("something else than an item in a sequence")
        if length == UNDEFINED_LENGTH:
            _, after = _elements(data, at, end, implicit=implicit)
            spans.append((at, after))
            at = after + 8  # behind the delimiter
        else:
            if at + length > end:
                raise ValueError("an item ends behind its sequence")
            spans.append((at, at + length))
            at += length
    return spans, at
