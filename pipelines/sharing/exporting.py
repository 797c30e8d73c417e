"""An export, carried out: a project's copies become files that may leave the hospital."""

from __future__ import annotations

import errno
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dicom.archive import Archive
from dicom.errors import Canceled, DiskFull, InvalidRequest, RadloopError
from dicom.study import Series, Study
from pipelines.engine import Engine, Retries, Steps, WorkflowSpec
from pipelines.exporting import Order, export
from pipelines.exports.cases import Shares, gather
from pipelines.identity import Vault
from pipelines.projects import Project, project_called
from pipelines.sharing.files import ExportFiles
from pipelines.sharing.gate import patients_gate
from pipelines.store import Collected, Collections, Exports, ExportView, SealedIdentities

log = structlog.get_logger()

_WORKFLOW: Final = "export"
# Somebody looks on: a full disk is told after a few seconds, and `try again` goes on.
_RETRIES: Final = Retries(attempts=3, first_delay_s=1.0)


@dataclass(frozen=True, slots=True, eq=False)
class ExportRuns:
    """The workflow of exports.

    Attributes
    ----------
    research : Archive
        Where the copies are.
    collections, exports, sealed : Collections, Exports, SealedIdentities
        The rows.
    projects : sequence of Project
    vaults : Mapping of str to Vault
        Each project's own.
    files : ExportFiles
    version : str
        Of radloop, for the card.
    """

    research: Archive
    collections: Collections
    exports: Exports
    sealed: SealedIdentities
    projects: Sequence[Project]
    vaults: Mapping[str, Vault]
    files: ExportFiles
    version: str

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflow for the engine."""
        return (WorkflowSpec(_WORKFLOW, "datasets", self.run, self._failed),)

    def hand_over(self, engine: Engine) -> None:
        """Give the engine what it has not got; safe to repeat after a crash."""
        for export_id, attempt in self.exports.not_handed_over():
            if self.exports.is_cancel_requested(export_id):
                self.exports.fail(export_id, Canceled("canceled before it began"))
                continue
            workflow_id = f"{_WORKFLOW} {export_id}.{attempt}"
            engine.enqueue(_WORKFLOW, workflow_id, export_id, priority="low")
            self.exports.handed_over(export_id, attempt)

    def run(self, export_id: str, steps: Steps) -> None:
        """Write the dataset, whole or not at all; interrupted, it goes on at the next case."""
        steps.run("begin", lambda: self._begin(export_id))
        steps.run("write", lambda: self._write(export_id), retries=_RETRIES)

    def _begin(self, export_id: str) -> None:
        if not self.exports.start(export_id):
            raise Canceled("canceled by a person")

    def _write(self, export_id: str) -> None:
        wanted = self.exports.export(export_id)
        target = self.files.target(wanted)
        if not target.exists():  # else it was stopped between the last file and its row
            try:
                self._written(wanted, target)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DiskFull("no room left for the export; what is written is kept") from None
                raise
        self.exports.finish(export_id, self.files.finished(target))

    def _written(self, wanted: ExportView, target: Path) -> None:
        order = wanted.order
        project = project_called(order.project, self.projects)
        members = self.collections.stored_for(
            order.project, collection_id=order.collection_id, wanted=order.wanted
        )
        if not members:
            raise InvalidRequest("nothing of this is stored for the project; collect it first")
        holds = {one.study: one.patient for one in members if one.study and one.patient}
        self.exports.holds(wanted.id, holds)
        gate = patients_gate(
            project.profile,
            self.vaults[project.name],
            self._all_studies(holds),
            actor=order.created_by,
            reason=f"export {wanted.id}: nothing of the patients may be in it",
        )
        self.files.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.parent.mkdir(exist_ok=True)
        sources = target.parent / ".sources"
        dataset, left_out = gather(
            order.name,
            self._studies(members, sources),
            shares=Shares(order.validation, order.test, order.seed),
            licence=order.licence,
            description=order.description,
        )
        self.exports.report_progress(wanted.id, 0, len(dataset.cases))
        export(
            Order(dataset, left_out, order.formats, project.in_words(), self.version),
            target,
            gate=gate,
            zipped=order.zipped,
            progress=lambda done, total: self.exports.report_progress(wanted.id, done, total),
            canceled=lambda: self.exports.is_cancel_requested(wanted.id),
        )
        shutil.rmtree(sources, ignore_errors=True)

    def _all_studies(self, holds: Mapping[str, str]) -> dict[str, str]:
        """Return every study of these patients that the project has, patient by study."""
        patients = sorted(set(holds.values()))
        return {study: patient for patient in patients for study in self.sealed.studies_of(patient)}

    def _studies(self, members: Sequence[Collected], folder: Path) -> list[Study]:
        """Return the copies as files: images, and what was drawn on them."""
        studies: dict[str, list[Series]] = defaultdict(list)
        for number, one in enumerate(members):
            assert one.study and one.orthanc_id  # it is stored
            home = folder / str(number)
            studies[one.study].append(
                self.research.fetch(self.research.series(one.orthanc_id), home / "images")
            )
            studies[one.study] += self._labels(one.labels, home)
        return [Study(study, tuple(series)) for study, series in sorted(studies.items())]

    def _labels(self, labels: Sequence[str], folder: Path) -> list[Series]:
        found = []
        for orthanc_id in self.research.series_of(labels) if labels else ():
            archived = self.research.series(orthanc_id)
            fetched = self.research.fetch(archived, folder / orthanc_id)
            wanted = {
                one.sop_instance_uid for one in archived.instances if one.orthanc_id in labels
            }
            kept = tuple(one for one in fetched.instances if one.sop_instance_uid in wanted)
            found.append(Series(fetched.series_uid, fetched.modality, kept))
        return found

    def _failed(self, export_id: str, error: RadloopError) -> None:
        log.warning("export_failed", task=export_id, code=error.code)
        self.exports.fail(export_id, error)
