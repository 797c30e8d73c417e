"""What a worker notes while it carries a job out: steps, tasks, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import RadloopError
from pipelines.records import DeliveryRow, JobRow, JobSeriesRow, ResultRow, StepRow, TaskRow
from pipelines.store.job_views import NewTask, TaskView, task_view
from pipelines.store.jobs.rows import OPEN, OfJobs, end_job_if_done, job_row, locked_job, task_row


class Progress(OfJobs):
    """What is being done."""

    def start(self, job_id: str) -> None:
        """Note that a worker took the job up."""
        with self._database.write() as session:
            row = job_row(session, job_id)
            row.state = "in_progress"
            row.started_at = row.started_at or datetime.now(UTC)

    def is_cancel_requested(self, job_id: str) -> bool:
        """Whether somebody asked for the job to be canceled."""
        with self._database.read() as session:
            return bool(
                session.scalar(sa.select(JobRow.cancel_requested).where(JobRow.id == job_id))
            )

    def begin_step(self, job_id: str, name: str, task_id: str | None = None) -> int:
        """Note that a step begins; a step of that name left open by a crash is closed."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            session.execute(
                sa.update(StepRow)
                .where(
                    StepRow.job_id == job_id,
                    StepRow.task_id.is_(None) if task_id is None else StepRow.task_id == task_id,
                    StepRow.ended_at.is_(None),
                )
                .values(ended_at=now, error_code="interrupted")
            )
            if task_id is not None:
                session.execute(
                    sa.update(TaskRow).where(TaskRow.id == task_id).values(progress=0.0)
                )
            step = StepRow(job_id=job_id, task_id=task_id, name=name, started_at=now)
            session.add(step)
            session.flush()
            return step.id

    def end_step(self, step_id: int, error_code: str | None = None) -> None:
        """Note that a step ended, well or with an error."""
        with self._database.write() as session:
            session.execute(
                sa.update(StepRow)
                .where(StepRow.id == step_id)
                .values(ended_at=datetime.now(UTC), error_code=error_code)
            )

    def skip_series(self, job_id: str, series_id: str, error: RadloopError) -> None:
        """Note why a series of the job went no further."""
        with self._database.write() as session:
            session.execute(
                sa.update(JobSeriesRow)
                .where(JobSeriesRow.job_id == job_id, JobSeriesRow.series_id == series_id)
                .values(reason_code=error.code, reason=error.message)
            )

    def plan(self, job_id: str, tasks: Sequence[NewTask], *, collect: bool) -> None:
        """Write the tasks that routing decided on; those of an earlier attempt start anew."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            job_row(session, job_id).collect = collect
            _drop_undone(session, job_id, {task.id for task in tasks})
            for task in tasks:
                row = session.get(TaskRow, task.id)
                if row is not None:
                    if row.state == "canceled":
                        row.state, row.error_code, row.error_message = "scheduled", None, None
                        row.ended_at = None
                    _reopen_deliveries(session, row.id)
                    continue
                session.add(
                    TaskRow(
                        id=task.id,
                        job_id=job_id,
                        series_id=task.series_id,
                        route=task.route,
                        bundle=task.bundle,
                        bundle_sha256=task.bundle_sha256,
                        outputs=list(task.outputs),
                        destinations=list(task.destinations),
                        priority=task.priority,
                        state="scheduled",
                        progress=0.0,
                        created_at=now,
                    )
                )

    def start_task(self, task_id: str) -> TaskView:
        """Note that a worker took the task up, and return it.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = task_row(session, task_id)
            if row.state == "scheduled":
                row.state = "in_progress"
                row.started_at = datetime.now(UTC)
            return task_view(row)

    def report_progress(self, task_id: str, fraction: float) -> None:
        """Note how much of the running step is done, 0 to 1."""
        with self._database.write() as session:
            session.execute(
                sa.update(TaskRow).where(TaskRow.id == task_id).values(progress=fraction)
            )

    def keep_prediction(
        self,
        task_id: str,
        *,
        forward_s: float,
        device: str,
        confidence: Mapping[str, Any] | None = None,
        greys: Mapping[str, Any] | None = None,
    ) -> None:
        """Note the seconds of the forward passes, where they ran, how sure the model was, of what.

        `greys` says which grey values it was shown.
        """
        with self._database.write() as session:
            session.execute(
                sa.update(TaskRow)
                .where(TaskRow.id == task_id)
                .values(
                    forward_s=forward_s,
                    device=device,
                    confidence=sa.null() if confidence is None else dict(confidence),
                    greys=sa.null() if greys is None else dict(greys),
                )
            )

    def end_task(self, task_id: str, error: RadloopError | None = None) -> None:
        """End a task, well or with an error; the last one ends its job."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = task_row(session, task_id)
            job = locked_job(session, row.job_id)
            session.refresh(row)
            if row.state not in OPEN:
                return
            row.state = "canceled" if error else "completed"
            row.progress = row.progress if error else 1.0
            row.error_code = error.code if error else None
            row.error_message = error.message if error else None
            row.ended_at = now
            if error is not None:
                _close_deliveries(session, [task_id], error)
            session.flush()
            end_job_if_done(session, job, now)

    def end_job(self, job_id: str, error: RadloopError | None = None) -> None:
        """End a job whose parts have all ended; with an error end it with all its open parts."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = locked_job(session, job_id)
            if error is None:
                end_job_if_done(session, row, now)
                return
            row.state, row.ended_at = "canceled", now
            row.error_code, row.error_message = error.code, error.message
            session.execute(
                sa.update(TaskRow)
                .where(TaskRow.job_id == job_id, TaskRow.state.in_(OPEN))
                .values(
                    state="canceled",
                    error_code=error.code,
                    error_message=error.message,
                    ended_at=now,
                )
            )
            tasks = session.scalars(sa.select(TaskRow.id).where(TaskRow.job_id == job_id))
            _close_deliveries(session, list(tasks), error)


def _drop_undone(session: Session, job_id: str, planned: set[str]) -> None:
    """Forget what an earlier attempt could not do and nobody wants any more.

    That is a task whose bundle could not be read then and now goes by its version, and one of a
    version that was withdrawn meanwhile. What has a result stays.
    """
    made = sa.select(ResultRow.task_id)
    rows = session.scalars(
        sa.select(TaskRow).where(
            TaskRow.job_id == job_id,
            sa.or_(TaskRow.bundle_sha256 == "", TaskRow.state == "canceled"),
            TaskRow.id.not_in(made),
        )
    )
    for row in rows:
        if row.id not in planned:
            steps = sa.update(StepRow).where(StepRow.task_id == row.id)
            session.execute(steps.values(task_id=None))  # how long they took is the job's
            session.delete(row)


def _close_deliveries(session: Session, task_ids: Sequence[str], error: RadloopError) -> None:
    """End deliveries that will not be tried any more, so that nothing waits for them."""
    results = sa.select(ResultRow.id).where(ResultRow.task_id.in_(task_ids))
    session.execute(
        sa.update(DeliveryRow)
        .where(DeliveryRow.result_id.in_(results), DeliveryRow.state.in_(OPEN))
        .values(state="canceled", error_code=error.code, error_message=error.message)
    )


def _reopen_deliveries(session: Session, task_id: str) -> None:
    """Try again what an earlier attempt gave up."""
    results = sa.select(ResultRow.id).where(ResultRow.task_id == task_id)
    session.execute(
        sa.update(DeliveryRow)
        .where(DeliveryRow.result_id.in_(results), DeliveryRow.state == "canceled")
        .values(state="scheduled")
    )
