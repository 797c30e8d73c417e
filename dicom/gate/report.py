"""Whether a report speaks of the object beside it, and of the images that were looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import Dataset, dcmread

from dicom.errors import InvalidReport
from dicom.gate.placed import Placed
from dicom.gate.places import read_sources
from dicom.gate.reading import Item, opened, tag_of
from dicom.measure import Measured
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.sr import FindingFigures, PixelBox
from dicom.volume import Grid

_CONTENT = tag_of("ContentSequence")
_VALUE_TYPE = tag_of("ValueType")
_CONCEPT = tag_of("ConceptNameCodeSequence")
_CONCEPT_CODE = tag_of("ConceptCodeSequence")
_CODE_VALUES = tuple(tag_of(name) for name in ("CodeValue", "LongCodeValue", "URNCodeValue"))
_UID = tag_of("UID")
_SOP = tag_of("ReferencedSOPSequence")
_REFERENCED = tag_of("ReferencedSOPInstanceUID")
_SEGMENT_NUMBER = tag_of("ReferencedSegmentNumber")
_MEASURED = tag_of("MeasuredValueSequence")
_NUMBER = tag_of("NumericValue")
_GRAPHIC = tag_of("GraphicData")
_FRAME_OF_REFERENCE = tag_of("ReferencedFrameOfReferenceUID")

_MEASUREMENTS: Final = "126010"  # DCM: Imaging Measurements
_GROUP: Final = "125007"  # DCM: Measurement Group
_TRACKING: Final = "112040"
_FINDING: Final = "121071"
_SITE: Final = "363698007"  # SCT
_SIDE: Final = "272741003"
_SEGMENT: Final = "121191"
_SOURCE_SERIES: Final = "121232"
_DERIVATION: Final = "121401"
_MEAN, _SD, _LOWEST, _HIGHEST = "373098007", "386136009", "255605001", "56851009"  # SCT
_VOLUME: Final = ("118565006", "")
_AREA: Final = ("42798000", "")
_LONG_AXIS: Final = ("103339001", "")
_DIAMETER: Final = ("81827009", _HIGHEST)

_CATEGORY: Final = "276214006"  # SCT
_FAMILY: Final = "111000"  # DCM
_METHOD: Final = "370129005"  # SCT
_OF_THE_TEMPLATE: Final = frozenset({_FINDING, _SITE, _CATEGORY, _FAMILY, _METHOD})
"""Codes of a group that answer no question of ours."""

_WRITTEN: Final = 1e-5  # relative: what seven digits leave
_COUNTED: Final = 2e-3  # relative: positions are rounded, and with them the step between slices
_BOX_MM: Final = 0.01

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Group:
    """One measurement group as it stands in the report, in code values."""

    tracking_uid: str
    finding: str
    site: str
    side: str
    segmentation_uid: str
    segment: int | None
    series: frozenset[str]
    images: frozenset[str]
    figures: Mapping[Key, float]
    points: tuple[tuple[float, ...], ...]
    frames_of_reference: frozenset[str]
    pixels: tuple[tuple[float, ...], ...]
    answers: frozenset[tuple[str, str]]


def check_figures(
    path: Path,
    segmentation: Path,
    placed: Placed,
    measured: Sequence[Measured],
    *,
    names: Mapping[str, str] | None = None,
) -> None:
    """Make sure that a report says what was measured, of the segments of the object beside it.

    Volume and area are held against the voxels that were counted in that object and the size that
    the source files give them; codes, sides and tracking identifiers against its descriptions.

    Parameters
    ----------
    path : Path
        The report (PS3.16 TID 1500) as it is about to be stored.
    segmentation : Path
        The Segmentation of the same task.
    placed : Placed
        What :func:`dicom.gate.check_placed` found in that.
    measured : sequence of Measured
        Of each segment.
    names : Mapping, optional
        From the UIDs of the source files to those that the report knows them by.

    Raises
    ------
    InvalidReport
        When a figure, a segment, a reference or a code is another one.
    """
    groups = _groups_of(path)
    seg_uid, described = _described(segmentation)
    if sorted(group.segment or 0 for group in groups) != sorted(one.number for one in measured):
        raise InvalidReport("the report speaks of other segments than were measured")
    figures = {one.number: one for one in measured}
    series_uid = (names or {}).get(placed.series_uid, placed.series_uid)
    for group in groups:
        number = group.segment or 0
        if group.segmentation_uid != seg_uid or number not in described:
            raise InvalidReport("a group of the report speaks of another segmentation")
        if group.series != {series_uid}:
            raise InvalidReport("a group of the report names another source series")
        said = (group.tracking_uid, group.finding, group.site, group.side)
        if said != described[number]:
            raise InvalidReport(f"the report calls segment {number} something else")
        wanted = _figures_of(figures[number])
        if wanted.keys() != group.figures.keys() or not all(
            np.isclose(group.figures[key], wanted[key], rtol=_WRITTEN, atol=1e-6) for key in wanted
        ):
            raise InvalidReport(f"a figure of segment {number} is not what was measured")
        _check_counted(group, placed)


def check_findings(
    path: Path,
    findings: Sequence[FindingFigures],
    source: Grid,
    *,
    names: Mapping[str, str] | None = None,
) -> None:
    """Make sure that a report says what was found on images, and where.

    Parameters
    ----------
    path : Path
        The report as it is about to be stored.
    findings : sequence of FindingFigures
        In the report's order.
    source : Grid
        The series that was looked at; its files are read again.
    names : Mapping, optional
        From their UIDs to those that the report knows them by.

    Raises
    ------
    InvalidReport
        When a finding, its figure, its box or what it refers to is another one.
    """
    groups = _groups_of(path)
    sources = read_sources(source.sources)
    named = names or {}
    series = {named.get(one.series_uid, one.series_uid) for one in sources}
    frames = {named.get(one.frame_of_reference_uid, one.frame_of_reference_uid) for one in sources}
    images = {named.get(one.image[0], one.image[0]) for one in sources}
    if len(groups) != len(findings):
        raise InvalidReport(f"the report has {len(groups)} groups, not {len(findings)}")
    for group, meant in zip(groups, findings, strict=True):
        if (group.tracking_uid, group.finding) != (meant.tracking_uid, meant.code.value):
            raise InvalidReport("a group of the report names another finding")
        if group.site != (meant.region.value if meant.region else ""):
            raise InvalidReport("a group of the report names another region")
        (value,) = group.figures.values() if len(group.figures) == 1 else (np.nan,)
        if not np.isclose(value, meant.probability, rtol=_WRITTEN, atol=1e-6):
            raise InvalidReport("a figure of the report is not what was found")
        if not (group.series <= series and group.images <= images):
            raise InvalidReport("a group of the report refers to other images")
        asked = {(meant.question.value, meant.code.value)} if meant.question else set()
        if group.answers != asked:
            raise InvalidReport("a group of the report gives another answer")
        if meant.box_pixels is not None:
            image = sources[meant.box_pixels.source].image[0]
            _check_pixels(group, meant.box_pixels, named.get(image, image))
            continue
        _check_box(group, meant, frames)


def _check_pixels(group: _Group, meant: PixelBox, image: str) -> None:
    if not group.pixels or group.points or image not in group.images:
        raise InvalidReport("a box of the report is on another image")
    points = np.array(group.pixels)
    if not np.allclose(
        [points.min(axis=0), points.max(axis=0)], [meant.low, meant.high], rtol=0, atol=_BOX_MM
    ):
        raise InvalidReport("a box of the report lies elsewhere than it was found")


def _check_box(group: _Group, meant: FindingFigures, frames: set[str]) -> None:
    if meant.box_lps is None:
        if group.points or group.pixels or not group.images:
            raise InvalidReport("a finding of a series does not refer to its images alone")
        return
    points = np.array(group.points)
    if not points.size or group.frames_of_reference != frames:
        raise InvalidReport("a box of the report has another frame of reference")
    corners = np.array([points.min(axis=0), points.max(axis=0)])
    if not np.allclose(corners, meant.box_lps, rtol=0, atol=_BOX_MM):
        raise InvalidReport("a box of the report lies elsewhere than it was found")


def _check_counted(group: _Group, placed: Placed) -> None:
    """Hold volume and area against the voxels of the object, and their size in the files."""
    voxels = placed.voxels.get(group.segment or 0, 0)
    for key, size in ((_VOLUME, placed.voxel_ml), (_AREA, placed.pixel_mm2)):
        said = group.figures.get(key)
        if said is None or size is None:
            continue
        counted = voxels * size
        # Voxels of a mended tilt were counted where it was mended; at the slices' edges some go.
        lost = placed.aslant and said > counted
        if not (lost or np.isclose(said, counted, rtol=_COUNTED, atol=1e-6)):
            raise InvalidReport(f"segment {group.segment} holds another volume than is reported")


def _figures_of(one: Measured) -> dict[Key, float]:
    """Return what is known of a segment, by concept and derivation."""
    value = {"HU": "112031", "SUVbw": "126400", "BQML": "110821", "": "110852"}.get(one.unit)
    concept = value or "pixel_value"
    rows: dict[Key, float | None] = {
        _VOLUME: one.volume_ml,
        _AREA: one.area_mm2,
        _LONG_AXIS: one.axial_diameter_mm,
        _DIAMETER: one.diameter_mm,
        (concept, _MEAN): one.mean,
        (concept, _SD): one.sd,
        (concept, _LOWEST): one.minimum,
        (concept, _HIGHEST): one.maximum,
    }
    return {key: figure for key, figure in rows.items() if figure is not None}


# --- reading --------------------------------------------------------------------------------------


def _groups_of(path: Path) -> list[_Group]:
    with opened(path, explicit=True) as document:
        try:
            return [
                _group(group)
                for container in document.items(_CONTENT)
                if _concept(container) == _MEASUREMENTS
                for group in container.items(_CONTENT)
                if _concept(group) == _GROUP
            ]
        except PARSER_ERRORS:
            raise InvalidReport("the report does not follow TID 1500") from None


def _described(segmentation: Path) -> tuple[str, dict[int, tuple[str, str, str, str]]]:
    """Return an object's UID; and tracking UID, type, site and side of each of its segments."""
    with quiet_pydicom():
        try:
            tags = ["SOPInstanceUID", "SegmentSequence"]
            ds = dcmread(segmentation, stop_before_pixels=True, specific_tags=tags)
            segments = {}
            for item in ds.SegmentSequence:
                (kind,) = item.SegmentedPropertyTypeCodeSequence
                region = (item.get("AnatomicRegionSequence") or [kind])[0]
                sides = region.get("AnatomicRegionModifierSequence") or region.get(
                    "SegmentedPropertyTypeModifierCodeSequence"
                )
                segments[int(item.SegmentNumber)] = (
                    str(item.get("TrackingUID", "")),
                    _value(kind),
                    _value(region),
                    _value(sides[0]) if sides else "",
                )
            return str(ds.SOPInstanceUID), segments
        except PARSER_ERRORS:
            raise InvalidReport("the report's segmentation cannot be read") from None


