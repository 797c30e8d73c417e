"""What a segment is and what made it: in codes, written with highdicom, read from anybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dicom.codes import Code, Rgb, rgb_of
from dicom.errors import InvalidSegmentation
from dicom.seg.parse import Item, items_of, tag_of, text_of, word_of, words_of

if TYPE_CHECKING:
    import highdicom
    from pydicom.sr.coding import Code as PydicomCode

_NO_COLOUR: Final[Rgb] = (255, 255, 255)  # RecommendedDisplayCIELabValue is optional

_NUMBER = tag_of("SegmentNumber")
_LABEL = tag_of("SegmentLabel")
_CATEGORY = tag_of("SegmentedPropertyCategoryCodeSequence")
_TYPE = tag_of("SegmentedPropertyTypeCodeSequence")
_TYPE_SIDE = tag_of("SegmentedPropertyTypeModifierCodeSequence")
_REGION = tag_of("AnatomicRegionSequence")
_REGION_SIDE = tag_of("AnatomicRegionModifierSequence")
_COLOUR = tag_of("RecommendedDisplayCIELabValue")
_CODE_VALUES = tuple(tag_of(name) for name in ("CodeValue", "LongCodeValue", "URNCodeValue"))
_CODE_SCHEME = tag_of("CodingSchemeDesignator")
_CODE_MEANING = tag_of("CodeMeaning")
_ALGORITHM = tag_of("SegmentationAlgorithmIdentificationSequence")
_ALGORITHM_TYPE = tag_of("SegmentAlgorithmType")
_SEGMENT_ALGORITHM_NAME = tag_of("SegmentAlgorithmName")
_ALGORITHM_NAME = tag_of("AlgorithmName")
_ALGORITHM_VERSION = tag_of("AlgorithmVersion")
_ALGORITHM_SOURCE = tag_of("AlgorithmSource")
_ALGORITHM_FAMILY = tag_of("AlgorithmFamilyCodeSequence")
_TRACKING_ID = tag_of("TrackingID")
_TRACKING_UID = tag_of("TrackingUID")


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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one segment of a SEG comes from, as far as it says (PS3.3 C.8.20.4).

    Parameters
    ----------
    algorithm_type : str
        ``AUTOMATIC``, ``SEMIAUTOMATIC`` or ``MANUAL``.
    algorithm_name : str
        Empty where a person drew it.
    algorithm : Algorithm or None
        What made it, where it is identified in codes.
    tracking_id, tracking_uid : str
        What it is called in every object that speaks of it; empty where it has no such name.
    """

    algorithm_type: str
    algorithm_name: str
    algorithm: Algorithm | None
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The Segmentation that another one came from (PS3.3 Table C.17-2)."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Edited:
    """A person who drew or corrected the labels, and where each segment comes from.

    Parameters
    ----------
    creator : str
        Content Creator's Name.
    origins : tuple of Origin
        One a segment, in their order.
    predecessor : Predecessor or None
        What was corrected; None for what was drawn from scratch.
    """

    creator: str
    origins: tuple[Origin, ...]
    predecessor: Predecessor | None


def origins_of(
    made_by: Algorithm | Edited, segments: tuple[Segment, ...], uids: ResultUids
) -> tuple[Origin, ...]:
    """Return what made each segment, under the tracking UIDs that it is given.

    Raises
    ------
    InvalidSegmentation
        When a person's segments do not have one origin each.
    """
    if isinstance(made_by, Algorithm):
        return tuple(
            Origin("AUTOMATIC", made_by.name, made_by, segment.label, tracking_uid)
            for segment, tracking_uid in zip(segments, uids.tracking, strict=True)
        )
    if len(made_by.origins) != len(segments):
        raise InvalidSegmentation("each segment needs one origin")
    return tuple(
        replace(origin, tracking_uid=tracking_uid)
        for origin, tracking_uid in zip(made_by.origins, uids.tracking, strict=True)
    )


