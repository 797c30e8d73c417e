"""What the rest of the house sees of jobs: frozen values, read from the rows.

Reading many jobs costs as many queries as reading one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from pipelines.records import (
    DeliveryRow,
    JobRow,
    JobSeriesRow,
    ResultRow,
    StepRow,
    TaskRow,
)

State = Literal["scheduled", "in_progress", "completed", "canceled"]
"""The four states of a UPS workitem (PS3.4 CC.1.1); a failure is `canceled` with an error code."""


@dataclass(frozen=True, slots=True)
class JobSeries:
    """One series of a job: its content, and why it went no further if it did not."""

    series_id: str
    fingerprint: str
    reason_code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that routing decided on."""

    id: str
    series_id: str
    route: str
    bundle: str
    bundle_sha256: str
    outputs: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: str


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as the rest of the house sees it."""

    id: str
    job_id: str
    series_id: str
    route: str
    bundle: str
    bundle_sha256: str
    outputs: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: str
    state: State
    progress: float
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    forward_s: float | None
    device: str | None
    confidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class StepView:
    """One step and its seconds."""

    task_id: str | None
    name: str
    started_at: datetime
    ended_at: datetime | None
    error_code: str | None

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


@dataclass(frozen=True, slots=True)
class ResultView:
    """A DICOM object that a task made."""

    id: str
    task_id: str
    series_uid: str
    sop_class_uid: str
    summary: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One result on its way to one destination."""

    result_id: str
    destination: str
    state: State
    attempts: int
    error_code: str | None
    error_message: str | None
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with all that a page or a person asks about it."""

    id: str
    study_id: str
    state: State
    attempt: int
    cancel_requested: bool
    collect: bool
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    series: tuple[JobSeries, ...]
    tasks: tuple[TaskView, ...]
    steps: tuple[StepView, ...]
    results: tuple[ResultView, ...]
    deliveries: tuple[DeliveryView, ...]

    @property
    def current_step(self) -> StepView | None:
        """The step that runs now, or None."""
        return next((step for step in reversed(self.steps) if step.ended_at is None), None)


def task_view(row: TaskRow) -> TaskView:
    """Return a task."""
    return TaskView(
        id=row.id,
        job_id=row.job_id,
        series_id=row.series_id,
        route=row.route,
        bundle=row.bundle,
        bundle_sha256=row.bundle_sha256,
        outputs=tuple(row.outputs),
        destinations=tuple(row.destinations),
        priority=row.priority,
        state=_state(row.state),
        progress=row.progress,
        error_code=row.error_code,
        error_message=row.error_message,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        forward_s=row.forward_s,
        device=row.device,
        confidence=row.confidence,
    )


def job_view(session: Session, row: JobRow) -> JobView:
    """Return a job with all that belongs to it."""
    return job_views(session, [row])[0]


def job_views(session: Session, rows: Iterable[JobRow]) -> list[JobView]:
    """Return jobs with all that belongs to them: five queries, however many jobs there are."""
    jobs = list(rows)
    ids = [row.id for row in jobs]
    series, steps = defaultdict(list), defaultdict(list)
    tasks, results, deliveries = defaultdict(list), defaultdict(list), defaultdict(list)
    for s in session.scalars(sa.select(JobSeriesRow).where(JobSeriesRow.job_id.in_(ids))):
        series[s.job_id].append(_job_series(s))
    for step in session.scalars(
        sa.select(StepRow).where(StepRow.job_id.in_(ids)).order_by(StepRow.id)
    ):
        steps[step.job_id].append(_step_view(step))
    for task in session.scalars(
        sa.select(TaskRow).where(TaskRow.job_id.in_(ids)).order_by(TaskRow.created_at, TaskRow.id)
    ):
        tasks[task.job_id].append(task_view(task))
    for job_id, result in session.execute(
        sa.select(TaskRow.job_id, ResultRow)
        .join(TaskRow, TaskRow.id == ResultRow.task_id)
        .where(TaskRow.job_id.in_(ids))
    ):
        results[job_id].append(_result_view(result))
    for job_id, delivery in session.execute(
        sa.select(TaskRow.job_id, DeliveryRow)
        .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
        .join(TaskRow, TaskRow.id == ResultRow.task_id)
        .where(TaskRow.job_id.in_(ids))
    ):
        deliveries[job_id].append(_delivery_view(delivery))
    return [
        JobView(
            id=row.id,
            study_id=row.study_id,
            state=_state(row.state),
            attempt=row.attempt,
            cancel_requested=row.cancel_requested,
            collect=row.collect,
            error_code=row.error_code,
            error_message=row.error_message,
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            series=tuple(series[row.id]),
            tasks=tuple(tasks[row.id]),
            steps=tuple(steps[row.id]),
            results=tuple(results[row.id]),
            deliveries=tuple(deliveries[row.id]),
        )
        for row in jobs
    ]


def _job_series(row: JobSeriesRow) -> JobSeries:
    return JobSeries(
        series_id=row.series_id,
        fingerprint=row.fingerprint,
        reason_code=row.reason_code,
        reason=row.reason,
    )


def _step_view(row: StepRow) -> StepView:
    return StepView(
        task_id=row.task_id,
        name=row.name,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error_code=row.error_code,
    )


def _result_view(row: ResultRow) -> ResultView:
    return ResultView(
        id=row.id,
        task_id=row.task_id,
        series_uid=row.series_uid,
        sop_class_uid=row.sop_class_uid,
        summary=row.summary,
        created_at=row.created_at,
    )


def _delivery_view(row: DeliveryRow) -> DeliveryView:
    return DeliveryView(
        result_id=row.result_id,
        destination=row.destination,
        state=_state(row.state),
        attempts=row.attempts,
        error_code=row.error_code,
        error_message=row.error_message,
        delivered_at=row.delivered_at,
    )


def _state(text: str) -> State:
    if text in ("scheduled", "in_progress", "completed", "canceled"):
        return text  # type: ignore[return-value]  # mypy does not narrow str by membership
    raise ValueError("not a UPS state")
