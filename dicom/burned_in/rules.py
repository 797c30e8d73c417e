"""What is known about text in an object's pixels before one looks, by rules that are data.

Reconstructed CT, MR and PET are not looked at; all else is. Of ultrasound, what lies outside the
regions that the device itself declares is masked unseen, and so is the banner of a known device.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any

from pydicom import Dataset

from dicom.burned_in.boxes import Box
from dicom.elements import text_of
from dicom.errors import UnreadablePixels
from dicom.part10 import PARSER_ERRORS, quiet_pydicom

_SOP_CLASS, _IMAGE_TYPE, _BURNED_IN, _SAMPLES = 0x00080016, 0x00080008, 0x00280301, 0x00280002
_MANUFACTURER, _MODEL = 0x00080070, 0x00081090
_REGIONS = 0x00186011  # Sequence of Ultrasound Regions
_SPATIAL = frozenset({1, 2, 3, 4})  # PS3.3 C.8.5.5.1.1: 2D, M-mode, spectral, waveform; no graphics


class Course(Enum):
    """What is done about an object's pixels."""

    NO_PICTURE = "values or labels, no picture"
    PRIMARY = "reconstructed slices: skipped by rule"
    LOOK = "looked at"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say of an object.

    Attributes
    ----------
    course : Course
    boxes : tuple of Box
        To be masked unseen, in every frame.
    says_so : bool
        The object itself says that text is burned in.
    overlays : frozenset of int
        Groups whose overlay lies in bits of the pixels that are not of the value.
    """

    course: Course
    boxes: tuple[Box, ...] = ()
    says_so: bool = False
    overlays: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Device:
    """Where a device draws its banner, in images of one size.

    Attributes
    ----------
    manufacturer : str
        Found within Manufacturer, whatever the case.
    models : tuple of str
        One of them is found within ManufacturerModelName.
    rows, columns : int or None
        Of the image; None for any.
    """

    manufacturer: str
    models: tuple[str, ...]
    rows: int | None
    columns: int | None
    boxes: tuple[Box, ...]

    def drew(self, ds: Dataset, rows: int, columns: int) -> bool:
        """Return whether an image is of this device and size."""
        if self.rows not in (None, rows) or self.columns not in (None, columns):
            return False
        model = text_of(ds, _MODEL).lower()
        return self.manufacturer.lower() in text_of(ds, _MANUFACTURER).lower() and any(
            one.lower() in model for one in self.models
        )


@dataclass(frozen=True, slots=True)
class _Facts:
    no_pictures: frozenset[str]
    primary: frozenset[str]
    not_primary: frozenset[str]
    markers: frozenset[str]
    devices: tuple[Device, ...]


@cache
def _facts() -> _Facts:
    text = resources.files("dicom").joinpath("data", "burned_in.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    return _Facts(
        frozenset(facts["no_pictures"]["sop_classes"]),
        frozenset(facts["primary"]["sop_classes"]),
        frozenset(facts["primary"]["not_primary"]),
        frozenset(facts["markers"]["words"]),
        tuple(_device(row) for row in facts["devices"]),
    )


def _device(row: Mapping[str, Any]) -> Device:
    return Device(
        manufacturer=row["manufacturer"],
        models=tuple(row["models"]),
        rows=row.get("rows"),
        columns=row.get("columns"),
        boxes=tuple(Box(*edges) for edges in row["boxes"]),
    )


def known_devices() -> tuple[Device, ...]:
    """Return the devices whose banners are known."""
    return _facts().devices


def is_marker(text: str) -> bool:
    """Return whether a text is nothing but words that name a side or a view."""
    words = ["".join(filter(str.isalnum, word)) for word in text.upper().split()]
    told = [word for word in words if word]
    return bool(told) and (
        all(word in _facts().markers for word in told) or "".join(told) in _facts().markers
    )


def judge(
    ds: Dataset, rows: int, columns: int, *, outside_regions: bool = True, skip_primary: bool = True
) -> Judgement:
    """Return what the rules say of an object whose images have that size.

    Parameters
    ----------
    ds : Dataset
        The original header.
    rows, columns : int
        Of its frames.
    outside_regions : bool
        Of ultrasound, mask what lies outside the declared regions.
    skip_primary : bool
        Do not look at reconstructed slices.

    Raises
    ------
    UnreadablePixels
        When the regions or overlays that an object declares cannot be parsed.
    """
    facts = _facts()
    sop_class = text_of(ds, _SOP_CLASS)
    if sop_class in facts.no_pictures:
        return Judgement(Course.NO_PICTURE)
    says_so = text_of(ds, _BURNED_IN) == "YES"
    overlays = _overlays_in_pixels(ds)
    if skip_primary and not says_so and not overlays and _is_primary(ds, sop_class, facts):
        return Judgement(Course.PRIMARY)
    boxes = [
        box.within(rows, columns)
        for device in facts.devices
        if device.drew(ds, rows, columns)
        for box in device.boxes
    ]
    if outside_regions:
        boxes += _outside(_regions(ds, rows, columns), rows, columns)
    inside = tuple(box for box in boxes if box is not None)
    return Judgement(Course.LOOK, inside, says_so, overlays)


def _is_primary(ds: Dataset, sop_class: str, facts: _Facts) -> bool:
    if sop_class not in facts.primary or text_of(ds, _SAMPLES) == "3":
        return False
    with quiet_pydicom():
        try:
            samples = ds.get("SamplesPerPixel", 1)
            given = ds.get("ImageType") or ()
        except PARSER_ERRORS:
            return False
    kinds = [str(kind).strip().upper() for kind in ([given] if isinstance(given, str) else given)]
    return (
        samples in (1, None)
        and kinds[:2] == ["ORIGINAL", "PRIMARY"]
        and facts.not_primary.isdisjoint(word for kind in kinds for word in (kind, *kind.split()))
    )


def _overlays_in_pixels(ds: Dataset) -> frozenset[int]:
    """Return the groups of overlays without data of their own (retired; PS3.3-2004 C.9.2)."""
    found = set()
    for group in range(0x6000, 0x6100, 2):
        position = group << 16 | 0x0102  # Overlay Bit Position
        if position not in ds or group << 16 | 0x3000 in ds:
            continue
        with quiet_pydicom():
            try:
                embedded = ds[position].value not in (None, "", 0)
            except PARSER_ERRORS:
                raise UnreadablePixels("an overlay's place cannot be read") from None
        if embedded:
            found.add(group)
    return frozenset(found)


# --- ultrasound -----------------------------------------------------------------------------------


def _regions(ds: Dataset, rows: int, columns: int) -> list[Box]:
    """Return where an ultrasound device says that it shows the patient (PS3.3 C.8.5.5)."""
    regions: list[Box] = []
    with quiet_pydicom():
        try:
            for item in ds.get("SequenceOfUltrasoundRegions") or ():
                if item.get("RegionSpatialFormat") not in _SPATIAL:
                    continue
                left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
                right, bottom = int(item.RegionLocationMaxX1), int(item.RegionLocationMaxY1)
                if right < left or bottom < top:
                    continue
                box = Box(left, top, right + 1, bottom + 1).within(rows, columns)
                if box is not None:
                    regions.append(box)
        except PARSER_ERRORS:
            raise UnreadablePixels("the ultrasound regions cannot be read") from None
    return regions


def _outside(regions: Iterable[Box], rows: int, columns: int) -> list[Box]:
    """Return boxes that cover what lies in no region; none where there is no region."""
    kept = list(regions)
    if not kept:
        return []
    edges = sorted({0, rows, *(box.top for box in kept), *(box.bottom for box in kept)})
    boxes: list[Box] = []
    for top, bottom in pairwise(edges):
        at = 0
        spans = sorted((box.left, box.right) for box in kept if box.top <= top < box.bottom)
        for left, right in [*spans, (columns, columns)]:
            if left > at:
                boxes.append(Box(at, top, left, bottom))
            at = max(at, right)
    return boxes
