"""A new job's rows: the same for one that intake makes and one that a person asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from pipelines.records import JobRow, JobSeriesRow


def open_job(session: Session, job_id: str, *, study_id: str, content: Mapping[str, str]) -> None:
    """Write a job that waits for the engine.

    Parameters
    ----------
    content : Mapping
        Fingerprint of each series that the job is about.
    """
    session.add(
        JobRow(
            id=job_id,
            study_id=study_id,
            state="scheduled",
            attempt=1,
            handed_over=False,
            cancel_requested=False,
            collect=False,
            created_at=datetime.now(UTC),
        )
    )
    session.flush()
    for series_id, fingerprint in content.items():
        session.add(JobSeriesRow(job_id=job_id, series_id=series_id, fingerprint=fingerprint))
