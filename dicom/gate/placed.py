"""Whether each frame of a Segmentation lies, pixel for pixel, where the model put it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from pydicom.pixels.utils import iter_pixels

from dicom.errors import WrongGeometry
from dicom.gate.places import Frame, Place, Reference, Source, frames_of, read_sources, tolerance_mm
from dicom.gate.reading import Item, opened, tag_of
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.seg import Masks
from dicom.volume import Grid

_TYPE = tag_of("SegmentationType")
_MAXIMUM = tag_of("MaximumFractionalValue")
_FRAMES = tag_of("NumberOfFrames")
_FRAME_OF_REFERENCE = tag_of("FrameOfReferenceUID")
_STUDY = tag_of("StudyInstanceUID")
_SERIES = tag_of("SeriesInstanceUID")
_REFERENCED_SERIES = tag_of("ReferencedSeriesSequence")
_REFERENCED_INSTANCES = tag_of("ReferencedInstanceSequence")
_REFERENCED = tag_of("ReferencedSOPInstanceUID")

_ALL: Final = 0  # the "segment" of a frame that holds all of them
_STEP: Final = 0.01  # relative
_ASLANT: Final = 1e-3  # sideways run of the slices, per mm along the normal
_HALF: Final = 0.5
_HALF_A_STEP: Final = 0.501  # how far a share may lie from the whole number that it is stored as


@dataclass(frozen=True, slots=True)
class Placed:
    """What an object that lies right holds, and how large its voxels are by the source files.

    Attributes
    ----------
    voxels : Mapping
        By segment number; shares of a voxel count from a half. Empty of an unknown prediction.
    series_uid : str
        Of the source, in its own files.
    pixel_mm2 : float or None
        None where a pixel has no size.
    step_mm : float or None
        Between the planes of neighbouring slices; None of a single one.
    aslant : bool
        Whether the slices do not follow their normal, as those of a tilted gantry.
    """

    voxels: Mapping[int, int]
    series_uid: str
    pixel_mm2: float | None
    step_mm: float | None
    aslant: bool

    @property
    def voxel_ml(self) -> float | None:
        """Size of a voxel; None where there is one slice, or a pixel has no size."""
        if self.pixel_mm2 is None or self.step_mm is None:
            return None
        return self.pixel_mm2 * self.step_mm / 1000.0


def check_placed(
    path: Path,
    segments: npt.NDArray[np.generic] | Masks | None,
    source: Grid,
    *,
    names: Mapping[str, str] | None = None,
) -> Placed:
    """Make sure that an encoded Segmentation lies in the patient where the model put it.

    Parameters
    ----------
    path : Path
        The object as it is about to be stored.
    segments : ndarray or Masks or None
        The prediction on the source's slices: segment number per voxel, shape (slices, rows,
        columns), or masks, which may hold shares of voxels. None for an object of another origin,
        whose pixels nothing is known of.
    source : Grid
        Which file each slice came from; positions are read from those files.
    names : Mapping, optional
        From the UIDs of the source files to those that the object knows them by.

    Returns
    -------
    Placed
        What was counted on the way.

    Raises
    ------
    WrongGeometry
        When a frame lies elsewhere, holds other pixels, refers to another image or to none, when
        one that was predicted is missing, or when the whole names another series, study or frame
        of reference than the source's.
    """
    own = read_sources(source.sources)
    sources = [_named(each, names or {}) for each in own]
    with opened(path) as item:
        frames = frames_of(item)
        kind = item.text(_TYPE)
        full = (item.word(_MAXIMUM) or 0) if kind == "FRACTIONAL" else 1
        if item.numbers(_FRAMES) != (len(frames),):
            raise WrongGeometry("the result has another number of frames than it describes")
        _check_whole(item, sources)
    at = _slices_of(frames, sources)
    if kind != "LABELMAP" and not all(frame.segment for frame in frames):
        raise WrongGeometry("a frame does not say which segment it shows")
    numbers = [_ALL if kind == "LABELMAP" else frame.segment or _ALL for frame in frames]
    if len(set(zip(numbers, at, strict=True))) < len(frames):
        raise WrongGeometry("two frames of the result show one segment on one slice")
    voxels: Mapping[int, int] = {}
    if segments is not None:
        wanted = _Drawn(segments, full) if isinstance(segments, Masks) else _Labels(segments, full)
        if wanted.shape_kji != source.shape_kji or len(sources) != source.shape_kji[0]:
            raise WrongGeometry("the prediction has another size than its source")
        _compare(path, wanted, numbers, at)
        voxels = wanted.voxels()
    return _measured(own, voxels)


def _measured(sources: Sequence[Source], voxels: Mapping[int, int]) -> Placed:
    places = [source.place for source in sources]
    series_uid, spacing = sources[0].series_uid, places[0].spacing
    pixel_mm2 = spacing[0] * spacing[1] if len(spacing) == 2 else None
    if len(places) == 1 or not _in_patient(sources):
        return Placed(voxels, series_uid, pixel_mm2, None, aslant=False)
    run = np.subtract(places[-1].position, places[0].position)
    along = float(places[0].normal @ run)
    beside = float(np.linalg.norm(run - along * places[0].normal))
    aslant = beside > _ASLANT * along
    return Placed(voxels, series_uid, pixel_mm2, along / (len(places) - 1), aslant)


# --- the whole ------------------------------------------------------------------------------------


def _named(source: Source, names: Mapping[str, str]) -> Source:
    """Return a source under the names that the object knows it by."""
    uid, frame = source.image
    others = (source.series_uid, source.study_uid, source.frame_of_reference_uid)
    return Source(
        source.place, (names.get(uid, uid), frame), *(names.get(each, each) for each in others)
    )


def _check_whole(item: Item, sources: Sequence[Source]) -> None:
    """Hold study, frame of reference and references of the whole object against its source."""
    first = sources[0]
    if item.text(_STUDY) != first.study_uid:
        raise WrongGeometry("the result belongs to another study than its source")
    if item.text(_FRAME_OF_REFERENCE) != (
        first.frame_of_reference_uid if _in_patient(sources) else ""
    ):
        raise WrongGeometry("the result has another frame of reference than its source")
    series = list(item.items(_REFERENCED_SERIES))
    if [each.text(_SERIES) for each in series] != [first.series_uid]:
        raise WrongGeometry("the result does not refer to its source series, and to that alone")
    referred = {each.text(_REFERENCED) for each in series[0].items(_REFERENCED_INSTANCES)}
    if referred != {source.image[0] for source in sources}:
        raise WrongGeometry("the result names other images than those of its source")


def _in_patient(sources: Sequence[Source]) -> bool:
    return all(source.place.known for source in sources)


# --- frames ---------------------------------------------------------------------------------------


def _slices_of(frames: Sequence[Frame], sources: Sequence[Source]) -> list[int]:
    """Return the source slice that each frame lies on and refers to."""
    if not _in_patient(sources):  # pictures: the reference alone says where
        named: dict[tuple[Reference, ...], int] = {
            (source.image,): k for k, source in enumerate(sources)
        }
        if any(frame.references not in named or frame.place.position for frame in frames):
            raise WrongGeometry("a frame of the result refers to no image of its source")
        return [named[frame.references] for frame in frames]
    lattice = _Slices([source.place for source in sources])
    places = {frame.place: lattice.of(frame) for frame in frames}
    at = [places[frame.place] for frame in frames]
    for frame, k in zip(frames, at, strict=True):
        if frame.references != (sources[k].image,):
            raise WrongGeometry("a frame of the result does not refer to the image that it is on")
    return at


class _Slices:
    """The places of the source's slices, to be found by."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._within_mm = tolerance_mm(places)
        self._normal = places[0].normal
        heights = [float(self._normal @ place.position) for place in places]
        if any(above <= below for below, above in pairwise(heights)):
            raise WrongGeometry("the source's slices do not run along their normal")
        self._heights = np.array(heights)
        self._step = float(np.median(np.diff(heights))) if len(heights) > 1 else None

    def of(self, frame: Frame) -> int:
        """Return which slice a frame lies on."""
        if not frame.place.known:
            raise WrongGeometry("a frame does not say where it lies")
        off = np.abs(self._heights - float(self._normal @ frame.place.position))
        k = int(off.argmin())
        if not frame.place.like(self._places[k], within_mm=self._within_mm):
            raise WrongGeometry("a frame of the result lies where no source image is")
        said, step = frame.step, self._step
        if said is not None and step is not None and not abs(said - step) <= _STEP * step:
            raise WrongGeometry("the result claims another distance between its slices")
        return k


