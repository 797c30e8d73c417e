"""Jobs, their tasks, steps, results and deliveries.

The rows are the truth; the durable engine only carries work out. A job that the engine was not
given yet is found by :meth:`Jobs.not_handed_over`, so that a crash between the two loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound, RadloopError
from pipelines.records import (
    CorrectionRow,
    DeliveryRow,
    JobRow,
    JobSeriesRow,
    ResultRow,
    SeriesRow,
    StepRow,
    TaskRow,
)
from pipelines.store.database import Database
from pipelines.store.job_views import (
    JobView,
    NewTask,
    State,
    TaskView,
    job_view,
    job_views,
    task_view,
)
from pipelines.store.opening import open_job

_OPEN = ("scheduled", "in_progress")


class Jobs:
    """What is done, was done and has to be done with studies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- making and handing over ---------------------------------------------------------------

    def schedule(
        self,
        study_id: str,
        *,
        complete: Mapping[str, str],
        as_of: Mapping[str, datetime],
        job_id: str | None,
        new: Mapping[str, str],
    ) -> bool:
        """Mark series complete with their content, and make the job about what is new.

        Parameters
        ----------
        complete : Mapping
            Fingerprint of each series that has become complete.
        as_of : Mapping
            `changed_at` of each of them before its content was read: where another worker has
            seen a later slice since, nothing is written, and the study is looked at again.
        job_id : str or None
            Derived from the study and `new`, so that a re-send is the same job; None when no
            content is new.
        new : Mapping
            Those of `complete` that no job was about.

        Returns
        -------
        bool
            Whether a job was made: False when nothing is new, or that very job exists.
        """
        with self._database.write() as session:
            if not _unchanged(session, as_of):
                return False
            for series_id, fingerprint in complete.items():
                session.execute(
                    sa.update(SeriesRow)
                    .where(SeriesRow.id == series_id)
                    .values(state="complete", fingerprint=fingerprint)
                )
            if job_id is None or session.get(JobRow, job_id) is not None:
                return False
            _supersede(session, study_id, set(new))
            open_job(session, job_id, study_id=study_id, content=new)
            return True

    def not_handed_over(self) -> list[JobView]:
        """Return jobs that wait for the engine, the oldest first."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(JobRow)
                .where(JobRow.handed_over.is_(False), JobRow.state.in_(_OPEN))
                .order_by(JobRow.created_at)
            )
            return job_views(session, rows)

    def handed_over(self, job_id: str, attempt: int) -> None:
        """Note that the engine has that attempt of the job; a later one is still to be given."""
        with self._database.write() as session:
            session.execute(
                sa.update(JobRow)
                .where(JobRow.id == job_id, JobRow.attempt == attempt)
                .values(handed_over=True)
            )

    def ask_cancel(self, job_id: str) -> bool:
        """Ask for a job to be canceled; False when it has ended already.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _job(session, job_id)
            if row.state not in _OPEN:
                return False
            row.cancel_requested = True
            return True

    def retry(self, job_id: str) -> bool:
        """Schedule a failed or canceled job again; False when it is open or completed.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _job(session, job_id)
            if row.state != "canceled":
                return False
            _reopen(row)
            return True

    def run_again(self, job_id: str) -> bool:
        """Schedule a job that has ended again, whatever its end was; False while it is open.

        What it has done already is not done twice: tasks that were completed stay so.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _job(session, job_id)
            if row.state in _OPEN:
                return False
            _reopen(row)
            return True

    # --- carrying out --------------------------------------------------------------------------

    def start(self, job_id: str) -> None:
        """Note that a worker took the job up."""
        with self._database.write() as session:
            row = _job(session, job_id)
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
            _job(session, job_id).collect = collect
            _drop_nameless(session, job_id, {task.id for task in tasks})
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
            row = _task(session, task_id)
            if row.state == "scheduled":
                row.state = "in_progress"
                row.started_at = datetime.now(UTC)
            return task_view(row)

    def task(self, task_id: str) -> TaskView:
        """Return one task.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return task_view(_task(session, task_id))

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

    def keep_result(
        self,
        task_id: str,
        *,
        sop_instance_uid: str,
        series_uid: str,
        sop_class_uid: str,
        summary: Mapping[str, Any],
        destinations: Sequence[str],
    ) -> None:
        """Note a result before it is delivered, so that the intake knows it as ours."""
        with self._database.write() as session:
            if session.get(ResultRow, sop_instance_uid) is None:
                session.add(
                    ResultRow(
                        id=sop_instance_uid,
                        task_id=task_id,
                        series_uid=series_uid,
                        sop_class_uid=sop_class_uid,
                        summary=dict(summary),
                        created_at=datetime.now(UTC),
                    )
                )
                session.flush()
            for destination in destinations:
                if session.get(DeliveryRow, (sop_instance_uid, destination)) is None:
                    session.add(
                        DeliveryRow(
                            result_id=sop_instance_uid,
                            destination=destination,
                            state="scheduled",
                            attempts=0,
                        )
                    )

    def is_ours(self, series_uid: str) -> bool:
        """Whether this node stored the objects of that series: results, and corrections."""
        with self._database.read() as session:
            made = sa.exists().where(ResultRow.series_uid == series_uid)
            drawn = sa.exists().where(CorrectionRow.series_uid == series_uid)
            return bool(session.scalar(sa.select(sa.or_(made, drawn))))

    def note_delivery(
        self, result_id: str, destination: str, error: RadloopError | None = None
    ) -> None:
        """Note one try to deliver: done, or failed with that error and tried again."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            job = _locked_job(session, _job_of_result(session, result_id))
            row = _delivery(session, result_id, destination)
            row.attempts += 1
            row.error_code = error.code if error else None
            row.error_message = error.message if error else None
            row.state = "in_progress" if error else "completed"
            row.delivered_at = None if error else now
            session.flush()
            _end_job_if_done(session, job, now)

    def give_up_delivery(self, result_id: str, destination: str, error: RadloopError) -> None:
        """Note that a delivery failed for good; the job ends with that error."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            job = _locked_job(session, _job_of_result(session, result_id))
            row = _delivery(session, result_id, destination)
            row.state, row.error_code, row.error_message = "canceled", error.code, error.message
            session.flush()
            _end_job_if_done(session, job, now)

    def end_task(self, task_id: str, error: RadloopError | None = None) -> None:
        """End a task, well or with an error; the last one ends its job."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = _task(session, task_id)
            job = _locked_job(session, row.job_id)
            session.refresh(row)
            if row.state not in _OPEN:
                return
            row.state = "canceled" if error else "completed"
            row.progress = row.progress if error else 1.0
            row.error_code = error.code if error else None
            row.error_message = error.message if error else None
            row.ended_at = now
            if error is not None:
                _close_deliveries(session, [task_id], error)
            session.flush()
            _end_job_if_done(session, job, now)

    def end_job(self, job_id: str, error: RadloopError | None = None) -> None:
        """End a job whose parts have all ended; with an error end it with all its open parts."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = _locked_job(session, job_id)
            if error is None:
                _end_job_if_done(session, row, now)
                return
            row.state, row.ended_at = "canceled", now
            row.error_code, row.error_message = error.code, error.message
            session.execute(
                sa.update(TaskRow)
                .where(TaskRow.job_id == job_id, TaskRow.state.in_(_OPEN))
                .values(
                    state="canceled",
                    error_code=error.code,
                    error_message=error.message,
                    ended_at=now,
                )
            )
            tasks = session.scalars(sa.select(TaskRow.id).where(TaskRow.job_id == job_id))
            _close_deliveries(session, list(tasks), error)

    # --- looking -------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobView:
        """Return one job with its tasks, steps, results and deliveries.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return job_view(session, _job(session, job_id))

    def jobs(
        self, *, state: State | None = None, limit: int = 100, offset: int = 0
    ) -> list[JobView]:
        """Return jobs, the newest first."""
        query = sa.select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id)
        if state is not None:
            query = query.where(JobRow.state == state)
        with self._database.read() as session:
            rows = session.scalars(query.limit(limit).offset(offset))
            return job_views(session, rows)

    def jobs_of(self, study_id: str) -> list[JobView]:
        """Return the jobs of a study, the newest first."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(JobRow)
                .where(JobRow.study_id == study_id)
                .order_by(JobRow.created_at.desc())
            )
            return job_views(session, rows)

    def jobs_of_studies(self, study_ids: Sequence[str]) -> dict[str, list[JobView]]:
        """Return the jobs of each of these studies, the newest first; all of them are keys."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(JobRow)
                .where(JobRow.study_id.in_(study_ids))
                .order_by(JobRow.created_at.desc())
            )
            found: dict[str, list[JobView]] = {study_id: [] for study_id in study_ids}
            for job in job_views(session, rows):
                found[job.study_id].append(job)
            return found

    def moving(self, *, ended_since: datetime) -> list[JobView]:
        """Return the open jobs, and those that ended since then: what a live view has to show."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(JobRow).where(
                    sa.or_(JobRow.state.in_(_OPEN), JobRow.ended_at >= ended_since)
                )
            )
            return job_views(session, rows)

    def job_of_result(self, result_id: str) -> str:
        """Return the job that a result came from.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _job_of_result(session, result_id)

    def open_jobs_to_cancel(self) -> list[str]:
        """Return the open jobs that somebody asked to cancel."""
        with self._database.read() as session:
            return list(
                session.scalars(
                    sa.select(JobRow.id).where(
                        JobRow.cancel_requested.is_(True), JobRow.state.in_(_OPEN)
                    )
                )
            )

    def done_fingerprints(self, study_id: str) -> set[tuple[str, str]]:
        """Return (series, content) pairs of a study that some job is or was about."""
        with self._database.read() as session:
            rows = session.execute(
                sa.select(JobSeriesRow.series_id, JobSeriesRow.fingerprint)
                .join(JobRow, JobRow.id == JobSeriesRow.job_id)
                .where(JobRow.study_id == study_id)
            )
            return {(series_id, fingerprint) for series_id, fingerprint in rows}


