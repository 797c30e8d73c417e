"""Rows of jobs and tasks, and the one rule for when a job has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound
from pipelines.records import DeliveryRow, JobRow, ResultRow, TaskRow
from pipelines.store.database import Database

OPEN: Final = ("scheduled", "in_progress")
"""States of what has not ended."""


class OfJobs:
    """A part of :class:`pipelines.store.Jobs`: queries on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def job_row(session: Session, job_id: str) -> JobRow:
    """Return the row of a job; NotFound where there is none."""
    row = session.get(JobRow, job_id)
    if row is None:
        raise NotFound("no such job")
    return row


def task_row(session: Session, task_id: str) -> TaskRow:
    """Return the row of a task; NotFound where there is none."""
    row = session.get(TaskRow, task_id)
    if row is None:
        raise NotFound("no such task")
    return row


def locked_job(session: Session, job_id: str) -> JobRow:
    """Return the job; of two parts that end at once, the second waits, and sees the first."""
    row = session.get(JobRow, job_id, with_for_update=True)
    if row is None:
        raise NotFound("no such job")
    return row


def end_job_if_done(session: Session, row: JobRow, now: datetime) -> None:
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
    if row.state not in OPEN or any(part.state in OPEN for part in parts):
        return
    failed = next((part for part in parts if part.state == "canceled"), None)
    row.state = "canceled" if failed else "completed"
    row.error_code = failed.error_code if failed else None
    row.error_message = failed.error_message if failed else None
    row.ended_at = now
