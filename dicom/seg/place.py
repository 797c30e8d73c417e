"""Where each frame of a Segmentation lies among the voxels of its source.

A frame belongs to the image that it refers to, and lies where its position says; both have to
agree. Rows may run upwards, planes may cross the source's slices, and a frame may be a part of a
slice: as long as its voxels are the source's voxels, they are put where they belong. Anything else
is another grid, and is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dicom.errors import ForeignSegmentation, InvalidSegmentation, OtherGrid
from dicom.seg.lattice import Floats, Lattice, lattice_from
from dicom.seg.parse import Item, Parsed, items_of, numbers_of, tag_of, text_of, walk, word_of

Voxel = TypeVar("Voxel", bound=np.generic)
Directions = tuple[tuple[float, ...] | None, tuple[float, ...] | None, float | None, float | None]


_DERIVATION = tag_of("DerivationImageSequence")
_SOURCE = tag_of("SourceImageSequence")
_SOP_INSTANCE = tag_of("ReferencedSOPInstanceUID")
_FRAME_NUMBER = tag_of("ReferencedFrameNumber")
_PLANE_POSITION = tag_of("PlanePositionSequence")
_SLIDE_POSITION = tag_of("PlanePositionSlideSequence")
_POSITION = tag_of("ImagePositionPatient")
_ORIENTATIONS = tag_of("PlaneOrientationSequence")
_ORIENTATION = tag_of("ImageOrientationPatient")
_MEASURES = tag_of("PixelMeasuresSequence")
_SPACING = tag_of("PixelSpacing")
_STEP = tag_of("SpacingBetweenSlices")
_THICKNESS = tag_of("SliceThickness")
_TILE_ROW = tag_of("RowPositionInTotalImagePixelMatrix")
_TILE_COLUMN = tag_of("ColumnPositionInTotalImagePixelMatrix")
_MATRIX_ROWS = tag_of("TotalPixelMatrixRows")
_MATRIX_COLUMNS = tag_of("TotalPixelMatrixColumns")
_PER_FRAME = tag_of("PerFrameFunctionalGroupsSequence")
_SHARED = tag_of("SharedFunctionalGroupsSequence")
_IDENTIFICATION = tag_of("SegmentIdentificationSequence")
_SEGMENT_NUMBER = tag_of("ReferencedSegmentNumber")
_REFERENCED_SERIES = tag_of("ReferencedSeriesSequence")
_SERIES = tag_of("SeriesInstanceUID")
_FRAME_OF_REFERENCE = tag_of("FrameOfReferenceUID")
_ORGANIZATION = tag_of("DimensionOrganizationType")


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the whole that one frame fills.

    Parameters
    ----------
    index : tuple
        One whole number and two slices, along k, j and i: a plane of the whole.
    turned : bool
        The frame's rows run along the later one of the plane's two axes.
    k : int or None
        The slice that the frame is the whole of, row by row; None where it is not.
    shape_ji : tuple of int
        How much of the frame lies within the whole: the last tiles of a slide reach over its edge.
    """

    index: tuple[int | slice, int | slice, int | slice]
    turned: bool
    k: int | None
    shape_ji: tuple[int, int]

    def within(self, whole_kji: npt.NDArray[Voxel]) -> npt.NDArray[Voxel]:
        """Return a view of the part that the frame fills, in the frame's own rows and columns."""
        plane = whole_kji[self.index]
        return plane.T if self.turned else plane


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a frame says that it lies: LPS in mm."""

    origin: tuple[float, ...]
    cosines: tuple[float, ...]
    spacing: tuple[float, ...]
    step: float | None
    thickness: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The functional groups of every frame."""

    shared: Item
    frames: Sequence[Item]
    _directions: dict[tuple[int, int], Directions] = field(default_factory=dict)

    def of(self, frame: Item, tag: int) -> list[Item]:
        """Return a functional group, which stands per frame or once for all (PS3.3 C.7.6.16)."""
        return items_of(frame, tag) or items_of(self.shared, tag)

    def directions_of(self, orientation: Item, measures: Item) -> Directions:
        """Return cosines, pixel spacing, step and thickness, which many frames have in common."""
        key = (id(orientation), id(measures))
        if key not in self._directions:
            self._directions[key] = (
                numbers_of(orientation, _ORIENTATION, 6),
                numbers_of(measures, _SPACING, 2),
                _length(measures, _STEP),
                _length(measures, _THICKNESS),
            )
        return self._directions[key]

    def key(self, frame: Item) -> tuple[int, ...]:
        """Return what is the same for frames in one place; sequences that repeat are one object."""
        tags = (_DERIVATION, _PLANE_POSITION, _SLIDE_POSITION, _ORIENTATIONS, _MEASURES)
        return tuple(id(frame.get(tag)) for tag in tags)


