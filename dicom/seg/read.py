"""DICOM Segmentation -> labels or masks on the slices of its source series.

What OHIF, 3D Slicer, dcmqi, highdicom and MONAI Deploy write is read by one reader: BINARY,
LABELMAP and FRACTIONAL, packed or compressed, frames in any order, with gaps, turned over, in
tiles. What refers to other images or lies on another grid is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom.errors import InvalidSegmentation, OverlappingSegments
from dicom.seg.form import LABEL_MAP_STORAGE, Kind
from dicom.seg.lattice import Floats, Source, grid_of, lattice_of
from dicom.seg.masks import Labels, Masks, label_type
from dicom.seg.parse import Parsed, encodings_of, items_of, parse, tag_of, text_of, word_of
from dicom.seg.picture import MAXIMUM_FRACTION
from dicom.seg.place import Place, groups_of, own_lattice, places_of, segment_numbers
from dicom.seg.segments import Origin, Segment, origin_of, segment_of
from dicom.seg.stored import Stored, stored_of

_SOP_CLASS = tag_of("SOPClassUID")
_TYPE = tag_of("SegmentationType")
_SEGMENTS = tag_of("SegmentSequence")
_NUMBER = tag_of("SegmentNumber")
_MAXIMUM = tag_of("MaximumFractionalValue")
_PADDING = tag_of("PixelPaddingValue")


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSeg:
    """A SEG's segments, placed on the slices of the series that it was made from.

    Its frames are decoded when they are asked for, from the file that they were found in; any of
    the methods raises :class:`UnreadablePixels` where a frame is damaged.

    Parameters
    ----------
    kind : str
        ``BINARY``, ``LABELMAP`` or ``FRACTIONAL``.
    segments : tuple of Segment
        In the order of the SEG; without a label map's background.
    origins : tuple of Origin
        What made each segment, and how it is tracked.
    shape_kji : tuple of int
        Slices, rows, columns.
    affine_lps : ndarray or None
        From index (k, j, i, 1) to LPS, mm; None where the SEG has no place in a patient.
    numbers : tuple of int
        Segment that each frame belongs to; 0 for a frame of a label map, which holds all.
    places : tuple of Place
        Where each frame lies.
    """

    kind: Kind
    segments: tuple[Segment, ...]
    origins: tuple[Origin, ...]
    shape_kji: tuple[int, int, int]
    affine_lps: Floats | None
    numbers: tuple[int, ...]
    places: tuple[Place, ...]
    stored: Stored
    maximum: int
    padding: int

    def mask(self, number: int) -> npt.NDArray[np.bool_]:
        """Return where one segment is, shape (slices, rows, columns); segments may overlap.

        Of a fractional segment, that is where it has at least half of a voxel.
        """
        mask_kji = np.zeros(self.shape_kji, np.bool_)
        with self.stored.open() as file:
            for n in self._frames_of(number):
                region = self.places[n].within(mask_kji)
                np.logical_or(region, self._inside(self._pixels(file, n), number), out=region)
        return mask_kji

    def shares(self, number: int) -> npt.NDArray[np.float32]:
        """Return how much of each voxel is the segment's, 0 to 1, shape (slices, rows, columns)."""
        if self.kind != "FRACTIONAL":
            return self.mask(number).astype(np.float32)
        shares_kji = np.zeros(self.shape_kji, np.float32)
        with self.stored.open() as file:
            for n in self._frames_of(number):
                region = self.places[n].within(shares_kji)
                np.maximum(region, self._pixels(file, n) / np.float32(self.maximum), out=region)
        return np.minimum(shares_kji, np.float32(1.0), out=shares_kji)

    def masks(self) -> Masks:
        """Return every segment in its box, numbered from 1 in the order of `segments`."""
        if self.kind == "FRACTIONAL":
            return Masks.of(self.shares(segment.number) for segment in self.segments)
        if self.kind == "LABELMAP":
            labels_kji = self.labels()
            return Masks.of(labels_kji == segment.number for segment in self.segments)
        return Masks.of(self.mask(segment.number) for segment in self.segments)

    def labels(self) -> Labels:
        """Return one label map, shape (slices, rows, columns); 0 is background.

        Raises
        ------
        OverlappingSegments
            When segments overlap, so that no single label map can hold them.
        InvalidSegmentation
            When a label map holds a value that it does not describe.
        """
        numbers = [segment.number for segment in self.segments]
        if self.kind == "LABELMAP":
            return self._label_map(numbers)
        labels_kji: Labels = np.zeros(self.shape_kji, label_type(numbers))
        with self.stored.open() as file:
            if self.stored.packed and all(place.k is not None for place in self.places):
                self._lay_bits(file, labels_kji)
            else:
                for n, number in enumerate(self.numbers):
                    inside = self._inside(self._pixels(file, n), number)
                    _lay(self.places[n].within(labels_kji), inside, number)
        return labels_kji

    def voxels(self) -> dict[int, int]:
        """Return how many voxels each segment has, by its number."""
        found = {segment.number: 0 for segment in self.segments}
        with self.stored.open() as file:
            for n, of in enumerate(self.numbers):
                pixels_ji = self._pixels(file, n)
                if of:
                    found[of] += int(np.count_nonzero(self._inside(pixels_ji, of)))
                    continue
                counts = np.bincount(pixels_ji.reshape(-1), minlength=1)
                for number in found.keys() & set(np.flatnonzero(counts).tolist()):
                    found[number] += int(counts[number])
        return found

    def _frames_of(self, number: int) -> list[int]:
        return [n for n, of in enumerate(self.numbers) if of in (0, number)]

    def _pixels(self, file: BinaryIO, n: int) -> Labels:
        rows, columns = self.places[n].shape_ji
        return self.stored.pixels(file, n)[:rows, :columns]

    def _inside(self, pixels_ji: Labels, number: int) -> npt.NDArray[np.bool_]:
        if self.kind == "LABELMAP":
            return np.equal(pixels_ji, number)
        if self.kind == "FRACTIONAL":
            return np.greater_equal(pixels_ji, self.maximum / 2)
        return np.not_equal(pixels_ji, 0)

    def _label_map(self, numbers: list[int]) -> Labels:
        labels_kji: Labels = np.zeros(self.shape_kji, self.stored.dtype)
        untouched = set(range(self.shape_kji[0]))
        with self.stored.open() as file:
            for n, place in enumerate(self.places):
                if place.k in untouched:  # the first frame of a slice, and the whole of it
                    untouched.discard(place.k)
                    plane_ji = labels_kji[place.k]
                    read_ji = self.stored.pixels(file, n, out=plane_ji)
                    if read_ji is not plane_ji and not np.shares_memory(read_ji, plane_ji):
                        plane_ji[...] = read_ji
                else:
                    untouched -= {*range(self.shape_kji[0])[_slices(place)]}
                    pixels_ji = self._pixels(file, n)
                    inside = (pixels_ji != 0) & (pixels_ji != self.padding)
                    _lay(place.within(labels_kji), inside, pixels_ji)
        return self._described(labels_kji, numbers)

    def _described(self, labels_kji: Labels, numbers: list[int]) -> Labels:
        """Return a label map whose values are all described; padding becomes background."""
        described = np.zeros(1 << 16, np.bool_)
        described[[0, self.padding, *numbers]] = True
        if not described[: int(labels_kji.max(initial=0)) + 1].all():
            found = np.unique(labels_kji)
            if not described[found].all():
                raise InvalidSegmentation("the label map holds values that it does not describe")
        if self.padding != 0 and self.padding not in numbers:
            labels_kji[labels_kji == self.padding] = 0
        return labels_kji.astype(label_type(numbers), copy=False)

    def _lay_bits(self, file: BinaryIO, labels_kji: Labels) -> None:
        """Lay frames of whole bytes into a label map: only the bytes that hold anything.

        Whether segments overlap is seen in the bits, of which there are an eighth as many.
        """
        taken = np.zeros((self.shape_kji[0], self.stored.size // 8), np.uint8)
        flat = labels_kji.reshape(self.shape_kji[0], -1)
        packed = np.zeros(-(-self.stored.size // 64) * 8, np.uint8)  # whole words of 64 bits
        words, frame = packed.view(np.uint64), packed[: self.stored.size // 8]
        for n, (number, place) in enumerate(zip(self.numbers, self.places, strict=True)):
            self.stored.read_into(file, n, frame)
            used = np.flatnonzero(words)
            if not used.size:
                continue
            part = slice(int(used[0]) * 8, int(used[-1]) * 8 + 8)
            bits, before = frame[part], taken[place.k, part]
            if (before & bits).any():
                raise OverlappingSegments("segments overlap; they do not fit in one label map")
            before |= bits
            voxels = np.unpackbits(bits, bitorder="little").astype(flat.dtype, copy=False)
            voxels *= voxels.dtype.type(number)
            target = flat[place.k, part.start * 8 : part.start * 8 + voxels.size]
            np.bitwise_or(target, voxels, out=target)


def decode_seg(seg: Dataset | Path, source: Source | None = None) -> DecodedSeg:
    """Read a Segmentation onto the slices of its source series.

    A frame belongs to the slice whose image it refers to; where it refers to none, to the place
    that its position names. Either way its voxels have to lie where the source has voxels.

    Parameters
    ----------
    seg : Dataset or Path
        The Segmentation, from this or another program.
    source : Grid, Volume, Picture or None
        The series that it was made from. None: a grid of the Segmentation's own, in which slices
        run along the normal and gaps are empty; nothing is checked against any image then.

    Raises
    ------
    NotDicom
        When the file cannot be read.
    InvalidSegmentation
        When it is no Segmentation, or describes its frames or segments in part only.
    ForeignSegmentation
        When it refers to images that the source lacks.
    OtherGrid
        When its voxels are not the source's.
    ImpossibleSize
        When it claims more than its bytes hold.
    UnreadablePixels, UnsupportedTransferSyntax
        When its pixel data is damaged, or in no form that is known.
    """
    parsed = parse(seg)
    kind = _kind_of(parsed)
    segments, origins = _segments_of(parsed)
    stored = stored_of(parsed)
    shape_ji = (stored.rows, stored.columns)
    groups = groups_of(parsed, stored.count)
    lattice = (
        own_lattice(parsed, groups, shape_ji) if source is None else lattice_of(grid_of(source))
    )
    places = places_of(parsed, groups, lattice, shape_ji)
    if kind == "LABELMAP":
        numbers = [0] * stored.count
    else:
        numbers = segment_numbers(parsed, groups, [segment.number for segment in segments])
    if kind != "BINARY" and stored.bits == 1:
        raise InvalidSegmentation(f"a {kind} segmentation of one bit a voxel")
    return DecodedSeg(
        kind=kind,
        segments=segments,
        origins=origins,
        shape_kji=lattice.shape_kji,
        affine_lps=lattice.affine_lps,
        numbers=tuple(numbers),
        places=tuple(places),
        stored=stored,
        maximum=word_of(parsed.item, _MAXIMUM) or MAXIMUM_FRACTION,
        padding=word_of(parsed.item, _PADDING) or 0,
    )


def check_seg(
    seg: Dataset | Path,
    labels: npt.NDArray[np.generic] | Masks,
    source: Source,
) -> None:
    """Make sure that a Segmentation holds exactly these labels, before it leaves the house.

    Parameters
    ----------
    labels : ndarray or Masks
        What was to be written; shares of voxels as near as their 255 steps allow.

    Raises
    ------
    InvalidSegmentation
        When a single voxel differs; and what :func:`decode_seg` raises.
    """
    decoded = decode_seg(seg, source)
    if isinstance(labels, Masks):
        different = _differing_masks(decoded, labels)
    else:
        decoded_kji = decoded.labels()
        if decoded_kji.shape != labels.shape:
            raise InvalidSegmentation("the segmentation has another size than the labels")
        different = int(np.count_nonzero(decoded_kji != labels))
    if different:
        raise InvalidSegmentation(f"{different} voxels of the segmentation differ from the labels")


def _differing_masks(decoded: DecodedSeg, masks: Masks) -> int:
    if decoded.shape_kji != masks.shape_kji or len(decoded.segments) != len(masks.crops):
        raise InvalidSegmentation("the segmentation has another size than the masks")
    different = 0
    for number in masks.crops:
        wanted = masks.whole(number)
        if wanted.dtype.kind == "f":
            off = np.abs(decoded.shares(number) - wanted)
            different += int(np.count_nonzero(off > 0.51 / MAXIMUM_FRACTION))
        else:
            different += int(np.count_nonzero(decoded.mask(number) != wanted))
    return different


def _kind_of(parsed: Parsed) -> Kind:
    if text_of(parsed.item, _SOP_CLASS) not in (SegmentationStorage, LABEL_MAP_STORAGE):
        raise InvalidSegmentation("the object is no Segmentation")
    kind = text_of(parsed.item, _TYPE)
    if kind not in ("BINARY", "LABELMAP", "FRACTIONAL"):
        raise InvalidSegmentation("the segmentation is neither BINARY, LABELMAP nor FRACTIONAL")
    return cast(Kind, kind)  # one of the three


def _segments_of(parsed: Parsed) -> tuple[tuple[Segment, ...], tuple[Origin, ...]]:
    """Return what is described, but for a label map's background, which may be segment 0."""
    encodings = encodings_of(parsed.item)
    items = [item for item in items_of(parsed.item, _SEGMENTS) if word_of(item, _NUMBER) != 0]
    segments = tuple(segment_of(item, encodings) for item in items)
    if len({segment.number for segment in segments}) < len(segments):
        raise InvalidSegmentation("two segments have one number")
    return segments, tuple(origin_of(item, encodings) for item in items)


def _slices(place: Place) -> slice:
    k = place.index[0]
    return slice(k, k + 1) if isinstance(k, int) else slice(None)


def _lay(region: Labels, inside: npt.NDArray[np.bool_], value: int | Labels) -> None:
    """Put a value, or an array's values, inside; nothing may be there yet."""
    if (region[inside] != 0).any():
        raise OverlappingSegments("segments overlap; they do not fit in one label map")
    region[inside] = value[inside] if isinstance(value, np.ndarray) else value
