"""What follows a correction, and nobody waits for: its effort, objects from elsewhere, lost saves.

Two workflows in a queue of their own, and a look now and then for saves whose process was killed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from dicom.archive import Archive
from dicom.errors import ArchiveMismatch, InputError, NotFound, RadloopError
from dicom.volume import Grid
from pipelines.corrections.desk import Desk
from pipelines.corrections.elsewhere import Elsewhere
from pipelines.corrections.objects import DrawnObject, compare_objects, read_object
from pipelines.engine import Engine, Steps, WorkflowSpec
from pipelines.store import (
    Corrections,
    CorrectionView,
    Difference,
    ElsewhereObjects,
    Jobs,
    Studies,
)

log = structlog.get_logger()

_EFFORT: Final = "effort"
_ELSEWHERE: Final = "elsewhere"


class Aftercare:
    """The workflows after a correction.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    pseudonym : callable
        From an original UID to its pseudonym.
    tolerance_mm : float
        How near two surfaces count as the same.
    """

    def __init__(
        self,
        archive: Archive,
        studies: Studies,
        jobs: Jobs,
        corrections: Corrections,
        objects: ElsewhereObjects,
        desk: Desk,
        *,
        pseudonym: Callable[[str], str],
        tolerance_mm: float,
    ) -> None:
        self._archive = archive
        self._studies = studies
        self._corrections = corrections
        self._objects = objects
        self._desk = desk
        self._pseudonym = pseudonym
        self._tolerance_mm = tolerance_mm
        self._elsewhere = Elsewhere(
            archive, studies, jobs, corrections, objects, desk.grids, desk.verdicts
        )
        self._engine: Engine | None = None
        self._handed: set[str] = set()

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflows for the engine."""
        return (
            WorkflowSpec(_EFFORT, "corrections", self.run_effort, self._effort_failed),
            WorkflowSpec(_ELSEWHERE, "corrections", self.run_elsewhere, self._elsewhere_failed),
        )

    def attach(self, engine: Engine) -> None:
        """Give it the engine that carries the workflows out."""
        self._engine = engine

    def hand_over(self) -> None:
        """Give the engine what it has not got, and finish saves whose process was killed.

        Raises
        ------
        PeerError
            When the archive is away; it is tried again at the next call.
        """
        for correction_id in self._corrections.unmeasured():
            self._enqueue(_EFFORT, f"{_EFFORT} {correction_id}", correction_id)
        for series in self._objects.unseen():
            workflow_id = f"{_ELSEWHERE} {series.id} {series.instance_count}"
            self._enqueue(_ELSEWHERE, workflow_id, series.id)
        if self._desk.finish():
            log.warning("interrupted_saves_finished")

    # --- effort ---------------------------------------------------------------------------------

    def run_effort(self, correction_id: str, steps: Steps) -> None:
        """Measure how far a correction is from what it began with."""
        steps.run("compare", lambda: self.measure(correction_id))

    def measure(self, correction_id: str) -> None:
        """Compare a correction with the model's result that it goes back to, and keep the figures.

        Where there is nothing to compare with, that is kept too.

        Raises
        ------
        PeerError
            When the archive does not answer.
        """
        row = self._corrections.correction(correction_id)
        start = row.result_id or row.predecessor_id
        difference = None
        if start is not None:
            try:
                difference = self._difference(row, start)
            except (InputError, ArchiveMismatch) as error:  # deleted, or drawn on another grid
                log.info("effort_not_measured", code=error.code)
        self._corrections.keep_difference(correction_id, difference)

    def _difference(self, row: CorrectionView, start: str) -> Difference:
        series = self._studies.series(row.series_id)
        source = self._desk.grids.of(self._archive.series(series.orthanc_id))
        before, after = self._content(start), self._content(row.id)
        refused: InputError | None = None
        for grid in source.grids:
            try:
                return self._compared(before, after, grid)
            except InputError as error:
                refused = error
        raise refused or NotFound("the series holds no volume")

    def _compared(self, before: bytes, after: bytes, grid: Grid) -> Difference:
        was, now = _read(before, grid), _read(after, grid)
        each, total = compare_objects(was, now, grid.spacing_kji, tolerance_mm=self._tolerance_mm)
        return Difference(
            changed_voxels=total.changed_voxels,
            added_path_mm=round(total.added_path_mm, 2),
            surface_dice=total.surface_dice,
            tolerance_mm=self._tolerance_mm,
            segments=[
                {
                    "before": a,
                    "number": b,
                    "type": _type_of(was, a) or _type_of(now, b),
                    "changed_voxels": one.changed_voxels,
                    "added_path_mm": round(one.added_path_mm, 2),
                    "surface_dice": one.surface_dice,
                    "dice": one.dice,
                }
                for a, b, one in each
            ],
        )

    def _content(self, object_id: str) -> bytes:
        """Return the file of a result, or of a correction from wherever."""
        try:
            drawn = self._corrections.correction(object_id)
        except NotFound:
            return self._archive.instance_bytes(object_id)
        return self._archive.file_of(drawn.orthanc_id or "")

    def _effort_failed(self, correction_id: str, error: RadloopError) -> None:
        self._corrections.keep_difference(correction_id, None)

    # --- from elsewhere -------------------------------------------------------------------------

    def run_elsewhere(self, series_id: str, steps: Steps) -> None:
        """Find out what the objects of a series from elsewhere are about."""
        steps.run("match", lambda: self.look(series_id))

    def look(self, series_id: str) -> int:
        """Look at the objects of a series; return how many were matched.

        Raises
        ------
        PeerError
            When the archive does not answer.
        """
        return self._elsewhere.look(series_id, pseudonym=self._pseudonym)

    def _elsewhere_failed(self, series_id: str, error: RadloopError) -> None:
        log.warning("elsewhere_not_read", code=error.code)

    def _enqueue(self, workflow: str, workflow_id: str, argument: str) -> None:
        if self._engine is None:
            raise RuntimeError("the workflows have no engine yet")
        if workflow_id not in self._handed:  # the engine would find out too, but not for nothing
            self._engine.enqueue(workflow, workflow_id, argument, priority="low")
            self._handed.add(workflow_id)


def _type_of(drawn: DrawnObject, number: int | None) -> str | None:
    return None if number is None else drawn.things[number - 1].type.meaning


def _read(content: bytes, grid: Grid) -> DrawnObject:
    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
        try:
            return read_object(content, grid, Path(folder))
        except InputError:
            return read_object(content, grid, Path(folder), by_place=True)
