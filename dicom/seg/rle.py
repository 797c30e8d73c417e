"""RLE Lossless (PS3.5 Annex G) for label maps: whole runs at a time, by numpy.

A label map is nearly all runs. So each frame is written as runs alone: a literal of one byte and a
run of two have the same length in PackBits, two bytes, so that every odd byte of a segment is a
value and every even one says how often: a few array operations a frame. A frame with few runs to
speak of, such as one of probabilities, goes through pylibjpeg's encoder instead.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt
from rle.rle import encode_segment

_HEADER: Final = struct.Struct("<16L")
_LONGEST_RUN: Final = 128

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
