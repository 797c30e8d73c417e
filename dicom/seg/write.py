"""Labels -> DICOM Segmentation (PS3.3 A.51, C.8.20), straight to bytes.

highdicom builds and checks the header; frames are packed here, one after the other, so that memory
holds little more than the labels. Writing is repeatable: what is not given by the caller is derived
from what is, so that the same labels make the same bytes, and a step that runs twice stores one
object.
"""

from __future__ import annotations

import errno
import io
import math
import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import RLELossless

from dicom.errors import DiskFull, InvalidSegmentation
from dicom.part10 import UNDEFINED_LENGTH
from dicom.seg.form import BY_CONTENT, Form, Kind
from dicom.seg.groups import GroupWriter, per_frame
from dicom.seg.lattice import Source, grid_of
from dicom.seg.masks import Labels, Masks
from dicom.seg.picture import Picture, picture_of
from dicom.seg.rle import encode_frame
from dicom.seg.segments import Algorithm, Edited, ResultUids, Segment
from dicom.seg.template import Texts, positions, source_images, template_of
from dicom.volume import Grid

Frames = Sequence[tuple[int, int]]
"""Segment number (0: a label map, which holds all) and slice of each frame."""

_MOST_BYTES: Final = 0xFFFFFFFE  # what the length of an element can say
_BUFFER: Final = 1 << 20
_ITEM: Final = struct.Struct("<HHL")
_FRAGMENT: Final = (0xFFFE, 0xE000)
_END_OF_FRAGMENTS: Final = (0xFFFE, 0xE0DD)


def encode_seg(
    labels: npt.NDArray[np.generic] | Masks,
    source: Source,
    segments: tuple[Segment, ...],
    *,
    algorithm: Algorithm | Edited,
    uids: ResultUids,
    series_number: int,
    series_description: str,
    content_label: str,
    created: datetime,
    form: Form = BY_CONTENT,
) -> Dataset:
    """Return labels as a Segmentation on the grid of their source series.

    Frames without a voxel of their segment are left out. A segment without any voxel stays
    described, so that a reader sees that it was looked for; where nothing at all was found, one
    empty frame a segment stands for it.

    Parameters
    ----------
    labels : ndarray or Masks
        Whole numbers, shape (slices, rows, columns): segment number per voxel, 0 is background. Or
        masks, one a segment, which may overlap or hold shares of voxels.
    source : Grid, Volume or Picture
        The series that the labels lie on; its first file is read again. Of a volume that was
        mended, labels lie on the slices as they are in the archive: see ``Volume.to_source``.
    segments : tuple of Segment
        Numbered 1, 2, 3 ...; every label value is one of them.
    algorithm : Algorithm or Edited
        What made all of them; or who drew them, and where each comes from.
    content_label : str
        Up to 16 of A-Z, 0-9, space and underscore (CS).
    created : datetime
        Its clock reading, local time by custom, is the date and time of series and content.
    form : Form
        Binary, label map or fractional, as the destination likes it.

    Returns
    -------
    Dataset
        With file meta information, Explicit VR Little Endian or RLE Lossless; ready for
        ``save_as``. Its sequences are read when they are looked at.

    Raises
    ------
    NotDicom
        When the source's first file cannot be read.
    InvalidSegmentation
        When labels, segments and source do not fit together, or a text is not writable.
    OverlappingSegments
        When overlapping segments shall become a label map.
    """
    buffer = io.BytesIO()
    texts = Texts(series_number, series_description, content_label, created)
    _write(buffer, labels, grid_of(source), segments, algorithm, uids, texts, form)
    buffer.seek(0)
    return dcmread(buffer)


def write_seg(
    path: Path,
    labels: npt.NDArray[np.generic] | Masks,
    source: Source,
    segments: tuple[Segment, ...],
    *,
    algorithm: Algorithm | Edited,
    uids: ResultUids,
    series_number: int,
    series_description: str,
    content_label: str,
    created: datetime,
    form: Form = BY_CONTENT,
) -> None:
    """Write labels as a Segmentation into a file, which appears whole or not at all.

    Takes what :func:`encode_seg` takes, and refuses what it refuses; memory beyond the labels stays
    within a few frames.
    """
    texts = Texts(series_number, series_description, content_label, created)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w+b", buffering=_BUFFER) as file:
            _write(file, labels, grid_of(source), segments, algorithm, uids, texts, form)
        part.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("no room for the segmentation") from None
        raise
    finally:
        part.unlink(missing_ok=True)


def _write(
    file: BinaryIO,
    labels: npt.NDArray[np.generic] | Masks,
    source: Grid,
    segments: tuple[Segment, ...],
    algorithm: Algorithm | Edited,
    uids: ResultUids,
    texts: Texts,
    form: Form,
) -> None:
    _check_numbers(segments, uids)
    picture = picture_of(labels, source.shape_kji, len(segments))
    kind = form.kind_for(
        len(segments), overlapping=picture.overlapping, fractional=picture.fractional
    )
    template = template_of(
        source, segments, kind, form, algorithm=algorithm, uids=uids, texts=texts
    )
    frames = _frames_of(picture, kind, len(segments), source.shape_kji[0])
    header = template.header
    header.NumberOfFrames = len(frames)
    header.SegmentsOverlap = "YES" if picture.overlapping else "NO"
    slices = [k for _, k in frames]
    if len({number for number, _ in frames}) == 1 and slices == [*range(slices[0], slices[-1] + 1)]:
        header.DimensionOrganizationType = "3D"
    dcmwrite(file, header, enforce_file_format=True)
    writer = GroupWriter(template, source_images(source), positions(source))
    file.write(per_frame(writer.item(number, k) for number, k in frames))
    _, rows, columns = source.shape_kji
    if kind == "BINARY":
        _write_bits(file, picture, frames, (rows, columns))
        return
    planes = _planes(picture, kind, frames, (rows, columns))
    if header.file_meta.TransferSyntaxUID == RLELossless:
        _write_fragments(file, planes, len(frames))
    else:
        frame_bytes = rows * columns * header.BitsAllocated // 8
        _write_native(file, planes, len(frames), frame_bytes)


