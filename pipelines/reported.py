"""What the reports beside segmentations say of their segments, read from the archive once each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import Final

import structlog
from pydicom import dcmread

from dicom.archive import Archive
from dicom.errors import ArchiveMismatch, InvalidReport
from dicom.sr import ReadGroup, decode_report

log = structlog.get_logger()

_KEPT: Final = 1000
_VOLUME: Final = "118565006"  # SCT, as dicom/sr/figures.py writes them
_LONGEST: Final = ("81827009", "103339001")  # diameter, long axis


@dataclass(frozen=True, slots=True)
class ReportedSegment:
    """What a report says of one segment; None for what was not measured."""

    number: int
    label: str
    volume_ml: float | None
    longest_mm: float | None


class Reported:
    """Reports of the clinical archive; they never change, so that each is read once.

    Parameters
    ----------
    archive : Archive
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._kept: OrderedDict[str, Mapping[str, tuple[ReportedSegment, ...]]] = OrderedDict()
        self._lock = Lock()

    def segments(self, report_uid: str, segmentation_uid: str) -> tuple[ReportedSegment, ...]:
        """Return what a report says of a segmentation's segments; nothing where it is gone.

        Raises
        ------
        PeerError
            When the archive does not answer.
        """
        with self._lock:
            found = self._kept.get(report_uid)
        if found is None:
            found = self._read(report_uid)
            with self._lock:
                self._kept[report_uid] = found
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return found.get(segmentation_uid, ())

    def _read(self, report_uid: str) -> Mapping[str, tuple[ReportedSegment, ...]]:
        try:
            report = dcmread(BytesIO(self._archive.instance_bytes(report_uid)))
            groups = decode_report(report)
        except (ArchiveMismatch, InvalidReport) as error:
            log.info("report_not_read", code=error.code)
            return {}
        found: dict[str, tuple[ReportedSegment, ...]] = {}
        for group in groups:
            if group.segment_number is not None:
                uid = group.segmentation_uid
                found[uid] = (*found.get(uid, ()), _segment(group, group.segment_number))
        return found


def _segment(group: ReadGroup, number: int) -> ReportedSegment:
    values = {figure.concept: figure.value for figure in reversed(group.figures)}
    longest = next((values[concept] for concept in _LONGEST if concept in values), None)
    return ReportedSegment(number, group.tracking_id, values.get(_VOLUME), longest)