def groups_of(parsed: Parsed, count: int) -> Groups:
    """Return the functional groups; a tiled slide may leave them out (PS3.3 C.7.6.17.3).

    Raises
    ------
    InvalidSegmentation
        When there are not as many as there are frames.
    """
    frames = items_of(parsed.item, _PER_FRAME)
    shared = (items_of(parsed.item, _SHARED) or [{}])[0]
    if not frames and text_of(parsed.item, _ORGANIZATION) == "TILED_FULL":
        frames = [{} for _ in range(count)]
    if len(frames) != count:
        raise InvalidSegmentation(f"{count} frames, {len(frames)} descriptions of them")
    return Groups(shared, frames)


def segment_numbers(parsed: Parsed, groups: Groups, described: Sequence[int]) -> list[int]:
    """Return the segment that each frame belongs to.

    Raises
    ------
    InvalidSegmentation
        When a frame does not say so, or names a segment that is not described.
    """
    if text_of(parsed.item, _ORGANIZATION) == "TILED_FULL" and not any(
        groups.of(frame, _IDENTIFICATION) for frame in groups.frames
    ):
        each, rest = divmod(len(groups.frames), max(1, len(described)))
        if rest or not described:
            raise InvalidSegmentation("the tiles do not fill one slide for each segment")
        return [number for number in described for _ in range(each)]
    numbers = []
    for frame in groups.frames:
        items = groups.of(frame, _IDENTIFICATION)
        number = word_of(items[0], _SEGMENT_NUMBER) if items else None
        if number is None:
            raise InvalidSegmentation("a frame does not say which segment it belongs to")
        numbers.append(number)
    unknown = set(numbers) - set(described)
    if unknown:
        raise InvalidSegmentation(f"frames of {len(unknown)} segments that are not described")
    return numbers


def own_lattice(parsed: Parsed, groups: Groups, shape_ji: tuple[int, int]) -> Lattice:
    """Return the grid that a Segmentation has without its source.

    Raises
    ------
    OtherGrid
        When its frames lie on no one grid.
    ImpossibleSize
        When they span more than any image.
    """
    matrix = _matrix_of(parsed)
    if matrix is not None:
        return Lattice((1, *matrix), None, {}, "", "")
    found = {groups.key(frame): _geometry_of(frame, groups) for frame in groups.frames}
    placed = [geometry for geometry in found.values() if geometry is not None]
    if placed and len(placed) == len(found):
        first = placed[0]
        origins = (geometry.origin for geometry in placed)
        return lattice_from(
            origins, first.cosines, first.spacing, first.step, first.thickness, shape_ji
        )
    if placed:
        raise OtherGrid("some frames say where they lie, and some do not")
    images = dict.fromkeys(
        reference for frame in groups.frames for reference in _references_of(frame, groups)
    )
    slices = {reference: k for k, reference in enumerate(images)}
    return Lattice((max(1, len(slices)), *shape_ji), None, slices, "", "")


def places_of(
    parsed: Parsed, groups: Groups, lattice: Lattice, shape_ji: tuple[int, int]
) -> list[Place]:
    """Return where each frame lies.

    Raises
    ------
    ForeignSegmentation
        When it refers to images that are not the source's, or to nothing at all.
    OtherGrid
        When its voxels are not the source's voxels.
    InvalidSegmentation
        When it says neither its source image nor its position.
    """
    matrix = _matrix_of(parsed)
    if matrix is not None:
        _check_references(groups, lattice)
        if lattice.shape_kji != (1, *matrix):
            raise OtherGrid("the slide has another size than the source")
        return list(_tiles(parsed, groups, matrix, shape_ji))
    placer = _Placer(groups, lattice, shape_ji, related=_is_related(parsed, lattice))
    return [placer.place_of(frame) for frame in groups.frames]


# --- one frame ----------------------------------------------------------------------------------


