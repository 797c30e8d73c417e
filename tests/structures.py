"""RT Structure Sets for tests: contours drawn on an image as planning systems draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom.rtstruct import STORAGE
from dicom.uids import derived_uid
from dicom.volume import Grid

Polygon = tuple[int, Sequence[tuple[float, float]]]
"""Slice, and points as (row, column), which may lie between voxels."""


def structure_set(
    grid: Grid,
    drawn: Mapping[str, Sequence[Polygon]],
    *,
    name: str = "drawn",
    refer: bool = True,
    frame_of_reference_uid: str | None = None,
) -> Dataset:
    """Return an RT Structure Set of polygons; without `refer` its references lead nowhere."""
    header = dcmread(grid.instances[0].path, stop_before_pixels=True)
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = STORAGE, derived_uid("rtstruct", grid.series_uid, name)
    ds.SeriesInstanceUID = derived_uid("rtstruct series", grid.series_uid, name)
    ds.StudyInstanceUID = header.StudyInstanceUID
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(ds, keyword, header.get(keyword))
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20260102", "030405", ""
    ds.StudyID, ds.SeriesNumber, ds.ReferringPhysicianName = "1", 77, ""
    ds.Modality, ds.Manufacturer, ds.StructureSetLabel = "RTSTRUCT", "elsewhere", "PLAN"
    ds.StructureSetDate, ds.StructureSetTime = "20260102", "030405"
    frame_uid = frame_of_reference_uid or grid.frame_of_reference_uid
    image, series, study, frame = Dataset(), Dataset(), Dataset(), Dataset()
    image.ReferencedSOPClassUID = grid.instances[0].sop_class_uid
    image.ReferencedSOPInstanceUID = grid.instances[0].sop_instance_uid if refer else "1.2.3.4"
    series.SeriesInstanceUID = grid.series_uid if refer else "1.2.3"
    series.ContourImageSequence = [image]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "1.2"
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = frame_uid
    frame.RTReferencedStudySequence = [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for number, (roi_name, polygons) in enumerate(drawn.items(), 1):
        roi, contours, observed = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, roi_name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = frame_uid
        contours.ReferencedROINumber = number
        contours.ContourSequence = [_contour(grid, k, points) for k, points in polygons]
        observed.ObservationNumber = observed.ReferencedROINumber = number
        observed.RTROIInterpretedType, observed.ROIInterpreter = "", ""
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(contours)
        ds.RTROIObservationsSequence.append(observed)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _contour(grid: Grid, k: int, points: Sequence[tuple[float, float]]) -> Dataset:
    places = np.array([grid.affine_lps @ (k, j, i, 1) for j, i in points])[:, :3]
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    contour.ContourData = [f"{value:.6f}"[:16] for value in places.ravel()]
    return contour


def square(low: float, high: float) -> list[tuple[float, float]]:
    """Return a square's corners."""
    return [(low, low), (low, high), (high, high), (high, low)]
