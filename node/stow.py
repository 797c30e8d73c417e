"""Bodies of STOW-RS (PS3.18 10.5) on their way to an archive: counted, looked at, sometimes held.

What OHIF writes as a segmentation by itself is not stored as it is: from the second save on it can
hold other voxels than were painted.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator

from fastapi import Request

from dicom.errors import InvalidRequest, TooLarge, UnsafeSegmentation

GIB = 1 << 30
MAX_STORE_BYTES = 4 * GIB
_LOOK_FIRST = 1 << 16
_MOST_HELD = 256 << 20

_SEGMENTATION_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}  # PS3.4 B.5: SEG, LABELMAP
)

_NO_DICOM = "only uncompressed multipart/related DICOM can be stored here"
_OHIF_SEG = (
    "the viewer's own export of a segmentation is not stored: from the second save on it can hold "
    "other voxels than were painted"
)


def _too_large(limit: int) -> str:
    return f"more than {limit >> 20} MiB in one request"


class StoreScanner:
    """Looks at the file meta information (PS3.10 7.1) of every object in a multipart stream.

    Fed with the chunks as they pass, of whatever size; keeps no more than an object's unfinished
    header.
    """

    _START = b"DICM\x02\x00\x00\x00UL\x04\x00"
    _LONGEST_META = 1 << 16

    def __init__(self) -> None:
        self._tail = b""

    @property
    def waiting(self) -> bool:
        """Return whether a header has begun and has not ended yet."""
        return self._tail.startswith(self._START)

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises
        ------
        UnsafeSegmentation
            When an object is a segmentation that OHIF wrote.
        """
        data = self._tail + chunk
        position = data.find(self._START)
        while position >= 0:
            begin = position + len(self._START) + 4
            if len(data) < begin:
                break
            (length,) = struct.unpack_from("<I", data, begin - 4)
            length = min(length, self._LONGEST_META)
            if len(data) < begin + length:
                break
            if _is_ohif_segmentation(data[begin : begin + length]):
                raise UnsafeSegmentation(_OHIF_SEG)
            position = data.find(self._START, begin)
        self._tail = data[position:] if position >= 0 else data[-len(self._START) + 1 :]


def _is_ohif_segmentation(meta: bytes) -> bool:
    """Return what file meta information, after its group length, says about its object."""
    found: dict[int, str] = {}
    position = 0
    while position + 8 <= len(meta):  # PS3.10 7.1: always explicit VR little endian
        group, element, vr, length = struct.unpack_from("<HH2sH", meta, position)
        position += 8
        if vr in (b"OB", b"UN"):  # PS3.5 7.1.2: a 32-bit length after two reserved bytes
            if position + 4 > len(meta):
                break
            (length,) = struct.unpack_from("<I", meta, position)
            position += 4
        if group == 0x0002 and element in (0x0002, 0x0013):
            found[element] = meta[position : position + length].decode("ascii", "replace")
        position += length
    media_storage_sop_class_uid = found.get(0x0002, "").rstrip("\0 ")
    implementation_version_name = found.get(0x0013, "")
    return (
        media_storage_sop_class_uid in _SEGMENTATION_CLASSES
        and implementation_version_name.startswith("OHIF-")
    )


class StoreBody:
    """A STOW-RS body on its way: counted and looked at; kept only where it goes no further."""

    def __init__(self, request: Request, *, limit: int, hold: bool) -> None:
        self._incoming = request.stream()
        self._limit = limit
        self._may_hold = hold
        self.held: bytes | None = None
        self._bytes = 0
        self._scanner = StoreScanner()
        self._first: list[bytes] = []
        self._rest = self._judged()

    @classmethod
    async def opened(cls, request: Request, *, limit: int, hold: bool) -> StoreBody:
        """Return the body after a look at its first object.

        With `hold`, a body that begins with the viewer's own segmentation is read to its end and
        `held`; nothing of it goes on.

        Raises
        ------
        InvalidRequest, TooLarge, UnsafeSegmentation
            When it is no DICOM, is announced too large, or begins with what is not stored.
        """
        content_type = request.headers.get("content-type", "").lower()
        if not content_type.startswith("multipart/related") or (
            "content-encoding" in request.headers
        ):
            raise InvalidRequest(_NO_DICOM)
        if int(request.headers.get("content-length", "0")) > limit:
            raise TooLarge(_too_large(limit))
        body = cls(request, limit=limit, hold=hold)
        # The usual body is one object: it is judged before the archive hears of it.
        async for chunk in body._rest:
            body._first.append(chunk)
            if body._bytes >= _LOOK_FIRST and not body._scanner.waiting:
                break
        body._may_hold = False  # what follows is on its way to the archive
        return body

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole body once.

        Raises
        ------
        TooLarge, UnsafeSegmentation
            When it grows too large, or a later object is not stored. The archive then sees a
            request that breaks off within that object, and drops it.
        """
        while self._first:
            yield self._first.pop(0)
        async for chunk in self._rest:
            yield chunk

    async def _judged(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._incoming:
            self._bytes += len(chunk)
            if self._bytes > self._limit:
                raise TooLarge(_too_large(self._limit))
            try:
                self._scanner.feed(chunk)
            except UnsafeSegmentation:
                if self._may_hold:
                    await self._hold(chunk)
                    return
                await self._drain()
                raise
            yield chunk

    async def _hold(self, chunk: bytes) -> None:
        """Keep the whole body, from its beginning."""
        parts = [*self._first, chunk]
        async for later in self._incoming:
            self._bytes += len(later)
            if self._bytes > min(self._limit, _MOST_HELD):
                raise TooLarge(_too_large(_MOST_HELD))
            parts.append(later)
        self._first.clear()
        self.held = b"".join(parts)

    async def _drain(self) -> None:
        """Read the rest, so that the browser listens to the answer instead of a broken pipe."""
        async for chunk in self._incoming:
            self._bytes += len(chunk)
            if self._bytes > self._limit:
                return
