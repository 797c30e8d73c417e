"""What the workflows work with, and how a step of theirs is seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from dicom import dimse
from dicom.archive import Archive
from dicom.deid import Engine as Deidentifying
from dicom.errors import Canceled, RadloopError
from dicom.profile import Profile
from dicom.study import Study
from dicom.web import WebPeer
from models.process import PredictorProcess
from models.registry import Registry
from pipelines.collecting import Collector
from pipelines.groundwork import Groundwork
from pipelines.identity import Vault
from pipelines.routing import Route
from pipelines.store import AskedRuns, Held, Jobs, Studies, Withdrawals
from pipelines.workspace import Workspace

log = structlog.get_logger()

ARCHIVE = "archive"
"""How the clinical archive is called among a result's destinations."""


_AT_HAND = 3


class AtHand:
    """The studies of the last few jobs, with the headers that were read: on disk, files are named.

    What is not here any more is read anew; nothing depends on it.
    """

    def __init__(self) -> None:
        self._studies: dict[str, Study] = {}
        self._lock = threading.Lock()

    def keep(self, job_id: str, study: Study) -> None:
        """Hold a study, and let go of the oldest where there are many."""
        with self._lock:
            self._studies.pop(job_id, None)
            self._studies[job_id] = study
            while len(self._studies) > _AT_HAND:
                del self._studies[next(iter(self._studies))]

    def get(self, job_id: str) -> Study | None:
        """Return a study that is held."""
        return self._studies.get(job_id)

    def drop(self, job_id: str) -> None:
        """Let go of a study."""
        with self._lock:
            self._studies.pop(job_id, None)


@dataclass(frozen=True, slots=True, eq=False)
class House:
    """What the workflows work with; put together in `node.house`.

    Attributes
    ----------
    profile : Profile
        Of the node's own project: by it the deidentifier works, and the second look.
    overruled, overruled_collector : callable
        The engine, or a project's collector, that lets pass what a person has released, by the
        codes of the refusals.
    """

    clinical: Archive
    clinical_web: WebPeer
    research: Archive
    studies: Studies
    jobs: Jobs
    asked: AskedRuns
    profile: Profile
    deidentifier: Deidentifying
    overruled: Callable[[frozenset[str]], Deidentifying]
    overruled_collector: Callable[[str, frozenset[str]], Collector]
    held: Held
    withdrawals: Withdrawals
    groundwork: Groundwork
    vault: Vault
    registry: Registry
    predictor: PredictorProcess
    routes: Sequence[Route]
    peers: Mapping[str, dimse.Peer]
    aet: str
    work: Path
    collectors: Mapping[str, Collector] = field(default_factory=dict)
    at_hand: AtHand = field(default_factory=AtHand)

    def workspace(self, job_id: str) -> Workspace:
        """Return the folder of a job."""
        return Workspace(self.work, job_id)

    def keep_study(self, job_id: str, study: Study) -> None:
        """Note the de-identified study of a job for its later steps."""
        self.workspace(job_id).keep_study(study)
        self.at_hand.keep(job_id, study)

    def study(self, job_id: str) -> Study:
        """Return the de-identified study of a job."""
        return self.at_hand.get(job_id) or self.workspace(job_id).study()

    def drop(self, job_id: str) -> None:
        """Remove what a job has between its steps."""
        self.at_hand.drop(job_id)
        self.workspace(job_id).drop()

    def is_canceled(self, job_id: str) -> Callable[[], bool]:
        """Return what says whether somebody asked to cancel a job."""
        return lambda: self.jobs.is_cancel_requested(job_id)


@contextmanager
def shown(house: House, job_id: str, name: str, task_id: str | None = None) -> Iterator[None]:
    """Let a step be seen while it runs, and its seconds afterwards."""
    jobs = house.jobs
    if jobs.is_cancel_requested(job_id):
        raise Canceled
    step = jobs.begin_step(job_id, name, task_id)
    started = time.monotonic()
    try:
        yield
    except RadloopError as error:
        jobs.end_step(step, error.code)
        log.warning("step_failed", job=job_id, task=task_id, step=name, code=error.code)
        raise
    jobs.end_step(step)
    seconds = round(time.monotonic() - started, 3)
    log.info("step_done", job=job_id, task=task_id, step=name, seconds=seconds)


@contextmanager
def noted(house: House, result_id: str, destination: str) -> Iterator[None]:
    """Note one try of a delivery, whether it succeeds or not."""
    try:
        yield
    except RadloopError as error:
        house.jobs.note_delivery(result_id, destination, error)
        raise
    house.jobs.note_delivery(result_id, destination)