def _reopen(row: JobRow) -> None:
    row.state, row.attempt, row.handed_over = "scheduled", row.attempt + 1, False
    row.cancel_requested, row.error_code, row.error_message = False, None, None
    row.ended_at = None


def _supersede(session: Session, study_id: str, series_ids: set[str]) -> None:
    """Ask to cancel open jobs about an older content of the same series."""
    older = session.scalars(
        sa.select(JobRow)
        .join(JobSeriesRow, JobSeriesRow.job_id == JobRow.id)
        .where(
            JobRow.study_id == study_id,
            JobRow.state.in_(_OPEN),
            JobSeriesRow.series_id.in_(series_ids),
        )
    )
    for row in older:
        row.cancel_requested = True


def _locked_job(session: Session, job_id: str) -> JobRow:
    """Return the job; of two parts that end at once, the second waits, and sees the first."""
    row = session.get(JobRow, job_id, with_for_update=True)
    if row is None:
        raise NotFound("no such job")
    return row


def _end_job_if_done(session: Session, row: JobRow, now: datetime) -> None:
    """End a job when its last task and its last delivery have ended."""
    tasks = list(session.scalars(sa.select(TaskRow).where(TaskRow.job_id == row.id)))
    deliveries = list(
        session.scalars(
            sa.select(DeliveryRow)
            .join(ResultRow, ResultRow.id == DeliveryRow.result_id)
            .join(TaskRow, TaskRow.id == ResultRow.task_id)
            .where(TaskRow.job_id == row.id)
        )
    )
    parts: list[TaskRow | DeliveryRow] = [*tasks, *deliveries]
    if row.state not in _OPEN or any(part.state in _OPEN for part in parts):
        return
    failed = next((part for part in parts if part.state == "canceled"), None)
    row.state = "canceled" if failed else "completed"
    row.error_code = failed.error_code if failed else None
    row.error_message = failed.error_message if failed else None
    row.ended_at = now


