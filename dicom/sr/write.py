"""Figures and findings to a report; highdicom builds and checks the templates."""

from __future__ import annotations

from collections.abc import Sequence
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
from pydicom.uid import ExplicitVRLittleEndian

from dicom.codes import Code
from dicom.errors import InvalidReport
from dicom.seg import Algorithm
from dicom.sr.figures import figures_of, pydicom_code
from dicom.sr.values import FindingFigures, PixelBox, ReportUids, SegmentFigures
from dicom.volume import Grid, Volume

_BY_MODALITY: Final = {
    "CT": codes.DCM.ComputedTomography,
    "MR": codes.DCM.MagneticResonance,
    "PT": codes.DCM.PositronEmissionTomography,
}
_BOX: Final = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


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
        finding_category=pydicom_code(each.segment.category),
        finding_type=pydicom_code(each.segment.type),
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
            finding_type=pydicom_code(each.code),
            finding_sites=sites,
            algorithm_id=_identified(algorithm),
            measurements=_measurements(each),
        )
    if each.box_lps is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_type=pydicom_code(each.code),
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
        finding_type=pydicom_code(each.code),
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
    return [QualitativeEvaluation(pydicom_code(each.question), pydicom_code(each.code))]


def _measurements(each: SegmentFigures | FindingFigures) -> list[Measurement]:
    return [
        Measurement(name=concept, value=value, unit=unit, derivation=derivation)
        for concept, derivation, value, unit in figures_of(each)
    ]


def _sites(region: Code, side: Code | None) -> list[FindingSite]:
    return [FindingSite(pydicom_code(region), laterality=pydicom_code(side) if side else None)]


def _identified(algorithm: Algorithm) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        family=pydicom_code(algorithm.family),
        manufacturer=algorithm.manufacturer,
    )


def _at(report: Dataset, created: datetime) -> None:
    """Put one time everywhere: the same figures make the same bytes."""
    date, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    for keyword in ("SeriesDate", "ContentDate", "InstanceCreationDate"):
        setattr(report, keyword, date)
    for keyword in ("SeriesTime", "ContentTime", "InstanceCreationTime"):
        setattr(report, keyword, time)
    for equipment in report.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = date + time
