"""Where the frames of encapsulated pixel data lie (PS3.5 A.4).

One frame may lie in several fragments; which of them belong together says the basic offset table,
the extended one, or the count: as many fragments as frames leave no choice.
"""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import Final

import numpy as np

from dicom.errors import UnreadablePixels

Extents = tuple[tuple[int, int], ...]
"""Start and length of each fragment of one frame, counted in the file."""

_ITEM: Final = b"\xfe\xff\x00\xe0"
_END: Final = b"\xfe\xff\xdd\xe0"
_HEAD: Final = struct.Struct("<4sL")
_END_OF_IMAGE: Final = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike


def locate_frames(
    file: int,
    start: int,
    size: int,
    frames: int,
    *,
    extended: tuple[bytes, bytes] | None = None,
) -> tuple[Extents, ...]:
    """Return where each frame lies.

    Parameters
    ----------
    file : int
        Descriptor of the open file.
    start, size : int
        First byte of the encapsulated value, and bytes of the file.
    extended : pair of bytes, optional
        ExtendedOffsetTable and ExtendedOffsetTableLengths (PS3.3 C.7.6.3.1.8).

    Raises
    ------
    UnreadablePixels
        When items are damaged, or nothing says which fragments make a frame.
    """
    items = _items(file, start, size)
    table, fragments = items[0], items[1:]
    if not fragments or len(fragments) < frames:
        raise UnreadablePixels(f"{len(fragments)} fragments of pixel data for {frames} frames")
    if frames == 1:
        return (tuple(fragments),)
    if len(fragments) == frames:
        return tuple((fragment,) for fragment in fragments)
    offsets = _extended_offsets(extended, frames) or _basic_offsets(file, table, frames)
    if offsets:
        return _by_offsets(fragments, offsets)
    return _by_ends(file, fragments, frames)


def _items(file: int, position: int, size: int) -> list[tuple[int, int]]:
    items = []
    while position + 8 <= size:
        tag, length = _HEAD.unpack(os.pread(file, 8, position).ljust(8, b"\0"))
        if tag == _END:
            break
        position += 8
        if tag != _ITEM or position + length > size:
            raise UnreadablePixels("the fragments of pixel data are damaged")
        items.append((position, length))
        position += length
    if not items:
        raise UnreadablePixels("the fragments of pixel data are missing")
    return items


def _extended_offsets(extended: tuple[bytes, bytes] | None, frames: int) -> list[int]:
    if extended is None or len(extended[0]) != 8 * frames:
        return []
    return [int(offset) for offset in np.frombuffer(extended[0], "<u8")]


def _basic_offsets(file: int, table: tuple[int, int], frames: int) -> list[int]:
    if table[1] != 4 * frames:
        return []
    return [int(offset) for offset in np.frombuffer(os.pread(file, table[1], table[0]), "<u4")]


def _by_offsets(fragments: list[tuple[int, int]], offsets: list[int]) -> tuple[Extents, ...]:
    """Group by offsets, which count from the first fragment's item tag."""
    origin = fragments[0][0] - 8
    first_of = {position - 8 - origin: index for index, (position, _) in enumerate(fragments)}
    try:
        firsts = [first_of[offset] for offset in offsets]
    except KeyError:
        raise UnreadablePixels("the offset table points to no fragment") from None
    if firsts[0] != 0 or any(a >= b for a, b in pairwise(firsts)):
        raise UnreadablePixels("the offset table is out of order")
    ends = [*firsts[1:], len(fragments)]
    return tuple(tuple(fragments[a:b]) for a, b in zip(firsts, ends, strict=True))


def _by_ends(file: int, fragments: list[tuple[int, int]], frames: int) -> tuple[Extents, ...]:
    """Group by the marker that ends an image, where no table says more."""
    grouped, open_fragments = [], []
    for position, length in fragments:
        open_fragments.append((position, length))
        tail = os.pread(file, min(length, 10), position + length - min(length, 10))
        if _END_OF_IMAGE in tail:
            grouped.append(tuple(open_fragments))
            open_fragments = []
    if len(grouped) != frames or open_fragments:
        raise UnreadablePixels("nothing says which fragments of pixel data make a frame")
    return tuple(grouped)