def _value(code: Dataset) -> str:
    return str(code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue"))


def _group(group: Item) -> _Group:
    by_concept: dict[str, list[Item]] = {}
    for item in group.items(_CONTENT):
        by_concept.setdefault(_concept(item), []).append(item)
    deeper = [below for items in by_concept.values() for item in items for below in _below(item)]
    segments = [_first(item, _SOP) for item in by_concept.get(_SEGMENT, [])]
    sites = by_concept.get(_SITE, [])
    sides = [item for site in sites for item in _below(site) if _concept(item) == _SIDE]
    surfaces = [item for item in deeper if item.text(_VALUE_TYPE) == "SCOORD3D"]
    (tracking,), (finding,) = by_concept[_TRACKING], by_concept[_FINDING]
    if len(segments) > 1 or len(sites) > 1 or len(sides) > 1:
        raise ValueError("a group of several segments or sites")
    return _Group(
        tracking_uid=tracking.text(_UID),
        finding=_meant(finding),
        site=_meant(sites[0]) if sites else "",
        side=_meant(sides[0]) if sides else "",
        segmentation_uid=segments[0].text(_REFERENCED) if segments else "",
        segment=segments[0].word(_SEGMENT_NUMBER) if segments else None,
        series=frozenset(i.text(_UID) for i in deeper if _concept(i) == _SOURCE_SERIES),
        images=frozenset(
            _first(item, _SOP).text(_REFERENCED)
            for item in deeper
            if item.text(_VALUE_TYPE) == "IMAGE" and _concept(item) != _SEGMENT
        ),
        figures=_figures(item for items in by_concept.values() for item in items),
        points=tuple(point for item in surfaces for point in _points(item)),
        frames_of_reference=frozenset(item.text(_FRAME_OF_REFERENCE) for item in surfaces),
        pixels=tuple(
            point
            for item in deeper
            if item.text(_VALUE_TYPE) == "SCOORD"
            for point in _points(item, axes=2)
        ),
        answers=frozenset(
            (concept, _meant(item))
            for concept, items in by_concept.items()
            for item in items
            if item.text(_VALUE_TYPE) == "CODE" and concept not in _OF_THE_TEMPLATE
        ),
    )


def _below(item: Item) -> Iterator[Item]:
    """Yield a content item, and every one below it."""
    yield item
    for child in item.items(_CONTENT):
        yield from _below(child)


def _figures(items: Iterable[Item]) -> dict[Key, float]:
    figures: dict[Key, float] = {}
    for item in items:
        if item.text(_VALUE_TYPE) != "NUM":
            continue
        derived = [_meant(c) for c in item.items(_CONTENT) if _concept(c) == _DERIVATION]
        key = (_concept(item), derived[0] if derived else "")
        if key in figures:
            raise ValueError("one figure stands twice in a group")
        (figures[key],) = _first(item, _MEASURED).numbers(_NUMBER)
    return figures


def _points(item: Item, *, axes: int = 3) -> list[tuple[float, ...]]:
    points = np.frombuffer(item.raw(_GRAPHIC), "<f4").reshape(-1, axes)
    return [tuple(point) for point in points.astype(float).tolist()]


def _first(item: Item, sequence: int) -> Item:
    """Return the one item of a sequence."""
    (only,) = item.items(sequence)
    return only


def _concept(item: Item) -> str:
    """Return the code of a content item's name, empty where it has none."""
    return next((_code(name) for name in item.items(_CONCEPT)), "")


def _meant(item: Item) -> str:
    """Return the code that is the value of a content item."""
    return _code(_first(item, _CONCEPT_CODE))


def _code(item: Item) -> str:
    return next(filter(None, (item.text(tag) for tag in _CODE_VALUES)), "")
