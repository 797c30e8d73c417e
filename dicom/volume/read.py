"""Series -> volume: one array with its place in the patient, or a coded reason why not.

Slices are ordered by where they lie along their normal. InstanceNumber and SliceThickness say
nothing about that and are never used for it. Geometry that an array with one affine cannot hold
(a gap, a doubled slice, a tilt, mixed planes) is refused, not mended in silence.

Axes: k counts slices, j rows (downwards in the image), i columns (rightwards). World: LPS, mm.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import gdcm
import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGExtended12Bit

from dicom.errors import (
    DoubledSlice,
    GantryTilt,
    MissingSlice,
    MixedOrientations,
    MixedSeries,
    MixedSizes,
    MultiFrame,
    NoGeometry,
    NotAnImage,
    NotDicom,
    TooFewSlices,
    UnevenSpacing,
    UnreadablePixels,
    UnsupportedPixelFormat,
    UnsupportedTransferSyntax,
)
from dicom.part10 import DEFLATED, PARSER_ERRORS, UNDEFINED_LENGTH, quiet_pydicom
from dicom.study import Instance, Series
from dicom.volume.shear import Floats
from dicom.volume.values import Grid, Orientation, SliceSource, Volume

GRID_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place on the even grid.

Scanners write positions rounded, some to 0.1 mm; the largest deviation met in sound series was
0.001 mm. A tenth of a millimetre is far below a voxel of CT or MR. For steps below 0.5 mm it is a
fifth of the step, so that a thin series is held to its own measure.
"""
SAME_PLACE_MM = 0.01
"""Two slices nearer than this lie at one position: no scanner reconstructs steps that small."""
TILT_TOLERANCE = 0.0017
"""Sideways run of the slices per mm along the normal (0.1 degree).

Cosines rounded to three digits can look like half of that; gantries tilt by half a degree or more.
"""
COSINE_TOLERANCE = 1e-3
"""How far direction cosines may differ: 0.06 degree, 0.13 mm at the rim of a 256 mm field."""
PIXEL_SPACING_TOLERANCE = 1e-4
"""Relative difference of PixelSpacing between slices: 0.05 mm over a field of 500 mm."""
AXIS_COSINE = 0.8
"""A normal within 37 degrees of a body axis names the plane; farther off it is oblique."""

_ATTRIBUTES = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "Manufacturer",
    "ContrastBolusAgent",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "Units",
]
_PIXEL_DATA_TAG = b"\xe0\x7f\x10\x00"  # (7FE0,0010), little endian

_QUANTITIES = ("CT", "PT")


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What a routing rule may ask about a series; None where the series does not say.

    Parameters
    ----------
    slice_count : int
        Images in the series; a multi-frame image counts as many as it has frames.
    spacing_mm : float or None
        Distance between neighbouring slices, to 0.1 micrometre: the median where it is uneven.
    pixel_spacing_mm : tuple of float or None
        Distance between rows, and between columns.
    orientation : str or None
        The plane; None where slices lie in several planes.
    contrast_agent : bool
        A contrast agent is named.
    """

    modality: str
    sop_class_uid: str | None
    body_part: str | None
    description: str | None
    protocol: str | None
    manufacturer: str | None
    image_type: tuple[str, ...]
    contrast_agent: bool
    slice_count: int
    spacing_mm: float | None
    pixel_spacing_mm: tuple[float, float] | None
    orientation: Orientation | None


@dataclass(frozen=True, slots=True)
class _Header:
    """The attributes of one instance that matter here, and where its pixel data starts."""

    instance: Instance
    ds: Dataset
    transfer_syntax: UID
    pixels_at: int | None  # None where the file ends without pixel data

    @property
    def is_image(self) -> bool:
        sop_class = UID(self.text("SOPClassUID") or "")
        return "Image Storage" in sop_class.name  # SEG, SR, PR, RT Dose ... are called otherwise

    @property
    def frames(self) -> int:
        return max(1, self.whole("NumberOfFrames") or 1)

    def text(self, keyword: str) -> str | None:
        """Return a value as stripped text, None where it is absent or empty."""
        value = _value(self.ds, keyword)
        return None if value is None else (str(value).strip() or None)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the parts of a multi-valued attribute."""
        value = _value(self.ds, keyword)
        if isinstance(value, MultiValue):
            return tuple(str(part) for part in value)
        return () if value is None else (str(value),)

    def numbers(self, keyword: str, count: int) -> Floats | None:
        """Return exactly `count` finite numbers, None where there are not."""
        try:
            numbers = np.array([float(part) for part in self.texts(keyword)])
        except ValueError:
            return None
        return numbers if numbers.size == count and np.isfinite(numbers).all() else None

    def number(self, keyword: str) -> float | None:
        """Return one finite number, None where there is none."""
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else float(numbers[0])

    def whole(self, keyword: str) -> int | None:
        """Return one whole number, None where there is none."""
        number = self.number(keyword)
        return int(number) if number is not None and number.is_integer() else None


