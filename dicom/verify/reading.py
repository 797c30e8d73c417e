"""A Part 10 file as the second look reads it: raw values by their path of tags, and its parts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom.elements import Element
from dicom.errors import NotDicom
from dicom.part10 import quiet_pydicom
from dicom.private import PrivateCreators
from dicom.profile import known_sop_classes

PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_DEEPEST: Final = 40
_SHORTEST_UID: Final = 6


def read_file(path: Path) -> Dataset:
    """Parse a file; long values stay in it.

    Raises
    ------
    NotDicom
        When it cannot be parsed.
    """
    try:
        with quiet_pydicom():
            return dcmread(path, defer_size=1024)
    except (InvalidDicomError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise NotDicom("the file cannot be parsed") from error


class Value(NamedTuple):
    """An element as it stands in the file; of a private one, with the creator of its block."""

    tag: int
    VR: str
    value: bytes | None
    creator: str = ""


Found = tuple[str, Value, int]
"""A value with its path of tags, and its parent sequence."""


def elements_of(ds: Dataset, place: str = "", parent: int = 0, depth: int = 0) -> Iterator[Found]:
    """Yield every element that is no sequence, with its path of tags and its parent sequence."""
    creators = PrivateCreators(ds)
    for tag, raw in list(ds._dict.items()):  # raw: a value that is converted is another's work
        yield from found_in(ds, int(tag), raw, creators, place, parent, depth)


def found_in(
    ds: Dataset,
    tag: int,
    raw: Element,
    creators: PrivateCreators,
    place: str = "",
    parent: int = 0,
    depth: int = 0,
) -> Iterator[Found]:
    """Yield what :func:`elements_of` yields for one element of a data set or item."""
    if depth > _DEEPEST:
        raise NotDicom("sequences nest without end")
    here = place + tag_text(tag)
    if isinstance(raw, RawDataElement) and raw.VR not in ("SQ", None):
        yield here, Value(tag, str(raw.VR), raw.value, creators.of(tag)), parent
        return
    with quiet_pydicom():
        element = ds[tag]
    if element.VR != "SQ":
        if isinstance(raw, RawDataElement):
            yield here, Value(tag, element.VR, raw.value, creators.of(tag)), parent
        return
    for number, item in enumerate(element.value):
        yield from elements_of(item, f"{here}[{number}]", tag, depth + 1)


def tag_text(tag: int) -> str:
    """Return a tag as ``(GGGG,EEEE)``."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def charsets_of(ds: Dataset) -> list[str]:
    """Return Python's names of the character sets that a data set declares."""
    named = ds.get("SpecificCharacterSet") or "ISO_IR 6"
    try:
        return convert_encodings(named)
    except LookupError:
        return ["latin-1"]


def decoded(value: bytes, charsets: list[str]) -> str:
    """Return a text value; bytes that its character set does not know, one by one."""
    with quiet_pydicom():
        try:
            return decode_bytes(value, charsets, {ord("\\"), ord("^"), ord("=")}).strip(" \0")
        except (UnicodeDecodeError, LookupError):
            return value.decode("latin-1").strip(" \0")


def split_values(value: bytes) -> list[str]:
    """Return the values of a multi-valued text without their padding."""
    return [part.strip(" \0") for part in value.decode("latin-1").split("\\")]


def is_registered(uid: str) -> bool:
    """Return whether a UID is one of the standard's registry (PS3.6 A), or a newer SOP class."""
    return uid in UID_dictionary or uid in known_sop_classes()


def is_own_uid(uid: str) -> bool:
    """Return whether a UID names a thing of somebody's, not of the standard's."""
    return len(uid) >= _SHORTEST_UID and "." in uid and not is_registered(uid)


def bodies_of(content: bytes, ds: Dataset) -> tuple[bytes, bytes]:
    """Return what stands outside the bytes that pydicom counted positions in, and those bytes."""
    if ds.file_meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return b"", content
    start = 144 + int(ds.file_meta.FileMetaInformationGroupLength)
    try:
        return content[:start], zlib.decompress(content[start:], -zlib.MAX_WBITS)
    except zlib.error as error:
        raise NotDicom("the file cannot be inflated") from error


def pixel_span(content: bytes, ds: Dataset) -> tuple[int, int]:
    """Return where the top-level pixel values lie; (end, end) when there are none."""
    for tag in PIXELS:
        raw = ds._dict.get(BaseTag(tag))  # as it was parsed: its value was not read
        if not isinstance(raw, RawDataElement):
            continue
        if raw.length != 0xFFFFFFFF:
            return raw.value_tell, raw.value_tell + raw.length
        return raw.value_tell, _end_of_items(content, raw.value_tell)
    return len(content), len(content)


def _end_of_items(content: bytes, at: int) -> int:
    """Return where encapsulated pixel data ends (PS3.5 A.4)."""
    while at + 8 <= len(content):
        group, element, length = struct.unpack_from("<HHI", content, at)
        at += 8
        if (group, element) == (0xFFFE, 0xE0DD):
            return at
        if (group, element) != (0xFFFE, 0xE000) or length > len(content) - at:
            break
        at += length
    raise NotDicom("the pixel data has no end")
