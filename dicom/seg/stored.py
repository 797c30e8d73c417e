"""The stored frames of a Segmentation, one at a time, whatever they are packed or compressed in.

What the header claims is held against the bytes that are there before anything is made of it, and
no frame may become more than its rows and columns say.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom.errors import (
    ImpossibleSize,
    InvalidSegmentation,
    UnreadablePixels,
    UnsupportedTransferSyntax,
)
from dicom.frames.decoders import decoder_of
from dicom.frames.format import PixelFormat
from dicom.part10 import UNDEFINED_LENGTH
from dicom.seg.masks import Labels
from dicom.seg.parse import Parsed, tag_of, text_of, whole_of, word_of
from dicom.seg.rle import decode_frame

_NATIVE: Final = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian})
_DEFLATED_FRAMES: Final = UID("1.2.840.10008.1.2.8.1")  # Deflated Image Frame Compression
_ITEM: Final = struct.Struct("<HHL")


@dataclass(frozen=True, slots=True)
class Stored:
    """Where each frame is, and how it is coded.

    Parameters
    ----------
    bits : int
        BitsAllocated: 1, 8 or 16.
    fragments : tuple of (int, int)
        Place and length of each frame's fragment; empty where pixel data is native.
    """

    parsed: Parsed
    count: int
    rows: int
    columns: int
    bits: int
    fragments: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Pixels of a frame."""
        return self.rows * self.columns

    @property
    def packed(self) -> bool:
        """Whether each frame is native bits that begin and end at the border of a byte."""
        return self.bits == 1 and not self.fragments and self.size % 8 == 0

    @property
    def plain(self) -> bool:
        """Whether each frame is native pixels of one byte or two."""
        return self.bits > 1 and not self.fragments

    def open(self) -> BinaryIO:
        """Open what frames are read from."""
        return self.parsed.open()

    def read_into(self, file: BinaryIO, n: int, target: npt.NDArray[np.generic]) -> None:
        """Read frame n as it is stored, where it is :attr:`packed` or :attr:`plain`.

        Raises
        ------
        UnreadablePixels
            When the file has become shorter.
        """
        at = self.parsed.start + n * self.size * self.bits // 8
        if file.tell() != at:
            file.seek(at)
        wanted = target.reshape(-1).view(np.uint8).data
        if file.readinto(wanted) != len(wanted):  # type: ignore[attr-defined]  # files have it
            raise UnreadablePixels("the segmentation was cut off while it was read")

    def pixels(self, file: BinaryIO, n: int) -> Labels:
        """Return frame n, shape (rows, columns): uint8 or uint16; of bits, 0 and 1.

        Raises
        ------
        UnreadablePixels, InvalidSegmentation, UnsupportedTransferSyntax
            When it cannot be decoded.
        """
        if self.fragments:
            return self._decoded(file, n)
        if self.bits == 1:
            return self._unpacked(file, n)
        pixels_ji: Labels = np.empty((self.rows, self.columns), np.dtype(f"<u{self.bits // 8}"))
        self.read_into(file, n, pixels_ji)
        return pixels_ji

    def _unpacked(self, file: BinaryIO, n: int) -> Labels:
        first = n * self.size  # frames follow each other without a gap (PS3.5 8.1.1)
        file.seek(self.parsed.start + first // 8)
        raw = file.read((first % 8 + self.size + 7) // 8)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[first % 8 :]
        if bits.size < self.size:
            raise UnreadablePixels("the segmentation was cut off while it was read")
        return bits[: self.size].reshape(self.rows, self.columns)

    def _decoded(self, file: BinaryIO, n: int) -> Labels:
        at, length = self.fragments[n]
        file.seek(at)
        data = file.read(length)
        if len(data) < length:
            raise UnreadablePixels("the segmentation was cut off while it was read")
        if self.bits == 1 and self.parsed.syntax in (RLELossless, _DEFLATED_FRAMES):
            packed = self._decompressed(data, (1, (self.size + 7) // 8), np.dtype(np.uint8))
            bits = np.unpackbits(packed.reshape(-1), bitorder="little")
            return bits[: self.size].reshape(self.rows, self.columns)
        dtype = np.dtype(f"u{max(1, self.bits // 8)}")
        return self._decompressed(data, (self.rows, self.columns), dtype)

    def _decompressed(
        self, data: bytes, shape_ji: tuple[int, int], dtype: np.dtype[np.unsignedinteger]
    ) -> Labels:
        syntax = UID(self.parsed.syntax)
        if syntax == RLELossless:
            return decode_frame(data, shape_ji, dtype)
        if syntax == _DEFLATED_FRAMES:
            return _inflated(data, shape_ji, dtype)
        return _decoded(data, syntax, shape_ji, 8 * dtype.itemsize)


def stored_of(parsed: Parsed) -> Stored:
    """Return the stored frames of a Segmentation.

    Raises
    ------
    ImpossibleSize
        When it claims more frames or pixels than its bytes hold.
    InvalidSegmentation, UnsupportedTransferSyntax
        When its pixels are coded in no way that a Segmentation may be.
    """
    item = parsed.item
    rows, columns = word_of(item, tag_of("Rows")), word_of(item, tag_of("Columns"))
    bits = word_of(item, tag_of("BitsAllocated"))
    count = whole_of(item, tag_of("NumberOfFrames")) if _says(parsed, "NumberOfFrames") else 1
    if not rows or not columns or count is None or count < 1:
        raise ImpossibleSize("rows, columns or the number of frames is missing or impossible")
    if bits not in (1, 8, 16) or (word_of(item, tag_of("SamplesPerPixel")) or 1) != 1:
        raise InvalidSegmentation("a segmentation has pixels of 1, 8 or 16 bits")
    if not parsed.encapsulated:
        if parsed.syntax not in _NATIVE:
            raise InvalidSegmentation("compressed pixel data that is not in fragments")
        if (count * rows * columns * bits + 7) // 8 > parsed.end - parsed.start:
            raise ImpossibleSize("the segmentation claims more frames than its bytes hold")
        return Stored(parsed, count, rows, columns, bits, ())
    fragments = _fragments_of(parsed, count)
    return Stored(parsed, count, rows, columns, bits, fragments)


def _says(parsed: Parsed, keyword: str) -> bool:
    return bool(text_of(parsed.item, tag_of(keyword)))


def _fragments_of(parsed: Parsed, count: int) -> tuple[tuple[int, int], ...]:
    """Return where each frame's one fragment is (PS3.5 A.4)."""
    fragments: list[tuple[int, int]] = []
    with parsed.open() as file:
        at, table = parsed.start, True
        while at + 8 <= parsed.end:
            file.seek(at)
            head = file.read(8)
            if len(head) < 8:
                break
            group, element, length = _ITEM.unpack(head)
            at += 8
            if (group, element) == (0xFFFE, 0xE0DD):
                break
            if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED_LENGTH:
                raise UnreadablePixels("the fragments of the pixel data are damaged")
            if at + length > parsed.end:
                raise UnreadablePixels("the segmentation ends within its pixel data")
            if not table:  # the first item says where the frames begin
                fragments.append((at, length))
            at, table = at + length, False
    if len(fragments) != count:
        raise ImpossibleSize(f"{count} frames claimed, {len(fragments)} fragments found")
    return tuple(fragments)


def _inflated(
    data: bytes, shape_ji: tuple[int, int], dtype: np.dtype[np.unsignedinteger]
) -> Labels:
    wanted = shape_ji[0] * shape_ji[1] * dtype.itemsize
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, wanted)
    except zlib.error:
        raise UnreadablePixels("a deflated frame is damaged") from None
    if len(inflated) < wanted:
        raise UnreadablePixels("a deflated frame holds fewer pixels than it should")
    return np.frombuffer(inflated, dtype.newbyteorder("<")).reshape(shape_ji)


def _decoded(data: bytes, syntax: UID, shape_ji: tuple[int, int], bits: int) -> Labels:
    """Decode with what reads the transfer syntax; the codestream's own size is looked at first."""
    decode = decoder_of(syntax)
    if decode is None:
        raise UnsupportedTransferSyntax("no decoder reads the segmentation")
    form = PixelFormat(
        rows=shape_ji[0],
        columns=shape_ji[1],
        samples=1,
        kind="integer",
        bits_allocated=bits,
        bits_stored=bits,
        high_bit=bits - 1,
        signed=False,
        photometric="MONOCHROME2",
        planar=False,
        frames=1,
        transfer_syntax=syntax,
        lossy=False,
    )
    return decode(data, form)
