"""What the worklist asks of the cases: which, in which order, who may have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from pipelines.records import CaseRow, ReadingRow, RoundRow, StudyRow, WorkspaceCaseRow
from pipelines.store.case_views import PRIORITIES, Around, Sort, WantedCases


def conditions(wanted: WantedCases, now: datetime) -> list[sa.ColumnElement[bool]]:
    """Return what a case has to be."""
    found: list[sa.ColumnElement[bool]] = []
    if wanted.state is not None:
        found.append(CaseRow.state == wanted.state)
    if wanted.modality:
        found.append(CaseRow.modalities.contains(f" {wanted.modality} ", autoescape=True))
    if wanted.priority is not None:
        found.append(CaseRow.priority == PRIORITIES.index(wanted.priority))
    if wanted.reader:
        found.append(is_of(wanted.reader, now))
    if wanted.workspace:
        inside = sa.select(WorkspaceCaseRow.case_id).where(
            WorkspaceCaseRow.workspace == wanted.workspace
        )
        found.append(CaseRow.id.in_(inside))
    if wanted.studies is not None:
        found.append(CaseRow.study_id.in_(wanted.studies))
    if wanted.text:
        described = sa.select(StudyRow.id).where(
            sa.func.lower(StudyRow.description).contains(wanted.text.lower(), autoescape=True)
        )
        named = CaseRow.study_id.contains(wanted.text, autoescape=True)
        found.append(sa.or_(named, CaseRow.study_id.in_(described)))
    return found


def order_of(sort: Sort) -> tuple[sa.ColumnElement[Any], ...]:
    """Return what a list is sorted by."""
    match sort:
        case "urgency":
            first: tuple[sa.ColumnElement[Any], ...] = (
                CaseRow.priority.desc(),
                CaseRow.received_at.asc(),
            )
        case "newest":
            first = (CaseRow.received_at.desc(),)
        case "oldest":
            first = (CaseRow.received_at.asc(),)
        case "uncertainty":
            first = (CaseRow.uncertainty.desc().nulls_last(),)
        case "disagreement":
            first = (CaseRow.disagreement.desc().nulls_last(),)
        case "agreement":
            first = (CaseRow.dice.asc().nulls_last(),)
    return (*first, CaseRow.id.asc())


def may_hold(reader: str, now: datetime) -> sa.ColumnElement[bool]:
    """Whether a reader may take a case: who reads a round, while it goes on; else whose it is."""
    in_round = sa.exists().where(RoundRow.case_id == CaseRow.id, RoundRow.state == "open")
    theirs = in_round.where(
        ReadingRow.round_id == RoundRow.id,
        ReadingRow.reader == reader,
        ReadingRow.done_at.is_(None),
    )
    unassigned = sa.or_(CaseRow.assigned_to.is_(None), CaseRow.assigned_to == reader)
    return sa.and_(
        sa.or_(_free(now), CaseRow.holder == reader),
        sa.or_(theirs, sa.and_(~in_round, unassigned)),
    )


def waits_for(reader: str) -> sa.ColumnElement[bool]:
    """Whether a case is not one that this reader settled the reading of already."""
    settled = sa.exists().where(
        RoundRow.case_id == CaseRow.id,
        RoundRow.state == "read",
        ReadingRow.round_id == RoundRow.id,
        ReadingRow.reader == reader,
    )
    return ~settled


def is_of(reader: str, now: datetime) -> sa.ColumnElement[bool]:
    """Whether a reader holds a case, has it assigned, or is to read it in a round."""
    reading = (
        sa.select(RoundRow.case_id)
        .join(ReadingRow, ReadingRow.round_id == RoundRow.id)
        .where(RoundRow.state == "open", ReadingRow.reader == reader)
    )
    return sa.or_(
        CaseRow.assigned_to == reader,
        sa.and_(CaseRow.holder == reader, CaseRow.lease_until > now),
        CaseRow.id.in_(reading),
    )


def _free(now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(CaseRow.holder.is_(None), CaseRow.lease_until <= now)


def around_of(session: Session, rows: Sequence[CaseRow]) -> dict[str, Around]:
    """Return what stands beside these cases: three queries, however many there are."""
    ids = [row.id for row in rows]
    studies = {
        study.id: study
        for study in session.execute(
            sa.select(StudyRow.id, StudyRow.orthanc_id, StudyRow.description).where(
                StudyRow.id.in_({row.study_id for row in rows})
            )
        )
    }
    states: dict[str, str] = {}
    readers: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for one in session.execute(
        sa.select(RoundRow.case_id, RoundRow.state, ReadingRow.reader, ReadingRow.done_at)
        .join(ReadingRow, ReadingRow.round_id == RoundRow.id)
        .where(RoundRow.case_id.in_(ids), RoundRow.state != "settled")
        .order_by(ReadingRow.reader)
    ):
        states[one.case_id] = one.state
        readers[one.case_id].append((one.reader, one.done_at is not None))
    shared: dict[str, list[str]] = defaultdict(list)
    for inside in session.execute(
        sa.select(WorkspaceCaseRow.case_id, WorkspaceCaseRow.workspace)
        .where(WorkspaceCaseRow.case_id.in_(ids))
        .order_by(WorkspaceCaseRow.workspace)
    ):
        shared[inside.case_id].append(inside.workspace)
    return {
        row.id: Around(
            orthanc_id=studies[row.study_id].orthanc_id,
            description=studies[row.study_id].description,
            round_state=states.get(row.id),
            readers=tuple(name for name, _ in readers[row.id]),
            readers_done=tuple(name for name, done in readers[row.id] if done),
            workspaces=tuple(shared[row.id]),
        )
        for row in rows
    }
