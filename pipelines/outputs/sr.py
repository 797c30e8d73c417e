"""Figures of segments, or findings, as a structured report (PS3.16 TID 1500)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from dicom.errors import InvalidReport
from dicom.seg import Segment
from dicom.sr import (
    FindingFigures,
    PixelBox,
    ReportUids,
    SegmentFigures,
)
from dicom.uids import derived_uid
from dicom.volume import Grid, Volume
from models.prediction import Box, Boxes, Classes
from models.segments import as_segments
from models.tasks import Classification, Detection, Finding
from pipelines.outputs import Encoded, Made

_REPORTS_AFTER: Final = 100  # series numbers: beside the segmentation's, not among them


def encode(made: Made) -> Encoded:
    """Write what was measured or found, read it back, and compare figure for figure.

    Raises
    ------
    InvalidReport
        When the report cannot be written, or the segmentation that it speaks of is not made.
    """
    from dicom.sr import check_report, encode_report  # 20 MB: when it is needed

    bundle = made.bundle
    match made.answer:
        case Classes() | Boxes():
            groups: tuple[SegmentFigures | FindingFigures, ...] = findings_of(made)
            segmentation = None
        case _:
            segmentation = made.earlier.get("seg")
            groups = tuple(_figures(made))
    report = encode_report(
        groups,
        made.source,
        segmentation=segmentation,
        algorithm=bundle.algorithm,
        uids=ReportUids(
            series_uid=derived_uid(made.key, "sr", "series"),
            sop_instance_uid=derived_uid(made.key, "sr", "instance"),
            device_uid=derived_uid("device", bundle.name, bundle.version),
        ),
        series_number=made.series_number + _REPORTS_AFTER,
        series_description=f"AI: {bundle.name_in_dicom}, report"[:64],
        created=made.created,
    )
    check_report(report, groups)
    return Encoded(ds=report, summary=_summary(groups))


def _figures(made: Made) -> Iterator[SegmentFigures]:
    segmentation = made.earlier.get("seg")
    if segmentation is None:
        raise InvalidReport("a report of segments is made after their segmentation")
    _, segments = as_segments(made.bundle, made.answer)
    described: dict[int, Segment] = {one.number: one for one in segments}
    tracking = {
        int(item.SegmentNumber): str(item.TrackingUID)
        for item in segmentation.SegmentSequence
        if item.SegmentNumber  # of a label map, 0 is the background
    }
    for measured in made.measured:
        yield SegmentFigures(described[measured.number], measured, tracking[measured.number])


def findings_of(made: Made) -> tuple[FindingFigures, ...]:
    """Return what a classification or a detection found, as the report says it, in its order."""
    return tuple(_findings(made))


def _findings(made: Made) -> Iterator[FindingFigures]:
    task = made.bundle.task
    assert isinstance(task, Classification | Detection)
    known: dict[int, Finding] = {finding.number: finding for finding in task.findings}
    match made.answer:
        case Classes(numbers=numbers, probabilities=probabilities):
            assert isinstance(task, Classification)
            best = numbers[int(probabilities.argmax())]
            for number, probability in zip(numbers, probabilities.tolist(), strict=True):
                said = _finding(made, known[number], probability, str(number))
                yield replace(said, question=task.question) if number == best else said
        case Boxes(boxes=()):  # that nothing was found is a result, too
            for number, finding in known.items():
                nothing = _finding(made, finding, 0.0, f"{number} none")
                yield replace(nothing, is_absent=True)
        case Boxes(boxes=boxes):
            for place, box in enumerate(boxes, 1):
                found = _finding(made, known[box.number], box.score, f"{box.number} {place}")
                label = f"{found.label} {place}"[:64]
                if made.source.frame_of_reference_uid:
                    ends = (box.low_lps, box.high_lps)
                    yield replace(found, label=label, box_lps=ends)
                else:
                    yield replace(found, label=label, box_pixels=_pixels(box, made.source))


def _finding(made: Made, finding: Finding, probability: float, name: str) -> FindingFigures:
    uid = derived_uid(made.key, "tracking", name)
    return FindingFigures(finding.label, finding.code, finding.region, probability, uid)


def _pixels(box: Box, source: Grid | Volume) -> PixelBox:
    """Return a box on the picture on which it was found, whose space is the picture's own."""
    ends = np.array([(*box.low_lps, 1.0), (*box.high_lps, 1.0)])
    index = ends @ np.linalg.inv(source.affine_lps).T
    k, *_ = index.mean(axis=0).round().astype(int).tolist()
    (low, high) = np.sort(index[:, [2, 1]], axis=0) + 0.5  # of edges, not of middles
    return PixelBox(
        min(max(k, 0), len(source.sources) - 1),
        (float(low[0]), float(low[1])),
        (float(high[0]), float(high[1])),
    )


def _summary(groups: tuple[SegmentFigures | FindingFigures, ...]) -> dict[str, float]:
    summary = {}
    for group in groups:
        if isinstance(group, FindingFigures):
            summary[group.label] = round(group.probability, 4)
        elif group.measured.volume_ml is not None:
            summary[group.segment.label] = round(group.measured.volume_ml, 3)
    return summary
