"""One compressed frame to an array, by the decoder of its transfer syntax.

The decoders of imagecodecs (libjpeg-turbo, CharLS, OpenJPEG) are called on the frame's bytes, and
let other threads run meanwhile. RLE is PackBits, once for each byte of a sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from dicom.errors import UnreadablePixels
from dicom.frames.codestream import Codestream, read_jpeg, read_jpeg2000
from dicom.frames.format import GREY, PALETTE, PixelFormat

Pixels = npt.NDArray[Any]
Decoder = Callable[[bytes, PixelFormat, Pixels], Pixels]

_JPEG: Final = "1.2.840.10008.1.2.4."
_DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"
_RLE: Final = "1.2.840.10008.1.2.5"
_FAILURES: Final = (RuntimeError, ValueError, TypeError, IndexError)
"""What imagecodecs raises on damaged frames: found by giving it such."""
_RLE_SLACK: Final = 256  # what a segment may hold beyond its plane; some encoders pad


def decoder_of(syntax: UID) -> Decoder | None:
    """Return what decodes frames of an encapsulated transfer syntax, None where nothing does.

    The decoder takes a frame, its format and the place where the result shall be, and returns
    samples of shape (rows, columns) or (rows, columns, 3) with the sign spread. It may decode
    right into that place, and then returns it. Colour is red, green, blue or still YBR_FULL as
    :func:`is_rgb_after` says. It raises UnreadablePixels for a frame that is damaged or is not
    what the header claims.
    """
    return _DECODERS.get(str(syntax))


def is_rgb_after(form: PixelFormat) -> bool:
    """Return whether the decoder itself gives red, green, blue."""
    if form.photometric == "RGB" or form.photometric in ("YBR_RCT", "YBR_ICT"):
        return True
    return _DECODERS.get(str(form.transfer_syntax)) is _decode_jpeg


def _decode_jpeg(frame: bytes, form: PixelFormat, out: Pixels) -> Pixels:
    facts = read_jpeg(frame)
    _check(facts, form)
    colourspace = None
    if facts.components == 3:
        transformed = facts.transformed
        if transformed is None:
            transformed = form.photometric != "RGB"
        if facts.is_lossless_jpeg:
            transformed = False  # the codec has no transform; what the header says is done below
        colourspace = "YCBCR" if transformed else "RGB"
    try:
        samples: Pixels = imagecodecs.jpeg8_decode(
            frame,
            colorspace=colourspace,
            outcolorspace=None if colourspace is None else "RGB",
            out=_place(facts, form, out),
        )
    except _FAILURES:
        raise UnreadablePixels("a JPEG frame cannot be decoded") from None
    return _stored(samples, facts, form, out)


def _decode_jpeg_ls(frame: bytes, form: PixelFormat, out: Pixels) -> Pixels:
    facts = read_jpeg(frame)
    _check(facts, form)
    try:
        samples: Pixels = imagecodecs.jpegls_decode(frame, out=_place(facts, form, out))
    except _FAILURES:
        raise UnreadablePixels("a JPEG-LS frame cannot be decoded") from None
    return _stored(samples, facts, form, out)


def _decode_jpeg2000(frame: bytes, form: PixelFormat, out: Pixels) -> Pixels:
    facts = read_jpeg2000(frame)
    _check(facts, form)
    try:
        samples: Pixels = imagecodecs.jpeg2k_decode(frame, out=_place(facts, form, out))
    except _FAILURES:
        raise UnreadablePixels("a JPEG 2000 frame cannot be decoded") from None
    return _stored(samples, facts, form, out)


def _decode_rle(frame: bytes, form: PixelFormat, out: Pixels) -> Pixels:
    """Decode one segment for each byte of a sample, the highest first (PS3.5 Annex G)."""
    size = max(1, form.bits_allocated // 8)
    segments = _rle_segments(frame, form.samples * size)
    count = form.frame_pixels if form.bits_allocated > 1 else -(-form.frame_pixels // 8)
    if count > 64 * max(len(segment) for segment in segments):  # at best 128 bytes from two
        raise UnreadablePixels("an RLE frame is shorter than its size allows")
    if form.samples == 1 and out.ndim == 2 and form.bits_allocated > 8:
        planes = out.reshape(-1).view(np.uint8).reshape(1, count, size)
    else:
        planes = np.empty((form.samples, count, size), np.uint8)
    buffer = np.empty(count + _RLE_SLACK, np.uint8)
    for number, segment in enumerate(segments):
        sample, place = divmod(number, size)
        planes[sample, :, size - 1 - place] = _unpacked(segment, buffer, count)
    if planes.base is not None and np.may_share_memory(planes, out):
        return out
    if form.bits_allocated == 1:
        return native(planes.reshape(-1), form)
    samples = planes.reshape(-1).view(form.dtype)
    if form.samples == 1:
        return samples.reshape(form.rows, form.columns)
    return np.moveaxis(samples.reshape(form.samples, form.rows, form.columns), 0, -1)


def _rle_segments(frame: bytes, expected: int) -> list[bytes]:
    offsets = [int(word) for word in np.frombuffer(frame[:64].ljust(64, b"\0"), "<u4")]
    if offsets[0] != expected or expected > 15:
        raise UnreadablePixels("an RLE frame has another number of segments than its samples need")
    ends = [*offsets[2 : 1 + expected], len(frame)]
    segments = [frame[a:b] for a, b in zip(offsets[1 : 1 + expected], ends, strict=True)]
    if offsets[1] < 64 or not all(segments):
        raise UnreadablePixels("the segments of an RLE frame are damaged")
    return segments


def _unpacked(segment: bytes, buffer: npt.NDArray[np.uint8], count: int) -> Pixels:
    """Return the first bytes of a segment, which may be padded by one zero to an even length."""
    for content in (segment, segment[:-1]):
        try:
            found = imagecodecs.packbits_decode(content, out=buffer.data)
        except _FAILURES:
            if segment[-1]:
                break
            continue
        if len(found) >= count:
            return buffer[:count]
        break
    raise UnreadablePixels("an RLE frame cannot be decoded")


def _decode_deflated(frame: bytes, form: PixelFormat, _: Pixels) -> Pixels:
    count = -(-form.frame_bits // 8)  # here frames of one bit are padded to whole bytes
    try:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, count)
    except zlib.error:
        raise UnreadablePixels("a deflated frame cannot be inflated") from None
    if len(content) < count:
        raise UnreadablePixels("a deflated frame is cut off")
    return native(np.frombuffer(content, np.uint8), form)


def native(content: npt.NDArray[np.uint8], form: PixelFormat) -> Pixels:
    """Return the samples of one uncompressed frame in little endian.

    Parameters
    ----------
    content : ndarray, uint8
        The frame's bytes; of one-bit pixels whole bytes, the first pixel lowest.
    """
    if form.bits_allocated == 1:
        bits = np.unpackbits(content, count=form.frame_pixels, bitorder="little")
        return bits.reshape(form.rows, form.columns)
    samples = content.view(form.dtype)
    if form.samples == 1:
        return samples.reshape(form.rows, form.columns)
    if form.planar:
        return np.moveaxis(samples.reshape(form.samples, form.rows, form.columns), 0, -1)
    return samples.reshape(form.rows, form.columns, form.samples)


def _check(facts: Codestream, form: PixelFormat) -> None:
    """Refuse a frame that is not of the size that the header says, before it is decoded."""
    components = 1 if form.photometric in GREY or form.photometric == PALETTE else 3
    if (facts.rows, facts.columns, facts.components) != (form.rows, form.columns, components):
        raise UnreadablePixels("a compressed frame has another size than the header says")
    if facts.precision > form.bits_allocated or form.kind == "float":
        raise UnreadablePixels("a compressed frame has more bits than the header says")


def _place(facts: Codestream, form: PixelFormat, out: Pixels) -> Pixels | None:
    """Return the place of the result as the codec would have it, None where it would not fit."""
    codec = np.dtype(f"{'i' if facts.signed else 'u'}{1 if facts.precision <= 8 else 2}")
    if facts.precision > 16 or form.samples > 1 or out.ndim > 2:
        return None
    return out.view(codec) if out.dtype.itemsize == codec.itemsize else None


def _stored(samples: Pixels, facts: Codestream, form: PixelFormat, out: Pixels) -> Pixels:
    """Return samples in the stored type, the sign spread from the highest bit of the stream."""
    size = (form.rows, form.columns)
    if samples.shape != (size if form.samples == 1 else (*size, form.samples)):
        raise UnreadablePixels("a compressed frame has another size than the header says")
    if samples.dtype.itemsize == out.dtype.itemsize and np.may_share_memory(samples, out):
        stored = out
    else:
        stored = samples.astype(form.dtype, copy=False)
    if form.signed and not facts.signed:
        unused = form.bits_allocated - facts.precision
        if unused:
            stored = (stored << unused) >> unused
    return stored


_DECODERS: Final[dict[str, Decoder]] = {
    _JPEG + "50": _decode_jpeg,
    _JPEG + "51": _decode_jpeg,
    _JPEG + "57": _decode_jpeg,
    _JPEG + "70": _decode_jpeg,
    _JPEG + "80": _decode_jpeg_ls,
    _JPEG + "81": _decode_jpeg_ls,
    _JPEG + "90": _decode_jpeg2000,
    _JPEG + "91": _decode_jpeg2000,
    _JPEG + "201": _decode_jpeg2000,
    _JPEG + "202": _decode_jpeg2000,
    _JPEG + "203": _decode_jpeg2000,
    _RLE: _decode_rle,
    _DEFLATED_FRAMES: _decode_deflated,
}
