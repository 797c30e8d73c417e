"""Labels on their way between a viewer and the node: a head in JSON, voxels after it, compressed.

::

    uint32, little-endian: bytes of the head | head: UTF-8 JSON | gzip of the voxels

The head names the slices that follow, layer by layer, and the segments that their values stand for;
slices that are not named are empty. Layers hold segments that overlap. A liver on 512 x 512 x 300
voxels takes some tens of kilobytes.

Everything is checked before it is inflated: the head says how many voxels there are, and on which
slices of which series; what is longer, shorter or elsewhere is refused.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom.errors import ForeignSegmentation, InvalidLabels, OtherGrid, TooLarge
from dicom.seg import Masks
from dicom.volume import Grid

MEDIA_TYPE: Final = "application/vnd.radloop.labels"
MOST_BYTES: Final = 256 << 20
"""The longest document that is taken: a noisy label map of a thousand slices stays below."""

_MOST_HEAD: Final = 16 << 20
_MOST_VOXELS: Final = 1 << 30
_MOST_LAYERS: Final = 256
_LENGTH: Final = struct.Struct("<I")
_GZIP: Final = 16 + zlib.MAX_WBITS
_QUICK: Final = 1  # a viewer waits for it: 3 % more bytes, a fifth of the time

Plane = npt.NDArray[np.unsignedinteger]
Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Coded(_Part):
    """One coded concept (PS3.3 Table 8.8-1)."""

    value: str = Field(min_length=1, max_length=16)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)


class SliceName(_Part):
    """One image of the series; `frame` counts from 1, null where the instance is one image."""

    sop_instance_uid: Uid = Field(alias="SOPInstanceUID")
    frame: int | None = Field(None, ge=1)


class DrawnSegment(_Part):
    """What one value of the voxels stands for.

    `origin` is the SegmentNumber, in the predecessor, of the segment that it came from.
    """

    number: int = Field(ge=1, le=0xFFFF)
    label: str = Field(min_length=1, max_length=64)
    category: Coded | None = None
    type: Coded | None = None
    region: Coded | None = None
    laterality: Coded | None = None
    colour: tuple[int, int, int] | None = None
    tracking_id: str | None = Field(None, max_length=64)
    tracking_uid: Uid | None = None
    origin: int | None = Field(None, ge=1, le=0xFFFF)


class Referenced(_Part):
    """A segmentation that this one came from."""

    series_uid: Uid = Field(alias="SeriesInstanceUID")
    sop_instance_uid: Uid = Field(alias="SOPInstanceUID")


class Head(_Part):
    """What every labels document says of itself; an endpoint's own head adds to it."""

    study_uid: Uid = Field(alias="StudyInstanceUID")
    series_uid: Uid = Field(alias="SeriesInstanceUID")
    rows: int = Field(ge=1, le=0xFFFF)
    columns: int = Field(ge=1, le=0xFFFF)
    bits: Literal[8, 16] = 8
    layers: tuple[tuple[SliceName, ...], ...] = Field((), max_length=_MOST_LAYERS)
    segments: tuple[DrawnSegment, ...] = Field((), max_length=0xFFFF)
    predecessor: Referenced | None = None

    @property
    def voxels(self) -> int:
        """How many voxels the slices have, together."""
        return sum(len(layer) for layer in self.layers) * self.rows * self.columns


AnyHead = TypeVar("AnyHead", bound=Head)


