"""A collection, carried out: the originals of each study, de-identified for a project and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dicom.archive import Archive
from dicom.errors import (
    ArchiveMismatch,
    Canceled,
    Dismissed,
    InputError,
    InvalidSettings,
    NotFound,
    PatientWithdrawn,
    RadloopError,
    VaultLocked,
)
from pipelines.collecting import Collector
from pipelines.engine import Engine, Retries, Steps, WorkflowSpec
from pipelines.store import (
    Collected,
    Collections,
    CollectionView,
    Held,
    HeldContent,
    Jobs,
    Picking,
    SealedIdentities,
    Stored,
    Studies,
)

log = structlog.get_logger()

_WORKFLOW: Final = "collection"
_RETRIES: Final = Retries(attempts=5, first_delay_s=2.0)


@dataclass(frozen=True, slots=True, eq=False)
class CollectionRuns:
    """The workflow of collections.

    Attributes
    ----------
    clinical, research : Archive
        Where the originals are, and where the copies go.
    studies, picking, collections, sealed : Studies, Picking, Collections, SealedIdentities
        The rows.
    jobs, held : Jobs, Held
        The rows: what a project refuses waits for a custodian there.
    collectors : Mapping of str to Collector
        One for each project.
    overruled : callable
        A project's collector that lets pass what a person has released, by the codes.
    work : Path
        For files while they are looked at.
    """

    clinical: Archive
    research: Archive
    studies: Studies
    picking: Picking
    collections: Collections
    sealed: SealedIdentities
    jobs: Jobs
    held: Held
    collectors: Mapping[str, Collector]
    overruled: Callable[[str, frozenset[str]], Collector]
    work: Path

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflow for the engine."""
        return (WorkflowSpec(_WORKFLOW, "datasets", self.run, self._failed),)

    def hand_over(self, engine: Engine) -> None:
        """Give the engine what it has not got; safe to repeat after a crash."""
        for collection_id, attempt in self.collections.not_handed_over():
            if self.collections.is_cancel_requested(collection_id):
                self.collections.end(collection_id, Canceled("canceled before it began"))
                continue
            workflow_id = f"{_WORKFLOW} {collection_id}.{attempt}"
            engine.enqueue(_WORKFLOW, workflow_id, collection_id, priority="low")
            self.collections.handed_over(collection_id, attempt)

    def run(self, collection_id: str, steps: Steps) -> None:
        """Store study after study; what a project refuses is listed, and the rest goes on."""
        studies = steps.run("begin", lambda: self._begin(collection_id))
        while studies:  # what is released meanwhile waits again
            for study_id in studies:
                self._collect(collection_id, study_id, steps)
            studies = steps.run("look again", lambda: self._waiting(collection_id))
        steps.run("end", lambda: self.collections.end(collection_id))

    def _collect(self, collection_id: str, study_id: str, steps: Steps) -> None:
        steps.run("collect", lambda: self._study(collection_id, study_id), retries=_RETRIES)

    def _begin(self, collection_id: str) -> list[str]:
        if not self.collections.start(collection_id):
            raise Canceled("canceled by a person")
        return self._waiting(collection_id)

    def _waiting(self, collection_id: str) -> list[str]:
        waiting = self.collections.waiting(collection_id)
        return list(dict.fromkeys(one.study_id for one in waiting))

    def _study(self, collection_id: str, study_id: str) -> None:
        """Store one study's series that wait; a second time, those that are not stored yet."""
        collection = self.collections.collection(collection_id)
        self.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = self.work / collection_id
        try:
            for one in self.collections.waiting(collection_id):
                if one.study_id != study_id:
                    continue
                if self.collections.is_cancel_requested(collection_id):
                    raise Canceled("canceled by a person; what is stored stays stored")
                self._series(collection, one, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _series(self, collection: CollectionView, one: Collected, folder: Path) -> None:
        try:
            stored = self._stored(collection, one, folder)
        except VaultLocked:
            raise  # without the key no study can be collected: all of it ends
        except (InputError, ArchiveMismatch) as error:
            self.collections.keep_refused(collection.id, one.series_id, error)
        else:
            self.collections.keep_stored(collection.id, one.series_id, stored)

    def _stored(self, collection: CollectionView, one: Collected, folder: Path) -> Stored:
        collector = self.collectors.get(collection.project)
        if collector is None:
            raise InvalidSettings(f"there is no [[project]] {collection.project!r} any more")
        row = self.studies.series(one.series_id)
        archived = self.clinical.series(row.orthanc_id)
        content = self._content(collection, one, self.clinical.fingerprint(archived))
        if self.held.is_deleted(content):
            raise Dismissed("a custodian decided that the project does not get this series")
        released = self.held.released(content)
        if released:
            collector = self.overruled(collection.project, released)
        images = self.clinical.fetch(archived, folder / "images")
        labels, gone = self._labels(one.series_id, folder / "labels")
        try:
            copies = collector.take(
                one.series_id,
                [instance.path for instance in images.instances],
                folder / "copies",
                labels=labels,
                actor=collection.created_by,
            )
        except (PatientWithdrawn, VaultLocked):
            raise  # no custodian decides on these
        except InputError as error:
            self.held.hold(content, error, collection=collection.id)
            raise
        self.held.lift(content)
        sealed = self.sealed.get_sealed(copies.study)
        if sealed is None:
            raise NotFound("the vault does not hold the study that was just sealed")
        (series,) = self.research.series_of(copies.images)
        return Stored(
            study=copies.study,
            patient=sealed.patient,
            orthanc_id=series,
            images=len(copies.images),
            labels=copies.labels,
            left_out=(*gone, *copies.left_out),
        )

    def _content(self, collection: CollectionView, one: Collected, fingerprint: str) -> HeldContent:
        (job, *_) = self.jobs.jobs_of(one.study_id)  # what can be picked has been through one
        return HeldContent(one.study_id, one.series_id, job.id, collection.project, fingerprint)

    def _labels(self, series_id: str, folder: Path) -> tuple[list[Path], list[RadloopError]]:
        """Return what was drawn on a series, as files, and why one is not there."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        paths: list[Path] = []
        gone: list[RadloopError] = []
        for number, drawn in enumerate(self.picking.labels_of(series_id)):
            read: Callable[[str], bytes] = (
                self.clinical.file_of if drawn.orthanc_id else self.clinical.instance_bytes
            )
            try:
                content = read(drawn.orthanc_id or drawn.id)
            except ArchiveMismatch as error:  # it was deleted there
                gone.append(error)
                continue
            path = folder / f"{number}.dcm"
            path.write_bytes(content)
            paths.append(path)
        return paths, gone

    def _failed(self, collection_id: str, error: RadloopError) -> None:
        self.collections.end(collection_id, error)
