"""What a series is: slices of a patient, or something that only looks like it.

ImageType's further values are each vendor's own (PS3.3 C.7.6.1.1.2); those that are met are listed
here. Enhanced images say it in attributes of the standard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from dicom.header import Header
from dicom.volume.planes import class_of, frames_of, is_image


class Kind(StrEnum):
    """What a series is, in a word for people and for rules."""

    SLICES = "slices"
    """CT, MR, PET or other images that say where in the patient they lie."""
    PICTURE = "picture"
    """Radiographs, ultrasound, photographs: no place in the patient."""
    CINE = "cine"
    """The same, as a film."""
    LOCALISER = "localiser"
    PROJECTION = "projection"
    """Maximum or minimum intensity projection."""
    RENDERING = "rendering"
    """Volume or surface rendering, curved reformat."""
    REFORMAT = "reformat"
    """A plane or slab resampled from other images; a volume as good as any."""
    SCREEN = "screen capture"
    DOSE = "dose report"
    MOSAIC = "mosaic"
    SLIDE = "slide"
    DOCUMENT = "document"
    """No image: a report, annotation or segmentation."""


_WORDS: Sequence[tuple[Kind, frozenset[str]]] = (
    (Kind.MOSAIC, frozenset({"MOSAIC"})),
    (
        Kind.LOCALISER,
        frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "TOPO", "SURVIEW", "SCANOGRAM"}),
    ),
    (
        Kind.DOSE,
        frozenset({"DOSE", "DOSE REPORT", "DOSE_REPORT", "DOSE_INFO", "PATIENT PROTOCOL"}),
    ),
    (
        Kind.SCREEN,
        frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN_CAPTURE", "SCREEN CAPTURE"}),
    ),
    (
        Kind.RENDERING,
        frozenset(
            {"VRT", "VOLUME_RENDER", "SURFACE_RENDER", "VOLREN", "SSD", "VIRTUAL ENDOSCOPY"}
            | {"CPR", "CURVED_MPR", "CURVED MPR", "CURVED"}
        ),
    ),
    (
        Kind.PROJECTION,
        frozenset({"MIP", "MINIP", "MAX_IP", "MIN_IP", "MIN IP", "MAXIP", "PROJECTION IMAGE"}),
    ),
    (Kind.REFORMAT, frozenset({"MPR", "REFORMATTED", "RESAMPLED", "AVERAGE", "MPVR"})),
)
_PROTOCOL_PAGE = re.compile(r"CT_SOM\d+ PROT")
_DOSE_PAGE = re.compile(r"\b(dose (report|info)|(patient|exam) protocol)\b", re.IGNORECASE)
_LOCALISER_SERIES = re.compile(r"\b(locali[sz]er|scout|topogram|survey)\b", re.IGNORECASE)
_PLACED_CLASSES = ("CT Image", "MR Image", "Positron Emission", "PET Image", "Tomosynthesis")
_MADE_FROM_SLICES = ("CT", "MR", "PT")


def kind_of(header: Header) -> Kind:
    """Return what one instance is, from its header alone."""
    if not is_image(header):
        return Kind.DOCUMENT
    if "TotalPixelMatrixColumns" in header.ds:
        return Kind.SLIDE
    if _is_dose_page(header):
        return Kind.DOSE
    words = _words(header)
    for kind, names in _WORDS:
        if words & names:
            return kind
    if is_placed(header) and not (_is_secondary(header) and _is_colour(header)):
        return Kind.LOCALISER if _is_called_localiser(header) else Kind.SLICES
    if _is_secondary(header) and header.text("Modality") in _MADE_FROM_SLICES:
        return Kind.SCREEN
    return Kind.CINE if frames_of(header) > 1 else Kind.PICTURE


def is_placed(header: Header) -> bool:
    """Return whether a class of images says where in the patient it lies, or this image does."""
    if any(placed in class_of(header) for placed in _PLACED_CLASSES):
        return True
    frames = header.items("PerFrameFunctionalGroupsSequence")
    return header.numbers("ImagePositionPatient", 3) is not None or (
        bool(frames) and "PlanePositionSequence" in frames[0]
    )


def _words(header: Header) -> frozenset[str]:
    """Return ImageType's values beyond the first two, and how an enhanced image was computed."""
    texts = {text.strip().upper() for text in header.texts("ImageType")[2:]}
    technique = (header.text("VolumeBasedCalculationTechnique") or "").upper()
    if technique not in ("", "NONE", "MIXED"):
        texts.add(technique)
    return frozenset(texts)


def _is_dose_page(header: Header) -> bool:
    if any(_PROTOCOL_PAGE.fullmatch(text.strip()) for text in header.texts("ImageType")):
        return True
    described = header.text("SeriesDescription") or ""
    return header.numbers("ImagePositionPatient", 3) is None and bool(_DOSE_PAGE.search(described))


def _is_called_localiser(header: Header) -> bool:
    """Return whether a series of MR or CT is named so: not every scanner says it in ImageType."""
    described = header.text("SeriesDescription") or ""
    return header.text("Modality") in ("CT", "MR") and bool(_LOCALISER_SERIES.search(described))


def _is_secondary(header: Header) -> bool:
    return "Secondary Capture" in class_of(header)


def _is_colour(header: Header) -> bool:
    return (header.whole("SamplesPerPixel") or 1) > 1


def kind_of_series(headers: Sequence[Header]) -> Kind:
    """Return what most instances of a series are; of equals, the one that comes first."""
    kinds = [kind_of(header) for header in headers]
    return max(kinds, key=kinds.count) if kinds else Kind.DOCUMENT