@dataclass(frozen=True, slots=True, eq=False)
class LabelsDocument(Generic[AnyHead]):
    """A labels document whose head was read; its voxels are inflated when they are asked for.

    Parameters
    ----------
    head : Head
    packed : bytes
        gzip of the slices, one after the other.
    """

    head: AnyHead
    packed: bytes

    def planes(self) -> Iterator[Plane]:
        """Yield the slices in the order of the head; read-only, shape (rows, columns).

        Raises
        ------
        InvalidLabels
            When there are not exactly the voxels that the head announces.
        """
        head = self.head
        kind: np.dtype[np.unsignedinteger] = np.dtype("u1" if head.bits == 8 else "<u2")
        size = head.rows * head.columns * kind.itemsize
        inflating = _Inflating(self.packed)
        for _ in range(sum(len(layer) for layer in head.layers)):
            voxels = inflating.take(size)
            if len(voxels) < size:
                raise InvalidLabels("fewer voxels came than are announced, or without an end")
            yield np.frombuffer(voxels, kind).reshape(head.rows, head.columns)
        if self.packed and not inflating.ends():
            raise InvalidLabels("more voxels came than are announced, or without an end")

    def on(self, grid: Grid) -> Plane | Masks:
        """Return the labels on the grid of their series, segments numbered from 1 in their order.

        Parameters
        ----------
        grid : Grid
            Of the series that the head names.

        Returns
        -------
        ndarray or Masks
            A label map, shape (slices, rows, columns), of one layer; of several, a mask a segment.

        Raises
        ------
        OtherGrid
            When the slices have another size than the series'.
        ForeignSegmentation
            When they are not the series'.
        InvalidLabels
            When a slice comes twice, or a voxel has a value that no segment describes.
        """
        layers = self._slices_on(grid)
        table = self._numbering()
        planes = self.planes()
        if len(layers) == 1:
            labels_kji = np.zeros(grid.shape_kji, table.dtype)
            for k, plane_ji in zip(layers[0], planes, strict=True):
                _renumber(plane_ji, table, labels_kji[k])
            return labels_kji
        masks = _Stack(grid.shape_kji, len(self.head.segments))
        plane_ji = np.zeros(grid.shape_kji[1:], table.dtype)
        for layer in layers:
            for k in layer:
                _renumber(next(planes), table, plane_ji)
                masks.lay(k, plane_ji)
        next(planes, None)  # there is no more: that is looked at behind the last
        return Masks.of(masks.whole())

    def _slices_on(self, grid: Grid) -> list[list[int]]:
        """Return the slice of the grid that each named slice is; before anything is inflated."""
        head = self.head
        if (head.rows, head.columns) != grid.shape_kji[1:]:
            _, rows, columns = grid.shape_kji
            raise OtherGrid(
                f"labels of {head.rows} x {head.columns} voxels a slice, "
                f"a series of {rows} x {columns}"
            )
        layers = []
        for layer in head.layers:
            found = slices_of(layer, grid)
            missing = found.count(None)
            if missing:
                raise ForeignSegmentation(f"{missing} slices of the labels are not the series'")
            if len(set(found)) < len(found):
                raise InvalidLabels("a slice comes twice in one layer of the labels")
            layers.append([k for k in found if k is not None])
        return layers or [[]]

    def _numbering(self) -> Plane:
        """Return the number that each value becomes: 1, 2, 3 ... (PS3.3 C.8.20.4.1).

        The table ends after the highest value that a segment has; one that no segment has becomes
        the largest number there is.
        """
        numbers = [segment.number for segment in self.head.segments]
        few = len(numbers) < 0xFF
        kind: np.dtype[np.unsignedinteger] = np.dtype(np.uint8 if few else np.uint16)
        table: Plane = np.full(max(numbers, default=0) + 1, 0xFF if few else 0xFFFF, kind)
        table[0] = 0
        table[numbers] = np.arange(1, len(numbers) + 1)
        return table


def read_labels(content: bytes, kind: type[AnyHead]) -> LabelsDocument[AnyHead]:
    """Read a labels document's head; nothing is inflated.

    Parameters
    ----------
    kind : type
        :class:`Head`, or an endpoint's own, which asks for more.

    Raises
    ------
    TooLarge
        When the document, or what it would inflate to, is larger than any series.
    InvalidLabels
        When it is no labels document, or lacks a field, or numbers two segments alike.
    """
    if len(content) > MOST_BYTES:
        raise TooLarge(f"labels of more than {MOST_BYTES >> 20} MiB")
    if len(content) < _LENGTH.size:
        raise InvalidLabels("the labels end before their head")
    (length,) = _LENGTH.unpack_from(content)
    if length > min(_MOST_HEAD, len(content) - _LENGTH.size):
        raise InvalidLabels("the labels end within their head")
    end = _LENGTH.size + length
    try:
        head = kind.model_validate_json(content[_LENGTH.size : end])
    except ValidationError as error:
        # Without the values that came: they hold UIDs.
        places = sorted({".".join(str(part) for part in one["loc"]) for one in error.errors()})
        raise InvalidLabels(
            f"the head of the labels is wrong at: {', '.join(places[:8])}"
        ) from None
    if head.voxels > _MOST_VOXELS:
        raise TooLarge(f"labels of {head.voxels} voxels; at most {_MOST_VOXELS} are taken")
    numbers = [segment.number for segment in head.segments]
    if len(set(numbers)) < len(numbers):
        raise InvalidLabels("two segments have one number")
    if numbers and max(numbers) >= 1 << head.bits:
        raise InvalidLabels(f"a segment's number does not fit in {head.bits} bits")
    return LabelsDocument(head, bytes(content[end:]))


def write_labels(head: Mapping[str, object] | Head, planes: Iterable[Plane]) -> bytes:
    """Return a labels document.

    Parameters
    ----------
    head : Head or Mapping
        Whose layers name the slices; a mapping as JSON writes it.
    planes : iterable of ndarray, shape (rows, columns)
        In the order of the head, unsigned, of its bits; one at a time.
    """
    text = (
        head.model_dump_json(by_alias=True)
        if isinstance(head, Head)
        else json.dumps(head, separators=(",", ":"))
    ).encode()
    packing = zlib.compressobj(_QUICK, zlib.DEFLATED, _GZIP)
    parts = [_LENGTH.pack(len(text)), text]
    for plane_ji in planes:
        little = plane_ji.astype(plane_ji.dtype.newbyteorder("<"), copy=False)
        parts.append(packing.compress(np.ascontiguousarray(little).data))
    parts.append(packing.flush())
    return b"".join(parts)


