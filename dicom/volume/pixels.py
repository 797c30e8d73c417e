"""The voxels of a stack: stored values, each slice with its own slope and intercept."""

from __future__ import annotations

from collections.abc import Sequence

from dicom.errors import MixedSizes, UnsupportedPixelFormat
from dicom.frames import FrameSource, PixelFormat, format_of, mirrored, read_frames, rescale
from dicom.header import Header
from dicom.volume.planes import Plane
from dicom.volume.stack import Stack
from dicom.volume.values import Voxels

_QUANTITIES = ("CT", "PT")


def formats_of(stack: Stack) -> list[PixelFormat]:
    """Return how the pixels of each slice are coded, from the headers alone.

    Raises
    ------
    UnsupportedPixelFormat, UnreadablePixels, MixedSizes
        When the slices are no grey scale, or differ in what a stored value is.
    """
    formats = _formats(stack.planes)
    forms = [formats[id(plane.header)] for plane in stack.planes]
    if any(form.is_colour for form in forms):
        raise UnsupportedPixelFormat("colour images are no grey-scale volume")
    if len({(form.dtype, form.photometric) for form in forms}) > 1:
        raise MixedSizes("slices of the series differ in pixel format")
    for plane in stack.planes:
        scale_of(plane)
    return forms


def read_voxels(stack: Stack) -> Voxels:
    """Read the voxels of a stack, shape (slices, rows, columns).

    Returns
    -------
    ndarray, int16 or float32
        int16 where that is exact.

    Raises
    ------
    UnsupportedPixelFormat, UnsupportedTransferSyntax, UnreadablePixels, MixedSizes, OutOfMemory
    """
    forms = formats_of(stack)
    stored_kji = read_frames(frame_sources(stack.planes))
    if is_inverted(stack.planes[0], forms[0]):
        for stored_ji, form in zip(stored_kji, forms, strict=True):
            stored_ji[...] = mirrored(stored_ji, form)
    slopes, intercepts = zip(*map(scale_of, stack.planes), strict=True)
    return rescale(stored_kji, slopes, intercepts, overwrite=True)


def frame_sources(planes: Sequence[Plane]) -> list[FrameSource]:
    """Return where the pixels of each plane lie."""
    return [
        FrameSource(plane.source.instance.path, (plane.source.frame_number or 1) - 1, plane.header)
        for plane in planes
    ]


def scale_of(plane: Plane) -> tuple[float, float]:
    """Return slope and intercept of one plane (PS3.3 C.11.1.1.2); 1 and 0 where none is said.

    Raises
    ------
    UnsupportedPixelFormat
        When they are no numbers, or a look-up table stands in their place.
    """
    if "ModalityLUTSequence" in plane.header.ds:
        raise UnsupportedPixelFormat("a modality look-up table instead of slope and intercept")
    return _number(plane, "RescaleSlope", 1.0), _number(plane, "RescaleIntercept", 0.0)


def is_inverted(plane: Plane, form: PixelFormat) -> bool:
    """Return whether low values are bright, and no unit gives the values a meaning."""
    return form.photometric == "MONOCHROME1" and plane.text("Modality") not in _QUANTITIES


def _formats(planes: Sequence[Plane]) -> dict[int, PixelFormat]:
    headers: dict[int, Header] = {id(plane.header): plane.header for plane in planes}
    return {number: format_of(header) for number, header in headers.items()}


def _number(plane: Plane, keyword: str, otherwise: float) -> float:
    if plane.text(keyword) is None:
        return otherwise
    number = plane.number(keyword)
    if number is None:
        raise UnsupportedPixelFormat(f"{keyword} is not a number")
    if keyword == "RescaleSlope" and number == 0:
        raise UnsupportedPixelFormat("RescaleSlope is zero")
    return number
