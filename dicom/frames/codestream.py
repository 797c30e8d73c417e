"""What a compressed frame says of itself, read from its first markers without decoding it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dicom.errors import UnreadablePixels

_NO_LENGTH: Final = frozenset((0x01, *range(0xD0, 0xD9)))
# Start of frame: T.81 Table B.1 without DHT (C4), JPG (C8) and DAC (CC); F7 is JPEG-LS (T.87).
_STARTS: Final = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_END_OF_IMAGE: Final = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and samples of one compressed frame.

    Parameters
    ----------
    precision : int
        Bits a sample.
    signed : bool
        JPEG 2000 may say so; JPEG and JPEG-LS cannot.
    transformed : bool or None
        A JPEG's samples are luminance and chrominance: its Adobe marker or the names of its
        components say so, None where neither does.
    process : int
        The start-of-frame marker's second byte; 0 for JPEG 2000.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    transformed: bool | None = None
    process: int = 0

    @property
    def is_lossless_jpeg(self) -> bool:
        """Process 14 of T.81, Huffman coded."""
        return self.process == 0xC3


def read_jpeg(frame: bytes) -> Codestream:
    """Return what a JPEG (T.81) or JPEG-LS (T.87) frame says of itself.

    Raises
    ------
    UnreadablePixels
        When it is none, or ends before its samples do.
    """
    if frame[:2] != b"\xff\xd8":
        raise UnreadablePixels("a compressed frame does not begin as its transfer syntax says")
    position, transformed = 2, None
    try:
        while True:
            if frame[position] != 0xFF:
                raise UnreadablePixels("the markers of a compressed frame are damaged")
            marker = frame[position + 1]
            if marker == 0xFF:  # fill byte
                position += 1
                continue
            position += 2
            if marker in _NO_LENGTH:
                continue
            (length,) = struct.unpack_from(">H", frame, position)
            if marker in _STARTS:
                break
            if marker == 0xEE and frame[position + 2 : position + 7] == b"Adobe" and length >= 14:
                transformed = frame[position + 13] != 0
            if marker in (0xD9, 0xDA) or length < 2:
                raise UnreadablePixels("the markers of a compressed frame are damaged")
            position += length
        precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 2)
        names = bytes(frame[position + 8 : position + 8 + 3 * components : 3])
    except (struct.error, IndexError):
        raise UnreadablePixels("a compressed frame ends within its markers") from None
    check_end(frame)
    if transformed is None and names == b"RGB":
        transformed = False
    return Codestream(rows, columns, components, precision, transformed=transformed, process=marker)


def read_jpeg2000(frame: bytes) -> Codestream:
    """Return what a JPEG 2000 (T.800) or HTJ2K (T.814) frame says of itself.

    Raises
    ------
    UnreadablePixels
        When it is none, or ends before its samples do.
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # a JP2 file has boxes before it
    try:
        x1, y1, x0, y0 = struct.unpack_from(">4L", frame, start + 8)
        (components,) = struct.unpack_from(">H", frame, start + 40)
        depths = struct.unpack_from(f"{3 * components}B", frame, start + 42)[::3]
    except struct.error:
        start = -1
    if start < 0 or not depths or len(set(depths)) > 1:
        raise UnreadablePixels("a compressed frame does not begin as its transfer syntax says")
    check_end(frame)
    return Codestream(
        y1 - y0, x1 - x0, components, (depths[0] & 0x7F) + 1, signed=bool(depths[0] & 0x80)
    )


def check_end(frame: bytes) -> None:
    """Refuse a frame without its end marker: decoders would fill the rest with grey.

    Raises
    ------
    UnreadablePixels
        When it is cut off.
    """
    if _END_OF_IMAGE not in frame[-64:]:
        raise UnreadablePixels("a compressed frame is cut off")
