"""The stored frames of a Segmentation, one at a time, whatever they are packed or compressed in.

What the header claims is held against the bytes that are there before anything is made of it, and
no frame may become more than its rows and columns say.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
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

_NATIVE: Final = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian})
_ITEM: Final = struct.Struct("<HHL")


@dataclass(frozen=True)
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
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Of a frame that is read; a bit becomes a byte."""
        return np.dtype("<u2" if self.bits == 16 else "u1")

    @property
    def packed(self) -> bool:
        """Whether each frame is native bits that begin and end at the border of a byte."""
        return self.bits == 1 and not self.fragments and self.size % 8 == 0

    def open(self) -> BinaryIO:
        """Open what frames are read from."""
        return self.parsed.open()

    def read_into(self, file: BinaryIO, n: int, target: npt.NDArray[np.generic]) -> None:
        """Read frame n as it is stored: native, and from the border of a byte on.

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

    def pixels(self, file: BinaryIO, n: int, out: Labels | None = None) -> Labels:
        """Return frame n, shape (rows, columns): uint8 or uint16; of bits, 0 and 1.

        Parameters
        ----------
        out : ndarray, optional
            Where the frame may be decoded to; what is returned need not be it.

        Raises
        ------
        UnreadablePixels, UnsupportedTransferSyntax
            When it cannot be decoded.
        """
        if self.bits == 1 and not self.fragments:
            return self._unpacked(file, n)
        place: Labels = np.empty((self.rows, self.columns), self.dtype) if out is None else out
        if self.fragments:
            return self._decoded(file, n, place)
        self.read_into(file, n, place)
        return place

    def _unpacked(self, file: BinaryIO, n: int) -> Labels:
        first = n * self.size  # frames follow each other without a gap (PS3.5 8.1.1)
        file.seek(self.parsed.start + first // 8)
        raw = file.read((first % 8 + self.size + 7) // 8)
        bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[first % 8 :]
        if bits.size < self.size:
            raise UnreadablePixels("the segmentation was cut off while it was read")
        return bits[: self.size].reshape(self.rows, self.columns)

    def _decoded(self, file: BinaryIO, n: int, place: Labels) -> Labels:
        """Decode one fragment; its own header is held against ours before it is decoded."""
        at, length = self.fragments[n]
        file.seek(at)
        data = file.read(length)
        if len(data) < length:
            raise UnreadablePixels("the segmentation was cut off while it was read")
        decode = decoder_of(self.form.transfer_syntax)
        if decode is None:
            raise UnsupportedTransferSyntax("no decoder reads the segmentation")
        return decode(data, self.form, place)

    @cached_property
    def form(self) -> PixelFormat:
        """What the decoders have to know of each frame."""
        return PixelFormat(
            rows=self.rows,
            columns=self.columns,
            samples=1,
            kind="integer",
            bits_allocated=self.bits,
            bits_stored=self.bits,
            high_bit=self.bits - 1,
            signed=False,
            photometric="MONOCHROME2",
            planar=False,
            frames=1,
            transfer_syntax=UID(self.parsed.syntax),
            lossy=False,
        )


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
