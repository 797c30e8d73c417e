"""What the clinical archive holds, and how far its change feed was read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class CursorRow(Base):
    """How far an archive's change feed was read; moves in the transaction that writes its rows."""

    __tablename__ = "change_cursor"

    archive: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]


class StudyRow(Base):
    """One study of the clinical archive."""

    __tablename__ = "study"

    id: Mapped[str] = mapped_column(primary_key=True)  # pseudonymised StudyInstanceUID
    orthanc_id: Mapped[str] = mapped_column(unique=True)
    received_at: Mapped[datetime]
    description: Mapped[str] = mapped_column(default="")  # cleaned StudyDescription


class SeriesRow(Base):
    """One series of a study; `receiving` until it has been quiet, and again after a late slice."""

    __tablename__ = "series"

    id: Mapped[str] = mapped_column(primary_key=True)  # pseudonymised SeriesInstanceUID
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    orthanc_id: Mapped[str] = mapped_column(unique=True)
    modality: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)  # receiving | complete
    instance_count: Mapped[int]
    changed_at: Mapped[datetime]
    fingerprint: Mapped[str | None]  # of the content at the last completion
    ours: Mapped[bool]  # a result that this node stored: never routed
    facts: Mapped[dict[str, Any] | None]  # SeriesFacts, once de-identified
