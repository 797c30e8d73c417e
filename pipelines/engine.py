"""The durable engine: the only room that knows DBOS.

A workflow is a plain function of one identifier and a :class:`Steps`; what it does goes through
`steps.run`, so that a process that was killed goes on at the step that it was in. Steps may run
twice: each is written so that twice does no harm. The engine's own database holds identifiers and
step results only, never DICOM content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import structlog
from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from dbos import Queue as DbosQueue
from dbos import error as dbos_error

from dicom.errors import InternalError, PeerError, RadloopError, ResourceError
from pipelines.store import Access
from pipelines.store.database import open_engine

log = structlog.get_logger()

Result = TypeVar("Result")
Queue = Literal["studies", "tasks", "deliveries", "corrections", "datasets", "learning"]

PRIORITIES: Mapping[str, int] = {"stat": 1, "high": 10, "routine": 100, "low": 1000}
"""DBOS takes the smallest number first."""

_POLL_S = 0.2  # idle cost against delay; 0.05 s costs 8-14 % of a core
_HURRIED_POLL_S = 0.03


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a step is tried again after a `PeerError` or `ResourceError`."""

    attempts: int = 8
    first_delay_s: float = 1.0
    backoff: float = 2.0


class Steps:
    """Runs the steps of one workflow durably."""

    def run(
        self,
        name: str,
        function: Callable[[], Result],
        *,
        retries: Retries | None = None,
    ) -> Result:
        """Run `function` once to its end, over crashes; return its (pickled) result.

        Raises
        ------
        RadloopError
            What the step raised; after the last retry, what it raised last.
        """
        plan = retries or Retries()
        try:
            return DBOS.run_step(
                {
                    "name": name,
                    "retries_allowed": True,
                    "max_attempts": plan.attempts,
                    "interval_seconds": plan.first_delay_s,
                    "backoff_rate": plan.backoff,
                    "should_retry": _is_worth_retrying,
                },
                function,
            )
        except dbos_error.DBOSMaxStepRetriesExceeded as exceeded:
            raise exceeded.errors[-1] from exceeded


Workflow = Callable[[str, Steps], None]
Failure = Callable[[str, RadloopError], None]


def _is_worth_retrying(error: BaseException) -> bool:
    return isinstance(error, PeerError | ResourceError)


@dataclass(frozen=True, slots=True)
class WorkflowSpec:
    """A workflow by name: what it does, and who is told when it fails."""

    name: str
    queue: Queue
    body: Workflow
    failed: Failure


class Engine:
    """Carries workflows out, and takes up again what a crash interrupted.

    Parameters
    ----------
    url : str
        Its own database, SQLite or PostgreSQL.
    executor_id : str
        A stable name of this worker: what was interrupted under it is resumed under it.
    version : str
        Version of the workflows' code; work of another version waits for `adopt`.
    workflows : sequence of WorkflowSpec
    limits : mapping
        How many workflows of each queue this worker runs side by side.
    """

    def __init__(
        self,
        url: str,
        *,
        executor_id: str,
        version: str,
        workflows: Sequence[WorkflowSpec],
        limits: Mapping[Queue, int],
    ) -> None:
        self._executor_id = executor_id
        self._engine = open_engine(url)
        self._limits = limits
        config = DBOSConfig(
            name="radloop",
            system_database_engine=self._engine,
            executor_id=executor_id,
            application_version=version,
            console_log_level="ERROR",
            use_listen_notify=False,
            notification_listener_polling_interval_sec=1.0,
        )
        logging.getLogger("dbos").setLevel(logging.ERROR)  # its lines quote arguments
        self._dbos = DBOS(config=config)
        self._registered: list[DbosQueue] = []
        self._hurried = False
        self._queues: dict[str, Queue] = {}
        self._functions: dict[str, Callable[[str], None]] = {}
        for spec in workflows:
            self._queues[spec.name] = spec.queue
            self._functions[spec.name] = DBOS.workflow(name=spec.name)(_guarded(spec))

    def start(self) -> None:
        """Begin to carry out, first what was interrupted."""
        DBOS.launch()
        for queue, limit in self._limits.items():
            self._registered.append(
                DBOS.register_queue(
                    queue,
                    worker_concurrency=limit,
                    polling_interval_sec=_POLL_S,
                    on_conflict="always_update",
                )
            )

    def hurry(self, wanted: bool) -> None:
        """Look at the queues more often, or as usual again: something is about to be handed over.

        Which is noticed at the next look, a fifth of a second later at the latest.
        """
        if wanted is not self._hurried:
            self._hurried = wanted
            for queue in self._registered:
                queue.set_polling_interval_sec(_HURRIED_POLL_S if wanted else _POLL_S)

    def stop(self) -> None:
        """Stop taking work; what runs is taken up again at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=0)
        self._engine.dispose()

    def enqueue(self, workflow: str, workflow_id: str, argument: str, *, priority: str) -> None:
        """Hand a workflow over; a second time with the same id does nothing."""
        with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=PRIORITIES[priority]):
            DBOS.enqueue_workflow(self._queues[workflow], self._functions[workflow], argument)

    def cancel(self, workflow_ids: Sequence[str]) -> None:
        """Stop workflows at their next step; those that wait are never begun."""
        for workflow_id in workflow_ids:
            if DBOS.get_workflow_status(workflow_id) is not None:
                DBOS.cancel_workflow(workflow_id)

    def adopt(self, access: Access, *, dead_after: timedelta) -> int:
        """Take over what workers were doing that have not been heard of; return how much."""
        alive = set(access.workers_seen(within=dead_after)) | {self._executor_id}
        taken = 0
        for status in DBOS.list_workflows(status="PENDING", load_input=False, load_output=False):
            if status.executor_id is not None and status.executor_id not in alive:
                DBOS.resume_workflow(status.workflow_id)
                taken += 1
        return taken


def _guarded(spec: WorkflowSpec) -> Callable[[str], None]:
    """Close a workflow's door: every error ends as a coded reason on its job.

    A cancellation is no `Exception` in DBOS and passes.
    """

    def run(argument: str) -> None:
        try:
            spec.body(argument, Steps())
        except RadloopError as error:
            log.warning("workflow_failed", name=spec.name, task=argument, code=error.code)
            spec.failed(argument, error)
        except Exception as error:
            log.exception("workflow_broke", name=spec.name, task=argument)
            spec.failed(argument, InternalError(f"radloop made a mistake ({type(error).__name__})"))

    return run
