"""Labels <-> DICOM Segmentation (PS3.3 A.51, C.8.20).

Writing goes through highdicom; reading is done here on pydicom's frames, so that a result is never
checked by the code that wrote it. Writing is repeatable: what is not given by the caller is derived
from what is, so that the same labels make the same bytes, and a step that runs twice stores one
object.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code as PydicomCode
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

from dicom.codes import Code, Rgb, rgb_of
from dicom.errors import InvalidSegmentation, NotDicom
from dicom.part10 import PARSER_ERRORS
from dicom.study import TYPE_2_KEYWORDS
from dicom.uids import derived_uid
from dicom.volume import Grid, Volume

Labels = npt.NDArray[np.unsignedinteger]

SAME_PLACE_TOLERANCE = 0.25
"""How far a frame's corner may lie from its source's corner, in voxels' smallest side.

Writers round positions; a frame that is off by a quarter of a voxel lies on another grid.
"""
_LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Label Map Segmentation; not in pydicom 3.0
_NO_COLOUR: Rgb = (255, 255, 255)  # RecommendedDisplayCIELabValue is optional

# What highdicom reads of each source image; the rest of the header stays unread.
_SOURCE_ATTRIBUTES = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "SliceThickness",
    "ImagePositionPatient",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: its number in the label map, and what it is, in codes (PS3.3 C.8.20.4).

    Parameters
    ----------
    number : int
        Label value, from 1.
    label : str
        Name for people, up to 64 characters.
    region : Code or None
        Anatomic region where the type alone does not say it (a tumour of the *liver*).
    laterality : Code or None
        Side of the region, or of the type where no region is given.
    rgb : tuple of int
        Recommended display colour, sRGB 0 to 255.
    """

    number: int
    label: str
    category: Code
    type: Code
    region: Code | None
    laterality: Code | None
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What made the labels (PS3.3 Table 10-19)."""

    name: str
    version: str
    manufacturer: str
    family: Code


@dataclass(frozen=True, slots=True)
class ResultUids:
    """Identifiers of a result, derived by the caller; ``tracking`` holds one a segment."""

    series_uid: str
    sop_instance_uid: str
    tracking: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSeg:
    """A SEG's segments, placed on the slices of the series that it was made from.

    Parameters
    ----------
    frames_fji : ndarray, shape (frames, rows, columns)
        Zero outside; any other value inside, in a label map the segment's number.
    numbers : tuple of int
        Segment that each frame belongs to; 0 for a frame of a label map, which holds all.
    slices : tuple of int
        Slice k of the source series that each frame lies on.
    """

    segments: tuple[Segment, ...]
    shape_kji: tuple[int, int, int]
    frames_fji: Labels
    numbers: tuple[int, ...]
    slices: tuple[int, ...]

    def mask(self, number: int) -> npt.NDArray[np.bool_]:
        """Return where one segment is, shape (slices, rows, columns); segments may overlap."""
        mask_kji = np.zeros(self.shape_kji, np.bool_)
        for frame_ji, of, k in zip(self.frames_fji, self.numbers, self.slices, strict=True):
            if of == number:
                mask_kji[k] |= frame_ji != 0
            elif of == 0:
                mask_kji[k] |= frame_ji == number
        return mask_kji

    def labels(self) -> Labels:
        """Return one label map, shape (slices, rows, columns); 0 is background.

        Raises
        ------
        InvalidSegmentation
            When segments overlap, so that no single label map can hold them.
        """
        highest = max((segment.number for segment in self.segments), default=0)
        labels_kji: Labels = np.zeros(self.shape_kji, np.uint8 if highest < 256 else np.uint16)
        for frame_ji, of, k in zip(self.frames_fji, self.numbers, self.slices, strict=True):
            inside = frame_ji != 0
            if labels_kji[k][inside].any():
                raise InvalidSegmentation("segments overlap; they do not fit in one label map")
            labels_kji[k][inside] = of or frame_ji[inside]
        return labels_kji


def encode_seg(
    labels_kji: npt.NDArray[np.integer] | npt.NDArray[np.bool_],
    source: Grid | Volume,
    segments: tuple[Segment, ...],
    *,
    algorithm: Algorithm,
    uids: ResultUids,
    series_number: int,
    series_description: str,
    content_label: str,
    created: datetime,
) -> Dataset:
    """Write labels as a BINARY Segmentation on the grid of their source series.

    Frames without a voxel of their segment are left out. A segment without any voxel stays
    described, so that a reader sees that it was looked for; where nothing at all was found, one
    all-zero frame for each segment, on the middle slice, makes the object valid: a SEG has at
    least one frame, and "nothing found" is a result that has to reach the archive.

    Parameters
    ----------
    labels_kji : ndarray, integer or bool, shape (slices, rows, columns)
        Label value per voxel in the source's slice order; 0 is background.
    source : Grid or Volume
        The headers of its instances are read, not their pixels.
    segments : tuple of Segment
        Numbered 1, 2, 3 ...; every label value is one of them.
    content_label : str
        Up to 16 of A-Z, 0-9, space and underscore (CS).
    created : datetime
        Its clock reading, local time by custom, is the date and time of series and content.

    Returns
    -------
    Dataset
        With file meta information, Explicit VR Little Endian; ready for ``save_as``.

    Raises
    ------
    InvalidSegmentation
        When labels, segments and source do not fit together, or a text is not writable.
    """
    checked_kji = _checked_labels(labels_kji, source, segments, uids)
    sources = _read_sources(source)
    patient_name = sources[0].PatientName
    sources[0].PatientName = None  # highdicom quotes a name that it doubts in a warning
    pixels_kji, positions = checked_kji, None
    found = bool(checked_kji.any())
    if not found:
        middle = len(sources) // 2
        pixels_kji = checked_kji[middle : middle + 1]
        positions = [
            highdicom.PlanePositionSequence("PATIENT", sources[middle].ImagePositionPatient)
        ]
    try:
        seg = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels_kji,
            plane_positions=positions,
            segmentation_type="BINARY",
            omit_empty_frames=found,
            segment_descriptions=[
                _describe(segment, algorithm, tracking_uid)
                for segment, tracking_uid in zip(segments, uids.tracking, strict=True)
            ],
            series_instance_uid=uids.series_uid,
            series_number=series_number,
            series_description=series_description,
            sop_instance_uid=uids.sop_instance_uid,
            instance_number=1,
            manufacturer="radloop",
            manufacturer_model_name=algorithm.name,
            software_versions=f"radloop {version('radloop')}",
            device_serial_number="none",  # software has none, and PS3.3 C.7.5.2 wants a value
            specific_character_set=_character_set(sources[0], series_description, segments),
            content_label=content_label,
            content_description=series_description,
            content_date=created.date(),
            content_time=created.time(),
            series_date=created.date(),
            series_time=created.time(),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    except (ValueError, TypeError):
        raise InvalidSegmentation("the labels cannot be written with these texts") from None
    seg.PatientName = patient_name
    return _repeatable(seg)


def decode_seg(seg: Dataset | Path, source: Grid | Volume) -> DecodedSeg:
    """Read a Segmentation (BINARY or LABELMAP) onto the slices of its source series.

    A frame belongs to the slice whose SOP instance it refers to; where it refers to none, to the
    slice at its position. Either way its corners have to lie where that slice has its own.

    Parameters
    ----------
    seg : Dataset or Path
        The Segmentation, from this or another program.
    source : Grid or Volume
        The series that it was made from.

    Raises
    ------
    NotDicom
        When the file cannot be read.
    InvalidSegmentation
        When it is no such Segmentation, or lies on another grid.
    """
    ds = _read_file(seg) if isinstance(seg, Path) else seg
    if ds.get("SOPClassUID") not in (SegmentationStorage, _LABEL_MAP):
        raise InvalidSegmentation("the object is no Segmentation")
    kind = ds.get("SegmentationType")
    if kind not in ("BINARY", "LABELMAP"):
        raise InvalidSegmentation("only BINARY and LABELMAP segmentations can be read")
    frames_fji = _frames_of(ds, source.shape_kji)
    groups = list(ds.get("PerFrameFunctionalGroupsSequence") or ())
    if len(groups) != len(frames_fji):
        raise InvalidSegmentation(f"{len(frames_fji)} frames, {len(groups)} descriptions of them")
    shared = (ds.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    slice_of = {instance.sop_instance_uid: k for k, instance in enumerate(source.instances)}
    try:
        segments = _segments_of(ds)
        slices = tuple(_slice_of(group, shared, source, slice_of) for group in groups)
        numbers = tuple(0 if kind == "LABELMAP" else _number_of(group, shared) for group in groups)
    except PARSER_ERRORS:
        raise InvalidSegmentation("the segmentation lacks what describes its frames") from None
    unknown = set(numbers) - {segment.number for segment in segments} - {0}
    if unknown:
        raise InvalidSegmentation(f"frames of {len(unknown)} segments that are not described")
    return DecodedSeg(segments, source.shape_kji, frames_fji, numbers, slices)


def check_seg(
    seg: Dataset | Path,
    labels_kji: npt.NDArray[np.integer] | npt.NDArray[np.bool_],
    source: Grid | Volume,
) -> None:
    """Make sure that a Segmentation holds exactly these labels, before it leaves the house.

    Raises
    ------
    InvalidSegmentation
        When a single voxel differs.
    """
    decoded_kji = decode_seg(seg, source).labels()
    if decoded_kji.shape != labels_kji.shape:
        raise InvalidSegmentation("the segmentation has another size than the labels")
    different = int(np.count_nonzero(decoded_kji != labels_kji))
    if different:
        raise InvalidSegmentation(f"{different} voxels of the segmentation differ from the labels")


# --- writing ------------------------------------------------------------------------------------


def _checked_labels(
    labels_kji: npt.NDArray[np.integer] | npt.NDArray[np.bool_],
    source: Grid | Volume,
    segments: tuple[Segment, ...],
    uids: ResultUids,
) -> Labels:
    if labels_kji.shape != source.shape_kji:
        raise InvalidSegmentation("the labels do not have the size of the source series")
    if labels_kji.dtype.kind not in "bui":
        raise InvalidSegmentation("labels are whole numbers")
    if not segments or [segment.number for segment in segments] != [*range(1, len(segments) + 1)]:
        raise InvalidSegmentation("segments are numbered 1, 2, 3 ... without a gap")
    if len(uids.tracking) != len(segments):
        raise InvalidSegmentation("each segment needs one tracking UID")
    if labels_kji.min() < 0 or labels_kji.max() > len(segments):
        raise InvalidSegmentation("the labels hold a value that no segment describes")
    return labels_kji.astype(np.uint8 if len(segments) < 256 else np.uint16, copy=False)


def _read_sources(source: Grid | Volume) -> list[Dataset]:
    """Return the headers that highdicom copies from, with the geometry that was measured."""
    spacing_mm, _, _ = source.spacing_kji
    sources: list[Dataset] = [
        dcmread(instance.path, stop_before_pixels=True, specific_tags=list(_SOURCE_ATTRIBUTES))
        for instance in source.instances[1:]
    ]
    # Patient and study are copied from the first one, so that one is read whole.
    sources.insert(0, dcmread(source.instances[0].path, stop_before_pixels=True))
    for keyword in TYPE_2_KEYWORDS:
        if keyword not in sources[0]:
            setattr(sources[0], keyword, None)
    cosines = sources[0].ImageOrientationPatient
    for ds in sources:
        ds.ImageOrientationPatient = cosines  # equal within the tolerance that made one volume
        ds.SpacingBetweenSlices = f"{spacing_mm:.12g}"
        if not ds.get("SliceThickness"):
            ds.SliceThickness = ds.SpacingBetweenSlices
    return sources


def _character_set(
    source: Dataset, series_description: str, segments: tuple[Segment, ...]
) -> str | list[str] | None:
    """Return the source's character set where our texts fit in every one, else UTF-8."""
    texts = (series_description, *(segment.label for segment in segments))
    if not all(text.isascii() for text in texts):
        return "ISO_IR 192"
    named = source.get("SpecificCharacterSet")
    return list(named) if isinstance(named, MultiValue) else named


