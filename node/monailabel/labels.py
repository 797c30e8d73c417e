"""Labels of an image as files, and files as corrections of it."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom.archive import ArchivedSeries
from dicom.errors import Conflict, ForeignSegmentation, InvalidLabels, InvalidRequest, NotFound
from dicom.seg import Masks, Segment, decode_seg
from dicom.volume import Grid
from node.auth import Caller
from node.parts import FrontParts
from pipelines.labelfiles import FileSegment, LabelFile, read_label_file, suffix_of
from pipelines.labels import layers_of, write_labels
from pipelines.store import CorrectionView, LabelTag, LabelView, SeriesView

_REMEMBERED: Final = 4096


class NamedLabel(BaseModel):
    """What Slicer says of one segment: its name, its number among the segments."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    idx: int | None = None


class LabelParams(BaseModel):
    """What a client says of a label that it saves; other fields are its own affair."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    label_info: tuple[NamedLabel, ...] = Field((), max_length=4096)
    model: str = Field("", max_length=200)


class Handed:
    """Which segmentation of an image each user was given last: what a label of theirs began with.

    It lives in memory; after a restart a label belongs to the newest one with the same names.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, user: str, image: str, segmentation: str) -> None:
        """Remember it."""
        with self._lock:
            self._last[user, image] = segmentation
            self._last.move_to_end((user, image))
            while len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)

    def last(self, user: str, image: str) -> str | None:
        """Return it; None where there was none."""
        with self._lock:
            return self._last.get((user, image))


@dataclass(frozen=True, slots=True, eq=False)
class DecodedLabel:
    """A segmentation on its image: segments numbered from 1, in their order."""

    labels: npt.NDArray[np.generic] | Masks
    segments: tuple[Segment, ...]
    grid: Grid

    @property
    def names(self) -> tuple[str, ...]:
        """What segment 1, 2, 3 ... is called."""
        return tuple(segment.label for segment in self.segments)


def params_of(text: str) -> LabelParams:
    """Return what a client says of a label.

    Raises
    ------
    InvalidRequest
    """
    try:
        return LabelParams.model_validate_json(text or "{}")
    except ValidationError:
        raise InvalidRequest("params is not JSON with label_info and model") from None


def image_of(parts: FrontParts, image: str) -> tuple[SeriesView, ArchivedSeries]:
    """Return the series that an image id means: a pseudonym, never an original UID.

    Raises
    ------
    NotFound
        When there is none, or it is not one of images.
    """
    series = parts.studies.series(image)
    if series.ours:
        raise NotFound("no such image")
    return series, parts.clinical.series(series.orthanc_id)


def known_labels(
    parts: FrontParts, caller: Caller, image: str | None = None
) -> dict[str, dict[LabelTag, LabelView]]:
    """Return the newest labels, by image, that this person may see: readers may be blind."""
    return parts.labelled.labels(parts.reading.rounds.unseen_by(caller.name), image)


def label_of(parts: FrontParts, caller: Caller, image: str, tag: str) -> LabelView:
    """Return the newest label of an image under a tag.

    Raises
    ------
    NotFound
    """
    known = known_labels(parts, caller, image).get(image, {})
    for name, label in known.items():
        if name == tag:
            return label
    raise NotFound("the image has no label of that tag; the tags are original and final")


def decoded(parts: FrontParts, label: LabelView, archived: ArchivedSeries) -> DecodedLabel:
    """Return a label on the voxels of its image.

    Raises
    ------
    InputError, PeerError
        When the archive does not give it, or it does not lie on the image.
    """
    content = (
        parts.clinical.file_of(label.orthanc_id)
        if label.orthanc_id
        else parts.clinical.instance_bytes(label.id)
    )
    found = parts.desk.grids.of(archived)
    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
        path = Path(folder, "label.dcm")
        path.write_bytes(content)
        for grid in found.grids:
            try:
                seg = decode_seg(path, grid)
            except ForeignSegmentation:
                continue
            masks = Masks.of(seg.mask(segment.number) for segment in seg.segments)
            return DecodedLabel(_flat(masks), seg.segments, grid)
    raise ForeignSegmentation("the label is not of this image")


