"""Files of a series, read one after another: what stands as it stood before is not parsed twice.

Most of a header is the same in every file of a series. Bytes that pydicom has read as one element
of the file before are that element again, where an element begins; pydicom parses the others. A
file that is written in an unusual way is read by pydicom as a whole.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import data_element_generator

from dicom.elements import Element, bytes_of
from dicom.errors import NotDicom
from dicom.part10 import DEFLATED, PARSER_ERRORS, UNDEFINED_LENGTH, quiet_pydicom
from dicom.private import PrivateCreators
from dicom.verify.reading import PIXELS, Found, bodies_of, found_in, pixel_span, read_file

_CHARACTER_SET, _SYNTAX = 0x00080005, 0x00020010
_META: Final = 132  # PS3.10 7.1: file meta information follows preamble and prefix
_WINDOW: Final = 1 << 16
_BLOCK: Final = 12
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


@dataclass(eq=False, slots=True)
class Part:
    """A top-level element: its bytes in the file, what pydicom read, and the values within."""

    content: bytes
    tag: int
    element: Element
    values: tuple[Found, ...] = ()


Blocks = dict[int, tuple[list[Part], bytes]]


@dataclass(frozen=True, slots=True)
class Read:
    """A file, and what is new in it since the one before.

    Attributes
    ----------
    ds : Dataset
        With its file meta information.
    content : bytes
        The file; where that is not the whole, up to the pixels that it ends with.
    whole : bool
        Whether `content` is the whole file.
    parts : list of Part
        The data set's elements.
    new, gone : list of Part
        What this file has and the one before had not, and the other way round.
    """

    ds: Dataset
    content: bytes
    whole: bool
    parts: list[Part]
    new: list[Part]
    gone: list[Part]

    def around_pixels(self) -> tuple[bytes, bytes, bytes]:
        """Return what stands outside the data set where that is deflated, before pixels, and after.

        Raises
        ------
        NotDicom
            When the pixels have no end, or the data set cannot be inflated.
        """
        if not self.whole:
            return b"", self.content, b""
        meta, body = bodies_of(self.content, self.ds)
        begin, end = pixel_span(body, self.ds)
        return meta, body[:begin], body[end:]


class _Unusual(Exception):
    """A file that only pydicom's own way of reading files can judge."""


