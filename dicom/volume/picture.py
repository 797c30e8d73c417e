"""Images without a place in the patient: radiographs, ultrasound, photographs, screens.

They have rows, columns, perhaps several frames (a film), and a pixel spacing where an attribute
says one. Axes: f counts frames, j rows (downwards), i columns (rightwards), then red, green, blue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom.errors import (
    NotAnImage,
    TiledImage,
    TooFewSlices,
    UnreadablePixels,
    UnsupportedPixelFormat,
)
from dicom.frames import FrameSource, format_of, mirrored, read_frames, rescale
from dicom.header import Header
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.study import Instance, Series
from dicom.volume.kind import Kind, kind_of
from dicom.volume.pixels import is_inverted, scale_of
from dicom.volume.planes import MOST_FRAMES, Plane, frames_of, is_image, planes_of, read_headers
from dicom.volume.values import SliceSource

SpacingAttribute = Literal[
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PhysicalDelta"
]

_2D, _CENTIMETRES = 1, 3  # PS3.3 C.8.5.5.1.1 and C.8.5.5.1.15
_SAME_SCALE = 1e-3


@dataclass(frozen=True, slots=True)
class PictureSpacing:
    """The size of a pixel in mm, and which attribute says so.

    Parameters
    ----------
    attribute : str
        ``PixelSpacing``: in the patient, or calibrated. ``ImagerPixelSpacing``: at the detector,
        where the patient is shown magnified. ``NominalScannedPixelSpacing``: on the film or paper
        that was scanned. ``PhysicalDelta``: of ultrasound's two-dimensional regions.
    """

    row_mm: float
    column_mm: float
    attribute: SpacingAttribute


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image that has no place in the patient: one frame, or a film of them.

    Parameters
    ----------
    pixels_fji : ndarray, shape (frames, rows, columns) or (frames, rows, columns, 3)
        Grey scale: int16 or float32 after slope and intercept, large is bright. Colour: red,
        green, blue in uint8 or uint16; palettes are expanded.
    spacing : PictureSpacing or None
        None where no attribute says one, or regions differ.
    sources : tuple of SliceSource
        Frame f was read from ``sources[f]``.
    frame_time_ms : float or None
        Between the frames of a film.
    lossy : bool
        The pixels are not those that the modality made.
    """

    pixels_fji: npt.NDArray[Any]
    spacing: PictureSpacing | None
    sources: tuple[SliceSource, ...]
    series_uid: str
    modality: str
    kind: Kind
    frame_time_ms: float | None
    lossy: bool

    @property
    def is_colour(self) -> bool:
        """Whether pixels are red, green and blue."""
        return self.pixels_fji.ndim == 4

    @property
    def shape_fji(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        frames, rows, columns = self.pixels_fji.shape[:3]
        return frames, rows, columns

    @property
    def affine_image(self) -> npt.NDArray[np.float64]:
        """(f, j, i, 1) -> mm in the plane of the image itself, which is not the patient's space.

        Rows run along +y and columns along +x, as in an image on a screen; frames are 1 apart. A
        picture without a spacing has pixels of 1.
        """
        row, column = (self.spacing.row_mm, self.spacing.column_mm) if self.spacing else (1.0, 1.0)
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1.0, row, column, 1.0
        return affine


def read_pictures(series: Series) -> tuple[Picture, ...]:
    """Read a series of images that have no place in the patient, one picture an instance.

    Any image can be read so, a CT slice as well: its place is then left aside.

    Returns
    -------
    tuple of Picture
        In the order of the series.

    Raises
    ------
    NotDicom, NotAnImage, UnsupportedPixelFormat, UnsupportedTransferSyntax, UnreadablePixels,
    TiledImage, TooFewSlices
    """
    headers = read_headers(series)
    if not headers:
        raise TooFewSlices("the series has no instance")
    others = sum(not is_image(header) for header in headers)
    if others:
        raise NotAnImage(f"{others} of {len(headers)} instances are not images")
    if any(kind_of(header) is Kind.SLIDE for header in headers):
        raise TiledImage("the frames are tiles of a slide")
    return tuple(
        _picture(series, instance, header)
        for instance, header in zip(series.instances, headers, strict=True)
    )


def spacing_of(header: Header) -> PictureSpacing | None:
    """Return the size of an image's pixels, and which attribute says so; None where none does."""
    keywords: tuple[SpacingAttribute, ...] = (
        "PixelSpacing",
        "ImagerPixelSpacing",
        "NominalScannedPixelSpacing",
    )
    for keyword in keywords:
        numbers = header.numbers(keyword, 2)
        if numbers is not None and (numbers > 0).all() and (numbers < 1e6).all():
            return PictureSpacing(float(numbers[0]), float(numbers[1]), keyword)
    return _ultrasound_spacing(header.items("SequenceOfUltrasoundRegions"))


def _ultrasound_spacing(regions: tuple[Dataset, ...]) -> PictureSpacing | None:
    """Return the scale that all two-dimensional regions share (PS3.3 C.8.5.5)."""
    found = [deltas for deltas in map(_deltas, regions) if deltas is not None]
    if not found or any(  # NaN is close to nothing, not to itself either
        not math.isclose(a, b, rel_tol=_SAME_SCALE)
        for other in found
        for a, b in zip(found[0], other, strict=True)
    ):
        return None
    return PictureSpacing(*found[0], "PhysicalDelta")


def _deltas(region: Dataset) -> tuple[float, float] | None:
    """Return mm between rows and between columns; NaN where a region does not say it.

    None for a region that is no picture: a Doppler spectrum or an M mode, along which time runs.
    """
    unsaid = (math.nan, math.nan)
    with quiet_pydicom():
        try:
            if int(region.get("RegionSpatialFormat", 0)) != _2D:
                return None
            units = region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection
            row, column = abs(float(region.PhysicalDeltaY)), abs(float(region.PhysicalDeltaX))
        except PARSER_ERRORS:
            return unsaid
    sound = units == (_CENTIMETRES, _CENTIMETRES) and 0 < row < 1e5 and 0 < column < 1e5
    return (row * 10, column * 10) if sound else unsaid


def _picture(series: Series, instance: Instance, header: Header) -> Picture:
    form = format_of(header)
    frames = frames_of(header)
    if frames > min(MOST_FRAMES, header.size):  # each needs a byte at the least
        raise UnreadablePixels("an image claims more frames than its file can hold")
    pixels = read_frames([FrameSource(instance.path, frame, header) for frame in range(frames)])
    planes = _frames(instance, header, frames)
    if not form.is_colour:
        if is_inverted(planes[0], form):
            pixels = mirrored(pixels, form)
        slopes, intercepts = zip(*map(scale_of, planes), strict=True)
        pixels = rescale(pixels, slopes, intercepts, overwrite=True)
    elif pixels.dtype.itemsize > 2:
        raise UnsupportedPixelFormat("colour of more than 16 bits a sample")
    return Picture(
        pixels_fji=pixels,
        spacing=spacing_of(planes[0].where("PixelSpacing")),
        sources=tuple(
            SliceSource(instance, frame + 1 if frames > 1 else None) for frame in range(frames)
        ),
        series_uid=series.series_uid,
        modality=header.text("Modality") or series.modality,
        kind=kind_of(header),
        frame_time_ms=header.number("FrameTime"),
        lossy=form.lossy,
    )


def _frames(instance: Instance, header: Header, frames: int) -> list[Plane]:
    """Return a plane for each frame, with its functional groups where it has any."""
    if "PerFrameFunctionalGroupsSequence" in header.ds or frames == 1:
        return planes_of(Series("", "", (instance,)), [header])
    return [Plane(SliceSource(instance, frame + 1), header) for frame in range(frames)]
