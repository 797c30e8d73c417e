"""Jobs are made, handed to the engine, asked to stop, and scheduled again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from pipelines.records import JobRow, JobSeriesRow, SeriesRow
from pipelines.store.job_views import JobView, job_views
from pipelines.store.jobs.rows import OPEN, OfJobs, job_row
from pipelines.store.opening import open_job


class Scheduling(OfJobs):
    """What has to be done, and what somebody asked for."""

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
                .where(JobRow.handed_over.is_(False), JobRow.state.in_(OPEN))
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
            row = job_row(session, job_id)
            if row.state not in OPEN:
                return False
            row.cancel_requested = True
            return True

    def open_jobs_to_cancel(self) -> list[str]:
        """Return the open jobs that somebody asked to cancel."""
        with self._database.read() as session:
            return list(
                session.scalars(
                    sa.select(JobRow.id).where(
                        JobRow.cancel_requested.is_(True), JobRow.state.in_(OPEN)
                    )
                )
            )

    def retry(self, job_id: str) -> bool:
        """Schedule a failed or canceled job again; False when it is open or completed.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = job_row(session, job_id)
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
            row = job_row(session, job_id)
            if row.state in OPEN:
                return False
            _reopen(row)
            return True

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
            JobRow.state.in_(OPEN),
            JobSeriesRow.series_id.in_(series_ids),
        )
    )
    for row in older:
        row.cancel_requested = True


def _unchanged(session: Session, as_of: Mapping[str, datetime]) -> bool:
    """Return whether no series has got instances since; one worker after the other may ask."""
    rows = session.scalars(
        sa.select(SeriesRow).where(SeriesRow.id.in_(as_of)).with_for_update(key_share=True)
    )
    return {row.id: row.changed_at for row in rows} == dict(as_of)
