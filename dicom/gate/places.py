"""Where images and frames say that they lie, each by its own header. LPS, mm."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue

from dicom.errors import WrongGeometry
from dicom.gate.reading import Item, Span, item_at, opened, tag_of
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.volume import SliceSource

Floats = npt.NDArray[np.float64]
Numbers = tuple[float, ...]
Reference = tuple[str, int | None]
"""SOP Instance UID and frame, from 1; no frame for an image of one."""

TURN: Final = 1.5e-3
"""How far direction cosines may differ: scanners round them to three digits."""
_STEP_MM: Final = 0.1  # what positions may lie off an even grid, where steps are not tiny
_STEP_SHARE: Final = 0.2
_ROUNDED_MM: Final = 0.01  # what decimal strings of 16 characters round to, and more
_SPACING: Final = 2e-4  # relative: 0.1 mm over a field of 500 mm
_CLASSIC: Final = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
Value = TypeVar("Value")

_SHARED = tag_of("SharedFunctionalGroupsSequence")
_PER_FRAME = tag_of("PerFrameFunctionalGroupsSequence")
_PLANE_POSITION = tag_of("PlanePositionSequence")
_PLANE_ORIENTATION = tag_of("PlaneOrientationSequence")
_MEASURES = tag_of("PixelMeasuresSequence")
_IDENTIFICATION = tag_of("SegmentIdentificationSequence")
_DERIVATION = tag_of("DerivationImageSequence")
_SOURCE_IMAGES = tag_of("SourceImageSequence")
_POSITION = tag_of("ImagePositionPatient")
_ORIENTATION = tag_of("ImageOrientationPatient")
_PIXEL_SPACING = tag_of("PixelSpacing")
_STEP = tag_of("SpacingBetweenSlices")
_SEGMENT = tag_of("ReferencedSegmentNumber")
_REFERENCED = tag_of("ReferencedSOPInstanceUID")
_REFERENCED_FRAME = tag_of("ReferencedFrameNumber")
_SOP_INSTANCE = tag_of("SOPInstanceUID")
_SERIES = tag_of("SeriesInstanceUID")
_STUDY = tag_of("StudyInstanceUID")
_FRAME_OF_REFERENCE = tag_of("FrameOfReferenceUID")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one image or frame lies; what it does not say is empty."""

    position: Numbers  # of the first voxel's centre
    orientation: Numbers  # direction of a row's pixels, then of a column's
    spacing: Numbers  # between rows, between columns

    @property
    def known(self) -> bool:
        """Whether it says all of it."""
        return (len(self.position), len(self.orientation), len(self.spacing)) == (3, 6, 2)

    @property
    def normal(self) -> Floats:
        """Row direction x column direction."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height(self) -> float:
        """How far along its own normal it lies."""
        return float(self.normal @ self.position)

    def like(self, other: Place, *, within_mm: float) -> bool:
        """Whether both lie in one place."""
        return (
            self.known
            and other.known
            and _near(self.position, other.position, within_mm)
            and _near(self.orientation, other.orientation, TURN)
            and _near(self.spacing, other.spacing, _SPACING * min(other.spacing))
        )


def _near(one: Numbers, other: Numbers, tolerance: float) -> bool:
    # Written so that a NaN is near to nothing.
    return all(abs(a - b) < tolerance for a, b in zip(one, other, strict=True))


def tolerance_mm(places: Sequence[Place]) -> float:
    """Return how far a slice may lie from where an even grid puts it.

    Scanners write positions rounded, some to 0.1 mm; of thin slices a fifth of the step.
    """
    steps = np.abs(np.diff([place.height for place in places]))
    step = float(np.median(steps)) if steps.size else np.inf
    return min(_STEP_MM, _STEP_SHARE * step) + _ROUNDED_MM


@dataclass(frozen=True, slots=True)
class Source:
    """One slice's image, as its own file names and places it."""

    place: Place
    image: Reference
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What the functional groups say of one frame; segment None where they say none."""

    place: Place
    step: float | None  # SpacingBetweenSlices
    segment: int | None
    references: tuple[Reference, ...]


# --- sources --------------------------------------------------------------------------------------


def read_sources(slices: Sequence[SliceSource]) -> list[Source]:
    """Return what each slice's own file says of it.

    The first and the last slice are read by pydicom as well.

    Raises
    ------
    WrongGeometry
        When a file cannot be read, or when pydicom reads another place.
    """
    files: dict[Path, list[Source]] = {}
    sources = []
    for each in slices:
        path = each.instance.path
        if path not in files:
            files[path] = list(_sources_in(path, each.frame_number is not None))
        if (each.frame_number or 1) > len(files[path]):
            raise WrongGeometry("a source image has fewer frames than were read")
        sources.append(files[path][(each.frame_number or 1) - 1])
    for n in {0, len(slices) - 1}:
        if not _as_pydicom_reads(slices[n], sources[n]):
            raise WrongGeometry("two readers disagree where a source image lies")
    return sources


def _sources_in(path: Path, several: bool) -> Iterator[Source]:
    with opened(path) as item:
        uid = item.text(_SOP_INSTANCE)
        names = tuple(item.text(tag) for tag in (_SERIES, _STUDY, _FRAME_OF_REFERENCE))
        if _PER_FRAME in item.spans:
            for n, frame in enumerate(frames_of(item), 1):
                yield Source(frame.place, (uid, n if several else None), *names)
        else:
            place = Place(
                item.numbers(_POSITION), item.numbers(_ORIENTATION), item.numbers(_PIXEL_SPACING)
            )
            yield Source(place, (uid, None), *names)


def _as_pydicom_reads(slice_: SliceSource, source: Source) -> bool:
    with quiet_pydicom():
        try:
            ds = dcmread(slice_.instance.path, stop_before_pixels=True)
            place = Place(*(_numbers(ds, keyword) for keyword in _CLASSIC))
            if "PerFrameFunctionalGroupsSequence" in ds:
                group = ds.PerFrameFunctionalGroupsSequence[(slice_.frame_number or 1) - 1]
                place = _grouped_frame(group, ds.SharedFunctionalGroupsSequence[0]).place
        except PARSER_ERRORS:
            raise WrongGeometry("a source image cannot be read again") from None
    return place == source.place and str(ds.SOPInstanceUID) == source.image[0]


# --- frames of a multi-frame object ---------------------------------------------------------------


def frames_of(item: Item) -> list[Frame]:
    """Return what the functional groups say of each frame (PS3.3 C.7.6.16).

    What many frames share is stored byte by byte alike, and is read once. The first, the middle and
    the last frame are read by pydicom as well.

    Raises
    ------
    WrongGeometry
        When pydicom reads something else.
    """
    shared = next(item.items(_SHARED), item_at(b"", 0, 0, implicit=item.implicit))
    spans = item.item_spans(_PER_FRAME)
    groups = _Groups(shared)
    frames = [groups.frame(item_at(item.data, *span, implicit=item.implicit)) for span in spans]
    sampled = sorted({0, len(spans) // 2, len(spans) - 1}) if spans else []
    if sampled:
        whole = [_by_pydicom(item, span) for span in item.item_spans(_SHARED)] or [Dataset()]
        for n in sampled:
            if _grouped_frame(_by_pydicom(item, spans[n]), whole[0]) != frames[n]:
                raise WrongGeometry("two readers disagree what a frame says of itself")
    return frames


class _Groups:
    """Reads the items of frames; equal bytes once."""

    def __init__(self, shared: Item) -> None:
        self._shared = shared
        self._known: dict[tuple[int, bytes], object] = {}
        self._places: dict[tuple[Numbers, Numbers, Numbers], Place] = {}

    def frame(self, own: Item) -> Frame:
        """Return what a frame's own item, and the one of all frames, say of it."""
        position = self._macro(own, _PLANE_POSITION, _position) or ()
        orientation = self._macro(own, _PLANE_ORIENTATION, _orientation) or ()
        spacing, step = self._macro(own, _MEASURES, _measures) or ((), None)
        key = (position, orientation, spacing)
        place = self._places.setdefault(key, Place(*key))
        segment = self._macro(own, _IDENTIFICATION, _segment)
        return Frame(place, step, segment, self._macro(own, _DERIVATION, _references) or ())

    def _macro(self, own: Item, tag: int, read: Callable[[Item], Value]) -> Value | None:
        """Return what the first item of a macro says; None where nobody has it."""
        holder = own if tag in own.spans else self._shared
        key = (tag, holder.raw(tag))
        if key not in self._known:
            first = next(holder.items(tag), None)
            self._known[key] = None if first is None else read(first)
        return cast("Value | None", self._known[key])  # `read` goes with the tag