@dataclass(frozen=True, slots=True)
class _Format:
    """How the stored values of one slice are coded (PS3.3 C.7.6.3, C.11.1)."""

    bits_allocated: int
    bits_stored: int
    signed: bool
    inverted: bool
    slope: float
    intercept: float

    @property
    def dtype(self) -> np.dtype[np.integer]:
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


def read_volume(series: Series, *, min_slices: int = 1) -> Volume:
    """Read a classic series of grey-scale slices (CT, MR, PET) as one volume.

    Every compressed transfer syntax that an installed decoder reads is read. Unused high bits are
    cleared, signed values keep their sign, each slice is rescaled by its own slope and intercept.
    MONOCHROME1 says that large values are shown dark. Hounsfield units and PET's activities stay
    as they are, since they are quantities; values without a unit are mirrored within BitsStored,
    so that large means bright as in every MONOCHROME2 series that a model has seen.

    Parameters
    ----------
    series : Series
        Its instances in any order.
    min_slices : int
        Fewer slices are refused.

    Raises
    ------
    NotDicom, NotAnImage, MultiFrame, UnsupportedPixelFormat, UnsupportedTransferSyntax,
    UnreadablePixels
        When the files are not slices that can be read.
    TooFewSlices, MixedSeries, MixedSizes, NoGeometry, MixedOrientations, DoubledSlice,
    GantryTilt, MissingSlice, UnevenSpacing
        When the slices do not make one volume.
    """
    grid, headers = _arrange(series, min_slices)
    formats = [_format_of(header) for header in headers]
    if len({(form.dtype, form.inverted) for form in formats}) > 1:
        raise MixedSizes("slices of the series differ in pixel format")
    voxels_kji = _read_voxels(grid.shape_kji, headers, formats)
    return Volume(
        voxels_kji=voxels_kji,
        affine_lps=grid.affine_lps,
        source=grid,
        unit=_unit_of(headers[0], grid.modality),
    )


def read_grid(series: Series, *, min_slices: int = 1) -> Grid:
    """Read where the voxels of a series lie, from the headers alone.

    Raises
    ------
    InputError
        As :func:`read_volume` does for files, geometry and mixtures; pixel data is not looked at.
    """
    grid, _ = _arrange(series, min_slices)
    return grid


def describe_series(series: Series) -> SeriesFacts:
    """Return what routing rules ask about, also for a series that makes no volume.

    Raises
    ------
    NotDicom
        When a file cannot be read as DICOM at all.
    """
    headers = [_read_header(instance) for instance in series.instances]
    images = [header for header in headers if header.is_image]
    first = next(iter(images or headers), None)
    if first is None:
        return SeriesFacts(
            series.modality, None, None, None, None, None, (), False, 0, None, None, None
        )
    normals = [_normal_of(header) for header in images]
    pixel_spacing = first.numbers("PixelSpacing", 2)
    return SeriesFacts(
        modality=first.text("Modality") or series.modality,
        sop_class_uid=first.text("SOPClassUID"),
        body_part=first.text("BodyPartExamined"),
        description=first.text("SeriesDescription"),
        protocol=first.text("ProtocolName"),
        manufacturer=first.text("Manufacturer"),
        image_type=first.texts("ImageType"),
        contrast_agent=any(header.text("ContrastBolusAgent") for header in images),
        slice_count=sum(header.frames for header in images),
        spacing_mm=_median_step(images, normals),
        pixel_spacing_mm=None
        if pixel_spacing is None
        else (float(pixel_spacing[0]), float(pixel_spacing[1])),
        orientation=_plane_of(normals),
    )