class _Placer:
    """Places frames; what many of them share is worked out once."""

    def __init__(
        self, groups: Groups, lattice: Lattice, shape_ji: tuple[int, int], *, related: bool
    ) -> None:
        self._groups = groups
        self._lattice = lattice
        self._shape_ji = shape_ji
        self._related = related
        self._places: dict[tuple[int, ...], Place] = {}
        self._facings: dict[tuple[tuple[float, ...], tuple[float, ...]], _Facing] = {}

    def place_of(self, frame: Item) -> Place:
        key = self._groups.key(frame)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._new_place(frame)
        return place

    def _new_place(self, frame: Item) -> Place:
        references = _references_of(frame, self._groups)
        slices = _slices_of(references, self._lattice)
        geometry = _geometry_of(frame, self._groups)
        if geometry is None or self._lattice.affine_lps is None:
            if len(slices) != 1:
                raise InvalidSegmentation("a frame says neither its source image nor its position")
            if self._shape_ji != self._lattice.shape_kji[1:]:
                raise OtherGrid("frames of another size than the source's slices")
            return _whole(next(iter(slices)), self._shape_ji)
        if not references and not self._related:
            raise ForeignSegmentation("the segmentation refers to nothing that the series holds")
        directions = (geometry.cosines, geometry.spacing)
        facing = self._facings.get(directions)
        if facing is None:
            facing = _facing(geometry, self._lattice.affine_lps, self._shape_ji)
            self._facings[directions] = facing
        place = _place_at(geometry.origin, facing, self._lattice, self._shape_ji)
        k = place.index[0]
        if len(slices) == 1 and isinstance(k, int) and k not in slices:
            raise OtherGrid("a frame lies on another slice than the image that it refers to")
        return place


def _references_of(frame: Item, groups: Groups) -> list[tuple[str, int]]:
    """Return the images that a frame was derived from: instance, and frame or 0 for all."""
    references = []
    for image in walk(groups.of(frame, _DERIVATION), _SOURCE):
        uid = text_of(image, _SOP_INSTANCE)
        frames = [int(part) for part in text_of(image, _FRAME_NUMBER).split("\\") if part.isdigit()]
        references += [(uid, number) for number in frames or [0]]
    return references


def _slices_of(references: list[tuple[str, int]], lattice: Lattice) -> set[int]:
    """Return the slices that are meant; an image of many frames means all of them."""
    if lattice.own and not lattice.slices:
        return set()
    slices = set()
    for uid, number in references:
        for each in ((uid, number), (uid, 0)):
            if each in lattice.slices:
                slices.add(lattice.slices[each])
                break
    if references and not any(uid in lattice.images for uid, _ in references):
        raise ForeignSegmentation("the segmentation refers to images that the series lacks")
    return slices


def _check_references(groups: Groups, lattice: Lattice) -> None:
    for frame in groups.frames:
        _slices_of(_references_of(frame, groups), lattice)


def _is_related(parsed: Parsed, lattice: Lattice) -> bool:
    """Return whether positions alone mean anything: in the source's own frame of reference."""
    named = {text_of(item, _SERIES) for item in items_of(parsed.item, _REFERENCED_SERIES)}
    reference = text_of(parsed.item, _FRAME_OF_REFERENCE)
    same = bool(reference) and reference == lattice.frame_of_reference_uid
    return lattice.own or same or lattice.series_uid in named


def _geometry_of(frame: Item, groups: Groups) -> Geometry | None:
    positions = groups.of(frame, _PLANE_POSITION)
    orientations = groups.of(frame, _ORIENTATIONS)
    measures = groups.of(frame, _MEASURES)
    if not (positions and orientations and measures):
        return None
    origin = numbers_of(positions[0], _POSITION, 3)
    cosines, spacing, step, thickness = groups.directions_of(orientations[0], measures[0])
    if origin is None or cosines is None or spacing is None or min(spacing) <= 0:
        raise InvalidSegmentation("position, orientation or pixel spacing of a frame is impossible")
    return Geometry(origin, cosines, spacing, step, thickness)


def _length(item: Item, tag: int) -> float | None:
    numbers = numbers_of(item, tag, 1)
    return numbers[0] if numbers and numbers[0] > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class _Facing:
    """How frames of one direction and spacing lie on the lattice; the same for most of them.

    Parameters
    ----------
    axes, signs : tuple of int
        Of the lattice: which axis rows run along and which columns, forwards or backwards.
    off : ndarray, shape (3, 3)
        By how much a frame's corners miss the lattice when its first voxel does not; in steps.
    """

    axes: tuple[int, int]
    signs: tuple[int, int]
    off: Floats