def _check_numbers(segments: tuple[Segment, ...], uids: ResultUids) -> None:
    if not segments or [segment.number for segment in segments] != [*range(1, len(segments) + 1)]:
        raise InvalidSegmentation("segments are numbered 1, 2, 3 ... without a gap")
    if len(segments) > 0xFFFF:
        raise InvalidSegmentation("more segments than a segmentation can number")
    if len(uids.tracking) != len(segments):
        raise InvalidSegmentation("each segment needs one tracking UID")


def _frames_of(picture: Picture, kind: Kind, segments: int, slices: int) -> Frames:
    """Return the frames that hold anything; where none does, an empty one in the middle."""
    if kind == "LABELMAP":
        return [(0, k) for k in picture.slices() or [slices // 2]]
    held = {number: picture.slices_of(number) for number in range(1, segments + 1)}
    if not any(held.values()):
        held = {number: [slices // 2] for number in held}
    return [(number, k) for number, ks in held.items() for k in ks]


# --- pixels -------------------------------------------------------------------------------------


def _write_bits(
    file: BinaryIO, picture: Picture, frames: Frames, shape_ji: tuple[int, int]
) -> None:
    """Write one bit a voxel, frames without a gap between them (PS3.5 8.1.1, D.1)."""
    rows, columns = shape_ji
    size = rows * columns
    length = (len(frames) * size + 7) // 8
    _write_element(file, b"OB", length + length % 2)
    if columns % 8 == 0:
        _write_aligned_bits(file, picture, frames, shape_ji)
    else:
        # So many frames together end at the border of a byte.
        together = 8 // math.gcd(size, 8)
        for start in range(0, len(frames), together):
            group = frames[start : start + together]
            planes = np.zeros((len(group), rows, columns), np.bool_)
            for plane_ji, (number, k) in zip(planes, group, strict=True):
                picture.draw(number, k, plane_ji)
            file.write(np.packbits(planes, bitorder="little").data)
    file.write(b"\0" * (length % 2))


def _write_aligned_bits(
    file: BinaryIO, picture: Picture, frames: Frames, shape_ji: tuple[int, int]
) -> None:
    """Write frames whose rows end at the border of a byte: only the rows that hold anything."""
    rows, columns = shape_ji
    plane_ji = np.zeros((rows, columns), np.bool_)
    packed_ji = np.zeros((rows, columns // 8), np.uint8)
    for number, k in frames:
        first, end = picture.draw(number, k, plane_ji)
        packed_ji[first:end] = np.packbits(
            plane_ji[first:end].reshape(-1), bitorder="little"
        ).reshape(end - first, columns // 8)
        file.write(packed_ji.data)
        plane_ji[first:end] = False
        packed_ji[first:end] = 0


def _write_native(file: BinaryIO, planes: Iterator[Labels], frames: int, frame_bytes: int) -> None:
    length = frames * frame_bytes
    _write_element(file, b"OW", length + length % 2)
    for plane_ji in planes:
        file.write(np.ascontiguousarray(plane_ji, plane_ji.dtype.newbyteorder("<")).data)
    file.write(b"\0" * (length % 2))


def _write_fragments(file: BinaryIO, planes: Iterator[Labels], frames: int) -> None:
    """Write a fragment a frame, and before them where each begins (PS3.5 A.4)."""
    file.write(_element_head(b"OB", UNDEFINED_LENGTH))
    table_at = file.tell() + _ITEM.size
    file.write(_ITEM.pack(*_FRAGMENT, 4 * frames) + b"\0" * (4 * frames))
    first = file.tell()
    begins = []
    for plane_ji in planes:
        begins.append(file.tell() - first)
        fragment = encode_frame(plane_ji)
        file.write(_ITEM.pack(*_FRAGMENT, len(fragment)))
        file.write(fragment)
    end = file.tell()
    if end - first > _MOST_BYTES:
        raise InvalidSegmentation("the segmentation is too large for one object")
    file.write(_ITEM.pack(*_END_OF_FRAGMENTS, 0))
    file.seek(table_at)
    file.write(struct.pack(f"<{frames}L", *begins))
    file.seek(0, io.SEEK_END)


def _planes(
    picture: Picture, kind: Kind, frames: Frames, shape_ji: tuple[int, int]
) -> Iterator[Labels]:
    """Yield each frame's stored values; an array is good until the next one is asked for."""
    if kind == "LABELMAP":
        labels_kji = picture.labels()
        for _, k in frames:
            yield labels_kji[k]
        return
    plane_ji = np.zeros(shape_ji, np.uint8)
    for number, k in frames:
        picture.draw_shares(number, k, plane_ji)
        yield plane_ji
        plane_ji.fill(0)


def _write_element(file: BinaryIO, vr: bytes, length: int) -> None:
    if length > _MOST_BYTES:
        raise InvalidSegmentation("the segmentation is too large for one object")
    file.write(_element_head(vr, length))


def _element_head(vr: bytes, length: int) -> bytes:
    """Return tag, representation and length of the pixel data (PS3.5 7.1.2)."""
    return struct.pack("<HH2sHL", 0x7FE0, 0x0010, vr, 0, length)