# --- headers ------------------------------------------------------------------------------------


def _read_header(instance: Instance) -> _Header:
    try:
        with instance.path.open("rb") as file:
            ds = dcmread(file, stop_before_pixels=True, specific_tags=list(_ATTRIBUTES))
            transfer_syntax = ds.file_meta.get("TransferSyntaxUID")
            # pydicom stops at the pixel data's tag, or at the end of a file that was cut off. A
            # deflated file is inflated as a whole, and cut off it cannot be.
            stopped_at = file.tell()
            goes_on = transfer_syntax == DEFLATED or file.read(1) != b""
    except PARSER_ERRORS:
        raise NotDicom("a file of the series is no DICOM file, or damaged") from None
    if transfer_syntax is None or "SOPClassUID" not in ds:
        raise NotDicom("a file of the series lacks its transfer syntax or SOP class")
    return _Header(instance, ds, transfer_syntax, stopped_at if goes_on else None)


def _value(ds: Dataset, keyword: str) -> object:
    """Return an attribute's value, None where it is absent or breaks its own VR."""
    with quiet_pydicom():
        try:
            return ds.get(keyword)
        except PARSER_ERRORS:
            return None


# --- geometry -----------------------------------------------------------------------------------


def _arrange(series: Series, min_slices: int) -> tuple[Grid, list[_Header]]:
    """Return the grid of a series, and its headers in the grid's slice order."""
    headers = [_read_header(instance) for instance in series.instances]
    if any(header.is_image and header.pixels_at is None for header in headers):
        raise UnreadablePixels("a file of the series ends before its pixel data")
    _check_one_series(series, headers)
    _check_images(headers)
    if len(headers) < max(1, min_slices):
        raise TooFewSlices(f"{len(headers)} slices; at least {max(1, min_slices)} are needed")
    orientation = _shared_orientation(headers)
    rows, columns, spacing = _shared_size(headers)
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([_required(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    headers = [headers[index] for index in order]
    positions = positions[order]

    affine = np.eye(4)
    affine[:3, 0] = _step_between(positions, normal, headers[0])
    affine[:3, 1] = orientation[3:] * spacing[0]  # j walks down the rows, along the columns
    affine[:3, 2] = orientation[:3] * spacing[1]
    affine[:3, 3] = positions[0]
    affine.setflags(write=False)
    grid = Grid(
        shape_kji=(len(headers), rows, columns),
        affine_lps=affine,
        sources=tuple(SliceSource(header.instance) for header in headers),
        series_uid=series.series_uid,
        frame_of_reference_uid=headers[0].text("FrameOfReferenceUID") or "",
        modality=headers[0].text("Modality") or series.modality,
    )
    return grid, headers


def _check_one_series(series: Series, headers: list[_Header]) -> None:
    if any(header.text("SeriesInstanceUID") != series.series_uid for header in headers):
        raise MixedSeries("instances of several series where one is needed")
    frames_of_reference = {header.text("FrameOfReferenceUID") for header in headers}
    if len(frames_of_reference) > 1:
        raise MixedSeries(f"{len(frames_of_reference)} frames of reference in one series")


def _check_images(headers: list[_Header]) -> None:
    others = sum(not header.is_image for header in headers)
    if others:
        raise NotAnImage(f"{others} of {len(headers)} instances are not images")
    if any("NumberOfFrames" in header.ds and header.frames > 1 for header in headers):
        raise MultiFrame("the series holds multi-frame images")
    if any("SharedFunctionalGroupsSequence" in header.ds for header in headers):
        raise MultiFrame("the series holds enhanced images")
    if any(not header.text("FrameOfReferenceUID") for header in headers):
        raise NoGeometry("the images name no frame of reference")


def _required(header: _Header, keyword: str, count: int) -> Floats:
    numbers = header.numbers(keyword, count)
    if numbers is None:
        raise NoGeometry(f"{keyword} is missing or impossible")
    return numbers


def _shared_orientation(headers: list[_Header]) -> Floats:
    """Return the unit vectors along a row and along a column, the same for all slices."""
    cosines = np.array([_required(header, "ImageOrientationPatient", 6) for header in headers])
    row, column = cosines[0, :3], cosines[0, 3:]
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > COSINE_TOLERANCE or abs(row @ column) > COSINE_TOLERANCE:
        raise NoGeometry("ImageOrientationPatient holds no pair of orthogonal unit vectors")
    if np.abs(cosines - cosines[0]).max() > COSINE_TOLERANCE:
        raise MixedOrientations("slices of the series lie in different planes")
    return np.concatenate([row / lengths[0], column / lengths[1]])


def _shared_size(headers: list[_Header]) -> tuple[int, int, Floats]:
    """Return rows, columns and PixelSpacing (between rows, between columns; mm)."""
    sizes = {(header.whole("Rows"), header.whole("Columns")) for header in headers}
    if len(sizes) > 1:
        raise MixedSizes(f"slices of {len(sizes)} different sizes in one series")
    rows, columns = sizes.pop()
    if not rows or not columns:
        raise UnreadablePixels("Rows or Columns is missing")
    spacings = np.array([_required(header, "PixelSpacing", 2) for header in headers])
    if spacings.min() <= 0:
        raise NoGeometry("PixelSpacing is not positive")
    if not np.allclose(spacings, spacings[0], rtol=PIXEL_SPACING_TOLERANCE, atol=0):
        raise MixedSizes("slices of the series differ in PixelSpacing")
    return rows, columns, spacings[0]


def _step_between(positions: Floats, normal: Floats, first: _Header) -> Floats:
    """Return the vector from one slice to the next, in LPS mm; positions run along the normal."""
    if len(positions) == 1:
        thickness = first.number("SliceThickness")  # the only extent that a lone slice has
        if thickness is None or thickness <= 0:
            raise NoGeometry("one slice alone, and its SliceThickness is missing")
        return normal * thickness

    steps = np.diff(positions @ normal)
    if steps.min() < SAME_PLACE_MM:
        doubled = int((steps < SAME_PLACE_MM).sum())
        raise DoubledSlice(f"{doubled} of {len(positions)} slices lie where another one lies")

    run = positions[-1] - positions[0]
    sideways = float(np.linalg.norm(run - (run @ normal) * normal))
    if sideways > max(GRID_TOLERANCE_MM, TILT_TOLERANCE * float(np.linalg.norm(run))):
        angle = math.degrees(math.atan2(sideways, float(run @ normal)))
        raise GantryTilt(f"slices run {angle:.1f} degrees beside their normal")

    step: Floats = run / (len(positions) - 1)
    usual = _lower_median(steps)
    tolerance = min(GRID_TOLERANCE_MM, usual / 5)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    deviation = float(np.linalg.norm(positions - even, axis=1).max())
    if deviation <= tolerance:
        return step
    multiples = np.round(steps / usual)
    if multiples.max() > 1 and np.abs(steps - multiples * usual).max() <= 2 * tolerance:
        missing = int((multiples - 1).sum())
        raise MissingSlice(f"{missing} slices are missing; the others are {usual:.3f} mm apart")
    raise UnevenSpacing(
        f"steps between slices run from {steps.min():.3f} to {steps.max():.3f} mm; "
        f"up to {deviation:.2f} mm off an even grid"
    )


def _lower_median(steps: Floats) -> float:
    """Return the middle one, of two the smaller: with one step doubled, the whole one counts."""
    return float(np.sort(steps)[(len(steps) - 1) // 2])


def _normal_of(header: _Header) -> Floats | None:
    cosines = header.numbers("ImageOrientationPatient", 6)
    if cosines is None:
        return None
    normal: Floats = np.cross(cosines[:3], cosines[3:])
    length = float(np.linalg.norm(normal))
    if length <= AXIS_COSINE:  # no pair of orthogonal unit vectors
        return None
    unit: Floats = normal / length
    return unit


def _plane_of(normals: Sequence[Floats | None]) -> Orientation | None:
    known = [normal for normal in normals if normal is not None]
    if not known or len(known) < len(normals):
        return None
    if any(abs(normal @ known[0]) < 1 - COSINE_TOLERANCE for normal in known):
        return None
    planes: tuple[Orientation, ...] = ("sagittal", "coronal", "axial")
    axis = int(np.abs(known[0]).argmax())
    return planes[axis] if abs(known[0][axis]) >= AXIS_COSINE else "oblique"


def _median_step(images: Sequence[_Header], normals: Sequence[Floats | None]) -> float | None:
    normal = next((normal for normal in normals if normal is not None), None)
    positions = [header.numbers("ImagePositionPatient", 3) for header in images]
    if normal is None or any(position is None for position in positions):
        return None
    along = np.sort(np.array(positions) @ normal)
    steps = np.diff(along)
    steps = steps[steps >= SAME_PLACE_MM]
    return round(_lower_median(steps), 4) if steps.size else None


# --- pixels -------------------------------------------------------------------------------------


def _format_of(header: _Header) -> _Format:
    if header.whole("SamplesPerPixel") not in (None, 1):
        raise UnsupportedPixelFormat("colour images are no grey-scale volume")
    photometric = header.text("PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedPixelFormat("the images are not MONOCHROME1 or MONOCHROME2")
    allocated = header.whole("BitsAllocated")
    stored = header.whole("BitsStored")
    high_bit = header.whole("HighBit")
    if allocated not in (8, 16):
        raise UnsupportedPixelFormat(f"{allocated} bits a pixel; 8 or 16 can be read")
    if stored is None or not 1 <= stored <= allocated or high_bit not in (None, stored - 1):
        raise UnsupportedPixelFormat("BitsStored and HighBit contradict each other")  # PS3.5 8.1.1
    if "ModalityLUTSequence" in header.ds:
        raise UnsupportedPixelFormat("a modality look-up table instead of slope and intercept")
    slope = _rescale(header, "RescaleSlope", 1.0)
    if slope == 0:
        raise UnsupportedPixelFormat("RescaleSlope is zero")
    return _Format(
        bits_allocated=allocated,
        bits_stored=stored,
        signed=header.whole("PixelRepresentation") == 1,
        inverted=photometric == "MONOCHROME1" and header.text("Modality") not in _QUANTITIES,
        slope=slope,
        intercept=_rescale(header, "RescaleIntercept", 0.0),
    )


def _rescale(header: _Header, keyword: str, otherwise: float) -> float:
    if header.text(keyword) is None:
        return otherwise
    number = header.number(keyword)
    if number is None:
        raise UnsupportedPixelFormat(f"{keyword} is not a number")
    return number


def _unit_of(header: _Header, modality: str) -> str:
    """Return the unit of rescaled values (PS3.3 C.11.1.1.2, C.8.9.1.1.3), empty where none."""
    if modality == "CT":
        return header.text("RescaleType") or "HU"
    if modality == "PT":
        return header.text("Units") or ""
    return ""


def _read_voxels(
    shape_kji: tuple[int, int, int], headers: list[_Header], formats: list[_Format]
) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    stored_kji = np.empty(shape_kji, formats[0].dtype)
    for k, (header, form) in enumerate(zip(headers, formats, strict=True)):
        stored_kji[k] = _read_slice(header, form, shape_kji[1:])
    slopes = np.array([form.slope for form in formats])
    intercepts = np.array([form.intercept for form in formats])

    if not (np.mod(slopes, 1).any() or np.mod(intercepts, 1).any()):
        ends = np.stack([stored_kji.min(axis=(1, 2)), stored_kji.max(axis=(1, 2))])
        ends = ends * slopes + intercepts
        if ends.min() >= -(2**15) and ends.max() < 2**15:
            if not (intercepts.any() or (slopes - 1).any()):
                return stored_kji.astype(np.int16, copy=False)
            whole_kji = np.empty(shape_kji, np.int16)
            for k in range(shape_kji[0]):
                whole_kji[k] = stored_kji[k] * int(slopes[k]) + np.int32(intercepts[k])
            return whole_kji
    voxels_kji = np.empty(shape_kji, np.float32)
    for k in range(shape_kji[0]):
        voxels_kji[k] = stored_kji[k] * slopes[k] + intercepts[k]  # in float64, rounded once
    return voxels_kji


def _read_slice(
    header: _Header, form: _Format, shape_ji: tuple[int, int]
) -> npt.NDArray[np.integer]:
    if header.transfer_syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        stored = _read_native(header, form, shape_ji)
    else:
        stored = _decode(header, form)
    if stored.shape != shape_ji:
        raise UnreadablePixels("the pixel data does not have the size that the header says")
    unused = form.bits_allocated - form.bits_stored
    stored = stored.astype(form.dtype, copy=False)
    if unused:
        stored = (stored << unused) >> unused  # clears unused bits, and spreads the sign
    if form.inverted:
        lowest = -(2 ** (form.bits_stored - 1)) if form.signed else 0
        stored = (2 * lowest + 2**form.bits_stored - 1 - stored.astype(np.int32)).astype(form.dtype)
    return stored


def _read_native(
    header: _Header, form: _Format, shape_ji: tuple[int, int]
) -> npt.NDArray[np.integer]:
    """Read uncompressed pixel data straight from its place in the file."""
    count = shape_ji[0] * shape_ji[1]
    with header.instance.path.open("rb") as file:
        file.seek(header.pixels_at or 0)
        element = file.read(8)
        if element[:4] != _PIXEL_DATA_TAG:
            raise UnreadablePixels("an image of the series has no pixel data")
        if header.transfer_syntax == ExplicitVRLittleEndian:
            element = file.read(4).rjust(8)  # OB and OW have their length in the next four bytes
        (length,) = struct.unpack("<L", element[4:8])
        if length == UNDEFINED_LENGTH or length < count * form.dtype.itemsize:
            raise UnreadablePixels("the pixel data is shorter than the image")
        stored = np.fromfile(file, form.dtype, count)
    if stored.size < count:
        raise UnreadablePixels("the file ends within its pixel data")
    return stored.reshape(shape_ji)


def _decode(header: _Header, form: _Format) -> npt.NDArray[np.integer]:
    """Decode pixel data with whatever decoder reads its transfer syntax."""
    if header.transfer_syntax == JPEGExtended12Bit and form.bits_stored > 8:
        return _decode_jpeg_of_12_bits(header)
    try:
        available = get_decoder(header.transfer_syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise UnsupportedTransferSyntax(f"no decoder for {header.transfer_syntax.name}")
    try:
        pixels: npt.NDArray[np.integer] = dcmread(header.instance.path).pixel_array
    except (RuntimeError, *PARSER_ERRORS):
        raise UnreadablePixels("pixel data of the series cannot be decoded") from None
    return pixels


def _decode_jpeg_of_12_bits(header: _Header) -> npt.NDArray[np.integer]:
    """Decode lossy JPEG of 12 bits with GDCM itself: pydicom lets it decode 8 bits only."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(header.instance.path))
    if not reader.Read():
        raise UnreadablePixels("pixel data of the series cannot be decoded")
    image = reader.GetImage()
    # Its binding hands bytes out as text, one surrogate for each byte that is no UTF-8.
    pixels = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), np.uint16)
    rows, columns = image.GetDimension(1), image.GetDimension(0)
    if pixels.size != rows * columns:
        raise UnreadablePixels("the pixel data does not have the size that the header says")
    return pixels.reshape(rows, columns)
