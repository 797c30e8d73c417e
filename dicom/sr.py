"""Figures and findings as a structured report (PS3.16 TID 1500), in the shape of IHE AI Results.

One measurement group a segment (TID 1411): it refers to the segment of the Segmentation that the
same model wrote, carries that segment's tracking identifier, and says which algorithm measured.
Findings without voxels, of a classification or a detection, are groups of their own (TID 1501 and
TID 1411 with a box). highdicom builds and checks the templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import highdicom
import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    FindingSite,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumeSurface,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as PydicomCode
from pydicom.uid import ExplicitVRLittleEndian

from dicom.codes import Code
from dicom.errors import InvalidReport
from dicom.measure import Measured
from dicom.seg import Algorithm, Segment
from dicom.volume import Grid, Volume

_ML: Final = PydicomCode("mL", "UCUM", "milliliter")
_RATIO: Final = PydicomCode("{ratio}", "UCUM", "ratio")
_PROBABILITY: Final = PydicomCode("probability", "99RADLOOP", "Probability given by the model")
_COUNT: Final = PydicomCode("count", "99RADLOOP", "Number of them that were found")
_SCORE: Final = PydicomCode("score", "99RADLOOP", "Score given by the model")
_BY_MODALITY: Final = {
    "CT": codes.DCM.ComputedTomography,
    "MR": codes.DCM.MagneticResonance,
    "PT": codes.DCM.PositronEmissionTomography,
}
# What the values are, and their unit, by the unit of the volume.
_QUANTITY: Final = {
    "HU": (codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
    "SUVbw": (
        codes.DCM.StandardizedUptakeValue,
        PydicomCode("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight"),
    ),
    "BQML": (
        PydicomCode("110821", "DCM", "Nuclear Medicine Tomographic Activity"),
        codes.UCUM.BecquerelsPerMilliliter,
    ),
}
_SIGNAL: Final = (codes.DCM.MRSignalIntensity, codes.UCUM.NoUnits)
_PIXEL: Final = (PydicomCode("pixel_value", "99RADLOOP", "Value of the pixels"), codes.UCUM.NoUnits)
_SIGNIFICANT: Final = 7  # digits; what a DS of 16 characters holds in any case
_OF_THE_TEMPLATE: Final = frozenset(
    {
        ("121071", "DCM"),  # finding
        ("276214006", "SCT"),  # its category
        ("363698007", "SCT"),  # its site
        ("370129005", "SCT"),  # measurement method
        ("111000", "DCM"),  # algorithm family
    }
)
"""Codes of a group that are no evaluation."""
_BOX: Final = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


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


def encode_report(
    groups: Sequence[SegmentFigures | FindingFigures],
    source: Grid | Volume,
    *,
    segmentation: Dataset | None,
    algorithm: Algorithm,
    uids: ReportUids,
    series_number: int,
    series_description: str,
    created: datetime,
) -> Dataset:
    """Return a report of what was measured and found on one series.

    Parameters
    ----------
    groups : sequence of SegmentFigures or FindingFigures
        A segment without a voxel is reported with its volume of zero.
    source : Grid or Volume
        The series that was looked at; its first file is read again.
    segmentation : Dataset or None
        The object that holds the segments; required where there are any.
    created : datetime
        Its clock reading is the date and time of series and content.

    Raises
    ------
    InvalidReport
        When segments come without their Segmentation, or one is not in it, or there is nothing to
        report.
    """
    if not groups:
        raise InvalidReport("there is nothing to report")
    first = dcmread(source.instances[0].path, stop_before_pixels=True)
    evidence = [segmentation] if segmentation is not None else _evidence(groups, source, first)
    content = MeasurementReport(
        observation_context=_observer(algorithm, uids),
        procedure_reported=_BY_MODALITY.get(source.modality, codes.SCT.ImagingProcedure),
        imaging_measurements=[
            _of_segment(each, segmentation, source, algorithm)
            if isinstance(each, SegmentFigures)
            else _of_finding(each, first, source, algorithm)
            for each in groups
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=uids.series_uid,
        series_number=series_number,
        sop_instance_uid=uids.sop_instance_uid,
        instance_number=1,
        manufacturer=algorithm.manufacturer,
        is_complete=True,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=series_description[:64],
    )
    _at(report, created)
    return report


def decode_report(report: Dataset) -> tuple[ReadGroup, ...]:
    """Return a report's measurement groups, from this or another program.

    Raises
    ------
    InvalidReport
        When it is no TID 1500 report, or a group lacks what the template requires.
    """
    try:
        containers = [
            group
            for item in report.ContentSequence
            if _concept(item) == ("126010", "DCM")
            for group in item.ContentSequence
            if _concept(group) == ("125007", "DCM")
        ]
        return tuple(_read_group(group) for group in containers)
    except (AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
        raise InvalidReport("the report does not follow TID 1500") from error


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
        wanted = [value for _, _, value, _ in _figures_of(meant)]
        found = [figure.value for figure in there.figures]
        if len(wanted) != len(found) or not np.allclose(wanted, found, rtol=1e-5, atol=1e-6):
            raise InvalidReport("a figure of the report is not what was measured")


# --- writing --------------------------------------------------------------------------------------


def _evidence(
    groups: Sequence[SegmentFigures | FindingFigures], source: Grid | Volume, first: Dataset
) -> list[Dataset]:
    """Return the headers of the images that a report speaks of; the first one always."""
    found = {str(first.SOPInstanceUID): first}
    for each in groups:
        if isinstance(each, FindingFigures) and each.box_pixels is not None:
            header = _header(source, each.box_pixels)
            found.setdefault(str(header.SOPInstanceUID), header)
    return list(found.values())


def _header(source: Grid | Volume, box: PixelBox) -> Dataset:
    return dcmread(source.sources[box.source].instance.path, stop_before_pixels=True)


def _observer(algorithm: Algorithm, uids: ReportUids) -> ObservationContext:
    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=uids.device_uid,
        name=f"{algorithm.name} {algorithm.version}"[:64],
        manufacturer_name=algorithm.manufacturer,
        model_name=algorithm.name,
    )
    context = ObserverContext(
        observer_type=codes.DCM.Device, observer_identifying_attributes=device
    )
    return ObservationContext(observer_device_context=context)


def _of_segment(
    each: SegmentFigures, segmentation: Dataset | None, source: Grid | Volume, algorithm: Algorithm
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    if segmentation is None:
        raise InvalidReport("figures of a segment need the segmentation that holds it")
    numbers = {int(item.SegmentNumber) for item in segmentation.SegmentSequence}
    if each.segment.number not in numbers:
        raise InvalidReport("a segment that was measured is not in the segmentation")
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(each.tracking_uid, each.segment.label),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=each.segment.number,
            source_series=SourceSeriesForSegmentation(source.series_uid),
        ),
        finding_category=_pydicom(each.segment.category),
        finding_type=_pydicom(each.segment.type),
        finding_sites=_sites(each.segment.region or each.segment.type, each.segment.laterality),
        algorithm_id=_identified(algorithm),
        measurements=_measurements(each),
    )


def _of_finding(
    each: FindingFigures, first: Dataset, source: Grid | Volume, algorithm: Algorithm
) -> (
    VolumetricROIMeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | MeasurementsAndQualitativeEvaluations
):
    sites = _sites(each.region, None) if each.region is not None else None
    tracking = TrackingIdentifier(each.tracking_uid, each.label)
    if each.box_pixels is not None:
        return PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_region=_region(each.box_pixels, source),
            finding_type=_pydicom(each.code),
            finding_sites=sites,
            algorithm_id=_identified(algorithm),
            measurements=_measurements(each),
        )
    if each.box_lps is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=_pydicom(each.code),
            finding_sites=sites,
            algorithm_id=_identified(algorithm),
            measurements=_measurements(each),
            qualitative_evaluations=_evaluations(each),
            source_images=[SourceImageForMeasurementGroup(first.SOPClassUID, first.SOPInstanceUID)],
        )
    corners = np.array(
        [
            [pair[n] for pair, n in zip(zip(*each.box_lps, strict=True), at, strict=True)]
            for at in np.ndindex(2, 2, 2)
        ]
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_volume_surface=VolumeSurface(
            graphic_type="POLYGON",
            graphic_data=[corners[[*face, face[0]]] for face in _BOX],
            frame_of_reference_uid=source.frame_of_reference_uid,
            source_series=SourceSeriesForSegmentation(source.series_uid),
        ),
        finding_type=_pydicom(each.code),
        finding_sites=sites,
        algorithm_id=_identified(algorithm),
        measurements=_measurements(each),
    )


def _region(box: PixelBox, source: Grid | Volume) -> ImageRegion:
    header, frame = _header(source, box), source.sources[box.source].frame_number
    (left, top), (right, bottom) = box.low, box.high
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=np.array(corners),
        source_image=SourceImageForRegion(
            header.SOPClassUID, header.SOPInstanceUID, None if frame is None else [frame]
        ),
    )


def _evaluations(each: FindingFigures) -> list[QualitativeEvaluation] | None:
    if each.question is None:
        return None
    return [QualitativeEvaluation(_pydicom(each.question), _pydicom(each.code))]


def _figures_of(
    each: SegmentFigures | FindingFigures,
) -> list[tuple[PydicomCode, PydicomCode | None, float, PydicomCode]]:
    """Return (concept, derivation, value, unit) of what is known."""
    if isinstance(each, FindingFigures):
        if each.is_absent:
            return [(_COUNT, None, 0.0, codes.UCUM.NoUnits)]
        concept = _SCORE if each.is_boxed else _PROBABILITY
        return [(concept, None, _rounded(each.probability), _RATIO)]
    measured = each.measured
    quantity, unit = _QUANTITY.get(measured.unit, _SIGNAL if not measured.unit else _PIXEL)
    mm = codes.UCUM.Millimeter
    rows: list[tuple[PydicomCode, PydicomCode | None, float | None, PydicomCode]] = [
        (codes.SCT.Volume, None, measured.volume_ml, _ML),
        (codes.SCT.Area, None, measured.area_mm2, codes.UCUM.SquareMillimeter),
        (codes.SCT.LongAxis, None, measured.axial_diameter_mm, mm),
        (codes.SCT.Diameter, codes.SCT.Maximum, measured.diameter_mm, mm),
        (quantity, codes.SCT.Mean, measured.mean, unit),
        (quantity, codes.SCT.StandardDeviation, measured.sd, unit),
        (quantity, codes.SCT.Minimum, measured.minimum, unit),
        (quantity, codes.SCT.Maximum, measured.maximum, unit),
    ]
    return [
        (concept, derivation, _rounded(value), unit)
        for concept, derivation, value, unit in rows
        if value is not None
    ]


def _measurements(each: SegmentFigures | FindingFigures) -> list[Measurement]:
    return [
        Measurement(name=concept, value=value, unit=unit, derivation=derivation)
        for concept, derivation, value, unit in _figures_of(each)
    ]


def _sites(region: Code, side: Code | None) -> list[FindingSite]:
    return [FindingSite(_pydicom(region), laterality=_pydicom(side) if side else None)]


def _identified(algorithm: Algorithm) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        family=_pydicom(algorithm.family),
        manufacturer=algorithm.manufacturer,
    )


def _pydicom(code: Code) -> PydicomCode:
    return PydicomCode(code.value, code.scheme, code.meaning)


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT}g}")


def _at(report: Dataset, created: datetime) -> None:
    """Put one time everywhere: the same figures make the same bytes."""
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    for keyword in ("SeriesDate", "ContentDate", "InstanceCreationDate"):
        setattr(report, keyword, date)
    for keyword in ("SeriesTime", "ContentTime", "InstanceCreationTime"):
        setattr(report, keyword, time)
    for equipment in report.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = date + time


# --- reading --------------------------------------------------------------------------------------


def _concept(item: Dataset) -> tuple[str, str]:
    name = item.ConceptNameCodeSequence[0]
    return str(name.CodeValue), str(name.CodingSchemeDesignator)


def _read_group(group: Dataset) -> ReadGroup:
    children = {_concept(item): item for item in reversed(group.ContentSequence)}
    segment = next(
        (
            item.ReferencedSOPSequence[0]
            for item in group.ContentSequence
            if _concept(item) == ("121191", "DCM")
        ),
        None,
    )
    number = None if segment is None else segment.ReferencedSegmentNumber
    if number is not None and not isinstance(number, int):
        number = number[0]
    return ReadGroup(
        tracking_id=str(children["112039", "DCM"].TextValue),
        tracking_uid=str(children["112040", "DCM"].UID),
        finding=Code.from_dataset(children["121071", "DCM"].ConceptCodeSequence[0]),
        segmentation_uid="" if segment is None else str(segment.ReferencedSOPInstanceUID),
        segment_number=None if number is None else int(number),
        figures=tuple(_read_figure(i) for i in group.ContentSequence if i.ValueType == "NUM"),
        evaluations=tuple(
            (
                Code.from_dataset(item.ConceptNameCodeSequence[0]),
                Code.from_dataset(item.ConceptCodeSequence[0]),
            )
            for item in group.ContentSequence
            if item.ValueType == "CODE" and _concept(item) not in _OF_THE_TEMPLATE
        ),
    )


def _read_figure(item: Dataset) -> Figure:
    value = item.MeasuredValueSequence[0]
    derivation = next(
        (
            str(child.ConceptCodeSequence[0].CodeValue)
            for child in item.get("ContentSequence", [])
            if _concept(child) == ("121401", "DCM")
        ),
        "",
    )
    return Figure(
        concept=_concept(item)[0],
        derivation=derivation,
        value=float(value.NumericValue),
        unit=str(value.MeasurementUnitsCodeSequence[0].CodeValue),
    )
