"""Colour: luminance and chrominance to red, green and blue; palettes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import RawDataElement

from dicom.errors import UnsupportedPixelFormat
from dicom.header import Header

_NAMES: Final = ("Red", "Green", "Blue")
_LARGEST: Final = 65536


def rgb_from_ybr(ybr: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return red, green, blue of luminance and chrominance (PS3.3 C.7.6.3.1.2, full range).

    Parameters
    ----------
    ybr : ndarray, uint8 or uint16, shape (rows, columns, 3)
    bits : int
        BitsStored.
    """
    half, top = float(1 << (bits - 1)), float((1 << bits) - 1)
    y, cb, cr = (ybr[..., sample].astype(np.float32) for sample in range(3))
    cb -= half
    cr -= half
    rgb = np.empty(ybr.shape, ybr.dtype)
    for sample, value in enumerate(
        (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    ):
        rgb[..., sample] = np.clip(np.floor(value + 0.5), 0, top)
    return rgb


def full_from_422(packed: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[Any]:
    """Return YBR_FULL of uncompressed YBR_FULL_422, where two pixels share their chrominance.

    Parameters
    ----------
    packed : ndarray, shape (rows * columns * 2,)
        Y1 Y2 Cb Cr for each pair of pixels (PS3.3 C.7.6.3.1.2).
    """
    if rows * columns % 2:
        raise UnsupportedPixelFormat("YBR_FULL_422 with an odd number of pixels")
    pairs = packed.reshape(-1, 4)
    ybr = np.empty((len(pairs), 2, 3), packed.dtype)
    ybr[:, :, 0] = pairs[:, :2]
    ybr[:, :, 1:] = pairs[:, None, 2:]
    return ybr.reshape(rows, columns, 3)


class Palette:
    """Red, green and blue of each stored value (PS3.3 C.7.6.3.1.5, C.7.9.2).

    Attributes
    ----------
    colours : ndarray, uint8 or uint16, shape (entries, 3)
    first : int
        The stored value that has the first colour; smaller ones have it too.
    """

    def __init__(self, header: Header) -> None:
        luts = []
        for name in _NAMES:
            numbers = header.numbers(f"{name}PaletteColorLookupTableDescriptor", 3)
            if numbers is None:
                raise UnsupportedPixelFormat("a palette without its descriptors")
            entries, first, bits = (int(number) for number in numbers)
            # Implicit VR leaves open whether these are signed; the first two say it by context.
            entries = entries % _LARGEST or _LARGEST
            if bits not in (8, 16):
                raise UnsupportedPixelFormat("a palette of neither 8 nor 16 bits")
            if header.whole("PixelRepresentation") == 1 and first >= 2**15:
                first -= 2**16
            luts.append((first, bits, _lut(header, name, entries, bits)))
        if len({(first, bits, len(lut)) for first, bits, lut in luts}) > 1:
            raise UnsupportedPixelFormat("the tables of a palette differ in size")
        self.first: int = luts[0][0]
        self.colours: npt.NDArray[Any] = np.stack(
            [lut for _, _, lut in luts], axis=1, dtype=f"u{luts[0][1] // 8}", casting="unsafe"
        )

    def apply(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the colours of stored values, one more axis at the end."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.colours) - 1)
        return self.colours[index]


def _lut(header: Header, name: str, entries: int, bits: int) -> npt.NDArray[np.uint16]:
    plain = _words(header, f"{name}PaletteColorLookupTableData")
    if plain is not None:
        if 2 * plain.size >= entries > plain.size and bits == 8:  # two entries in a word
            return plain.view(np.uint8)[:entries].astype(np.uint16)
        if plain.size < entries:
            raise UnsupportedPixelFormat("a palette is shorter than its descriptor says")
        return plain[:entries]
    segmented = _words(header, f"Segmented{name}PaletteColorLookupTableData")
    if segmented is None:
        raise UnsupportedPixelFormat("a palette without its tables")
    if bits == 8:
        segmented = segmented.view(np.uint8).astype(np.uint16)
    lut = _expanded(segmented.tolist(), entries, bits)
    if len(lut) != entries:
        raise UnsupportedPixelFormat("a segmented palette has another length than it says")
    return np.array(lut, np.uint16)


def _words(header: Header, keyword: str) -> npt.NDArray[np.uint16] | None:
    """Return words of 16 bits; the bytes of 8-bit tables lie in them, low byte first."""
    if keyword not in header.ds:
        return None
    element = header.ds.get_item(keyword)
    if isinstance(element, RawDataElement):
        content, little = element.value or b"", element.is_little_endian
    else:
        value = header.value(keyword)
        content, little = value if isinstance(value, bytes) else b"", True
    content += b"\0" * (len(content) % 2)
    return np.frombuffer(content, "<u2" if little else ">u2").astype("<u2")


def _expanded(words: list[int], entries: int, bits: int) -> list[int]:
    """Return the entries that the segments describe (PS3.3 C.7.9.2)."""
    lut: list[int] = []
    starts: list[int] = []  # of segments that hold entries
    parts = 32 // bits  # in which an indirect segment gives its byte offset
    at = 0
    try:
        while at + 1 < len(words) and len(lut) < entries:
            if words[at] == 2:
                pieces = enumerate(words[at + 2 : at + 2 + parts])
                offset = sum(piece << bits * index for index, piece in pieces) * 8 // bits
                first = starts.index(offset)
                for start in starts[first : first + words[at + 1]]:
                    _segment(words, start, lut, entries)
                at += 2 + parts
            else:
                starts.append(at)
                at = _segment(words, at, lut, entries)
    except (IndexError, ValueError):
        raise UnsupportedPixelFormat("the segments of a palette are damaged") from None
    return lut


def _segment(words: list[int], at: int, lut: list[int], entries: int) -> int:
    """Append one discrete or linear segment, and return where the next one begins."""
    opcode, count = words[at], words[at + 1]
    if opcode not in (0, 1) or len(lut) + count > entries:
        raise ValueError
    if opcode == 0:
        if at + 2 + count > len(words):
            raise ValueError
        lut.extend(words[at + 2 : at + 2 + count])
        return at + 2 + count
    before, after = lut[-1], words[at + 2]
    lut.extend(round(before + (after - before) * step / count) for step in range(1, count + 1))
    return at + 3
