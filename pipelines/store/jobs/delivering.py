"""What came of tasks, and where it went: results and their deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound, RadloopError
from pipelines.records import CorrectionRow, DeliveryRow, ResultRow, TaskRow
from pipelines.store.jobs.rows import OfJobs, end_job_if_done, locked_job


class Delivering(OfJobs):
    """What was made, and on its way."""

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
            job = locked_job(session, _job_of_result(session, result_id))
            row = _delivery(session, result_id, destination)
            row.attempts += 1
            row.error_code = error.code if error else None
            row.error_message = error.message if error else None
            row.state = "in_progress" if error else "completed"
            row.delivered_at = None if error else now
            session.flush()
            end_job_if_done(session, job, now)

    def give_up_delivery(self, result_id: str, destination: str, error: RadloopError) -> None:
        """Note that a delivery failed for good; the job ends with that error."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            job = locked_job(session, _job_of_result(session, result_id))
            row = _delivery(session, result_id, destination)
            row.state, row.error_code, row.error_message = "canceled", error.code, error.message
            session.flush()
            end_job_if_done(session, job, now)

    def job_of_result(self, result_id: str) -> str:
        """Return the job that a result came from.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _job_of_result(session, result_id)


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
