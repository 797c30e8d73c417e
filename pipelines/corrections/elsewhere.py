"""Corrections from elsewhere: what 3D Slicer, another viewer or the PACS stored, and what it is of.

An object is matched by what it refers to; where its references lead nowhere, by frame of reference
and grid, if exactly one series of its study fits. What fits none, or several, waits for a person.
What it was corrected from is what it says (PredecessorDocumentsSequence), else the newest result of
a model on the same images with the same tracking UIDs, or with the same things in about the same
place. An object in which nobody had a hand is another machine's: it is listed, and corrects
nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from dicom.archive import Archive, ArchivedSeries
from dicom.errors import InputError, NoMatch, NotFound, NotTakenIn
from dicom.vocabulary import search
from dicom.volume import Grid
from pipelines.corrections.objects import (
    About,
    DrawnObject,
    DrawnThing,
    about,
    compare_objects,
    read_object,
)
from pipelines.corrections.source import SourceGrids
from pipelines.corrections.verdicts import Verdicts
from pipelines.store import (
    Corrections,
    CorrectionView,
    ElsewhereObjects,
    ElsewhereView,
    Jobs,
    Judged,
    NewCorrection,
    SeriesView,
    Studies,
)

log = structlog.get_logger()

_SEGMENTATIONS: Final = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}  # PS3.4 B.5: SEG, LABELMAP
)
_DOCUMENTS: Final = frozenset({"SEG", "RTSTRUCT", "SR", "PR", "KO", "DOC"})
_ALIKE: Final = 0.5
"""Dice from which a drawing and a model's result are about the same thing in the same place."""
_LOOKED_BACK: Final = 5
_NO_NUMBER: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Match:
    """The images that an object was drawn on, and what it draws there."""

    series: SeriesView
    grid: Grid
    drawn: DrawnObject


