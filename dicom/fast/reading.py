"""A file's header as tokens, and where its pixels lie."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Final

from dicom.fast.tokens import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    PIXELS,
    Coding,
    Odd,
    Tokens,
    elements,
    is_pixels,
    looks_explicit,
    meta_of,
)
from dicom.part10 import DEFLATED, Extent, pixel_extent

_CODINGS: Final = {"1.2.840.10008.1.2": IMPLICIT, "1.2.840.10008.1.2.2": BIG}
_FIRST_READ: Final = 1 << 16
_LARGEST_HEADER: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Read:
    """What a file holds.

    Parameters
    ----------
    tokens : dict
        Its elements before the pixels; of a deflated file, all.
    syntax : str
        Transfer Syntax UID.
    coding : Coding
        How the elements are written.
    pixels : Extent
        Where the pixel element lies; empty where there is none, or it is among the tokens.
    """

    tokens: Tokens
    syntax: str
    coding: Coding
    pixels: Extent


def read_tokens(file: BinaryIO, *, private: bool) -> Read:
    """Return what a file holds; without `private`, private attributes are stepped over.

    Raises
    ------
    Odd
        When it cannot be read with certainty.
    NotDicom
        When it ends within its pixels.
    """
    descriptor = file.fileno()
    size, count = os.fstat(descriptor).st_size, _FIRST_READ
    while True:
        data = os.pread(descriptor, count, 0)
        try:
            return _read(data, file, size, private=private)
        except Odd:  # perhaps the header is longer than what was read
            if len(data) >= min(size, _LARGEST_HEADER):
                raise
            count *= 16


def _read(data: bytes, file: BinaryIO, size: int, *, private: bool) -> Read:
    syntax, start = meta_of(data)
    coding = _CODINGS.get(syntax, EXPLICIT)
    if syntax == DEFLATED:
        return _inflated(data, start, size, private=private)
    if coding.implicit and looks_explicit(data, start):
        raise Odd
    tokens, end = elements(data, start, len(data), coding, private=private, stop=PIXELS)
    if end == len(data) >= size:
        return Read(tokens, syntax, coding, Extent(end, end))
    if not is_pixels(data, end, coding):
        raise Odd
    file.seek(end)
    pixels = pixel_extent(file, implicit=coding.implicit, little=coding.little)
    return Read(tokens, syntax, coding, pixels)


def _inflated(data: bytes, start: int, size: int, *, private: bool) -> Read:
    """Read a deflated data set as a whole (PS3.5 A.5): its pixels are among its elements."""
    if len(data) < size:
        raise Odd
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data[start:], _LARGEST_HEADER)
    except zlib.error:
        raise Odd from None
    if not stream.eof:  # what follows the stream (padding, a checksum) is not passed on
        raise Odd
    tokens, end = elements(inflated, 0, len(inflated), EXPLICIT, private=private)
    if end != len(inflated):
        raise Odd
    return Read(tokens, DEFLATED, EXPLICIT, Extent(0, 0))


def deflated(body: bytes) -> bytes:
    """Return a data set as PS3.5 A.5 has it, padded to an even length."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = stream.compress(body) + stream.flush()
    return content + bytes(len(content) % 2)
