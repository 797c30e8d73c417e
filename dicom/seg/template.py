"""A Segmentation's header, built and checked by highdicom on a frame of eight by eight pixels.

highdicom knows the IOD, the codes and what to copy of patient and study. What depends on the number
of frames is put in afterwards: geometry and references come from the grid that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from dicom.errors import InvalidSegmentation, NotDicom
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.seg.form import Form, Kind
from dicom.seg.picture import MAXIMUM_FRACTION
from dicom.seg.segments import Algorithm, Edited, ResultUids, Segment, describe, origins_of
from dicom.study import TYPE_2_KEYWORDS
from dicom.uids import derived_uid
from dicom.volume import Grid

if TYPE_CHECKING:
    import highdicom

_SIDE = 8
_OF_GEOMETRY = (
    "FrameOfReferenceUID",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_ROUNDED_MM = 6  # decimals: a nanometre, so that 0.1 + 0.2 is written as 0.3


@dataclass(frozen=True, slots=True)
class SourceImage:
    """What one slice of the source is called; `frame` counts from 1 in a multi-frame image."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None


@dataclass(frozen=True, slots=True)
class Texts:
    """What a Segmentation says of itself beside its segments."""

    series_number: int
    series_description: str
    content_label: str
    created: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A header without frames, and how highdicom describes one frame.

    Parameters
    ----------
    header : Dataset
        With file meta information; without NumberOfFrames, per-frame groups and pixels.
    group : Dataset
        Item of the Per-Frame Functional Groups Sequence for a frame of segment 1.
    """

    header: Dataset
    group: Dataset


def source_images(source: Grid) -> tuple[SourceImage, ...]:
    """Return what slice k of the source is called, for each k."""
    return tuple(
        SourceImage(
            slice_.instance.sop_class_uid, slice_.instance.sop_instance_uid, slice_.frame_number
        )
        for slice_ in source.sources
    )


def positions(source: Grid) -> tuple[tuple[str, str, str], ...]:
    """Return the position of each slice's first voxel, LPS in mm, as DICOM writes it."""
    origins = (
        source.affine_lps[:3, 3]
        + np.arange(source.shape_kji[0])[:, None] * source.affine_lps[:3, 0]
    )
    return tuple((_number(x), _number(y), _number(z)) for x, y, z in origins.tolist())