def _pixels(path: Path) -> Iterator[npt.NDArray[Any]]:
    """Yield the frames as pydicom decodes them, one at a time."""
    with quiet_pydicom():
        try:
            yield from iter_pixels(path)
        except (*PARSER_ERRORS, RuntimeError):  # what pydicom's decoders raise
            raise WrongGeometry("the pixels of the result cannot be decoded") from None


# --- the prediction -------------------------------------------------------------------------------


class _Wanted(Protocol):
    """What was predicted, to be compared frame by frame."""

    shape_kji: tuple[int, int, int]

    def is_shown(self, number: int, k: int, frame_ji: npt.NDArray[Any]) -> bool:
        """Whether a frame is what was predicted of a segment (0: of all) on slice k."""

    def missing(self) -> int | None:
        """Return a slice with something predicted that no frame showed."""

    def voxels(self) -> Mapping[int, int]:
        """Return how many voxels of each segment the frames showed."""


def _compare(path: Path, wanted: _Wanted, numbers: Sequence[int], at: Sequence[int]) -> None:
    compared = 0
    for frame_ji, number, k in zip(_pixels(path), numbers, at, strict=False):
        if frame_ji.shape != wanted.shape_kji[1:]:
            raise WrongGeometry("a frame of the result has another size than its source image")
        if not wanted.is_shown(number, k, frame_ji):
            raise WrongGeometry(f"a frame of the result is not the prediction on slice {k}")
        compared += 1
    if compared < len(numbers):
        raise WrongGeometry("the result holds fewer frames than it describes")
    missing = wanted.missing()
    if missing is not None:
        raise WrongGeometry(f"the prediction on slice {missing} is missing in the result")


