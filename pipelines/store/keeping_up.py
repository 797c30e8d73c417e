"""Which cases stand otherwise than their rows say: of studies of which something has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from pipelines.records import (
    AssessmentRow,
    CaseRow,
    CorrectionRow,
    JobRow,
    RoundRow,
    SeriesRow,
    StudyRow,
)
from pipelines.store.case_views import PRIORITIES
from pipelines.store.standing import case_values, differs, facts_of, redrawn_share, stands

_ROUTINE = PRIORITIES.index("routine")


@dataclass(frozen=True, slots=True)
class Told:
    """A case that stands otherwise than its row says, or has none yet."""

    id: str
    study_id: str
    series_id: str | None
    values: Mapping[str, Any]
    is_new: bool

    def row(self, now: datetime) -> dict[str, Any]:
        """Return the row of a new case."""
        return {
            "id": self.id,
            "study_id": self.study_id,
            "series_id": self.series_id,
            "priority": _ROUTINE,
            "changed_at": now,
            **self.values,
        }


def touched(session: Session, since: datetime | None) -> set[str]:
    """Return the studies of which something changed since then."""
    if since is None:
        return set(session.scalars(sa.select(StudyRow.id)))
    queries: Iterable[sa.Select[str]] = (
        sa.select(StudyRow.id).where(StudyRow.received_at >= since),
        sa.select(SeriesRow.study_id).where(SeriesRow.state == "receiving"),
        sa.select(CaseRow.study_id).where(CaseRow.state == "running"),
        sa.select(JobRow.study_id).where(JobRow.state.in_(("scheduled", "in_progress"))),
        sa.select(JobRow.study_id).where(JobRow.created_at >= since),
        sa.select(JobRow.study_id).where(JobRow.ended_at >= since),
        sa.select(CorrectionRow.study_id).where(CorrectionRow.stored_at >= since),
        sa.select(AssessmentRow.study_id).where(AssessmentRow.created_at >= since),
        sa.select(RoundRow.study_id).where(RoundRow.opened_at >= since),
        sa.select(RoundRow.study_id).where(RoundRow.read_at >= since),
        sa.select(RoundRow.study_id).where(RoundRow.measured_at >= since),
    )
    return {study for query in queries for study in session.scalars(query.distinct())}


def told(session: Session, studies: Sequence[str]) -> list[Told]:
    """Return the cases of these studies that stand otherwise than their rows say."""
    facts, similar = facts_of(session, studies), redrawn_share(session)
    rows: dict[str, list[CaseRow]] = defaultdict(list)
    for row in session.scalars(sa.select(CaseRow).where(CaseRow.study_id.in_(studies))):
        rows[row.study_id].append(row)
    found: list[Told] = []
    for study_id, known in facts.items():
        there = {row.id: row for row in rows[study_id]}
        wanted = {study_id: None, **{row.id: row.series_id for row in rows[study_id]}}
        for case_id, series_id in wanted.items():
            values = case_values(stands(known, series_id, similar))
            is_new = case_id not in there
            if is_new or differs(there[case_id], values):
                found.append(Told(case_id, study_id, series_id, values, is_new))
    session.expunge_all()
    return found


def insert_cases(session: Session) -> sa.Insert:
    """Return the statement that makes cases where there are none: two processes look at once."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(CaseRow).on_conflict_do_nothing()
    return sqlite.insert(CaseRow).on_conflict_do_nothing()