def describe(segment: Segment, origin: Origin) -> highdicom.seg.SegmentDescription:
    """Return a segment as highdicom describes and checks it."""
    import highdicom  # 20 MB: when it is needed
    from highdicom.color import CIELabColor

    description = highdicom.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=_concept(segment.category),
        segmented_property_type=_concept(segment.type),
        algorithm_type="MANUAL",  # the only one that highdicom takes without an identification
        algorithm_identification=_identification(origin.algorithm),
        tracking_uid=origin.tracking_uid,
        tracking_id=origin.tracking_id or segment.label,
        anatomic_regions=None if segment.region is None else [_concept(segment.region)],
        display_color=CIELabColor.from_rgb(*segment.rgb),
    )
    description.SegmentAlgorithmType = origin.algorithm_type
    if origin.algorithm_name:  # PS3.3 Table C.8.20-4: required unless MANUAL
        description.SegmentAlgorithmName = origin.algorithm_name
    if segment.laterality is not None:
        side = [segment.laterality.to_dataset()]
        if segment.region is None:
            kind = description.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = side
        else:
            description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
    return description


def _identification(
    algorithm: Algorithm | None,
) -> highdicom.AlgorithmIdentificationSequence | None:
    """Return the identification, where it is as whole as the standard wants (Table 10-19)."""
    if algorithm is None or not (algorithm.name and algorithm.version):
        return None
    import highdicom  # 20 MB: when it is needed

    return highdicom.AlgorithmIdentificationSequence(
        name=algorithm.name,
        version=algorithm.version,
        family=_concept(algorithm.family),
        source=algorithm.manufacturer or None,
    )


def segment_of(item: Item, encodings: tuple[str, ...]) -> Segment:
    """Return what an item of the Segment Sequence describes.

    Raises
    ------
    InvalidSegmentation
        When it lacks its number, or the codes of what it is: nobody's organ is guessed.
    """
    number = word_of(item, _NUMBER)
    categories, kinds = items_of(item, _CATEGORY), items_of(item, _TYPE)
    if number is None or not categories or not kinds:
        raise InvalidSegmentation("a segment does not say in codes what it is")
    regions = items_of(item, _REGION)
    sides = items_of(regions[0], _REGION_SIDE) if regions else items_of(kinds[0], _TYPE_SIDE)
    colour = words_of(item, _COLOUR)
    return Segment(
        number=number,
        label=text_of(item, _LABEL, encodings),
        category=_code_of(categories[0], encodings),
        type=_code_of(kinds[0], encodings),
        region=_code_of(regions[0], encodings) if regions else None,
        laterality=_code_of(sides[0], encodings) if sides else None,
        rgb=rgb_of((colour[0], colour[1], colour[2])) if len(colour) == 3 else _NO_COLOUR,
    )


def origin_of(item: Item, encodings: tuple[str, ...]) -> Origin:
    """Return what made the segment that an item of the Segment Sequence describes."""
    return Origin(
        algorithm_type=text_of(item, _ALGORITHM_TYPE),
        algorithm_name=text_of(item, _SEGMENT_ALGORITHM_NAME, encodings),
        algorithm=_algorithm_of(items_of(item, _ALGORITHM), encodings),
        tracking_id=text_of(item, _TRACKING_ID, encodings),
        tracking_uid=text_of(item, _TRACKING_UID),
    )


def _algorithm_of(items: list[Item], encodings: tuple[str, ...]) -> Algorithm | None:
    families = items_of(items[0], _ALGORITHM_FAMILY) if items else []
    if not families:
        return None
    return Algorithm(
        name=text_of(items[0], _ALGORITHM_NAME, encodings),
        version=text_of(items[0], _ALGORITHM_VERSION, encodings),
        manufacturer=text_of(items[0], _ALGORITHM_SOURCE, encodings),
        family=_code_of(families[0], encodings),
    )


def _code_of(item: Item, encodings: tuple[str, ...]) -> Code:
    # PS3.3 8.8: a value that is longer than SH holds stands in one of the other two.
    value = next(filter(None, (text_of(item, tag) for tag in _CODE_VALUES)), "")
    try:
        return Code(value, text_of(item, _CODE_SCHEME), text_of(item, _CODE_MEANING, encodings))
    except ValueError:
        raise InvalidSegmentation("a segment is coded without value, scheme or meaning") from None


def _concept(code: Code) -> PydicomCode:
    from pydicom.sr.coding import Code as PydicomCode  # 20 MB: when it is needed

    return PydicomCode(code.value, code.scheme, code.meaning)