def _facing(geometry: Geometry, affine_lps: Floats, shape_ji: tuple[int, int]) -> _Facing:
    cosines = np.array(geometry.cosines)
    steps_mm = np.array(
        [cosines[3:] * geometry.spacing[0], cosines[:3] * geometry.spacing[1]], np.float64
    )
    try:
        steps = np.linalg.solve(affine_lps[:3, :3], steps_mm.T).T
    except np.linalg.LinAlgError:
        raise OtherGrid("the grid is flat") from None
    down, right = (int(np.abs(step).argmax()) for step in steps)
    signs = int(np.sign(steps[0, down])), int(np.sign(steps[1, right]))
    off = np.zeros((3, 3))
    off[1:] = steps * (np.array(shape_ji) - 1)[:, None]
    off[1, down] -= signs[0] * (shape_ji[0] - 1)
    off[2, right] -= signs[1] * (shape_ji[1] - 1)
    if down == right or np.abs(off).max() >= 1:
        raise OtherGrid("the frames have another spacing or direction than the source")
    return _Facing((down, right), signs, off)


def _place_at(
    origin: tuple[float, ...], facing: _Facing, lattice: Lattice, shape_ji: tuple[int, int]
) -> Place:
    """Return the voxels of the source that lie where a frame's voxels lie."""
    exact = lattice.index_of(origin)
    index = np.rint(exact)
    off_mm = ((exact - index) + facing.off) @ lattice.axes.T
    off = math.sqrt(float((off_mm * off_mm).sum(axis=1).max()))
    if off > lattice.tolerance_mm:
        raise OtherGrid(f"a frame lies {off:.2f} mm off the voxels of its source")
    first = [int(value) for value in index]
    down, right = facing.axes
    part: list[int | slice] = list(first)
    part[down] = _run(first[down], facing.signs[0], shape_ji[0], lattice.shape_kji[down])
    part[right] = _run(first[right], facing.signs[1], shape_ji[1], lattice.shape_kji[right])
    third = 3 - down - right
    if not 0 <= first[third] < lattice.shape_kji[third]:
        raise OtherGrid("a frame lies outside the source series")
    straight = (facing.axes, facing.signs) == ((1, 2), (1, 1))
    if straight and shape_ji == lattice.shape_kji[1:]:
        return _whole(first[0], shape_ji)
    return Place((part[0], part[1], part[2]), down > right, None, shape_ji)


def _run(first: int, sign: int, count: int, size: int) -> slice:
    last = first + sign * (count - 1)
    if not (0 <= first < size and 0 <= last < size):
        raise OtherGrid("a frame reaches beyond the source series")
    end = last + sign
    return slice(first, end if end >= 0 else None, sign)


def _whole(k: int, shape_ji: tuple[int, int]) -> Place:
    return Place((k, slice(0, shape_ji[0]), slice(0, shape_ji[1])), False, k, shape_ji)


# --- slides -------------------------------------------------------------------------------------


def _matrix_of(parsed: Parsed) -> tuple[int, int] | None:
    """Return rows and columns of a slide's whole pixel matrix, None where there is none."""
    rows, columns = (_long(parsed.item, tag) for tag in (_MATRIX_ROWS, _MATRIX_COLUMNS))
    return (rows, columns) if rows and columns and rows > 0 and columns > 0 else None


def _tiles(
    parsed: Parsed, groups: Groups, matrix: tuple[int, int], shape_ji: tuple[int, int]
) -> Iterator[Place]:
    """Yield where each tile lies; of a full slide, tiles run along rows (PS3.3 C.7.6.17.3)."""
    across = -(-matrix[1] // shape_ji[1])
    each = across * -(-matrix[0] // shape_ji[0])
    full = text_of(parsed.item, _ORGANIZATION) == "TILED_FULL"
    for n, frame in enumerate(groups.frames):
        if full:
            row, column = divmod(n % each, across)
            row, column = row * shape_ji[0], column * shape_ji[1]
        else:
            row, column = _tile_at(groups.of(frame, _SLIDE_POSITION))
        rows = min(shape_ji[0], matrix[0] - row)
        columns = min(shape_ji[1], matrix[1] - column)
        if row < 0 or column < 0 or rows < 1 or columns < 1:
            raise OtherGrid("a tile lies outside its slide")
        index = (0, slice(row, row + rows), slice(column, column + columns))
        yield Place(index, False, None, (rows, columns))


def _tile_at(positions: list[Item]) -> tuple[int, int]:
    row = _long(positions[0], _TILE_ROW) if positions else None
    column = _long(positions[0], _TILE_COLUMN) if positions else None
    if row is None or column is None:
        raise InvalidSegmentation("a tile does not say where on the slide it lies")
    return row - 1, column - 1


def _long(item: Item, tag: int) -> int | None:
    """Return a signed or unsigned 32-bit number (SL, UL)."""
    value = item.get(tag)
    return (
        int(struct.unpack("<l", value)[0]) if isinstance(value, bytes) and len(value) == 4 else None
    )