class Reader:
    """Reads files, those of a series best one after another; threads wait for each other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._meta: list[Part] = []
        self._body: list[Part] = []
        self._blocks: Blocks = {}

    def read(self, path: Path) -> Read:
        """Read a file.

        Raises
        ------
        NotDicom
            When it cannot be parsed.
        """
        with self._lock, quiet_pydicom():
            before = self._body
            try:
                short = self._before_pixels(path)
                ds, content = self._whole(path) if short is None else short
                known = set(before)
                new = [part for part in self._body if part not in known]
                creators = PrivateCreators(ds)
                for part in new:
                    if part.tag not in PIXELS:  # which stay in the file
                        part.values = tuple(found_in(ds, part.tag, part.element, creators))
            except OSError:
                raise NotDicom("the file cannot be read") from None
            except PARSER_ERRORS:
                self._meta, self._body, self._blocks = [], [], {}
                raise NotDicom("the file cannot be parsed") from None
            gone = list(known.difference(self._body))
            return Read(ds, content, short is None, self._body, new, gone)

    def _before_pixels(self, path: Path) -> tuple[Dataset, bytes] | None:
        """Read a long file that ends with its pixels, but for these; None where it is not so."""
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size < 4 * _WINDOW:
                return None
            head = file.read(_WINDOW)
        before = self._meta, self._body, self._blocks
        try:
            ds = self._in_parts(head)
        except (_Unusual, *PARSER_ERRORS):  # the header may go on beyond the window
            return None
        last = self._body[-1].element if self._body else None
        if isinstance(last, RawDataElement) and last.tag in PIXELS:
            end = last.value_tell + last.length
            if last.value_tell <= _WINDOW and last.length != UNDEFINED_LENGTH and end == size:
                return ds, head[: last.value_tell]
        self._meta, self._body, self._blocks = before
        return None

    def _whole(self, path: Path) -> tuple[Dataset, bytes]:
        content = path.read_bytes()
        try:
            return self._in_parts(content), content
        except _Unusual:
            ds = read_file(path)
            self._meta, self._blocks = [], {}
            self._body = [Part(b"", int(tag), ds._dict[tag]) for tag in ds._dict]
            return ds, content

    def _in_parts(self, content: bytes) -> Dataset:
        if content[_META - 4 : _META] != b"DICM":
            raise _Unusual
        meta, start = _parts(content, _META, self._meta, {}, implicit=False, little=True, meta=True)
        named = [bytes_of(part.element) for part in meta if part.tag == _SYNTAX]
        syntax = b"".join(named).decode("latin-1").strip(" \0")
        implicit, little = syntax == _IMPLICIT, syntax != _BIG_ENDIAN
        if syntax in ("", DEFLATED) or not _is_plain(content, start, implicit=implicit):
            raise _Unusual
        alike = [part.content for part in self._meta if part.tag == _SYNTAX] == [
            part.content for part in meta if part.tag == _SYNTAX
        ]
        known, blocks = (self._body, self._blocks) if alike else ([], {})
        body, _ = _parts(content, start, known, blocks, implicit=implicit, little=little)
        ds = Dataset({part.element.tag: part.element for part in body})
        ds.set_original_encoding(implicit, little, _encoding(body))
        ds.file_meta = FileMetaDataset({part.element.tag: part.element for part in meta})
        self._meta, self._body, self._blocks = meta, body, _blocks(body, blocks)
        return ds


def _parts(
    content: bytes,
    position: int,
    known: list[Part],
    blocks: Blocks,
    *,
    implicit: bool,
    little: bool,
    meta: bool = False,
) -> tuple[list[Part], int]:
    """Return the elements from `position` on, those of `known` where they stand; and the end."""
    file = io.BytesIO(content)
    order = "<HH" if little else ">HH"
    parts: list[Part] = []
    renewed: set[int] = set()  # groups whose private creators are others than before
    encoding = _encoding(known)
    at = 0
    while position + 8 <= len(content):
        block = None if renewed else blocks.get(at)
        if block is not None and content.startswith(block[1], position):
            parts += block[0]
            position += len(block[1])
            at += _BLOCK
            continue
        part = known[at] if at < len(known) else None
        if (
            part is not None
            and part.content
            and content.startswith(part.content, position)
            and part.tag >> 16 not in renewed
        ):
            parts.append(part)
            position += len(part.content)
            at += 1
            continue
        group, number = struct.unpack_from(order, content, position)
        tag = group << 16 | number
        if meta and group != 2:
            break
        file.seek(position)
        held = 1 if tag in PIXELS else None  # pixels stay where they are
        read = data_element_generator(file, implicit, little, None, held, encoding)
        try:
            element = next(read, None)
        except EOFError:
            if not held:
                raise
            element = None  # pixels without an end: what stands before them was read
        if element is None:
            break
        while at < len(known) and known[at].tag <= tag:
            _note_creator(known[at].tag, renewed)
            if known[at].tag == _CHARACTER_SET:  # what follows may read otherwise than before
                known, blocks, encoding = [], {}, default_encoding
            at += 1
        _note_creator(tag, renewed)
        end = file.tell()
        parts.append(Part(b"" if held else content[position:end], tag, element))
        if tag == _CHARACTER_SET:
            known, blocks, encoding = [], {}, _encoding(parts)
        position = end
    return parts, position


def _blocks(parts: list[Part], before: Blocks) -> Blocks:
    """Return the bytes of many elements in a row, by the first one's place, to be compared at once.

    Of pixels, which hold no bytes, there is no block.
    """
    blocks: Blocks = {}
    for at in range(0, len(parts) - _BLOCK + 1, _BLOCK):
        row = parts[at : at + _BLOCK]
        known = before.get(at)
        if known is not None and known[0] == row:
            blocks[at] = known
        elif all(part.content for part in row):
            blocks[at] = row, b"".join([part.content for part in row])
    return blocks


def _note_creator(tag: int, renewed: set[int]) -> None:
    if tag >> 16 & 1 and tag & 0xFFFF <= 0xFF:
        renewed.add(tag >> 16)


def _encoding(parts: list[Part]) -> str | list[str]:
    for part in parts:
        if part.tag > _CHARACTER_SET:
            break
        if part.tag == _CHARACTER_SET and isinstance(part.element, RawDataElement):
            names = bytes_of(part.element).decode("latin-1").split("\\")
            return convert_encodings([name.strip(" \0") for name in names])
    return default_encoding


def _is_plain(content: bytes, position: int, *, implicit: bool) -> bool:
    """Return whether the data set begins as its transfer syntax says."""
    head = content[position : position + 6]
    looks_explicit = len(head) == 6 and all(0x41 <= byte <= 0x5A for byte in head[4:])
    return len(head) < 6 or (looks_explicit is not implicit and head[:2] != b"\0\0")
