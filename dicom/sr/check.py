"""A report held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from dicom.errors import InvalidReport
from dicom.sr.figures import figures_of
from dicom.sr.read import decode_report
from dicom.sr.values import FindingFigures, SegmentFigures


def check_report(report: Dataset, groups: Sequence[SegmentFigures | FindingFigures]) -> None:
    """Make sure that a report says what was measured.

    Raises
    ------
    InvalidReport
        When a figure, a reference or a name differs.
    """
    read = decode_report(report)
    if len(read) != len(groups):
        raise InvalidReport(f"the report has {len(read)} groups, not {len(groups)}")
    for there, meant in zip(read, groups, strict=True):
        if there.tracking_uid != meant.tracking_uid:
            raise InvalidReport("a group of the report has another tracking identifier")
        if isinstance(meant, SegmentFigures) and there.segment_number != meant.segment.number:
            raise InvalidReport("a group of the report refers to another segment")
        asked = meant.question if isinstance(meant, FindingFigures) else None
        if there.evaluations != (((asked, there.finding),) if asked is not None else ()):
            raise InvalidReport("a group of the report gives another answer")
        code = meant.segment.type if isinstance(meant, SegmentFigures) else meant.code
        if (there.finding.value, there.finding.scheme) != (code.value, code.scheme):
            raise InvalidReport("a group of the report names another finding")
        wanted = [value for _, _, value, _ in figures_of(meant)]
        found = [figure.value for figure in there.figures]
        if len(wanted) != len(found) or not np.allclose(wanted, found, rtol=1e-5, atol=1e-6):
            raise InvalidReport("a figure of the report is not what was measured")
