"""What is kept out: what de-identification held back, and patients who were withdrawn."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class HeldRow(Base):
    """Content that de-identification or the second look refused, and what a person decided."""

    __tablename__ = "held"

    id: Mapped[str] = mapped_column(primary_key=True)  # of project, content and code
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    series_id: Mapped[str] = mapped_column(index=True)  # empty: the study as a whole
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("job.id"), index=True)
    collection_id: Mapped[str | None] = mapped_column(sa.ForeignKey("collection.id"), index=True)
    project: Mapped[str]
    fingerprint: Mapped[str]  # of the series' content; the job's id where it is the whole study
    code: Mapped[str] = mapped_column(index=True)
    message: Mapped[str]
    held_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(index=True)  # held | released | deleted
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]
    reason: Mapped[bytes | None]  # sealed: people write names


class WithdrawalRow(Base):
    """A patient's withdrawal: who asked for it, and what was found, removed and left."""

    __tablename__ = "withdrawal"

    id: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str | None] = mapped_column(index=True)  # the node's pseudonym, once found out
    state: Mapped[str] = mapped_column(index=True)  # asked | found | confirmed | done
    request: Mapped[bytes | None]  # sealed: who is meant; erased once that is found out
    reason: Mapped[bytes]  # sealed: people write names
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(index=True)
    confirmed_by: Mapped[str | None]
    confirmed_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    error_code: Mapped[str | None]  # of the last try
    error_message: Mapped[str | None]
    attempt: Mapped[int]
    found: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON())
    pseudonyms: Mapped[dict[str, Any]]  # project to the patient's pseudonym in it


class WithdrawnRow(Base):
    """A pseudonym of a patient who was withdrawn: one a project, and the node's own."""

    __tablename__ = "withdrawn"

    patient: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str]
    withdrawal_id: Mapped[str] = mapped_column(sa.ForeignKey("withdrawal.id"), index=True)