class Elsewhere:
    """Finds out what objects from elsewhere are about.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    studies, jobs, corrections, objects : Studies, Jobs, Corrections, ElsewhereObjects
        The rows.
    grids : SourceGrids
    verdicts : Verdicts
        Knows what a segmentation in the archive is to us.
    """

    def __init__(
        self,
        archive: Archive,
        studies: Studies,
        jobs: Jobs,
        corrections: Corrections,
        objects: ElsewhereObjects,
        grids: SourceGrids,
        verdicts: Verdicts,
    ) -> None:
        self._archive = archive
        self._studies = studies
        self._jobs = jobs
        self._corrections = corrections
        self._objects = objects
        self._grids = grids
        self._verdicts = verdicts

    @property
    def objects(self) -> ElsewhereObjects:
        """The rows."""
        return self._objects

    def look(self, series_id: str, *, pseudonym: Callable[[str], str]) -> int:
        """Look at the objects of one series; return how many were matched.

        Raises
        ------
        PeerError
            When the archive is away; those before it are settled.
        """
        row = self._studies.series(series_id)
        archived = self._archive.series(row.orthanc_id)
        matched = 0
        for instance in archived.instances:
            seen = self._objects.see(
                pseudonym(instance.sop_instance_uid),
                orthanc_id=instance.orthanc_id,
                study_id=row.study_id,
                series_id=series_id,
                modality=row.modality,
            )
            if seen.state != "waiting":
                continue
            try:
                self._take(seen, self._match(seen, archived), by=None)
                matched += 1
            except InputError as error:
                self._objects.wait(seen.id, error)
                log.info("elsewhere_waits", study=row.study_id, code=error.code)
        return matched

    def match(self, object_id: str, study_uid: str, series_uid: str, *, by: str) -> CorrectionView:
        """Take an object as drawn on a series that a person names.

        Raises
        ------
        NotFound
            When there is no such object, or no such series.
        NoMatch
            When it is settled already.
        InputError
            When it does not lie on that series.
        """
        seen = self._objects.object(object_id)
        if seen.state == "matched":
            raise NoMatch("it was matched already")
        found = self._grids.series(study_uid, series_uid)
        series = self._studies.series_in_archive(found.archived.orthanc_id)
        if series is None:
            raise NotTakenIn("the node has not read this study yet")
        content = self._archive.file_of(seen.orthanc_id)
        matched = _on_any(content, series, found.grids, by_place=True, any_frame=True)
        return self._take(seen, matched, by=by)

    def match_series(self, object_id: str, series_id: str, *, by: str) -> CorrectionView:
        """Take an object as drawn on the series of that pseudonym: as :meth:`match`."""
        archived = self._archive.series(self._studies.series(series_id).orthanc_id)
        return self.match(object_id, archived.study_uid, archived.series_uid, by=by)

    def images_of(self, study_id: str) -> list[SeriesView]:
        """Return the series of a study that something may have been drawn on."""
        return [
            series
            for series in self._studies.series_of(study_id)
            if not series.ours and series.modality not in _DOCUMENTS
        ]

    def dismiss(self, object_id: str, *, by: str) -> None:
        """Say that an object is no correction of anything.

        Raises
        ------
        NotFound
        """
        self._objects.object(object_id)
        self._objects.settle(object_id, "dismissed", by=by)

    # --- which images ---------------------------------------------------------------------------

    def _match(self, seen: ElsewhereView, own: ArchivedSeries) -> _Match:
        """Return the images that an object was drawn on.

        Raises
        ------
        InputError
            When it fits no series of its study, or several.
        """
        content = self._archive.file_of(seen.orthanc_id)
        said = about(content)
        candidates = list(self._candidates(seen, own))
        named = [pair for pair in candidates if pair[0].series_uid in said.series_uids]
        refused: InputError | None = None
        for archived, series in named:
            try:
                grids = self._grids.of(archived).grids
                return _on_any(content, series, grids, by_place=False)
            except InputError as error:
                refused = error
        fits = list(self._by_place(content, said, candidates))
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise NoMatch(f"it lies on {len(fits)} series of the study, and refers to none of them")
        raise refused or NoMatch("it lies on no series of the study")

    def _by_place(
        self, content: bytes, said: About, candidates: list[tuple[ArchivedSeries, SeriesView]]
    ) -> Iterator[_Match]:
        for archived, series in candidates:
            try:
                grids = self._grids.of(archived).grids
                if {grid.frame_of_reference_uid for grid in grids} & said.frame_of_reference_uids:
                    yield _on_any(content, series, grids, by_place=True)
            except InputError:  # no volume, or another grid: it is not this one
                continue

    def _candidates(
        self, seen: ElsewhereView, own: ArchivedSeries
    ) -> Iterator[tuple[ArchivedSeries, SeriesView]]:
        """Yield the image series of an object's study."""
        for series in self.images_of(seen.study_id):
            archived = self._archive.series(series.orthanc_id)
            if archived.study_uid == own.study_uid:
                yield archived, series

    # --- what it was made from ------------------------------------------------------------------

    def _take(self, seen: ElsewhereView, match: _Match, *, by: str | None) -> CorrectionView:
        said = about(self._archive.file_of(seen.orthanc_id))
        judged = self._before(said, match) if match.drawn.by_hand else None
        new = NewCorrection(
            id=seen.id,
            series_uid=seen.series_id,
            orthanc_id=seen.orthanc_id,
            study_id=seen.study_id,
            series_id=match.series.id,
            source="elsewhere",
            predecessor_id=judged.id if judged else None,
            result_id=judged.result_id if judged else None,
            bundle=judged.bundle if judged else None,
            author="",  # whoever it was, the object says it; our rows do not
            title=f"{seen.modality} from elsewhere",
            segments=[_row(thing, match) for thing in match.drawn.things],
        )
        self._corrections.begin(new, first_series_number=_NO_NUMBER)
        stored = self._corrections.stored(seen.id, orthanc_id=seen.orthanc_id)
        self._objects.settle(seen.id, "matched", by=by, correction_id=stored.id)
        log.info("elsewhere_matched", study=seen.study_id)
        return stored

    def _before(self, said: About, match: _Match) -> Judged | None:
        for uid in said.predecessors:
            try:
                return self._verdicts.judged(uid)
            except NotFound:
                continue
        found = self.origin_of(match.drawn, match.series, match.grid)
        return self._corrections.judged(found[0]) if found else None

    def origin_of(
        self, drawn: DrawnObject, series: SeriesView, grid: Grid
    ) -> tuple[str, DrawnObject] | None:
        """Return the newest result of a model that something was made from, and what it draws.

        Raises
        ------
        PeerError
        """
        for result_id in self._results_on(series)[:_LOOKED_BACK]:
            content = self._archive.instance_bytes(result_id)
            try:
                other = _on_any(content, series, (grid,), by_place=False).drawn
            except InputError:
                continue
            if _tracked_alike(other, drawn) or _alike(other, drawn, grid):
                return result_id, other
        return None

    def _results_on(self, series: SeriesView) -> list[str]:
        """Return the models' segmentations of a series that the archive holds, newest first."""
        found = [
            result
            for job in self._jobs.jobs_of(series.study_id)
            for result in job.results
            if result.sop_class_uid in _SEGMENTATIONS
            and any(task.id == result.task_id and task.series_id == series.id for task in job.tasks)
        ]
        found.sort(key=lambda result: result.created_at, reverse=True)
        return [result.id for result in found if self._archive.holds(result.id)]


