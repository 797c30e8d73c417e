"""What routing rules may ask about a series, also about one that makes no volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dicom.errors import InputError
from dicom.header import Header
from dicom.study import Series
from dicom.volume.kind import kind_of_series
from dicom.volume.planes import Plane, frames_of, is_image, planes_of, read_headers
from dicom.volume.shear import Floats
from dicom.volume.stack import COSINE_TOLERANCE, SAME_PLACE_MM, lower_median
from dicom.volume.values import Orientation, SliceSource

AXIS_COSINE = 0.8
"""A normal within 37 degrees of a body axis names the plane; farther off it is oblique."""


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
    study_description : str or None
        What the whole study is called.
    kind : str or None
        A word of :class:`dicom.volume.Kind`: slices, localiser, projection, dose report ...
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
    kind: str | None = None
    study_description: str | None = None


def describe_series(series: Series) -> SeriesFacts:
    """Return what routing rules ask about, also for a series that makes no volume.

    Raises
    ------
    NotDicom
        When a file cannot be read as DICOM at all.
    """
    return facts_of(series, read_headers(series))


def facts_of(series: Series, headers: Sequence[Header]) -> SeriesFacts:
    """Return the facts of a series whose headers have been read."""
    images = [header for header in headers if is_image(header)]
    first = next(iter(images or headers), None)
    if first is None:
        return SeriesFacts(
            series.modality, None, None, None, None, None, (), False, 0, None, None, None
        )
    planes = _planes(series, headers)
    pixel_spacing = planes[0].numbers("PixelSpacing", 2) if planes else None
    normals = [plane.normal for plane in planes]
    return SeriesFacts(
        modality=first.text("Modality") or series.modality,
        sop_class_uid=first.text("SOPClassUID"),
        body_part=first.text("BodyPartExamined"),
        description=first.text("SeriesDescription"),
        protocol=first.text("ProtocolName"),
        manufacturer=first.text("Manufacturer"),
        image_type=first.texts("ImageType"),
        contrast_agent=any(
            header.text("ContrastBolusAgent") or header.items("ContrastBolusAgentSequence")
            for header in images
        ),
        slice_count=sum(frames_of(header) for header in images),
        spacing_mm=_median_step(planes, normals),
        pixel_spacing_mm=None
        if pixel_spacing is None
        else (float(pixel_spacing[0]), float(pixel_spacing[1])),
        orientation=plane_of(normals),
        kind=kind_of_series(headers),
        study_description=first.text("StudyDescription"),
    )


def _planes(series: Series, headers: Sequence[Header]) -> list[Plane]:
    """Return the planes of the images; a multi-frame image without places counts as one."""
    pairs = [
        (instance, header)
        for instance, header in zip(series.instances, headers, strict=True)
        if is_image(header)
    ]
    instances, images = (
        (tuple(column) for column in zip(*pairs, strict=True)) if pairs else ((), ())
    )
    try:
        return planes_of(Series(series.series_uid, series.modality, instances), list(images))
    except InputError:  # told when the series is read; here it only lacks a place
        return [Plane(SliceSource(instance), header) for instance, header in pairs]


def plane_of(normals: Sequence[Floats | None]) -> Orientation | None:
    """Return the body's plane that all slices lie in, by their normals; None where not one."""
    known = [normal for normal in normals if normal is not None]
    if not known or len(known) < len(normals):
        return None
    if any(abs(normal @ known[0]) < 1 - COSINE_TOLERANCE for normal in known):
        return None
    planes: tuple[Orientation, ...] = ("sagittal", "coronal", "axial")
    axis = int(np.abs(known[0]).argmax())
    return planes[axis] if abs(known[0][axis]) >= AXIS_COSINE else "oblique"


def _median_step(planes: Sequence[Plane], normals: Sequence[Floats | None]) -> float | None:
    normal = next((normal for normal in normals if normal is not None), None)
    positions = [plane.position for plane in planes]
    if normal is None or any(position is None for position in positions):
        return None
    steps = np.diff(np.sort(np.array(positions) @ normal))
    steps = steps[steps >= SAME_PLACE_MM]
    return round(lower_median(steps), 4) if steps.size else None
