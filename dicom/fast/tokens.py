"""A header as tokens: each element's bytes by its tag (PS3.5 7.1, 7.5, PS3.10 7.1).

Nothing is converted. The tokeniser is strict: what a careful writer would not have written (a
length past the end, tags out of order, an unknown VR, an item that does not end where it says) is
:class:`Odd`, and another reader's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

UNDEFINED: Final = 0xFFFFFFFF
PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

# PS3.5 7.1.2: these have two reserved bytes and a length of four bytes.
LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ALONE: Final = 0xFFFE0000  # delimiters and what follows them are no elements of a data set
DEEPEST: Final = 40

Tokens = dict[int, bytes]
"""The elements of a data set, head and value as they stand, by tag in ascending order."""


class OpenSequence(bytes):
    """A sequence of undefined length, whose items were read on the way to its end."""

    items: tuple[Tokens, ...]


class Odd(Exception):
    """The bytes are not what a careful writer writes."""


@dataclass(frozen=True)
class Coding:
    """How the elements of a data set are written (PS3.5 7.1, 7.3, A.1-A.3).

    Parameters
    ----------
    implicit : bool
        Whether their VRs are left out.
    little : bool
        The order of bytes.
    """

    implicit: bool
    little: bool
    plain: Struct = field(init=False, compare=False)  # an implicit head, an item, a delimiter
    short: Struct = field(init=False, compare=False)
    long: Struct = field(init=False, compare=False)
    length: Struct = field(init=False, compare=False)

    def __post_init__(self) -> None:
        order = "<" if self.little else ">"
        for name, form in (("plain", "HHL"), ("short", "HH2sH"), ("long", "HH2sHL")):
            object.__setattr__(self, name, Struct(order + form))
        object.__setattr__(self, "length", Struct(order + "L"))


IMPLICIT: Final = Coding(implicit=True, little=True)
EXPLICIT: Final = Coding(implicit=False, little=True)
BIG: Final = Coding(implicit=False, little=False)


def meta_of(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax, and where the data set starts (PS3.10 7.1)."""
    if data[128:132] != b"DICM":
        raise Odd
    position, syntax = 132, b""
    while len(data) - position >= 12 and data[position : position + 2] == b"\2\0":
        _, number, vr, length = EXPLICIT.short.unpack_from(data, position)
        position += 8
        if vr in LONG:
            (length,) = EXPLICIT.length.unpack_from(data, position)
            position += 4
        elif vr not in SHORT:
            raise Odd
        if number == 0x0010:
            syntax = data[position : position + length]
        position += length
    if not syntax or position > len(data):
        raise Odd
    return syntax.decode("latin-1").strip("\0 "), position


def looks_explicit(data: bytes, position: int) -> bool:
    """Return whether a VR stands where a data set in implicit VR begins with a length."""
    return all(0x41 <= byte <= 0x5A for byte in data[position + 4 : position + 6])


def elements(
    data: bytes,
    position: int,
    end: int,
    coding: Coding,
    *,
    private: bool = True,
    stop: frozenset[int] = frozenset(),
    depth: int = 0,
) -> tuple[Tokens, int]:
    """Return the elements up to `end`, to a tag of `stop`, or to a delimiter; and where that is.

    Without `private`, elements of odd groups (PS3.5 7.8) are stepped over. A sequence without a
    length is an :class:`OpenSequence`.

    Raises
    ------
    Odd
        When anything between is not strictly as the standard has it.
    """
    if depth > DEEPEST:
        raise Odd
    found: Tokens = {}
    implicit = coding.implicit
    plain, short, long = (
        coding.plain.unpack_from,
        coding.short.unpack_from,
        coding.length.unpack_from,
    )
    last = 0x0004FFFF  # command sets and file meta information do not belong here
    while end - position >= 8:
        if implicit:
            group, number, length = plain(data, position)
            start, vr = position + 8, b""
        else:
            group, number, vr, length = short(data, position)
            start = position + 8
            if vr in LONG:
                if end - position < 12:
                    raise Odd
                (length,) = long(data, start)
                start += 4
            elif vr not in SHORT and group < 0xFFFE:
                raise Odd
        tag = group << 16 | number
        if tag in stop or tag >= _ALONE:
            break
        sequence: OpenSequence | None = None
        if length == UNDEFINED and vr in (b"SQ", b"") and (private or not group & 1):
            inside, after = _open_items(data, start, end, coding, private=private, depth=depth)
            sequence = OpenSequence(data[position:after])
            sequence.items = inside
        elif length == UNDEFINED:
            after = _sequence_end(data, start, end, _coding_within(vr, coding), 0)
            if not coding.little and _OPEN_UNKNOWN in data[start:after]:
                raise Odd  # in an item that was stepped over; pydicom reads them all
        else:
            after = start + length
        if tag <= last or after > end:
            raise Odd
        if private or not group & 1:
            found[tag] = data[position:after] if sequence is None else sequence
        last, position = tag, after
    return found, position