def layers_of(
    labels: npt.NDArray[np.generic] | Masks, grid: Grid
) -> tuple[list[list[SliceName]], list[Plane]]:
    """Return what a document says of labels: the slices that hold anything, and their voxels.

    Parameters
    ----------
    labels : ndarray or Masks
        On the grid, segments numbered from 1. Masks that overlap come in as many layers as needed.

    Returns
    -------
    tuple
        Names of slices, layer by layer, and their planes in that order: what `Head.layers` and
        :func:`write_labels` take.
    """
    volumes = _apart(labels) if isinstance(labels, Masks) else [labels]
    names, planes = [], []
    for labels_kji in volumes:
        kind = np.uint8 if labels_kji.max(initial=0) < 256 else np.uint16
        held = [k for k, plane_ji in enumerate(labels_kji) if plane_ji.any()]
        names.append([name_of(grid, k) for k in held])
        planes += [labels_kji[k].astype(kind, copy=False) for k in held]
    if any(plane_ji.dtype == np.uint16 for plane_ji in planes):
        planes = [plane_ji.astype(np.uint16) for plane_ji in planes]
    return names, planes


def name_of(grid: Grid, k: int) -> SliceName:
    """Return what slice k of a grid is called."""
    source = grid.sources[k]
    return SliceName(sop_instance_uid=source.instance.sop_instance_uid, frame=source.frame_number)


def slices_of(names: Iterable[SliceName], grid: Grid) -> list[int | None]:
    """Return the slice of the grid that each name means, None for those that are not its.

    Viewers count the one frame of a single image too: no frame and frame 1 mean the same.
    """
    known = {
        (source.instance.sop_instance_uid, source.frame_number or 1): k
        for k, source in enumerate(grid.sources)
    }
    return [known.get((name.sop_instance_uid, name.frame or 1)) for name in names]


def _renumber(plane_ji: Plane, table: Plane, out_ji: Plane) -> None:
    highest = int(plane_ji.max(initial=0))
    if highest >= table.size:
        raise InvalidLabels("a voxel has a value that no segment describes")
    if np.array_equal(table[: highest + 1], np.arange(highest + 1)):  # most are numbered so
        out_ji[...] = plane_ji
        return
    np.take(table, plane_ji, out=out_ji, mode="clip")  # else NumPy copies to look for faults
    if out_ji.max() == (0xFF if table.dtype == np.uint8 else 0xFFFF):
        raise InvalidLabels("a voxel has a value that no segment describes")


class _Inflating:
    """Compressed bytes that are inflated as they are taken: never more than a plane at once."""

    _PIECE = 1 << 16

    def __init__(self, packed: bytes) -> None:
        self._packed = memoryview(packed)
        self._at = 0
        self._rest = b""
        self._zlib = zlib.decompressobj(_GZIP)

    def take(self, size: int) -> bytes:
        """Return the next bytes; fewer where they end.

        Raises
        ------
        InvalidLabels
            When they are no gzip, or damaged.
        """
        found = bytearray()
        while len(found) < size and not self._zlib.eof:
            piece = self._rest or bytes(self._packed[self._at : self._at + self._PIECE])
            if not self._rest:
                self._at += len(piece)
            if not piece:
                break
            try:
                found += self._zlib.decompress(piece, size - len(found))
            except zlib.error:
                raise InvalidLabels("the voxels are not compressed by gzip, or damaged") from None
            self._rest = self._zlib.unconsumed_tail
        return bytes(found)

    def ends(self) -> bool:
        """Return whether there is nothing more, and its checksum was right."""
        more = self.take(1)
        behind = self._zlib.unused_data or self._at < len(self._packed)
        return not more and self._zlib.eof and not behind


class _Stack:
    """Masks that grow slice by slice, each in the slices that it has: never a whole volume."""

    def __init__(self, shape_kji: tuple[int, int, int], segments: int) -> None:
        self._shape_kji = shape_kji
        self._slices: list[dict[int, npt.NDArray[np.bool_]]] = [{} for _ in range(segments)]

    def lay(self, k: int, plane_ji: Plane) -> None:
        """Add one slice of one layer."""
        for number in np.unique(plane_ji).tolist():
            if number:
                held = self._slices[number - 1]
                inside = plane_ji == number
                held[k] = inside | held[k] if k in held else inside

    def whole(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Yield one mask after the other; one array, good until the next is asked for."""
        mask_kji = np.zeros(self._shape_kji, np.bool_)
        for held in self._slices:
            for k, inside in held.items():
                mask_kji[k] = inside
            yield mask_kji
            for k in held:
                mask_kji[k] = False


def _apart(masks: Masks) -> Sequence[Plane]:
    """Return as few label maps as hold masks that overlap: each in the first that has room."""
    layers: list[Plane] = []
    for number, crop in masks.crops.items():
        inside = np.asarray(crop.voxels_kji >= 0.5) if masks.fractional else crop.voxels_kji != 0
        for labels_kji in layers:
            region = labels_kji[crop.within()]
            if not region[inside].any():
                break
        else:
            kind = np.uint8 if max(masks.crops, default=0) < 256 else np.uint16
            labels_kji = np.zeros(masks.shape_kji, kind)
            layers.append(labels_kji)
        labels_kji[crop.within()][inside] = number
    return layers