def _drop_nameless(session: Session, job_id: str, planned: set[str]) -> None:
    """Forget tasks whose bundle could not be read then, and now goes by its version."""
    rows = session.scalars(
        sa.select(TaskRow).where(TaskRow.job_id == job_id, TaskRow.bundle_sha256 == "")
    )
    for row in rows:
        if row.id not in planned:
            session.delete(row)


def _unchanged(session: Session, as_of: Mapping[str, datetime]) -> bool:
    """Return whether no series has got instances since; one worker after the other may ask."""
    rows = session.scalars(
        sa.select(SeriesRow).where(SeriesRow.id.in_(as_of)).with_for_update(key_share=True)
    )
    return {row.id: row.changed_at for row in rows} == dict(as_of)


def _close_deliveries(session: Session, task_ids: Sequence[str], error: RadloopError) -> None:
    """End deliveries that will not be tried any more, so that nothing waits for them."""
    results = sa.select(ResultRow.id).where(ResultRow.task_id.in_(task_ids))
    session.execute(
        sa.update(DeliveryRow)
        .where(DeliveryRow.result_id.in_(results), DeliveryRow.state.in_(_OPEN))
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


def _delivery(session: Session, result_id: str, destination: str) -> DeliveryRow:
    row = session.get(DeliveryRow, (result_id, destination))
    if row is None:
        raise NotFound("no such delivery")
    return row


def _job_of_result(session: Session, result_id: str) -> str:
    job_id = session.scalar(
        sa.select(TaskRow.job_id)
        .join(ResultRow, ResultRow.task_id == TaskRow.id)
        .where(ResultRow.id == result_id)
    )
    if job_id is None:
        raise NotFound("no such result")
    return job_id


def _job(session: Session, job_id: str) -> JobRow:
    row = session.get(JobRow, job_id)
    if row is None:
        raise NotFound("no such job")
    return row


def _task(session: Session, task_id: str) -> TaskRow:
    row = session.get(TaskRow, task_id)
    if row is None:
        raise NotFound("no such task")
    return row
