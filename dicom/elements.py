"""Elements of a data set as bytes and texts, without a parse that could fail or warn.

pydicom keeps an element raw until it is asked for; most of de-identification needs no more than
those bytes. What is made here is ASCII, and so the same in every character set.
"""

from __future__ import annotations

from typing import Protocol

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicom.part10 import PARSER_ERRORS

Element = DataElement | RawDataElement


class Attributes(Protocol):
    """What is asked of an object's header, whoever has read it; a pydicom data set has it."""

    def __contains__(self, tag: int, /) -> bool: ...

    def get_item(self, tag: int, /) -> object:
        """Return an element as it was read."""


def bytes_of(element: Element) -> bytes:
    """Return the value as bytes; a value that has been parsed before becomes UTF-8."""
    if isinstance(element, RawDataElement):
        return element.value or b""
    value = element.value
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    values = value if isinstance(value, list | tuple | MultiValue) else [value]
    return "\\".join(str(part) for part in values).encode("utf-8", "surrogateescape")


def values_of(element: Element) -> list[str]:
    """Return the values as text, each byte one character; nothing but padding is stripped."""
    text = bytes_of(element).decode("latin-1")
    return [value.strip(" \0") for value in text.split("\\")]


def text_of(ds: Attributes, tag: int) -> str:
    """Return one short value as text; empty when absent."""
    if tag not in ds:
        return ""
    element = ds.get_item(tag)
    if not isinstance(element, RawDataElement | DataElement):
        return ""
    return values_of(element)[0]


def is_parsable_sequence(ds: Dataset, tag: int) -> bool:
    """Return whether the attribute can be read as a sequence; a UN value is parsed, too."""
    try:
        element = ds[tag]
        return element.VR == "SQ" and all(isinstance(item, Dataset) for item in element.value or ())
    except (*PARSER_ERRORS, OSError):  # pydicom raises it for an item without a tag
        return False


def made(tag: int, vr: str, value: bytes, *, little: bool) -> RawDataElement:
    """Return an element with a value that is ASCII and so the same in every character set."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    return RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, little)


def empty_like(ds: Dataset) -> Dataset:
    """Return an empty data set that is written in the encoding of `ds`."""
    empty = Dataset(parent_encoding=ds.original_character_set)
    implicit, little = ds.original_encoding
    empty.set_original_encoding(implicit, little, ds.original_character_set)
    return empty
