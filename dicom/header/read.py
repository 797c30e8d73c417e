"""Read a header: by the scan where it can judge what it meets, else by pydicom."""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.uid import UID

from dicom.errors import NotDicom
from dicom.header.scan import (
    CHARACTER_SET,
    EXPLICIT,
    LENGTH,
    LONG,
    PIXEL_TAGS,
    Odd,
    Window,
    inflate,
    pixel_span,
    scan_elements,
    scan_meta,
)
from dicom.header.values import Header, PixelSpan, tag_of
from dicom.part10 import DEFLATED, PARSER_ERRORS, quiet_pydicom

PIXEL_KEYWORDS: Final = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "LossyImageCompression",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
"""What decoding needs (PS3.3 C.7.6.3); every scan brings these."""


def read_header(path: Path, keywords: tuple[str, ...] = ()) -> Header:
    """Return the attributes of a Part 10 file that are asked for, and where its pixels lie.

    Parameters
    ----------
    path : Path
        A file with preamble and file meta information (PS3.10 7.1).
    keywords : tuple of str
        DICOM keywords of top-level attributes, sequences included. :data:`PIXEL_KEYWORDS` and
        SpecificCharacterSet come in any case.

    Raises
    ------
    NotDicom
        When the file cannot be opened, is no Part 10 file, names no transfer syntax or is damaged
        beyond what pydicom reads.
    """
    wanted = _tags_of(keywords)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise NotDicom("the file cannot be read") from None
    try:
        header = _scan_file(path, file, wanted)
    except Odd:
        header = _read_by_pydicom(path, wanted)
    except OSError:
        raise NotDicom("the file cannot be read") from None
    finally:
        os.close(file)
    return header


def read_inflated(path: Path) -> bytes:
    """Return the inflated data set of a file in Deflated Explicit VR Little Endian.

    Raises
    ------
    NotDicom
        When it cannot be inflated, or would be larger than :data:`INFLATED_LIMIT`.
    """
    try:
        content = path.read_bytes()
    except OSError:
        raise NotDicom("the file cannot be read") from None
    try:
        _, start = scan_meta(Window.over(content))
    except Odd:
        raise NotDicom("the bytes are no DICOM file") from None
    return inflate(content[start:])


def _scan_file(path: Path, file: int, wanted: frozenset[int]) -> Header:
    window = Window(file, os.fstat(file).st_size)
    syntax, start = scan_meta(window)
    if syntax == DEFLATED:
        window = Window.over(inflate(window.bytes_at(start, window.size - start)))
        start = 0
    implicit = syntax == "1.2.840.10008.1.2"
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    ds, pixels = scan_elements(window, start, wanted, implicit=implicit, order=order)
    return Header(path, ds, _uid(syntax), pixels, window.size)


# --- what the scan leaves to others -------------------------------------------------------------


def _read_by_pydicom(path: Path, wanted: frozenset[int]) -> Header:
    with quiet_pydicom():
        try:
            # From memory: of a file, Python makes room for whatever length an element claims.
            with io.BytesIO(path.read_bytes()) as file:
                size = len(file.getbuffer())
                ds = dcmread(file, stop_before_pixels=True, specific_tags=list(wanted))
                syntax = ds.file_meta.get("TransferSyntaxUID")
                if not syntax or not isinstance(syntax, str):
                    raise NotDicom("a file names no transfer syntax")
                if syntax == DEFLATED:
                    raise NotDicom("the deflated file is damaged")
                implicit, little = ds.original_encoding
                position = file.tell()
                head = file.read(12)
        except OSError:
            raise NotDicom("the file cannot be read") from None
        except PARSER_ERRORS:
            raise NotDicom("the bytes are no DICOM file, or damaged") from None
    pixels = _span_after(head, position, size, bool(implicit), "<" if little else ">")
    return Header(path, ds, _uid(str(syntax)), pixels, size)


def _span_after(
    head: bytes, position: int, size: int, implicit: bool, order: str
) -> PixelSpan | None:
    """Return where the pixel data lies before which pydicom stopped."""
    if len(head) < 8:
        return None
    group, number, vr, length = EXPLICIT[order].unpack_from(head)
    tag = group << 16 | number
    if tag not in PIXEL_TAGS:
        return None
    value = position + 8
    if implicit:
        (length,) = LENGTH[order].unpack_from(head, 4)
        vr = None
    elif vr in LONG and len(head) == 12:
        (length,) = LENGTH[order].unpack_from(head, 8)
        value += 4
    try:
        return pixel_span(tag, vr, value, length, size)
    except Odd:
        return None


@lru_cache(maxsize=64)
def _tags_of(keywords: tuple[str, ...]) -> frozenset[int]:
    tags = {tag_of(keyword) for keyword in (*keywords, *PIXEL_KEYWORDS)}
    return frozenset(tags | {CHARACTER_SET})


@lru_cache(maxsize=64)
def _uid(text: str) -> UID:
    with quiet_pydicom():  # it would quote a text that is no UID
        return UID(text)
