"""TensorBoard's event files, written without TensorBoard.

A file is a row of records, each a protocol buffer with its length and checksums (TensorFlow's
``tfrecord`` and ``event.proto``, ``summary.proto``). The few fields that curves and pictures need
are written here; TensorBoard itself would bring a web server, gRPC and a dozen packages into a
hospital for them. The tests read the files with TensorBoard.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_DOUBLE: Final = 1  # protocol buffers' wire types
_BYTES: Final = 2
_FLOAT: Final = 5
_POLYNOMIAL: Final = 0x82F63B78  # CRC-32C, reflected
_MASK: Final = 0xA282EAD8


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_CRC: Final = _table()


class EventFile:
    """One event file of a run; what is added is there when the call returns.

    Parameters
    ----------
    folder : Path
        The run's; a training that goes on begins another file beside those that are there, since
        one that was killed may have left half a record.
    """

    def __init__(self, folder: Path) -> None:
        number = len(list(folder.glob("events.out.tfevents.*")))
        self.path = folder / f"events.out.tfevents.{int(time.time()):010d}.radloop.{number}"
        self._write(_text(3, b"brain.Event:2"), step=0)

    def add(
        self,
        step: int,
        *,
        scalars: Mapping[str, float],
        pictures: Mapping[str, tuple[int, int, bytes]] | None = None,
    ) -> None:
        """Add values and pictures (rows, columns, PNG) of a step."""
        values = [_text(1, tag.encode()) + _number(2, value) for tag, value in scalars.items()]
        for tag, (rows, columns, png) in (pictures or {}).items():
            picture = _whole(1, rows) + _whole(2, columns) + _whole(3, 3) + _text(4, png)
            values.append(_text(1, tag.encode()) + _text(4, picture))
        summary = b"".join(_text(1, value) for value in values)
        self._write(_text(5, summary), step=step)

    def _write(self, what: bytes, *, step: int) -> None:
        event = _key(1, _DOUBLE) + struct.pack("<d", time.time()) + _whole(2, step) + what
        length = struct.pack("<Q", len(event))
        record = length + _checksum(length) + event + _checksum(event)
        with self.path.open("ab") as file:
            file.write(record)


def _checksum(data: bytes) -> bytes:
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    masked = ((value >> 15 | value << 17) + _MASK) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _key(field: int, kind: int) -> bytes:
    return bytes([field << 3 | kind])


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _whole(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _number(field: int, value: float) -> bytes:
    return _key(field, _FLOAT) + struct.pack("<f", value)


def _text(field: int, value: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(value)) + value