def items(
    data: bytes, position: int, end: int, coding: Coding, *, private: bool
) -> Iterator[Tokens]:
    """Yield the elements of each item of a sequence's value of a known length (PS3.5 7.5).

    Raises
    ------
    Odd
        When an item is damaged.
    """
    while position < end:
        tag, length = _mark(data, position, end, coding)
        position += 8
        if tag == _SEQUENCE_END:
            if position != end:
                raise Odd
            return
        if tag != _ITEM:
            raise Odd
        found, position = _item(data, position, length, end, coding, private=private, depth=0)
        yield found


def _open_items(
    data: bytes, position: int, end: int, coding: Coding, *, private: bool, depth: int
) -> tuple[tuple[Tokens, ...], int]:
    """Return the items of a value of undefined length, and where it ends, after its delimiter."""
    found: list[Tokens] = []
    while True:
        tag, length = _mark(data, position, end, coding)
        position += 8
        if tag == _SEQUENCE_END:
            return tuple(found), position
        if tag != _ITEM:
            raise Odd
        item, position = _item(data, position, length, end, coding, private=private, depth=depth)
        found.append(item)


def _item(
    data: bytes, position: int, length: int, end: int, coding: Coding, *, private: bool, depth: int
) -> tuple[Tokens, int]:
    """Return the elements of an item, and where it ends."""
    stop = end if length == UNDEFINED else position + length
    if stop > end:
        raise Odd
    found, position = elements(data, position, stop, coding, private=private, depth=depth + 1)
    if length != UNDEFINED:
        if position != stop:
            raise Odd
        return found, position
    if _mark(data, position, end, coding) != (_ITEM_END, 0):
        raise Odd
    return found, position + 8


def _mark(data: bytes, position: int, end: int, coding: Coding) -> tuple[int, int]:
    if end - position < 8:
        raise Odd
    group, number, length = coding.plain.unpack_from(data, position)
    return group << 16 | number, length


def _coding_within(vr: bytes, coding: Coding) -> Coding:
    """Return how the items of a sequence are written; PS3.5 6.2.2: implicit in an unknown one."""
    if vr != b"UN":
        return coding
    if not coding.little:
        raise Odd  # readers do not agree on the order of its bytes
    return IMPLICIT


def _sequence_end(data: bytes, position: int, end: int, coding: Coding, depth: int) -> int:
    """Return where a value of undefined length ends, after its delimiter."""
    if depth > DEEPEST:
        raise Odd
    while True:
        tag, length = _mark(data, position, end, coding)
        position += 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise Odd
        if length != UNDEFINED:
            position += length
            continue
        position = _item_end(data, position, end, coding, depth)


def _item_end(data: bytes, position: int, end: int, coding: Coding, depth: int) -> int:
    plain, short = coding.plain.unpack_from, coding.short.unpack_from
    while True:
        if end - position < 8:
            raise Odd
        start, vr = position + 8, b""
        if coding.implicit:
            group, number, length = plain(data, position)
        else:
            group, number, vr, length = short(data, position)
        if group >= 0xFFFE:
            if (group, number) != (_ITEM_END >> 16, _ITEM_END & 0xFFFF):
                raise Odd
            return start
        if vr in LONG:
            if end - position < 12:
                raise Odd
            (length,) = coding.length.unpack_from(data, start)
            start += 4
        elif vr not in SHORT and not coding.implicit:
            raise Odd
        if length == UNDEFINED:
            position = _sequence_end(data, start, end, _coding_within(vr, coding), depth + 1)
        else:
            position = start + length


def is_pixels(data: bytes, position: int, coding: Coding) -> bool:
    """Return whether a pixel element begins there, and its head is at hand."""
    return len(data) - position >= 12 and _mark(data, position, len(data), coding)[0] in PIXELS


def value_of(element: bytes, coding: Coding) -> tuple[str, int]:
    """Return an element's VR (empty where it is implicit), and where its value begins."""
    if coding.implicit:
        return "", 8
    vr = element[4:6]
    return vr.decode("ascii"), 12 if vr in LONG else 8


def is_open(element: bytes, coding: Coding) -> bool:
    """Return whether an element's length is undefined."""
    if coding.implicit:
        return element[4:8] == OPEN
    return element[4:6] in LONG and element[8:12] == OPEN


_OPEN_UNKNOWN: Final = b"UN\0\0\xff\xff\xff\xff"
OPEN: Final = b"\xff\xff\xff\xff"


def element_of(tag: int, vr: str, value: bytes, coding: Coding) -> bytes:
    """Return an element of defined length.

    Raises
    ------
    Odd
        When its VR cannot be written, or cannot hold so much.
    """
    group, number = tag >> 16, tag & 0xFFFF
    if coding.implicit:
        return coding.plain.pack(group, number, len(value)) + value
    code = vr.encode("ascii")
    if code in LONG:
        return coding.long.pack(group, number, code, 0, len(value)) + value
    if code not in SHORT or len(value) > 0xFFFF:
        raise Odd
    return coding.short.pack(group, number, code, len(value)) + value


def item_of(elements: bytes, coding: Coding) -> bytes:
    """Return an item of a sequence, of defined length."""
    return coding.plain.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(elements)) + elements
