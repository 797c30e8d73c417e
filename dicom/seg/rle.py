"""RLE Lossless (PS3.5 Annex G) for label maps: whole runs at a time, by numpy.

A label map is nearly all runs. So each frame is written as runs alone: a literal of one byte and a
run of two have the same length in PackBits, two bytes, so that every odd byte of a segment is a
value and every even one says how often. Both directions are then a few array operations. Frames of
others, which mix runs and literals, go through pylibjpeg's decoder.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from rle.rle import decode_segment, encode_segment

from dicom.errors import InvalidSegmentation

_HEADER: Final = struct.Struct("<16L")
_LONGEST_RUN: Final = 128
_NO_OPERATION: Final = 128

Bytes = npt.NDArray[np.uint8]


def encode_frame(frame_ji: npt.NDArray[np.unsignedinteger]) -> bytes:
    """Return a frame as RLE Lossless, one segment for each byte of a pixel.

    Parameters
    ----------
    frame_ji : ndarray, uint8 or uint16, shape (rows, columns)
        Contiguous.

    Returns
    -------
    bytes
        With the header of 64 bytes (PS3.5 G.5); of even length.
    """
    size = frame_ji.dtype.itemsize
    planes = frame_ji.astype(f">u{size}", copy=False).view(np.uint8).reshape(*frame_ji.shape, size)
    segments = [_encode_plane(np.ascontiguousarray(planes[..., n])) for n in range(size)]
    offsets = [_HEADER.size]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    header = _HEADER.pack(size, *offsets, *([0] * (15 - size)))
    return b"".join([header, *segments])


def decode_frame(data: bytes, shape_ji: tuple[int, int], dtype: np.dtype[np.generic]) -> Bytes:
    """Return a frame's pixels, one row of bytes for each byte of a pixel, the highest first.

    Parameters
    ----------
    data : bytes
        One frame, with its header.
    shape_ji : tuple of int
        Rows and columns.
    dtype : dtype
        Of the pixels: uint8 or uint16.

    Returns
    -------
    ndarray, uint8 or uint16, shape (rows, columns)

    Raises
    ------
    InvalidSegmentation
        When the frame is damaged, or holds more or fewer pixels than it should.
    """
    count, size = shape_ji[0] * shape_ji[1], dtype.itemsize
    if len(data) < _HEADER.size:
        raise InvalidSegmentation("an RLE frame lacks its header")
    number, *offsets = _HEADER.unpack_from(data)
    bounds = [*offsets[:size], len(data)]
    if number != size or bounds[0] != _HEADER.size or sorted(bounds) != bounds:
        raise InvalidSegmentation("an RLE frame has an impossible header")
    planes = [_decode_plane(data[start:end], count) for start, end in pairwise(bounds)]
    if size == 1:
        return planes[0].reshape(shape_ji)
    joined = np.stack(planes, axis=-1).reshape(*shape_ji, size)
    return joined.view(f">u{size}")[..., 0].astype(dtype)


def _encode_plane(plane_ji: Bytes) -> bytes:
    values = plane_ji.ravel()
    begins = np.empty(plane_ji.shape, np.bool_)
    flat = begins.ravel()
    np.not_equal(values[1:], values[:-1], out=flat[1:])
    # A run ends with its row (PS3.5 G.3.1), and is never longer than its count can say.
    begins[:, ::_LONGEST_RUN] = True
    at = np.flatnonzero(flat)
    if 2 * at.size > values.size:
        written = bytes(encode_segment(values.tobytes(), plane_ji.shape[1]))
        return written + b"\0" * (len(written) % 2)
    segment = np.empty((at.size, 2), np.uint8)
    lengths = np.diff(at, append=values.size)
    segment[:, 0] = 257 - lengths & 0xFF  # a run of 2 to 128, or a literal of 1: zero
    segment[:, 1] = values[at]
    return segment.tobytes()


def _decode_plane(segment: bytes, count: int) -> Bytes:
    pairs = np.frombuffer(segment, np.uint8, len(segment) // 2 * 2).reshape(-1, 2)
    heads = pairs[:, 0]
    literals = (heads != 0) & (heads <= _NO_OPERATION)
    if len(segment) % 2 == 0 and not literals.any():
        lengths = np.subtract(1, heads, dtype=np.uint8)  # modulo 256: the count of 257 - head
        if int(lengths.sum(dtype=np.int64)) == count:
            return np.repeat(pairs[:, 1], lengths)
    # Two bytes for each of the pixels are the most that any encoder needs; beyond that lies harm.
    if len(segment) > 2 * count + 2:
        raise InvalidSegmentation("an RLE segment is longer than its pixels can make it")
    try:
        decoded = np.frombuffer(bytes(decode_segment(segment)), np.uint8)
    except ValueError:
        raise InvalidSegmentation("an RLE segment is damaged") from None
    if decoded.size < count:
        raise InvalidSegmentation("an RLE segment holds fewer pixels than the frame")
    return decoded[:count]
