"""Whether a Segmentation calls its segments what the model found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from dicom.codes import Code
from dicom.errors import WrongLabels
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.seg import Segment

Description = tuple[int, str, tuple[tuple[str, str] | None, ...]]


def check_described(path: Path, segments: Sequence[Segment]) -> None:
    """Make sure that an encoded Segmentation describes exactly the segments that were asked for.

    Compared are number, label, and in codes category, type, anatomic region and side; a label
    map's background, which may stand there as segment 0, is left aside (PS3.3 C.8.20.2).

    Parameters
    ----------
    path : Path
        The object as it is about to be stored.
    segments : sequence of Segment
        By their numbers in the object.

    Raises
    ------
    WrongLabels
        When a segment is missing, is described twice or as something else, or shares its tracking
        identifier with another.
    """
    with quiet_pydicom():
        try:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=["SegmentSequence"])
            items = [item for item in ds.SegmentSequence if int(item.SegmentNumber) != 0]
            found = [_description(item) for item in items]
            tracking = [str(item.TrackingUID) for item in items if "TrackingUID" in item]
        except PARSER_ERRORS:
            raise WrongLabels("the result does not describe its segments") from None
    wanted = [_wanted(segment) for segment in segments]
    if sorted(number for number, *_ in found) != sorted(number for number, *_ in wanted):
        raise WrongLabels("the result describes other segments than were asked for")
    differing = set(wanted) - set(found)
    if differing:
        numbers = ", ".join(str(number) for number, *_ in sorted(differing))
        raise WrongLabels(f"the result calls these segments something else: {numbers}")
    if len(set(tracking)) < len(tracking):
        raise WrongLabels("two segments of the result share a tracking identifier")


def _wanted(segment: Segment) -> Description:
    region, side = segment.region, segment.laterality
    on_type, on_region = (side, None) if region is None else (None, side)
    codes = (segment.category, segment.type, on_type, region, on_region)
    return segment.number, segment.label, tuple(_pair(code) for code in codes)


def _pair(code: Code | None) -> tuple[str, str] | None:
    return None if code is None else (code.value, code.scheme)


def _description(item: Dataset) -> Description:
    (category,) = item.SegmentedPropertyCategoryCodeSequence
    (kind,) = item.SegmentedPropertyTypeCodeSequence
    regions = item.get("AnatomicRegionSequence") or []
    region = _only(regions)
    return (
        int(item.SegmentNumber),
        str(item.SegmentLabel),
        (
            _code(category),
            _code(kind),
            _code(_only(kind.get("SegmentedPropertyTypeModifierCodeSequence") or [])),
            _code(region),
            _code(_only((region or Dataset()).get("AnatomicRegionModifierSequence") or [])),
        ),
    )


def _only(items: Sequence[Dataset]) -> Dataset | None:
    """Return the one item of a sequence that may be empty; several say something else."""
    if len(items) > 1:
        raise ValueError("several codes where one is meant")
    return items[0] if items else None


def _code(item: Dataset | None) -> tuple[str, str] | None:
    if item is None:
        return None
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    return str(value), str(item.CodingSchemeDesignator)
