"""Pixels painted black in places, and all others left as they were.

Uncompressed pixel data is changed where it lies: every bit outside the painted places stays. Frames
that are compressed are decoded, painted, and coded again without loss: every sample outside stays
what the decoder gave; of lossy frames that is the decoded value, and the object goes on saying that
it was compressed with loss. An object in which nothing is painted is returned as it came.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from dicom.elements import empty_like
from dicom.errors import (
    OutOfMemory,
    UnreadablePixels,
    UnsupportedPixelFormat,
    UnsupportedTransferSyntax,
)
from dicom.frames import decoders
from dicom.frames.colour import Palette, rgb_from_ybr
from dicom.frames.encoders import encode, lossless_syntax
from dicom.frames.format import PALETTE, PixelFormat, format_of
from dicom.frames.native import NativeFrame
from dicom.header import Header, PixelSpan
from dicom.header.values import PixelKeyword
from dicom.part10 import DEFLATED, PARSER_ERRORS

Samples = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
MaskOf = Callable[[int], Mask | None]
"""Where a frame, counted from 0, is painted: shape (rows, columns); None for nowhere."""

_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_NATIVE: Final = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, DEFLATED)
_KEYWORDS: Final[tuple[PixelKeyword, ...]] = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_OFFSETS: Final = (0x7FE00001, 0x7FE00002)  # Extended Offset Table, and its Lengths
_PLAUSIBLE_RATIO: Final = 1000  # as that of dicom.frames.read
_FREE_BYTES: Final = 2**28


class Canvas:
    """The frames of one object, to be looked at and painted on.

    Parameters
    ----------
    ds : Dataset
        With its pixel data and file meta information; it is left as it is.

    Attributes
    ----------
    form : PixelFormat
        How its pixels are coded.

    Raises
    ------
    UnreadablePixels
        When there is no pixel data, or it is not of the size that the header says.
    UnsupportedPixelFormat, UnsupportedTransferSyntax
        When no decoder reads what is coded.
    """

    def __init__(self, ds: Dataset) -> None:
        self._ds = ds
        keyword = next((name for name in _KEYWORDS if name in ds), None)
        if keyword is None:
            raise UnreadablePixels("an image has no pixel data")
        element = ds[keyword]
        if not isinstance(element.value, bytes | bytearray):
            raise UnreadablePixels("an image has no pixel data")
        self._bytes = bytes(element.value)
        syntax = _syntax_of(ds)
        encapsulated = syntax not in _NATIVE
        span = PixelSpan(keyword, 0, len(self._bytes), encapsulated, element.VR == "OW")
        header = Header(Path(), ds, syntax, span, len(self._bytes))
        self.form: PixelFormat = format_of(header)
        self._keyword = keyword
        self._swapped = syntax == _BIG_ENDIAN and (span.words or self.form.bits_allocated > 8)
        self._palette = Palette(header) if self.form.photometric == PALETTE else None
        self._frames: tuple[bytes, ...] = ()
        if encapsulated:
            self._frames = self._fragments(header)
        else:
            needed = -(-self.form.frame_bits * self.form.frames // 8)
            if needed > len(self._bytes):
                raise UnreadablePixels("the pixel data is shorter than its header says")

    # --- to be looked at ------------------------------------------------------------------------

    def samples(self, frame: int) -> Samples:
        """Return the samples of a frame, as the decoder gives them.

        Returns
        -------
        ndarray, shape (rows, columns) or (rows, columns, 3)
            Stored values, unused bits included; YBR_FULL_422 has its chrominance for each pixel.

        Raises
        ------
        UnreadablePixels
            When the frame is damaged.
        """
        if not self._frames:
            return self._native(frame)
        decode = decoders.decoder_of(self.form.transfer_syntax)
        assert decode is not None  # _fragments
        size = (self.form.rows, self.form.columns)
        shape = (*size, 3) if self.form.samples == 3 else size
        return decode(self._frames[frame], self.form, np.empty(shape, self.form.dtype))

    def picture(self, frame: int) -> Samples:
        """Return a frame as it is shown: grey values as stored, or red, green and blue.

        Raises
        ------
        UnreadablePixels
            When the frame is damaged.
        """
        samples = self._without_unused(self.samples(frame))
        if self._palette is not None:
            return self._palette.apply(samples)
        if self.form.is_colour and not decoders.is_rgb_after(self.form):
            return rgb_from_ybr(samples, self.form.bits_stored)
        return samples

    def _without_unused(self, samples: Samples) -> Samples:
        """Return values without the bits above HighBit (PS3.5 8.1.1), the sign spread."""
        form = self.form
        if form.kind == "float" or form.bits_stored == form.bits_allocated:
            return samples
        above = form.bits_allocated - 1 - form.high_bit
        if form.signed:
            spread: Samples = (samples << above) >> (form.bits_allocated - form.bits_stored)
            return spread
        low: Samples = samples >> (form.high_bit + 1 - form.bits_stored)
        low &= samples.dtype.type(2**form.bits_stored - 1)
        return low

    # --- to be painted on -----------------------------------------------------------------------

    def painted(self, mask_of: MaskOf, *, clear_unused: bool = False) -> Dataset:
        """Return the object with the masked pixels black, and all others as they were.

        Parameters
        ----------
        mask_of : callable
            Asked once for each frame.
        clear_unused : bool
            Take away what stands in bits that are not of the value: overlays of old, and
            whatever else. The values stay.

        Returns
        -------
        Dataset
            The same elements but for the pixel data and, where frames had to be coded again, how
            it is coded. `ds` itself where nothing is masked.

        Raises
        ------
        UnreadablePixels, UnsupportedPixelFormat
            When a frame cannot be decoded, or cannot be written again.
        """
        masks = [mask_of(frame) for frame in range(self.form.frames)]
        if not clear_unused and not any(mask is not None and mask.any() for mask in masks):
            return self._ds
        if clear_unused and self.form.high_bit != self.form.bits_stored - 1:
            raise UnsupportedPixelFormat("values that do not lie in the lowest bits")
        if not self._frames:
            return self._with_pixels(self._painted_native(masks, clear_unused=clear_unused))
        syntax = lossless_syntax(self.form)
        frames = []
        for frame, mask in enumerate(masks):
            samples = self.samples(frame)
            if clear_unused:
                samples = self._without_unused(samples)
            if mask is not None and mask.any():
                samples = samples.copy()
                samples[mask] = self._black(samples)
            frames.append(encode(samples, self.form, syntax))
        return self._with_frames(frames, syntax)

    def _black(self, samples: Samples) -> Any:  # noqa: ANN401 - a sample, or three
        """Return what is shown darkest: of grey values, one that the frame holds already."""
        if self._palette is not None:
            used = self._palette.colours[: 2**self.form.bits_stored]
            return self._palette.first + int(np.argmin(used.sum(axis=1, dtype=np.int64)))
        if not self.form.is_colour:
            values = self._without_unused(samples)
            at = np.argmax(values) if self.form.photometric == "MONOCHROME1" else np.argmin(values)
            return samples.flat[at]
        if self.form.photometric.startswith("YBR_FULL") and not decoders.is_rgb_after(self.form):
            half = 1 << (self.form.bits_stored - 1)
            return np.array((0, half, half), samples.dtype)
        return samples.dtype.type(0)

    def _with_pixels(self, content: bytes) -> Dataset:
        painted = copy_of(self._ds)
        element = self._ds[self._keyword]
        painted[element.tag] = DataElement(element.tag, element.VR, content)
        return painted

    def _with_frames(self, frames: list[bytes], syntax: UID) -> Dataset:
        painted = copy_of(self._ds)
        for tag in _OFFSETS:
            if tag in painted:
                del painted[tag]
        element = DataElement(0x7FE00010, "OB", encapsulate(frames, has_bot=len(frames) > 1))
        element.is_undefined_length = True
        painted[element.tag] = element
        # New elements: to set a keyword would change the one that both data sets have.
        painted.file_meta[0x00020010] = DataElement(0x00020010, "UI", syntax)
        if self.form.is_colour and self._palette is None:
            colours = "RGB" if decoders.is_rgb_after(self.form) else "YBR_FULL"
            painted[0x00280004] = DataElement(0x00280004, "CS", colours)
            painted[0x00280006] = DataElement(0x00280006, "US", 0)
        return painted

    # --- uncompressed ---------------------------------------------------------------------------

    def _native(self, frame: int) -> Samples:
        native = NativeFrame.at(frame, self.form, swapped=self._swapped)
        held = np.frombuffer(self._bytes[native.start : native.end], np.uint8)
        return native.samples(np.pad(held, (0, native.end - native.start - len(held))))

    def _painted_native(self, masks: list[Mask | None], *, clear_unused: bool) -> bytes:
        """Return the pixel bytes with the masked ones changed where they lie."""
        form = self.form
        if form.bits_allocated == 1:
            return self._painted_bits(masks)
        content = np.frombuffer(self._bytes, np.uint8).copy()
        unit = max(2, form.bits_allocated // 8) if self._swapped else 1
        whole = len(content) - len(content) % unit
        if self._swapped:
            content[:whole] = content[:whole].view(f"u{unit}").byteswap().view(np.uint8)
        size = form.frame_bits // 8
        for frame, mask in enumerate(masks):
            values = content[frame * size : (frame + 1) * size].view(form.dtype)
            if clear_unused:
                values[...] = self._without_unused(values)
            if mask is None or not mask.any():
                continue
            samples = self._native(frame)
            black = self._black(self._without_unused(samples) if clear_unused else samples)
            if form.photometric == "YBR_FULL_422":
                _paint_pairs(values, mask, black)
            elif form.samples == 3 and form.planar:
                values.reshape(3, form.rows, form.columns)[:, mask] = np.resize(black, 3)[:, None]
            else:
                shape = (form.rows, form.columns, 3)[: 2 + (form.samples == 3)]
                values.reshape(shape)[mask] = black
        if self._swapped:
            content[:whole] = content[:whole].view(f"u{unit}").byteswap().view(np.uint8)
        return content.tobytes()

    def _painted_bits(self, masks: list[Mask | None]) -> bytes:
        if self._swapped:
            raise UnsupportedPixelFormat("pixels of one bit in big endian cannot be painted")
        bits = np.unpackbits(np.frombuffer(self._bytes, np.uint8), bitorder="little")
        pixels = self.form.frame_pixels
        dark = 1 if self.form.photometric == "MONOCHROME1" else 0
        for frame, mask in enumerate(masks):
            if mask is not None:
                bits[frame * pixels : (frame + 1) * pixels][mask.ravel()] = dark
        return np.packbits(bits, bitorder="little").tobytes()

    # --- compressed -----------------------------------------------------------------------------

    def _fragments(self, header: Header) -> tuple[bytes, ...]:
        syntax = self.form.transfer_syntax
        if decoders.decoder_of(syntax) is None:
            raise UnsupportedTransferSyntax("no decoder for the transfer syntax of an image")
        claimed = self.form.frame_bits // 8 * self.form.frames
        if claimed > _FREE_BYTES and claimed > _PLAUSIBLE_RATIO * len(self._bytes):
            raise UnreadablePixels("the images claim a size that their bytes cannot hold")
        offsets = header.raw("ExtendedOffsetTable")
        lengths = header.raw("ExtendedOffsetTableLengths")
        extended = (offsets, lengths) if offsets and lengths else None
        try:
            found = generate_frames(
                self._bytes, number_of_frames=self.form.frames, extended_offsets=extended
            )
            frames = tuple(bytes(frame) for frame in found)
        except PARSER_ERRORS:
            raise UnreadablePixels("the fragments of pixel data are damaged") from None
        except MemoryError:
            raise OutOfMemory("no room for the frames of an image") from None
        if len(frames) != self.form.frames:
            raise UnreadablePixels("the pixel data has another number of frames than it says")
        return frames


def _paint_pairs(values: Samples, mask: Mask, black: Samples) -> None:
    """Paint uncompressed YBR_FULL_422; a pair shares its colour, and loses it as a pair."""
    pairs = values.reshape(-1, 4)
    both = mask.reshape(-1, 2)
    pairs[:, 0][both[:, 0]] = black[0]
    pairs[:, 1][both[:, 1]] = black[0]
    pairs[both.all(axis=1), 2:] = black[1]


def copy_of(ds: Dataset) -> Dataset:
    """Return another data set of the same elements; what is set in it leaves `ds` alone."""
    copied = empty_like(ds)
    for tag in ds.keys():  # noqa: SIM118 - to iterate over the data set itself would parse it
        element = ds.get_item(tag)
        if element is not None:
            copied[tag] = element
    copied.file_meta = type(ds.file_meta)()
    copied.file_meta.update(ds.file_meta)
    copied.preamble = getattr(ds, "preamble", None) or b"\0" * 128
    return copied


def _syntax_of(ds: Dataset) -> UID:
    try:
        syntax = ds.file_meta.TransferSyntaxUID
    except AttributeError:
        raise UnsupportedTransferSyntax("the object names no transfer syntax") from None
    return UID(str(syntax))
