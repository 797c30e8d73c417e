"""What the front is made of: built by the wiring, handed to every route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog
from fastapi import Request

from dicom.archive import Archive
from models.process import PredictorProcess
from models.registry import Registry
from node.audit import Audit
from node.auth import Auth
from node.proxy import Upstream
from pipelines.corrections import Desk, Elsewhere
from pipelines.custody import Custody
from pipelines.learning import Policy, School
from pipelines.projects import Project
from pipelines.reading import ReadingRoom
from pipelines.routing import Route
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Access,
    AskedRuns,
    Collections,
    Corrections,
    Exports,
    Jobs,
    Labelled,
    Picking,
    Studies,
    Trail,
)
from pipelines.warm import WarmImages

_RING_TIMEOUT_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerBell:
    """Where the worker listens for a wake-up; `token` is what it wants to hear."""

    url: str
    token: str

    def ring(self) -> None:
        """Wake the worker up; one that is down finds the rows when it is back."""
        try:
            httpx.post(
                self.url,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=_RING_TIMEOUT_S,
                trust_env=False,
            )
        except httpx.TransportError as error:
            log.info("worker_not_awake", reason=type(error).__name__)


@dataclass(frozen=True, slots=True)
class DicomAddress:
    """Where PACS and modalities send studies to."""

    aet: str
    port: int


@dataclass(frozen=True, slots=True)
class FrontParts:
    """The parts of the front.

    Attributes
    ----------
    version : str
        Of radloop.
    auth : Auth
        Logins and tokens.
    studies, jobs, access, trail : Studies, Jobs, Access, Trail
        The rows.
    clinical : Archive
        The clinical archive: names and original UIDs, asked for live and kept nowhere.
    asked : AskedRuns
        The rows of runs that people asked for.
    corrections : Corrections
        The rows of what people drew, and said of results.
    desk : Desk
        Keeps drafts, stores corrections, hears what people say of results.
    elsewhere : Elsewhere
        What other systems drew.
    custody : Custody
        What is held back, and who has withdrawn.
    reading : ReadingRoom
        What readers share: cases, rounds, comments, workspaces.
    warm : WarmImages
        The images that readers work on, kept in memory.
    labelled : Labelled
        The rows of images and their labels, for other clients.
    predictor : PredictorProcess
        Runs models that answer clicks, and those on files that a client uploads.
    clinical_web, research_web : Upstream
        The archives' DICOMweb, behind the proxies.
    registry : Registry
        The installed bundles.
    routes : tuple of Route
        The rules, in their order.
    dicom : DicomAddress
        Of the clinical archive, told to people who have not sent anything yet.
    bell : WorkerBell
        The worker's.
    ohif_dist, ohif_config : Path
        OHIF's files, and our configuration of it.
    picking, collections, exports : Picking, Collections, Exports
        The rows of what can be collected for projects, what was, and the datasets made of it.
    export_files : ExportFiles
        Where those datasets lie.
    school : School
        Datasets, trainings and versions of models.
    policies : mapping of str to Policy
        When a version may become current, by the rule that asked for it; "": a person did.
    projects : tuple of Project
        For whom data is de-identified, besides the node itself.
    metadata_bytes : int
        Memory for what viewers ask of an archive's studies.
    """

    version: str
    auth: Auth
    studies: Studies
    jobs: Jobs
    access: Access
    trail: Trail
    clinical: Archive
    asked: AskedRuns
    corrections: Corrections
    desk: Desk
    elsewhere: Elsewhere
    custody: Custody
    reading: ReadingRoom
    warm: WarmImages
    labelled: Labelled
    predictor: PredictorProcess
    clinical_web: Upstream
    research_web: Upstream
    registry: Registry
    routes: tuple[Route, ...]
    dicom: DicomAddress
    bell: WorkerBell
    ohif_dist: Path
    ohif_config: Path
    picking: Picking
    collections: Collections
    exports: Exports
    export_files: ExportFiles
    school: School
    policies: Mapping[str, Policy]
    projects: tuple[Project, ...] = ()
    metadata_bytes: int = 128 << 20

    @property
    def audit(self) -> Audit:
        """The audit trail."""
        return Audit(self.trail)


def parts_of(request: Request) -> FrontParts:
    """Return the application's parts; a dependency of every route that needs one."""
    parts: FrontParts = request.app.state.parts
    return parts