class _Labels:
    """A label map: whole voxels, which a fractional object holds as `full`."""

    def __init__(self, labels_kji: npt.NDArray[np.generic], full: int) -> None:
        slices, rows, columns = labels_kji.shape
        self.shape_kji = (slices, rows, columns)
        self._labels_kji = labels_kji
        self._full = full
        self._mask_ji = np.zeros((rows, columns), np.bool_)
        self._held = np.zeros(slices, np.int64)
        self._voxels: Counter[int] = Counter()

    def is_shown(self, number: int, k: int, frame_ji: npt.NDArray[Any]) -> bool:
        labels_ji = self._labels_kji[k]
        if number == _ALL:
            inside = labels_ji[np.not_equal(labels_ji, 0, out=self._mask_ji)]
            self._held[k] += inside.size
            counts = np.bincount(inside)
            self._voxels.update({n: int(counts[n]) for n in np.flatnonzero(counts).tolist()})
            return np.array_equal(frame_ji, labels_ji)
        mask_ji = np.equal(labels_ji, number, out=self._mask_ji)
        count = int(np.count_nonzero(mask_ji))
        self._held[k] += count
        self._voxels[number] += count
        wanted_ji = mask_ji.view(np.uint8)
        return np.array_equal(frame_ji, wanted_ji if self._full == 1 else wanted_ji * self._full)

    def missing(self) -> int | None:
        # Each frame is what was predicted, and none came twice: what is missing is a difference.
        for k, labels_ji in enumerate(self._labels_kji):
            if np.count_nonzero(labels_ji) != self._held[k]:
                return k
        return None

    def voxels(self) -> Mapping[int, int]:
        return self._voxels


class _Drawn:
    """Masks in their boxes, which may overlap and hold shares of voxels."""

    def __init__(self, masks: Masks, full: int) -> None:
        self.shape_kji = masks.shape_kji
        self._masks = masks
        self._full = full
        self._shown: set[tuple[int, int]] = set()

    def is_shown(self, number: int, k: int, frame_ji: npt.NDArray[Any]) -> bool:
        if number == _ALL:
            self._shown |= {(each, k) for each in self._masks.crops}
            return np.array_equal(frame_ji, self._labels(k))
        self._shown.add((number, k))
        if number not in self._masks.crops:
            return False
        shares_ji = np.zeros(self.shape_kji[1:], np.float32)
        self._draw(number, k, shares_ji)
        return bool((np.abs(frame_ji - shares_ji * self._full) <= _HALF_A_STEP).all())

    def missing(self) -> int | None:
        for number, crop in self._masks.crops.items():
            held = (crop.voxels_kji * np.float32(self._full) > _HALF_A_STEP).any(axis=(1, 2))
            for k in (np.flatnonzero(held) + crop.corner_kji[0]).tolist():
                if (number, k) not in self._shown:
                    return int(k)
        return None

    def voxels(self) -> Mapping[int, int]:
        crops = self._masks.crops.items()
        return {n: int(np.count_nonzero(crop.voxels_kji >= _HALF)) for n, crop in crops}

    def _draw(self, number: int, k: int, plane_ji: npt.NDArray[Any]) -> None:
        """Put one segment's part of slice k into a plane of zeros."""
        crop = self._masks.crops[number]
        slices, rows, columns = crop.within()
        if slices.start <= k < slices.stop:
            plane_ji[rows, columns] = crop.voxels_kji[k - slices.start]

    def _labels(self, k: int) -> npt.NDArray[np.uint16]:
        labels_ji = np.zeros(self.shape_kji[1:], np.uint16)
        for number in self._masks.crops:
            inside_ji = np.zeros(self.shape_kji[1:], np.bool_)
            self._draw(number, k, inside_ji)
            labels_ji[inside_ji] = number
        return labels_ji
