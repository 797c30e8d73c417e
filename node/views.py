"""What API and pages show of the rows: one shape each, free of PHI and of Orthanc's own ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter

from node.faults import Fault, fault_of
from pipelines.store import JobView, SeriesView, State, StepView, StudyView, TaskView

_REPORT = "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a job or task; `seconds` is null while it runs."""

    name: str
    task: str | None
    started_at: datetime
    seconds: float | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Task:
    """One model run inside a job.

    `confidence` has, by segment label, the network's mean `probability` inside and the mean
    normalised `border_entropy`; null where it says labels alone.
    """

    id: str
    series: str
    route: str
    bundle: str
    outputs: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: str
    state: State
    progress: float
    forward_s: float | None
    device: str | None
    confidence: Mapping[str, Any] | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A series of the job that went no further, and why."""

    series: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result on its way to one destination."""

    result: str
    destination: str
    state: State
    attempts: int
    delivered_at: datetime | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Result:
    """A DICOM object made from a prediction.

    `kind` says what it is; `summary` has millilitres per segment, of findings without voxels the
    probability of each.
    """

    id: str
    task: str
    series: str
    sop_class_uid: str
    summary: Mapping[str, Any]
    created_at: datetime
    deliveries: tuple[Delivery, ...]

    @property
    def kind(self) -> Literal["segmentation", "report"]:
        """What it is, by its SOP class."""
        return "report" if self.sop_class_uid == _REPORT else "segmentation"


@dataclass(frozen=True, slots=True)
class Job:
    """One study through one workflow.

    `step` runs now; `progress` is how much of it is done, 0 to 1, null where it cannot say. A
    failure is the state `canceled` with a fault (PS3.4 CC.1.1 knows four states).
    """

    id: str
    study: str
    state: State
    attempt: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    step: str | None
    progress: float | None
    fault: Fault | None
    tasks: tuple[Task, ...]
    steps: tuple[Step, ...]
    results: tuple[Result, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def is_open(self) -> bool:
        """Whether it can still be canceled."""
        return self.state in ("scheduled", "in_progress")

    @property
    def undelivered(self) -> tuple[str, ...]:
        """Destinations that still wait for a result."""
        waiting = (d for result in self.results for d in result.deliveries)
        return tuple(
            sorted({d.destination for d in waiting if d.state in ("scheduled", "in_progress")})
        )

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error that is no cancellation by a person."""
        return self.fault is not None and self.fault.code != "canceled"


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a study; `ours` is a result that this node made."""

    id: str
    modality: str
    state: str
    instance_count: int
    ours: bool
    facts: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Study:
    """One study by its pseudonym, its series, and its jobs from the newest to the oldest."""

    id: str
    received_at: datetime
    description: str
    series: tuple[Series, ...]
    jobs: tuple[Job, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it was taken with; our own results are not counted."""
        return tuple(sorted({series.modality for series in self.series if not series.ours}))

    @property
    def images(self) -> int:
        """Instances that were received."""
        return sum(series.instance_count for series in self.series if not series.ours)

    @property
    def is_arriving(self) -> bool:
        """Whether instances still come in."""
        return any(series.state == "receiving" for series in self.series)


def view_job(job: JobView) -> Job:
    """Return what is shown of a job."""
    running = job.current_step if job.state == "in_progress" else None
    deliveries = [
        Delivery(
            result=delivery.result_id,
            destination=delivery.destination,
            state=delivery.state,
            attempts=delivery.attempts,
            delivered_at=delivery.delivered_at,
            fault=fault_of(delivery.error_code, delivery.error_message),
        )
        for delivery in job.deliveries
    ]
    return Job(
        id=job.id,
        study=job.study_id,
        state=job.state,
        attempt=job.attempt,
        cancel_requested=job.cancel_requested,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        step=running.name if running else None,
        progress=_progress(running, job.tasks) if running else None,
        fault=fault_of(job.error_code, job.error_message),
        tasks=tuple(_view_task(task) for task in job.tasks),
        steps=tuple(_view_step(step) for step in job.steps),
        results=tuple(
            Result(
                id=result.id,
                task=result.task_id,
                series=result.series_uid,
                sop_class_uid=result.sop_class_uid,
                summary=result.summary,
                created_at=result.created_at,
                deliveries=tuple(d for d in deliveries if d.result == result.id),
            )
            for result in job.results
        ),
        left_out=tuple(
            LeftOut(series.series_id, fault)
            for series in job.series
            if (fault := fault_of(series.reason_code, series.reason)) is not None
        ),
    )


def view_series(series: SeriesView) -> Series:
    """Return what is shown of a series."""
    return Series(
        id=series.id,
        modality=series.modality,
        state=series.state,
        instance_count=series.instance_count,
        ours=series.ours,
        facts=series.facts,
    )


def view_study(study: StudyView, series: list[SeriesView], jobs: list[JobView]) -> Study:
    """Return what is shown of a study."""
    return Study(
        id=study.id,
        received_at=study.received_at,
        description=study.description,
        series=tuple(view_series(one) for one in series),
        jobs=tuple(view_job(job) for job in jobs),
    )


_JOB = TypeAdapter(Job)


def job_json(job: Job) -> str:
    """Return a job as the API writes it; the same text for the same job."""
    return _JOB.dump_json(job).decode()


def _view_step(step: StepView) -> Step:
    return Step(
        name=step.name,
        task=step.task_id,
        started_at=step.started_at,
        seconds=step.seconds,
        fault=fault_of(step.error_code, None),
    )


def _view_task(task: TaskView) -> Task:
    return Task(
        id=task.id,
        series=task.series_id,
        route=task.route,
        bundle=task.bundle,
        outputs=task.outputs,
        destinations=task.destinations,
        priority=task.priority,
        state=task.state,
        progress=task.progress,
        forward_s=task.forward_s,
        device=task.device,
        confidence=task.confidence,
        fault=fault_of(task.error_code, task.error_message),
    )


def _progress(running: StepView, tasks: tuple[TaskView, ...]) -> float | None:
    """Return the fraction of the running step; a step that never reports has none."""
    fraction = next((task.progress for task in tasks if task.id == running.task_id), 0.0)
    return fraction if fraction > 0 else None
