"""Jobs and tasks as they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from pipelines.records import JobRow
from pipelines.store.job_views import JobView, State, TaskView, job_view, job_views, task_view
from pipelines.store.jobs.rows import OPEN, OfJobs, job_row, task_row


class Looking(OfJobs):
    """What is done, was done and has to be done, as views."""

    def job(self, job_id: str) -> JobView:
        """Return one job with its tasks, steps, results and deliveries.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return job_view(session, job_row(session, job_id))

    def task(self, task_id: str) -> TaskView:
        """Return one task.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return task_view(task_row(session, task_id))

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
                    sa.or_(JobRow.state.in_(OPEN), JobRow.ended_at >= ended_since)
                )
            )
            return job_views(session, rows)