def _position(item: Item) -> Numbers:
    return item.numbers(_POSITION)


def _orientation(item: Item) -> Numbers:
    return item.numbers(_ORIENTATION)


def _measures(item: Item) -> tuple[Numbers, float | None]:
    return item.numbers(_PIXEL_SPACING), next(iter(item.numbers(_STEP)), None)


def _segment(item: Item) -> int | None:
    return item.word(_SEGMENT)


def _references(item: Item) -> tuple[Reference, ...]:
    return tuple(
        (image.text(_REFERENCED), next(map(int, image.numbers(_REFERENCED_FRAME)), None))
        for image in item.items(_SOURCE_IMAGES)
    )


# --- the same by pydicom --------------------------------------------------------------------------


def _by_pydicom(item: Item, span: Span) -> Dataset:
    with quiet_pydicom():
        return read_dataset(io.BytesIO(item.data[slice(*span)]), item.implicit, True)


def _grouped_frame(group: Dataset, shared: Dataset) -> Frame:
    measures = _first(group, shared, "PixelMeasuresSequence")
    derivation = _first(group, shared, "DerivationImageSequence")
    step = measures.get("SpacingBetweenSlices")
    segment = _first(group, shared, "SegmentIdentificationSequence").get("ReferencedSegmentNumber")
    images = derivation.get("SourceImageSequence") or []
    return Frame(
        place=Place(
            _numbers(_first(group, shared, "PlanePositionSequence"), "ImagePositionPatient"),
            _numbers(_first(group, shared, "PlaneOrientationSequence"), "ImageOrientationPatient"),
            _numbers(measures, "PixelSpacing"),
        ),
        step=None if step is None else float(step),
        segment=None if segment is None else int(segment),
        references=tuple(
            (
                str(image.ReferencedSOPInstanceUID),
                next(map(int, _numbers(image, "ReferencedFrameNumber")), None),
            )
            for image in images
        ),
    )


def _first(group: Dataset, shared: Dataset, keyword: str) -> Dataset:
    holder = group if keyword in group else shared
    items = holder.get(keyword)
    return items[0] if items else Dataset()


def _numbers(ds: Dataset, keyword: str) -> Numbers:
    value = ds.get(keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, MultiValue | list) else [value]
    return tuple(float(each) for each in values)
