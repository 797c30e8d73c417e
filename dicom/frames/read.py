"""Read frames of many files into one array, on all cores where the decoder allows it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from dicom.errors import MixedSizes, OutOfMemory, UnreadablePixels, UnsupportedTransferSyntax
from dicom.frames import decoders
from dicom.frames.colour import Palette, rgb_from_ybr
from dicom.frames.format import PALETTE, PixelFormat, format_of
from dicom.frames.fragments import Extents, locate_frames
from dicom.frames.native import NativeFrame
from dicom.header import Header, PixelSpan, read_header, read_inflated
from dicom.part10 import DEFLATED

FREE_BYTES: Final = 2**28
"""Arrays up to this size are made whatever the files hold."""
PLAUSIBLE_RATIO: Final = 1000
"""Larger ones need a compressed byte for so many of theirs: real images need one for 2 to 100."""

_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_NATIVE: Final = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN, DEFLATED)


@dataclass(frozen=True, slots=True)
class FrameSource:
    """One frame of one file.

    Parameters
    ----------
    path : Path
        A Part 10 file.
    frame : int
        Counts from 0 in a multi-frame file.
    header : Header, optional
        What :func:`~dicom.header.read_header` gave for this file; spares reading it again.
    """

    path: Path
    frame: int = 0
    header: Header | None = field(default=None, repr=False, compare=False)


def read_frames(sources: Sequence[FrameSource], *, workers: int | None = None) -> npt.NDArray[Any]:
    """Read frames of one size and pixel format into one array of stored values.

    Bits above HighBit are cleared (overlays of old lie there) and the sign is spread; YBR becomes
    RGB, palettes are expanded. No slope, no intercept and no MONOCHROME1 is applied.

    Parameters
    ----------
    sources : sequence of FrameSource
        In the order of the result. A file that is named more than once is opened once.
    workers : int, optional
        Threads; as many as there are cores that this process may use by default.

    Returns
    -------
    ndarray, shape (frames, rows, columns) or (frames, rows, columns, 3)
        uint8, int8, uint16, int16, uint32, int32, float32 or float64, as stored; colour is red,
        green, blue in uint8, uint16 or uint32.

    Raises
    ------
    NotDicom
        When a file cannot be read.
    UnsupportedPixelFormat, UnsupportedTransferSyntax
        When no decoder reads what is coded.
    UnreadablePixels
        When pixel data is missing, cut off, or not of the size that its header claims. This is
        looked at before memory is taken.
    MixedSizes
        When the frames differ in size or type.
    OutOfMemory
        When the array does not fit.
    """
    if not sources:
        raise ValueError("no frames to read")
    files: dict[Path, _File] = {}
    try:
        frames = [(_file_of(source, files), source.frame) for source in sources]
        for file, frame in frames:
            if not 0 <= frame < file.form.frames:
                raise UnreadablePixels("a frame is asked for that the file does not have")
        if len({(file.shape, file.dtype) for file in files.values()}) > 1:
            raise MixedSizes("the frames differ in size or pixel format")
        out = _new_array(frames, files)
        threads = max(1, min(workers or len(os.sched_getaffinity(0)), len(frames)))
        _run(lambda k: frames[k][0].read(frames[k][1], out[k]), len(frames), threads)
    finally:
        for file in files.values():
            file.forget()
    return out


def _file_of(source: FrameSource, files: dict[Path, _File]) -> _File:
    file = files.get(source.path)
    if file is None:
        file = files[source.path] = _File(source.header or read_header(source.path))
    return file


def _new_array(frames: list[tuple[_File, int]], files: dict[Path, _File]) -> npt.NDArray[Any]:
    first = frames[0][0]
    shape = (len(frames), *first.shape)
    claimed = int(np.prod(shape, dtype=object)) * first.dtype.itemsize
    held = sum(file.header.size for file in files.values())
    if claimed > FREE_BYTES and claimed > PLAUSIBLE_RATIO * held:
        raise UnreadablePixels("the images claim a size that their files cannot hold")
    try:
        return np.empty(shape, first.dtype)
    except (MemoryError, ValueError):
        raise OutOfMemory(f"no room for an array of {claimed >> 20} MiB") from None


def _run(task: Callable[[int], None], count: int, threads: int) -> None:
    """Carry out tasks 0 to count - 1; the first error ends all."""
    if threads == 1:
        for k in range(count):
            task(k)
        return
    numbers = iter(range(count))
    lock, stop = threading.Lock(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with lock:
                k = next(numbers, None)
            if k is None:
                return
            done = False
            try:
                task(k)
                done = True
            finally:
                if not done:
                    stop.set()

    with ThreadPoolExecutor(threads, thread_name_prefix="frames") as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()


class _File:
    """One file: its header, how its pixels are coded, and where its frames lie."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.form: PixelFormat = format_of(header)
        assert header.pixels is not None  # format_of refused it
        self.span: PixelSpan = header.pixels
        self._check_syntax()
        self.palette = Palette(header) if self.form.photometric == PALETTE else None
        self.dtype = self.palette.colours.dtype if self.palette else self.form.dtype
        size = (self.form.rows, self.form.columns)
        self.shape = (*size, 3) if self.form.is_colour else size
        self._inflated: bytes | None = None
        self._frames: tuple[Extents, ...] | None = None
        if self.span.encapsulated:
            if self.form.frames > 1:
                with self._opened() as file:
                    self._frames = self._located(file)
        else:
            self._check_length()
            if self.form.transfer_syntax == DEFLATED:
                self._inflated = read_inflated(header.path)

    def forget(self) -> None:
        """Let go of what was held for reading."""
        self._inflated = None

    def read(self, frame: int, out: npt.NDArray[Any]) -> None:
        """Read one frame into its place."""
        if self.span.encapsulated:
            decode = decoders.decoder_of(self.form.transfer_syntax)
            assert decode is not None  # _check_syntax
            self._finish(decode(self._compressed(frame), self.form, out), out)
        elif self._lies_ready:
            with self._opened() as file:
                start = self.span.start + frame * out.nbytes
                _read_into(file, out.reshape(-1).view(np.uint8).data, start)
            self._clear_unused(out)
        else:
            self._finish(self._native(frame), out)

    @property
    def _lies_ready(self) -> bool:
        """The bytes in the file are those of the result."""
        form = self.form
        return (
            form.transfer_syntax not in (_BIG_ENDIAN, DEFLATED)
            and form.bits_allocated > 1
            and ((form.photometric == "RGB" and not form.planar) or not form.is_colour)
        )

    def _check_syntax(self) -> None:
        syntax = self.form.transfer_syntax
        if self.span.encapsulated:
            if syntax in _NATIVE:
                raise UnreadablePixels("pixel data in fragments, in an uncompressed syntax")
            if decoders.decoder_of(syntax) is None:
                raise _no_decoder(syntax)
        elif syntax not in _NATIVE:
            if decoders.decoder_of(syntax) is None:
                raise _no_decoder(syntax)
            raise UnreadablePixels("pixel data without fragments, in a compressed syntax")

    def _check_length(self) -> None:
        needed = -(-self.form.frame_bits * self.form.frames // 8)
        if needed > self.span.length or self.span.start + needed > self.header.size:
            raise UnreadablePixels("the pixel data is shorter than its header says")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            file = os.open(self.header.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise UnreadablePixels("a file cannot be opened again") from None
        try:
            yield file
        except OSError:
            raise UnreadablePixels("a file cannot be read") from None
        finally:
            os.close(file)

    def _located(self, file: int) -> tuple[Extents, ...]:
        offsets = self.header.raw("ExtendedOffsetTable")
        lengths = self.header.raw("ExtendedOffsetTableLengths")
        return locate_frames(
            file,
            self.span.start,
            self.header.size,
            self.form.frames,
            extended=(offsets, lengths) if offsets and lengths else None,
        )

    def _compressed(self, frame: int) -> bytes:
        with self._opened() as file:
            extents = (self._frames or self._located(file))[frame]
            parts = [os.pread(file, length, start) for start, length in extents]
        if any(len(part) < length for part, (_, length) in zip(parts, extents, strict=True)):
            raise UnreadablePixels("a file was cut off while it was read")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _native(self, frame: int) -> npt.NDArray[Any]:
        """Return an uncompressed frame whose bytes have to be put in order."""
        form, span = self.form, self.span
        swapped = form.transfer_syntax == _BIG_ENDIAN and (span.words or form.bits_allocated > 8)
        native = NativeFrame.at(frame, form, swapped=swapped)
        content = np.zeros(native.end - native.start, np.uint8)
        if self._inflated is None:
            available = min(native.end, self.header.size - span.start) - native.start
            with self._opened() as file:
                _read_into(file, content[:available].data, span.start + native.start)
        else:
            found = self._inflated[span.start + native.start : span.start + native.end]
            content[: len(found)] = np.frombuffer(found, np.uint8)
        return native.samples(content)

    def _finish(self, samples: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
        """Make decoded samples into what is returned."""
        if self.palette is not None:
            if not samples.flags.writeable:
                samples = samples.copy()
            self._clear_unused(samples)
            out[...] = self.palette.apply(samples)
            return
        if self.form.is_colour and not decoders.is_rgb_after(self.form):
            samples = rgb_from_ybr(samples, self.form.bits_stored)
        if samples is not out:
            out[...] = samples
        self._clear_unused(out)

    def _clear_unused(self, stored: npt.NDArray[Any]) -> None:
        """Clear the bits that are not of the value, in place (PS3.5 8.1.1)."""
        form = self.form
        if form.kind == "float" or form.bits_stored == form.bits_allocated:
            return
        above = form.bits_allocated - 1 - form.high_bit
        if form.signed:
            np.left_shift(stored, above, out=stored)
            np.right_shift(stored, form.bits_allocated - form.bits_stored, out=stored)
            return
        if form.high_bit >= form.bits_stored:
            np.right_shift(stored, form.high_bit + 1 - form.bits_stored, out=stored)
        np.bitwise_and(stored, stored.dtype.type(2**form.bits_stored - 1), out=stored)


def _no_decoder(syntax: UID) -> UnsupportedTransferSyntax:
    known = syntax.name != str(syntax)  # else whatever stands in the file
    return UnsupportedTransferSyntax(
        f"no decoder for {syntax.name}" if known else "no decoder for an unknown transfer syntax"
    )


def _read_into(file: int, target: memoryview, start: int) -> None:
    while target:
        count = os.preadv(file, [target], start)
        if not count:
            raise UnreadablePixels("a file was cut off while it was read")
        target, start = target[count:], start + count