def _describe(
    segment: Segment, algorithm: Algorithm, tracking_uid: str
) -> highdicom.seg.SegmentDescription:
    description = highdicom.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=_concept(segment.category),
        segmented_property_type=_concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            version=algorithm.version,
            family=_concept(algorithm.family),
            source=algorithm.manufacturer,
        ),
        tracking_uid=tracking_uid,
        tracking_id=segment.label,
        anatomic_regions=None if segment.region is None else [_concept(segment.region)],
        display_color=CIELabColor.from_rgb(*segment.rgb),
    )
    if segment.laterality is not None:
        side = [segment.laterality.to_dataset()]
        if segment.region is None:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = side
        else:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
    return description


def _concept(code: Code) -> PydicomCode:
    return PydicomCode(code.value, code.scheme, code.meaning)


def _repeatable(seg: highdicom.seg.Segmentation) -> Dataset:
    """Return the object as a plain dataset, without what differs from run to run."""
    ds = Dataset()
    ds.update(seg)
    ds.file_meta = seg.file_meta
    ds.preamble = b"\0" * 128  # without one, save_as would write no Part 10 file
    organization_uid = derived_uid(ds.SOPInstanceUID, "DimensionOrganizationUID")
    for item in (*ds.DimensionIndexSequence, *ds.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = organization_uid
    ds.InstanceCreationDate = ds.ContentDate
    ds.InstanceCreationTime = ds.ContentTime
    del ds.ContributingEquipmentSequence  # the scanner's serial number, and the present moment
    return ds


# --- reading ------------------------------------------------------------------------------------


def _read_file(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except PARSER_ERRORS:
        raise NotDicom("the segmentation is no DICOM file, or damaged") from None


def _frames_of(ds: Dataset, shape_kji: tuple[int, int, int]) -> Labels:
    try:
        frames: Labels = ds.pixel_array
    except (RuntimeError, *PARSER_ERRORS):
        raise InvalidSegmentation("the segmentation's pixel data cannot be decoded") from None
    frames_fji = frames[np.newaxis] if frames.ndim == 2 else frames
    if frames_fji.shape[1:] != shape_kji[1:]:
        raise InvalidSegmentation("frames of another size than the source's slices")
    return frames_fji


def _segments_of(ds: Dataset) -> tuple[Segment, ...]:
    return tuple(
        _segment_of(item)
        for item in ds.SegmentSequence
        if int(item.SegmentNumber) > 0  # a label map may describe its background as 0
    )


def _segment_of(item: Dataset) -> Segment:
    kind = item.SegmentedPropertyTypeCodeSequence[0]
    region = (item.get("AnatomicRegionSequence") or [None])[0]
    sides = (
        kind.get("SegmentedPropertyTypeModifierCodeSequence")
        if region is None
        else region.get("AnatomicRegionModifierSequence")
    ) or [None]
    lab = item.get("RecommendedDisplayCIELabValue")
    return Segment(
        number=int(item.SegmentNumber),
        label=str(item.SegmentLabel),
        category=Code.from_dataset(item.SegmentedPropertyCategoryCodeSequence[0]),
        type=Code.from_dataset(kind),
        region=None if region is None else Code.from_dataset(region),
        laterality=None if sides[0] is None else Code.from_dataset(sides[0]),
        rgb=rgb_of((lab[0], lab[1], lab[2])) if lab else _NO_COLOUR,
    )


def _number_of(group: Dataset, shared: Dataset) -> int:
    (item,) = _functional_group(group, shared, "SegmentIdentificationSequence")
    return int(item.ReferencedSegmentNumber)


def _functional_group(group: Dataset, shared: Dataset, keyword: str) -> list[Dataset]:
    """Return a functional group, which stands per frame or once for all (PS3.3 C.7.6.16)."""
    return list(group.get(keyword) or shared.get(keyword) or ())


def _slice_of(
    group: Dataset, shared: Dataset, source: Grid | Volume, slice_of: dict[str, int]
) -> int:
    """Return the slice k that a frame lies on."""
    referenced = {
        str(image.ReferencedSOPInstanceUID)
        for derivation in _functional_group(group, shared, "DerivationImageSequence")
        for image in derivation.get("SourceImageSequence") or ()
    }
    known = [slice_of[uid] for uid in referenced if uid in slice_of]
    if referenced and not known:
        raise InvalidSegmentation("the segmentation refers to images that the series lacks")
    corners = _corners_of(group, shared, source.shape_kji)
    if len(known) == 1:
        k = known[0]
    elif corners is None:
        raise InvalidSegmentation("a frame says neither its source image nor its position")
    else:
        index = np.linalg.solve(source.affine_lps, np.append(corners[0], 1.0))
        k = round(float(index[0]))
    if not 0 <= k < source.shape_kji[0]:
        raise InvalidSegmentation("a frame lies outside the source series")
    if corners is not None:
        expected = _corners_on(source, k)
        off = float(np.linalg.norm(corners - expected, axis=1).max())
        if off > SAME_PLACE_TOLERANCE * min(source.spacing_kji):
            raise InvalidSegmentation(f"a frame lies {off:.2f} mm off its source slice")
    return k


def _corners_of(
    group: Dataset, shared: Dataset, shape_kji: tuple[int, int, int]
) -> npt.NDArray[np.float64] | None:
    """Return the centres of a frame's first, last-row and last-column voxels in LPS mm."""
    positions = _functional_group(group, shared, "PlanePositionSequence")
    orientations = _functional_group(group, shared, "PlaneOrientationSequence")
    measures = _functional_group(group, shared, "PixelMeasuresSequence")
    if not (positions and orientations and measures):
        return None
    origin = np.array(positions[0].ImagePositionPatient, np.float64)
    cosines = np.array(orientations[0].ImageOrientationPatient, np.float64)
    between_rows, between_columns = (float(value) for value in measures[0].PixelSpacing)
    _, rows, columns = shape_kji
    down = cosines[3:] * between_rows * (rows - 1)
    right = cosines[:3] * between_columns * (columns - 1)
    return np.array([origin, origin + down, origin + right])


def _corners_on(source: Grid | Volume, k: int) -> npt.NDArray[np.float64]:
    """Return the same three centres for slice k of the source."""
    _, rows, columns = source.shape_kji
    indices = np.array([[k, 0, 0, 1], [k, rows - 1, 0, 1], [k, 0, columns - 1, 1]], np.float64)
    corners: npt.NDArray[np.float64] = (indices @ source.affine_lps.T)[:, :3]
    return corners
