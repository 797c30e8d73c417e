"""What each segment of a correction was, and what it becomes: codes, tracking, who made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom.uid import UID

from dicom.codes import STRUCTURES, TISSUE, Code, Rgb
from dicom.errors import OverlappingSegments
from dicom.measure import masks_of
from dicom.seg import Crop, DecodedSeg, Masks, Origin, Segment
from dicom.uids import derived_uid
from pipelines.labels import Coded, DrawnSegment

_UNCODED = Code("85756007", "SCT", "Tissue")  # as 3D Slicer and OHIF code what nobody has named
_COLOURS: tuple[Rgb, ...] = (
    (230, 80, 70),
    (80, 170, 230),
    (120, 200, 90),
    (240, 190, 70),
    (180, 110, 210),
    (90, 200, 190),
)


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What was corrected, as far as it can be read: its segments, where each is and comes from."""

    segments: tuple[Segment, ...]
    origins: tuple[Origin, ...]
    masks: Masks

    @classmethod
    def of(cls, decoded: DecodedSeg) -> Before:
        """Return what a Segmentation on the grid of its source holds.

        Raises
        ------
        UnreadablePixels
            When a frame is damaged.
        """
        return cls(decoded.segments, decoded.origins, read_masks(decoded))

    def crop(self, number: int) -> Crop:
        """Return where the segment of that SegmentNumber is."""
        place = [segment.number for segment in self.segments].index(number)
        return self.masks.crops[place + 1]


@dataclass(frozen=True, slots=True)
class Lineage:
    """One segment of a correction, where it comes from, and whether its voxels were changed."""

    segment: Segment
    origin: Origin
    came_from: int | None
    changed: bool


def read_masks(decoded: DecodedSeg) -> Masks:
    """Return a mask for each segment, numbered from 1 in the order of the Segmentation."""
    if decoded.kind == "FRACTIONAL":
        return Masks.of(decoded.mask(segment.number) for segment in decoded.segments)
    try:
        labels_kji = decoded.labels()
    except OverlappingSegments:
        return decoded.masks()
    found = masks_of(labels_kji).crops
    nothing = Crop((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
    return Masks(
        decoded.shape_kji,
        {n: found.get(each.number, nothing) for n, each in enumerate(decoded.segments, 1)},
    )


def lineage(
    drawn: Sequence[DrawnSegment], masks: Masks, before: Before | None, *, key: str
) -> tuple[Lineage, ...]:
    """Return what each drawn segment is, in order, numbered from 1.

    What a viewer says in codes counts; what it leaves out stays as it was. A model's segment that
    nobody touched stays AUTOMATIC, one that was touched is SEMIAUTOMATIC and keeps the model's
    name, and what a person drew is MANUAL (PS3.3 Table C.8.20-4).

    Parameters
    ----------
    masks : Masks
        The drawn voxels, by the new numbers.
    before : Before or None
        What was corrected; None for what was drawn from scratch.
    key : str
        From which tracking UIDs of new segments derive.
    """
    known = {each.number: n for n, each in enumerate(before.segments)} if before else {}
    taken: set[int] = set()
    found = []
    for number, each in enumerate(drawn, 1):
        fresh_uid = derived_uid(key, "tracking", str(number))
        if before is None or each.origin not in known or each.origin in taken:
            found.append(_new(each, number, fresh_uid))
            continue
        taken.add(each.origin)
        place = known[each.origin]
        changed = not _same(masks.crops[number], before.masks.crops[place + 1])
        origin = _continued(before.origins[place], each.label, fresh_uid, changed=changed)
        segment = _described(each, number, before.segments[place])
        found.append(Lineage(segment, origin, each.origin, changed))
    return tuple(found)


def _new(drawn: DrawnSegment, number: int, fresh_uid: str) -> Lineage:
    tracking_uid = drawn.tracking_uid or ""
    origin = Origin(
        algorithm_type="MANUAL",
        algorithm_name="",
        algorithm=None,
        tracking_id=drawn.tracking_id or drawn.label,
        tracking_uid=tracking_uid if UID(tracking_uid).is_valid else fresh_uid,
    )
    return Lineage(_described(drawn, number, None), origin, None, changed=True)


def _continued(origin: Origin, label: str, fresh_uid: str, *, changed: bool) -> Origin:
    kind = origin.algorithm_type or ("SEMIAUTOMATIC" if origin.algorithm_name else "MANUAL")
    if changed and kind == "AUTOMATIC":
        kind = "SEMIAUTOMATIC"
    name = origin.algorithm_name or (origin.algorithm.name if origin.algorithm else "")
    return replace(
        origin,
        algorithm_type=kind,
        algorithm_name=name or ("" if kind == "MANUAL" else "unknown"),
        tracking_id=origin.tracking_id or label,
        tracking_uid=origin.tracking_uid if UID(origin.tracking_uid).is_valid else fresh_uid,
    )


def _described(drawn: DrawnSegment, number: int, was: Segment | None) -> Segment:
    """Return a segment by what the viewer says, else by what it was, else as uncoded tissue."""
    kind = _code(drawn.type, was.type if was else None) or _UNCODED
    renamed = was is not None and (kind.value, kind.scheme) != (was.type.value, was.type.scheme)
    kept = None if renamed else was
    return Segment(
        number=number,
        label=drawn.label,
        category=_code(drawn.category, was.category if was else None) or TISSUE,
        type=kind,
        region=_code(drawn.region, kept.region if kept else None),
        laterality=_code(drawn.laterality, kept.laterality if kept else None),
        rgb=_colour(drawn, kept, kind, number),
    )


def _code(said: Coded | None, was: Code | None) -> Code | None:
    if said is None:
        return was
    if was is not None and (said.value, said.scheme) == (was.value, was.scheme):
        return was  # its meaning in words stays too
    return Code(said.value, said.scheme, said.meaning)


def _colour(drawn: DrawnSegment, was: Segment | None, kind: Code, number: int) -> Rgb:
    if was is not None and (drawn.colour is None or _near(drawn.colour, was.rgb)):
        return was.rgb
    if drawn.colour is not None:
        red, green, blue = (min(255, max(0, part)) for part in drawn.colour)
        return red, green, blue
    named = (s.rgb for s in STRUCTURES.values() if s.type.value == kind.value)
    return next(named, _COLOURS[(number - 1) % len(_COLOURS)])


def _near(a: Rgb, b: Rgb) -> bool:
    """Whether two colours are one that went through CIELab and back."""
    return max(abs(one - other) for one, other in zip(a, b, strict=True)) <= 2


def _same(a: Crop, b: Crop) -> bool:
    """Whether two segments are equal: their boxes are tight, so that equal ones have one box."""
    if not a.voxels_kji.size and not b.voxels_kji.size:
        return True
    return a.corner_kji == b.corner_kji and np.array_equal(a.voxels_kji, b.voxels_kji)
