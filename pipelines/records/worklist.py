"""What readers have before them: cases, rounds of reading, comments, shared workspaces."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.archived import StudyRow
from pipelines.records.base import Base
from pipelines.records.drawn import CorrectionRow
from pipelines.records.work import JobRow

# What has changed since the last look is asked for twice a second.
sa.Index("ix_study_received_at", StudyRow.received_at)
sa.Index("ix_job_ended_at", JobRow.ended_at)
sa.Index("ix_correction_stored_at", CorrectionRow.stored_at)


class CaseRow(Base):
    """One study, or one series of it, that is to be read.

    What can be told from other rows (state, modalities, scores) stands here too, so that a list of
    ten thousand is filtered and sorted by an index; `pipelines.store.standing` keeps it true.
    """

    __tablename__ = "worklist_case"
    __table_args__ = (
        sa.Index("ix_worklist_case_urgency", "priority", "received_at"),
        sa.Index("ix_worklist_case_state_urgency", "state", "priority", "received_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)  # pseudonym of the series, else of the study
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    series_id: Mapped[str | None] = mapped_column(sa.ForeignKey("series.id"))
    received_at: Mapped[datetime] = mapped_column(index=True)
    changed_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[str]  # running | ready | corrected | accepted | rejected | failed | no_result
    modalities: Mapped[str]  # with a blank before, between and behind: " CT MR "
    priority: Mapped[int]  # 0 low, 1 routine, 2 high, 3 stat
    assigned_to: Mapped[str | None] = mapped_column(index=True)
    holder: Mapped[str | None] = mapped_column(index=True)
    lease_until: Mapped[datetime | None] = mapped_column(index=True)
    uncertainty: Mapped[float | None] = mapped_column(index=True)  # 0 sure, 1 not at all
    uncertainty_why: Mapped[str | None]
    disagreement: Mapped[float | None] = mapped_column(index=True)  # 0 the same, 1 nothing shared
    disagreement_why: Mapped[str | None]
    agreement: Mapped[dict[str, Any] | None]  # the newest: between, dice, surface_dice, volumes
    dice: Mapped[float | None] = mapped_column(index=True)  # of `agreement`, to sort by


class WorklistLookRow(Base):
    """When the cases were last compared with the other rows: one row."""

    __tablename__ = "worklist_look"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]


class RoundRow(Base):
    """A case that several read alone: none sees another's work before all have done theirs."""

    __tablename__ = "reading_round"

    id: Mapped[str] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(sa.ForeignKey("worklist_case.id"), index=True)
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    state: Mapped[str] = mapped_column(index=True)  # open | read | settled
    opened_by: Mapped[str]
    opened_at: Mapped[datetime]
    read_at: Mapped[datetime | None]  # by all of them
    adjudicator: Mapped[str | None]  # None: whoever is none of the readers
    settled_by: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    answer_id: Mapped[str | None]  # what counts: a result or a correction
    agreement: Mapped[dict[str, Any] | None]  # with its segments
    measured_at: Mapped[datetime | None]


class ReadingRow(Base):
    """One reader's part in a round."""

    __tablename__ = "reading"

    round_id: Mapped[str] = mapped_column(sa.ForeignKey("reading_round.id"), primary_key=True)
    reader: Mapped[str] = mapped_column(primary_key=True)
    done_at: Mapped[datetime | None]
    verdict: Mapped[str | None]  # accepted | modified | rejected
    answer_id: Mapped[str | None]  # the result that was accepted, or the correction that was drawn


class CaseCommentRow(Base):
    """What somebody wrote of a case; sealed: people write names."""

    __tablename__ = "case_comment"

    id: Mapped[str] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(sa.ForeignKey("worklist_case.id"), index=True)
    author: Mapped[str]
    created_at: Mapped[datetime]
    sealed: Mapped[bytes]


class WorkspaceRow(Base):
    """A named set of cases that some people share."""

    __tablename__ = "workspace"

    name: Mapped[str] = mapped_column(primary_key=True)  # letters, digits and dashes
    made_by: Mapped[str]
    made_at: Mapped[datetime]


class WorkspaceMemberRow(Base):
    """Who shares a workspace."""

    __tablename__ = "workspace_member"

    workspace: Mapped[str] = mapped_column(sa.ForeignKey("workspace.name"), primary_key=True)
    user: Mapped[str] = mapped_column(primary_key=True, index=True)


class WorkspaceCaseRow(Base):
    """What is in a workspace."""

    __tablename__ = "workspace_case"

    workspace: Mapped[str] = mapped_column(sa.ForeignKey("workspace.name"), primary_key=True)
    case_id: Mapped[str] = mapped_column(
        sa.ForeignKey("worklist_case.id"), primary_key=True, index=True
    )
