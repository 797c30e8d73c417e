"""Anything that was drawn, on the grid of its images: a SEG or a structure set, ours or not."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread

from dicom.agreement import Agreement, Pair, compare
from dicom.codes import Code
from dicom.errors import ForeignSegmentation, NotDicom
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.rtstruct import STORAGE as STRUCTURES_STORAGE
from dicom.rtstruct import StructureSet, rasterise, read_structures
from dicom.seg import DecodedSeg, Masks, decode_seg
from dicom.volume import Grid
from pipelines.corrections.lineage import read_masks

_UNCODED: Final = Code("85756007", "SCT", "Tissue")


@dataclass(frozen=True, slots=True)
class DrawnThing:
    """One segment or structure: what it is, and whether a person had a hand in it."""

    number: int
    label: str
    type: Code
    laterality: Code | None
    rgb: tuple[int, int, int]
    tracking_uid: str
    by_hand: bool


@dataclass(frozen=True, slots=True, eq=False)
class DrawnObject:
    """All that an object draws; `masks` are numbered from 1 in the order of `things`."""

    things: tuple[DrawnThing, ...]
    masks: Masks

    @property
    def by_hand(self) -> bool:
        """Whether a person had a hand in any of it."""
        return any(thing.by_hand for thing in self.things)


@dataclass(frozen=True, slots=True)
class About:
    """What an object says of itself and of its images, before anything is decoded."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uids: frozenset[str]
    frame_of_reference_uids: frozenset[str]
    predecessors: tuple[str, ...]
    structures: StructureSet | None


def about(content: bytes) -> About:
    """Return what an object says of itself.

    Raises
    ------
    NotDicom, InvalidSegmentation
        When it cannot be read.
    """
    try:
        with quiet_pydicom():
            ds = dcmread(BytesIO(content), stop_before_pixels=True)
            before = tuple(
                str(instance.ReferencedSOPInstanceUID)
                for study in ds.get("PredecessorDocumentsSequence") or ()
                for series in study.ReferencedSeriesSequence
                for instance in series.ReferencedSOPSequence
            )
            named = {
                str(series.SeriesInstanceUID) for series in ds.get("ReferencedSeriesSequence") or ()
            }
            frame = str(ds.get("FrameOfReferenceUID") or "")
            words = str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.StudyInstanceUID)
    except PARSER_ERRORS:
        raise NotDicom("the object cannot be read") from None
    if words[0] != STRUCTURES_STORAGE:
        return About(*words, frozenset(named), frozenset({frame} - {""}), before, None)
    structures = read_structures(ds)
    return About(
        *words, structures.series_uids, structures.frame_of_reference_uids, before, structures
    )


def read_object(
    content: bytes,
    grid: Grid,
    folder: Path,
    *,
    by_place: bool = False,
    any_frame: bool = False,
) -> DrawnObject:
    """Return an object's voxels on a grid.

    Parameters
    ----------
    content : bytes
        The Part 10 file.
    folder : Path
        For the time of reading.
    by_place : bool
        Go by where it lies, in the same frame of reference, whatever it refers to.
    any_frame : bool
        Take its frame of reference for the grid's: somebody says so.

    Raises
    ------
    InputError
        When it does not lie on the grid, refers to other images, or cannot be read.
    """
    said = about(content)
    if said.structures is not None:
        if not any_frame and grid.frame_of_reference_uid not in said.frame_of_reference_uids:
            raise ForeignSegmentation("the structures lie in another frame of reference")
        return _of_structures(said.structures, grid)
    if by_place:
        frame = grid.frame_of_reference_uid if any_frame else None
        return _of_seg(decode_seg(_without_references(content, frame), grid))
    path = folder / "drawn.dcm"
    path.write_bytes(content)
    return _of_seg(decode_seg(path, grid))


def pairs_of(before: DrawnObject, after: DrawnObject) -> list[tuple[int | None, int | None]]:
    """Return which thing of one object is which of the other, by their numbers.

    Tracking UIDs count first, then what things are in codes, then what they are called; what has no
    counterpart stands beside None.
    """
    left = {thing.number: thing for thing in before.things}
    found: list[tuple[int | None, int | None]] = []
    rest = list(after.things)
    for key in (_tracking, _coded, _called):
        for thing in list(rest):
            wanted = key(thing)
            same = [n for n, one in left.items() if wanted is not None and key(one) == wanted]
            if len(same) == 1 or (same and key is _tracking):
                found.append((same[0], thing.number))
                del left[same[0]]
                rest.remove(thing)
    found += [(None, thing.number) for thing in rest]
    found += [(number, None) for number in left]
    return found


def compare_objects(
    before: DrawnObject,
    after: DrawnObject,
    spacing_kji: tuple[float, float, float],
    *,
    tolerance_mm: float,
) -> tuple[list[tuple[int | None, int | None, Agreement]], Agreement]:
    """Return how far two objects are apart, pair by pair, and together."""
    numbers = pairs_of(before, after)
    crops: list[Pair] = [
        (before.masks.crops[a] if a else None, after.masks.crops[b] if b else None)
        for a, b in numbers
    ]
    each, total = compare(
        crops, spacing_kji, tolerance_mm=tolerance_mm, flat=before.masks.shape_kji[0] == 1
    )
    return [(a, b, one) for (a, b), one in zip(numbers, each, strict=True)], total


def _tracking(thing: DrawnThing) -> str | None:
    return thing.tracking_uid or None


def _coded(thing: DrawnThing) -> tuple[str, str, str] | None:
    if thing.type.value == _UNCODED.value:
        return None
    side = thing.laterality.value if thing.laterality else ""
    return thing.type.value, thing.type.scheme, side


def _called(thing: DrawnThing) -> str | None:
    return thing.label.casefold().strip() or None


def _of_seg(decoded: DecodedSeg) -> DrawnObject:
    things = tuple(
        DrawnThing(
            number=number,
            label=segment.label,
            type=segment.type,
            laterality=segment.laterality,
            rgb=segment.rgb,
            tracking_uid=origin.tracking_uid,
            by_hand=origin.algorithm_type != "AUTOMATIC",
        )
        for number, (segment, origin) in enumerate(
            zip(decoded.segments, decoded.origins, strict=True), 1
        )
    )
    return DrawnObject(things, read_masks(decoded))


def _of_structures(structures: StructureSet, grid: Grid) -> DrawnObject:
    masks = rasterise(structures, grid)
    things = tuple(
        DrawnThing(
            number=number,
            label=structure.name[:64],
            type=structure.code or _UNCODED,
            laterality=None,
            rgb=(230, 80, 70),
            tracking_uid="",
            by_hand=structure.by_hand,
        )
        for number, structure in enumerate(structures.structures, 1)
    )
    return DrawnObject(things, masks)


def _without_references(content: bytes, frame_of_reference_uid: str | None) -> Dataset:
    """Return a SEG that refers to nothing: then its places alone count."""
    try:
        with quiet_pydicom():
            ds = dcmread(BytesIO(content))
            groups = (
                *(ds.get("SharedFunctionalGroupsSequence") or ()),
                *(ds.get("PerFrameFunctionalGroupsSequence") or ()),
            )
            for group in groups:
                if "DerivationImageSequence" in group:
                    del group.DerivationImageSequence
    except PARSER_ERRORS:
        raise NotDicom("the segmentation cannot be read") from None
    if "ReferencedSeriesSequence" in ds:
        del ds.ReferencedSeriesSequence
    if frame_of_reference_uid is not None:
        ds.FrameOfReferenceUID = frame_of_reference_uid
    return ds