def _on_any(
    content: bytes,
    series: SeriesView,
    grids: tuple[Grid, ...],
    *,
    by_place: bool,
    any_frame: bool = False,
) -> _Match:
    """Return an object on the first of a series' volumes that it fits.

    Raises
    ------
    InputError
        What the last of them said.
    """
    refused: InputError = NoMatch("the series holds no volume")
    for grid in grids:
        with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
            try:
                drawn = read_object(
                    content, grid, Path(folder), by_place=by_place, any_frame=any_frame
                )
            except InputError as error:
                refused = error
                continue
            return _Match(series, grid, drawn)
    raise refused


def _tracked_alike(one: DrawnObject, other: DrawnObject) -> bool:
    tracked = [{thing.tracking_uid for thing in each.things} - {""} for each in (one, other)]
    return bool(tracked[0] & tracked[1])


def _alike(before: DrawnObject, after: DrawnObject, grid: Grid) -> bool:
    """Whether half of the voxels are the same, of things that are the same in codes or name."""
    each, _ = compare_objects(before, after, grid.spacing_kji, tolerance_mm=1.0)
    shared = sizes = 0.0
    for a, b, agreement in each:
        count = sum(
            int(np.count_nonzero(side.masks.crops[number].voxels_kji))
            for side, number in ((before, a), (after, b))
            if number is not None
        )
        if a is not None and b is not None and agreement.dice is not None:
            shared += agreement.dice * count
            sizes += count
    return sizes > 0 and shared / sizes >= _ALIKE


def _row(thing: DrawnThing, match: _Match) -> dict[str, object]:
    """Return what is kept of a thing: its code; of its name only what the vocabulary knows too."""
    known = [term.label for term in search(thing.label) if term.label == thing.label]
    label = known[0] if known else thing.type.meaning
    voxels = int(np.count_nonzero(match.drawn.masks.crops[thing.number].voxels_kji))
    voxel_ml = abs(float(np.linalg.det(match.grid.affine_lps[:3, :3]))) / 1000.0
    return {
        "number": thing.number,
        "label": label,
        "type": thing.type.value,
        "scheme": thing.type.scheme,
        "rgb": list(thing.rgb),
        "origin": None,
        "changed": True,
        "voxels": voxels,
        "volume_ml": round(voxels * voxel_ml, 3) if match.grid.shape_kji[0] > 1 else None,
    }
