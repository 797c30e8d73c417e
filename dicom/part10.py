"""A DICOM file as two things: a header that is parsed, and pixel bytes that are only copied.

pydicom reads the header (PS3.10 7.1); the pixel element is found and measured, never decoded or
held in memory; what follows it is left unread.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.errors import BytesLengthException, InvalidDicomError

from dicom.errors import CannotDeidentify, DiskFull, NotDicom

UNDEFINED_LENGTH: Final = 0xFFFFFFFF
DEFLATED: Final = "1.2.840.10008.1.2.1.99"

# What pydicom raises on bytes that it cannot parse: found by reading damaged files with it. The
# cause is never chained, since its text may quote a value.
PARSER_ERRORS: Final = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    struct.error,
    zlib.error,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    RecursionError,
)

_PIECE: Final = 1 << 20
_PIXEL_TAGS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # float, double float, integer


class _Quiet:
    """How many threads want pydicom quiet, and what it was before the first of them."""

    lock = threading.Lock()
    users = 0
    before = config.WARN


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Let pydicom not warn of odd values: its warnings quote them.

    The setting is the whole process's; it comes back when the last thread leaves.
    """
    with _Quiet.lock:
        if _Quiet.users == 0:
            _Quiet.before = config.settings.reading_validation_mode
            config.settings.reading_validation_mode = config.IGNORE
        _Quiet.users += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.users -= 1
            if _Quiet.users == 0:
                config.settings.reading_validation_mode = _Quiet.before


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file: from `start` up to `end`."""

    start: int
    end: int


def read_header(file: BinaryIO) -> tuple[Dataset, Extent]:
    """Return a file's header, and where its pixel element lies (empty extent when it has none).

    Raises
    ------
    NotDicom
        When the bytes are no DICOM Part 10 file or end too early.
    """
    with quiet_pydicom():
        try:
            ds = dcmread(file, stop_before_pixels=True)
            syntax = str(ds.file_meta.get("TransferSyntaxUID", ""))
            if syntax == DEFLATED:
                file.seek(0)
                return dcmread(file), Extent(0, 0)
        except OSError:
            raise NotDicom("the file cannot be read") from None
        except PARSER_ERRORS:
            raise NotDicom("the bytes are no DICOM file") from None
    implicit, little = ds.original_encoding
    return ds, pixel_extent(file, implicit=bool(implicit), little=little is not False)


def pixel_extent(file: BinaryIO, *, implicit: bool, little: bool) -> Extent:
    """Return where the pixel element at the file's position begins and ends (PS3.5 7.1, A.4)."""
    order = "<" if little else ">"
    start = file.tell()
    head = file.read(12)
    size = file.seek(0, os.SEEK_END)
    if len(head) < 8:
        return Extent(start, start)
    group, number = struct.unpack(order + "HH", head[:4])
    if group << 16 | number not in _PIXEL_TAGS:
        raise NotDicom("the header ends before the pixels")
    if implicit:
        value, length = start + 8, struct.unpack(order + "L", head[4:8])[0]
    elif head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN") and len(head) == 12:
        value, length = start + 12, struct.unpack(order + "L", head[8:12])[0]
    else:
        raise NotDicom("the pixel element's VR is impossible")
    end = _end_of_fragments(file, value, size) if length == UNDEFINED_LENGTH else value + length
    if end > size:
        raise NotDicom("the file ends within its pixels")
    return Extent(start, end)


def _end_of_fragments(file: BinaryIO, position: int, size: int) -> int:
    """Return where encapsulated pixel data ends (PS3.5 A.4: always little endian)."""
    while position + 8 <= size:
        file.seek(position)
        group, number, length = struct.unpack("<HHL", file.read(8))
        position += 8
        if (group, number) == (0xFFFE, 0xE0DD):
            return position
        if (group, number) != (0xFFFE, 0xE000) or length == UNDEFINED_LENGTH:
            raise NotDicom("the pixel fragments are damaged")
        position += length
    raise NotDicom("the file ends within its pixels")


def encoded(clean: Dataset) -> bytes:
    """Return preamble, file meta information and data set as bytes.

    Raises
    ------
    CannotDeidentify
        When pydicom cannot write what it has read.
    """
    buffer = io.BytesIO()
    with quiet_pydicom():
        try:
            dcmwrite(buffer, clean, enforce_file_format=True)
        except (*PARSER_ERRORS, OSError):  # the last one is pydicom's for an item without a tag
            raise CannotDeidentify("the cleaned object cannot be written") from None
    return buffer.getvalue()


def write_whole(target: Path, header: bytes, source: BinaryIO, pixels: Extent) -> None:
    """Write header and pixel bytes so that the file appears at once, or not at all."""
    folder, name = os.path.split(target)
    part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
    whole = False
    try:
        file = _new_file(part)
        try:
            _copy(header, source, file, pixels)
        finally:
            os.close(file)
        os.replace(part, target)  # noqa: PTH105 - no Path: they cost more than the call
        whole = True
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull("no room for the de-identified file") from None
        raise
    finally:
        if not whole:
            Path(part).unlink(missing_ok=True)


def _new_file(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:  # most files find their folder: asking first would cost each of them
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _copy(header: bytes, source: BinaryIO, target: int, extent: Extent) -> None:
    """Write the header and, piece by piece, bytes of the source as they stand.

    Large pieces cost less than the kernel's own copy between files, which goes by 64 kB.
    """
    position, descriptor = extent.start, source.fileno()
    first = header
    while position < extent.end:
        piece = os.pread(descriptor, min(_PIECE, extent.end - position), position)
        if not piece:
            raise NotDicom("the file was cut off while it was read")
        position += len(piece)
        _write(target, first, piece)
        first = b""
    _write(target, first)


def _write(file: int, *parts: bytes) -> None:
    left = [memoryview(part) for part in parts if part]
    while left:
        written = os.writev(file, left)
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]
