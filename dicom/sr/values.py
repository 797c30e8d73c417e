"""What a report says: figures of segments, findings without voxels, groups as they stand there."""

from __future__ import annotations

from dataclasses import dataclass

from dicom.codes import Code
from dicom.measure import Measured
from dicom.seg import Segment


@dataclass(frozen=True, slots=True)
class SegmentFigures:
    """What was measured of one segment, and what it is called.

    Attributes
    ----------
    segment : Segment
        As the Segmentation describes it, with its number there.
    measured : Measured
    tracking_uid : str
        The segment's, in the Segmentation.
    """

    segment: Segment
    measured: Measured
    tracking_uid: str


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box on an image that has no place in the patient: a radiograph, a colour picture.

    Attributes
    ----------
    source : int
        Which of the grid's sources it is on.
    low, high : tuple of float
        Opposite corners (column, row). As PS3.3 C.18.6.1.2 has them: the upper left corner of the
        image is 0, 0; the middle of its first pixel is 0.5, 0.5.
    """

    source: int
    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True, slots=True)
class FindingFigures:
    """One finding without voxels: of a series, or in a box.

    Attributes
    ----------
    label : str
        Name for people.
    code : Code
    region : Code or None
    probability : float
        0 to 1, as the model gives it.
    tracking_uid : str
        New, derived by the caller.
    box_lps : tuple or None
        Opposite corners of an upright box in LPS, mm: (low, high); None for a whole series.
    box_pixels : PixelBox or None
        ... or a box on an image that has no place.
    is_absent : bool
        It was looked for and nowhere found; `probability` is 0 then.
    question : Code or None
        What the finding answers, where it is the answer: an evaluation says so in codes.
    """

    label: str
    code: Code
    region: Code | None
    probability: float
    tracking_uid: str
    box_lps: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    box_pixels: PixelBox | None = None
    is_absent: bool = False
    question: Code | None = None

    @property
    def is_boxed(self) -> bool:
        """Whether it lies somewhere, rather than being of a whole series."""
        return self.box_lps is not None or self.box_pixels is not None


@dataclass(frozen=True, slots=True)
class ReportUids:
    """Identifiers of a report, derived by the caller."""

    series_uid: str
    sop_instance_uid: str
    device_uid: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a report: its concept, how it was derived, value and unit, by code values."""

    concept: str
    derivation: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """One measurement group as it stands in a report.

    Attributes
    ----------
    segment_number : int or None
        Of the Segmentation `segmentation_uid`; None for a finding without voxels.
    evaluations : tuple of (Code, Code)
        What was asked, and the answer: the view of an image, say.
    """

    tracking_id: str
    tracking_uid: str
    finding: Code
    segmentation_uid: str
    segment_number: int | None
    figures: tuple[Figure, ...]
    evaluations: tuple[tuple[Code, Code], ...] = ()