def template_of(
    source: Grid,
    segments: tuple[Segment, ...],
    kind: Kind,
    form: Form,
    *,
    algorithm: Algorithm | Edited,
    uids: ResultUids,
    texts: Texts,
) -> Template:
    """Return what every Segmentation of these segments on this source begins with.

    Raises
    ------
    NotDicom
        When the source's first file cannot be read.
    InvalidSegmentation
        When highdicom finds a text, a code or a number that cannot be written.
    """
    import highdicom  # 20 MB: when it is needed

    stand_in = _stand_in(source)
    patient_name = stand_in.PatientName
    stand_in.PatientName = None  # highdicom quotes a name that it doubts in a warning
    pixel = np.zeros((1, _SIDE, _SIDE), np.uint8)
    pixel[0, 0, 0] = 1
    try:
        seg = highdicom.seg.Segmentation(
            source_images=[stand_in],
            pixel_array=pixel,
            segmentation_type=kind,
            segment_descriptions=[
                describe(segment, origin)
                for segment, origin in zip(
                    segments, origins_of(algorithm, segments, uids), strict=True
                )
            ],
            series_instance_uid=uids.series_uid,
            series_number=texts.series_number,
            series_description=texts.series_description,
            sop_instance_uid=uids.sop_instance_uid,
            instance_number=1,
            manufacturer="radloop",
            manufacturer_model_name=algorithm.name
            if isinstance(algorithm, Algorithm)
            else "radloop",
            software_versions=f"radloop {version('radloop')}",
            device_serial_number="none",  # software has none, and PS3.3 C.7.5.2 wants a value
            fractional_type=form.fractional_type,
            max_fractional_value=MAXIMUM_FRACTION,
            specific_character_set=_character_set(stand_in, texts.series_description, segments),
            content_label=texts.content_label,
            content_description=texts.series_description,
            content_date=texts.created.date(),
            content_time=texts.created.time(),
            series_date=texts.created.date(),
            series_time=texts.created.time(),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    except (ValueError, TypeError):
        raise InvalidSegmentation("the labels cannot be written with these texts") from None
    seg.PatientName = patient_name
    if isinstance(algorithm, Edited):
        _sign(seg, algorithm)
    if not source.frame_of_reference_uid:  # PS3.3 C.7.6.1: type 2C
        seg.PatientOrientation = stand_in.get("PatientOrientation")
    return _without_frames(seg, source, form.syntax_for(kind))


def _sign(seg: Dataset, edited: Edited) -> None:
    """Say whose work it is, and what it was made from."""
    seg.ContentCreatorName = edited.creator
    if edited.predecessor is None:
        return
    before = edited.predecessor
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = before.sop_class_uid
    instance.ReferencedSOPInstanceUID = before.sop_instance_uid
    series.SeriesInstanceUID = before.series_uid
    series.ReferencedSOPSequence = [instance]
    study.StudyInstanceUID = before.study_uid
    study.ReferencedSeriesSequence = [series]
    seg.PredecessorDocumentsSequence = [study]


def _stand_in(source: Grid) -> Dataset:
    """Return one small classic image of the source's patient, study and geometry."""
    stand_in = _first_header(source)
    thickness = _thickness(stand_in)
    for keyword in _OF_GEOMETRY:
        if keyword in stand_in:
            del stand_in[keyword]
    for keyword in TYPE_2_KEYWORDS:
        if keyword not in stand_in:
            setattr(stand_in, keyword, None)
    stand_in.SOPInstanceUID = source.instances[0].sop_instance_uid
    stand_in.SeriesInstanceUID = source.series_uid
    stand_in.Modality = source.modality
    stand_in.Rows = stand_in.Columns = _SIDE
    if source.frame_of_reference_uid:
        _put_in_patient(stand_in, source, thickness)
    else:
        stand_in.SOPClassUID = ComputedRadiographyImageStorage  # a picture, which needs no place
    return stand_in


def _put_in_patient(stand_in: Dataset, source: Grid, thickness: str | None) -> None:
    """Give the stand-in the geometry that was measured, whatever the images say of it."""
    along_k, along_j, along_i = source.affine_lps[:3, :3].T
    cosines = (along_i / np.linalg.norm(along_i), along_j / np.linalg.norm(along_j))
    # Of a tilted series the slices do not follow their normal; their distance is along it.
    step = abs(float(along_k @ np.cross(*cosines)))
    spacing = [_number(value) for value in (step, *source.spacing_kji[1:])]
    stand_in.SOPClassUID = CTImageStorage
    stand_in.FrameOfReferenceUID = source.frame_of_reference_uid
    stand_in.ImageOrientationPatient = [
        format_number_as_ds(float(value) + 0.0) for vector in cosines for value in vector
    ]
    stand_in.ImagePositionPatient = list(positions(source)[0])
    stand_in.PixelSpacing = spacing[1:]
    stand_in.SpacingBetweenSlices = spacing[0]
    stand_in.SliceThickness = thickness or spacing[0]


def _first_header(source: Grid) -> Dataset:
    with quiet_pydicom():
        try:
            return dcmread(source.instances[0].path, stop_before_pixels=True)
        except PARSER_ERRORS:
            raise NotDicom("the source's first image cannot be read") from None


def _thickness(header: Dataset) -> str | None:
    """Return the thickness that a slice itself claims, be it in a functional group."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    measures = (shared.get("PixelMeasuresSequence") or [header])[0]
    claimed = measures.get("SliceThickness")
    return str(claimed) if claimed else None


def _without_frames(seg: highdicom.seg.Segmentation, source: Grid, syntax: UID) -> Template:
    """Return highdicom's object as a plain header, without what differs from run to run."""
    (group,) = seg.PerFrameFunctionalGroupsSequence
    header = Dataset()
    header.update(seg)
    header.file_meta = seg.file_meta
    header.file_meta.TransferSyntaxUID = syntax
    organization_uid = derived_uid(header.SOPInstanceUID, "DimensionOrganizationUID")
    for item in (*header.DimensionIndexSequence, *header.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = organization_uid
    header.InstanceCreationDate = header.ContentDate
    header.InstanceCreationTime = header.ContentTime
    _, header.Rows, header.Columns = source.shape_kji
    for keyword in (
        "ContributingEquipmentSequence",  # the scanner's serial number, and the present moment
        "DimensionOrganizationType",
        "NumberOfFrames",
        "PerFrameFunctionalGroupsSequence",
        "PixelData",
    ):
        if keyword in header:
            del header[keyword]
    _refer(header, source)
    return Template(header, group)


def _refer(header: Dataset, source: Grid) -> None:
    """Name every image of the source, each once."""
    references = []
    for uid, sop_class in {
        image.sop_instance_uid: image.sop_class_uid for image in source_images(source)
    }.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class
        reference.ReferencedSOPInstanceUID = uid
        references.append(reference)
    header.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references
    if "SourceImageSequence" in header:
        header.SourceImageSequence = references


def _character_set(
    source: Dataset, series_description: str, segments: Sequence[Segment]
) -> str | None:
    """Return the source's character set where it is one and our texts fit in every one, else UTF-8.

    Code extensions, as in Japan, are no single set (PS3.3 C.12.1.1.2); UTF-8 holds all of them.
    """
    texts = (series_description, *(segment.label for segment in segments))
    named = source.get("SpecificCharacterSet") or None
    if isinstance(named, MultiValue) or not all(text.isascii() for text in texts):
        return "ISO_IR 192"
    return None if named is None else str(named)


def _number(value: float) -> str:
    return format_number_as_ds(round(value, _ROUNDED_MM) + 0.0)  # + 0.0: minus zero is zero
