"""Figures and findings as a structured report (PS3.16 TID 1500), in the shape of IHE AI Results.

One measurement group a segment (TID 1411): it refers to the segment of the Segmentation that the
same model wrote, carries that segment's tracking identifier, and says which algorithm measured.
Findings without voxels, of a classification or a detection, are groups of their own (TID 1501 and
TID 1411 with a box). highdicom builds and checks the templates.

===============  ================================================================================
`values`         what is reported, and what is read
`figures`        the numbers of a group, in codes
`write`          figures and findings to a report
`read`           a report to its groups
`check`          a report held against what was measured
===============  ================================================================================
"""

from typing import TYPE_CHECKING

from dicom.sr.read import decode_report
from dicom.sr.values import (
    Figure,
    FindingFigures,
    PixelBox,
    ReadGroup,
    ReportUids,
    SegmentFigures,
)

if TYPE_CHECKING:
    from dicom.sr.check import check_report
    from dicom.sr.write import encode_report

__all__ = [
    "Figure",
    "FindingFigures",
    "PixelBox",
    "ReadGroup",
    "ReportUids",
    "SegmentFigures",
    "check_report",
    "decode_report",
    "encode_report",
]


def __getattr__(name: str) -> object:  # what only writing needs is loaded by who writes: 20 MB
    if name == "check_report":
        from dicom.sr.check import check_report

        return check_report
    if name == "encode_report":
        from dicom.sr.write import encode_report

        return encode_report
    raise AttributeError(name)
