"""Frames coded without loss, in a transfer syntax of the kind that they came in.

What came as RLE goes as RLE, deflated frames as such, JPEG 2000 and HTJ2K as JPEG 2000, and the
JPEGs as JPEG-LS where their samples fill whole bytes, else as JPEG 2000, whose streams say how many
bits a sample has.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.uid import UID
from rle.rle import encode_segment

from dicom.errors import UnsupportedPixelFormat
from dicom.frames.format import PixelFormat

Samples = npt.NDArray[Any]
Encoder = Callable[[Samples, PixelFormat], bytes]

_JPEG: Final = "1.2.840.10008.1.2.4."
RLE: Final = UID("1.2.840.10008.1.2.5")
DEFLATED_FRAMES: Final = UID("1.2.840.10008.1.2.8.1")
JPEG_LS: Final = UID(_JPEG + "80")
JPEG_2000: Final = UID(_JPEG + "90")
_JPEG_2000_FAMILY: Final = tuple(_JPEG + number for number in ("90", "91", "201", "202", "203"))
_RLE_HEADER: Final = struct.Struct("<16L")


def lossless_syntax(form: PixelFormat) -> UID:
    """Return the transfer syntax that frames of a compressed object are written in.

    Raises
    ------
    UnsupportedPixelFormat
        When none takes its samples.
    """
    if form.transfer_syntax in (RLE, DEFLATED_FRAMES):
        return form.transfer_syntax
    if form.bits_allocated not in (8, 16):
        raise UnsupportedPixelFormat("compressed pixels of this depth cannot be written again")
    if form.transfer_syntax in _JPEG_2000_FAMILY or form.bits_stored != form.bits_allocated:
        return JPEG_2000
    return JPEG_LS


def encode(samples: Samples, form: PixelFormat, syntax: UID) -> bytes:
    """Return one frame, coded without loss.

    Parameters
    ----------
    samples : ndarray, shape (rows, columns) or (rows, columns, samples)
        As the decoder of `form` gives them.
    form : PixelFormat
        Of the object that the frame came from.
    syntax : UID
        From :func:`lossless_syntax`.

    Returns
    -------
    bytes
        Of even length.
    """
    content = _ENCODERS[syntax](np.ascontiguousarray(samples), form)
    return content + b"\0" * (len(content) % 2)


def _encode_rle(samples: Samples, form: PixelFormat) -> bytes:
    """One segment for each byte of a sample, the highest first (PS3.5 Annex G)."""
    if form.bits_allocated == 1:
        planes = [np.packbits(samples, bitorder="little")]
        width = -(-form.columns // 8)
    else:
        size = samples.dtype.itemsize
        by_byte = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8)
        by_byte = by_byte.reshape(form.rows * form.columns, form.samples * size)
        planes = [np.ascontiguousarray(by_byte[:, n]) for n in range(form.samples * size)]
        width = form.columns
    segments = []
    for plane in planes:
        segment = bytes(encode_segment(plane.tobytes(), width))
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [_RLE_HEADER.size]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    head = _RLE_HEADER.pack(len(segments), *offsets, *([0] * (15 - len(segments))))
    return b"".join([head, *segments])


def _encode_deflated(samples: Samples, form: PixelFormat) -> bytes:
    plain = np.packbits(samples, bitorder="little") if form.bits_allocated == 1 else samples
    if form.planar and samples.ndim == 3:
        plain = np.ascontiguousarray(np.moveaxis(samples, -1, 0))
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(plain.tobytes()) + packer.flush()


def _encode_jpeg_ls(samples: Samples, form: PixelFormat) -> bytes:
    unsigned = samples.view(f"u{samples.dtype.itemsize}")
    room = bytearray(2 * unsigned.nbytes + 4096)  # noise may become longer than it was
    return bytes(imagecodecs.jpegls_encode(unsigned, out=room))


def _encode_jpeg2000(samples: Samples, form: PixelFormat) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples,
            level=0,
            codecformat="J2K",
            reversible=True,
            mct=False,
            bitspersample=form.bits_stored,
        )
    )


_ENCODERS: Final[dict[UID, Encoder]] = {
    RLE: _encode_rle,
    DEFLATED_FRAMES: _encode_deflated,
    JPEG_LS: _encode_jpeg_ls,
    JPEG_2000: _encode_jpeg2000,
}