def save_label(
    parts: FrontParts,
    handed: Handed,
    caller: Caller,
    image: str,
    content: bytes,
    *,
    name: str,
    params: LabelParams,
) -> CorrectionView:
    """Store a label file as a correction of its image, through the desk of all corrections.

    Raises
    ------
    NotFound, OtherGrid, InvalidLabels, InvalidRequest
        When it does not fit the image: nothing is kept.
    NotTakenIn, PeerError
        When the archive is away: it is kept as a draft.
    """
    _, archived = image_of(parts, image)
    file = read_label_file(content, suffix_of(name))
    grids = parts.desk.grids.of(archived).grids
    if len(grids) != 1:
        raise Conflict("the series holds several volumes; draw on it in the viewer")
    on_grid = file.on(grids[0])
    segments = _segments(on_grid, params)
    before = _before(parts, handed, caller, image, segments, params)
    origins = {name.casefold(): n for n, name in enumerate(before.labels, 1)} if before else {}
    labels, grid = _numbered(on_grid, segments), grids[0]
    layers, planes = layers_of(labels, grid)
    _, rows, columns = grid.shape_kji
    head = {
        "StudyInstanceUID": archived.study_uid,
        "SeriesInstanceUID": archived.series_uid,
        "rows": rows,
        "columns": columns,
        "bits": 16 if any(plane.dtype == np.uint16 for plane in planes) else 8,
        "layers": [[one.model_dump(by_alias=True) for one in layer] for layer in layers],
        "segments": [
            {"number": n, "label": each.name, "origin": origins.get(each.name.casefold())}
            for n, each in enumerate(segments, 1)
        ],
        "predecessor": None if before is None else _named(parts, before),
        "effort": None,
    }
    stored = parts.desk.save(write_labels(head, planes), author=caller.name, source="client")
    parts.audit.note("correction_saved", actor=caller.name, object=stored.id)
    handed.note(caller.name, image, stored.id)
    return stored


def _segments(file: LabelFile, params: LabelParams) -> tuple[FileSegment, ...]:
    """Return what the values stand for: by the file itself, else by what the client says of it.

    Slicer numbers what it exports 1, 2, 3 ..., and `idx` counts segments that it leaves out too.
    So the values decide: where they are all among 1 to the number of names, those are meant in
    their order, unless `idx` is exactly 1, 2, 3 ... in another.
    """
    if file.segments:
        segments = file.segments
    else:
        names, count = params.label_info, len(params.label_info)
        told = [each.idx for each in names]
        held = {int(value) for value in np.unique(file.layers_nkji) if value}
        if sorted(idx or 0 for idx in told) == list(range(1, count + 1)):
            numbers = [idx or 0 for idx in told]
        elif not names or held <= set(range(1, count + 1)):
            numbers = list(range(1, count + 1))
        else:
            numbers = [idx or 0 for idx in told]
        segments = tuple(FileSegment(e.name, n) for e, n in zip(names, numbers, strict=True))
        if not names:
            segments = tuple(FileSegment(f"Segment {value}", value) for value in sorted(held))
    if not segments:
        raise InvalidLabels("there is no segment to save")
    for n, layer in enumerate(file.layers_nkji):
        known = {each.value for each in segments if each.layer == n}
        if not {int(value) for value in np.unique(layer) if value} <= known:
            raise InvalidLabels("a voxel has a value that no segment describes")
    return segments


def _numbered(file: LabelFile, segments: Sequence[FileSegment]) -> npt.NDArray[np.generic] | Masks:
    """Return the labels with their segments numbered from 1."""
    masks = (file.layers_nkji[each.layer] == each.value for each in segments)
    return _flat(Masks.of(masks))


def _flat(masks: Masks) -> npt.NDArray[np.generic] | Masks:
    """Return a label map where no two segments share a voxel."""
    if masks.overlap():
        return masks
    kind = np.uint8 if max(masks.crops, default=0) < 256 else np.uint16
    labels_kji = np.zeros(masks.shape_kji, kind)
    for number, crop in masks.crops.items():
        labels_kji[crop.within()][crop.voxels_kji != 0] = number
    return labels_kji


def _before(
    parts: FrontParts,
    handed: Handed,
    caller: Caller,
    image: str,
    segments: Sequence[FileSegment],
    params: LabelParams,
) -> LabelView | None:
    """Return what a label began with: what its author was given last, if it has such a segment."""
    names = {each.name.casefold() for each in segments}
    known = [*known_labels(parts, caller, image).get(image, {}).values()]
    known += parts.labelled.of_models(image)
    related = [one for one in known if names & {label.casefold() for label in one.labels}]
    last = handed.last(caller.name, image)
    for label in related:
        if label.id == last:
            return label
    of_model = [one for one in related if one.tag == "original"]
    by_name = [one for one in of_model if params.model and (one.bundle or "") == params.model]
    return next(iter([*by_name, *of_model]), None)


def _named(parts: FrontParts, before: LabelView) -> Mapping[str, Any]:
    """Return the original names of a segmentation, as a labels document has them."""
    found = parts.clinical.lookup("instances", before.id) if before.orthanc_id is None else []
    orthanc_id = before.orthanc_id or (found[0] if found else None)
    names = parts.clinical.names([orthanc_id]) if orthanc_id else {}
    if orthanc_id not in names:
        raise NotFound("what the label began with is not in the archive any longer")
    name = names[orthanc_id]
    return {"SeriesInstanceUID": name.series_uid, "SOPInstanceUID": name.sop_instance_uid}


TAGS: Final[tuple[LabelTag, ...]] = ("original", "final")
