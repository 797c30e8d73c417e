"""What was collected for projects, and the datasets that were made of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class CollectionRow(Base):
    """Series that somebody picked for a project, on their way to the research archive or there."""

    __tablename__ = "collection"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    project: Mapped[str] = mapped_column(index=True)
    wanted: Mapped[dict[str, Any]]  # the filter that picked them
    state: Mapped[str] = mapped_column(index=True)  # the four UPS states
    attempt: Mapped[int]
    handed_over: Mapped[bool]  # the engine has this attempt
    cancel_requested: Mapped[bool]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class CollectedRow(Base):
    """One series of a collection; whose it is in the project is known once it is stored."""

    __tablename__ = "collected"

    collection_id: Mapped[str] = mapped_column(sa.ForeignKey("collection.id"), primary_key=True)
    series_id: Mapped[str] = mapped_column(primary_key=True)  # the node's pseudonym
    study_id: Mapped[str] = mapped_column(index=True)  # likewise
    state: Mapped[str]  # waiting | stored | refused
    images: Mapped[int]
    study: Mapped[str | None] = mapped_column(index=True)  # the project's pseudonym
    patient: Mapped[str | None] = mapped_column(index=True)  # likewise, as in the vault
    orthanc_id: Mapped[str | None]  # of the series in the research archive
    labels: Mapped[list[str]]  # Orthanc ids of its results and corrections there
    reason_code: Mapped[str | None]  # why the project does not take it
    reason: Mapped[str | None]
    left_out: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON())  # labels refused, by code


class ExportRow(Base):
    """A dataset for other tools: how it was asked for, and what came of it."""

    __tablename__ = "export"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    project: Mapped[str] = mapped_column(index=True)
    collection_id: Mapped[str | None] = mapped_column(sa.ForeignKey("collection.id"))
    wanted: Mapped[dict[str, Any]]  # a filter of the project's series; empty: all
    formats: Mapped[list[str]]
    validation: Mapped[float]
    test: Mapped[float]
    seed: Mapped[str]
    zipped: Mapped[bool]
    licence: Mapped[str]
    description: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)  # the four UPS states
    attempt: Mapped[int]
    handed_over: Mapped[bool]
    cancel_requested: Mapped[bool]
    done: Mapped[int]  # of all cases, while it runs
    total: Mapped[int]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    manifest_sha256: Mapped[str | None]
    files: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger())
    card: Mapped[dict[str, Any] | None]  # what is in it
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    deleted_by: Mapped[str | None]


class ExportedRow(Base):
    """A study that an export holds, and whose it is."""

    __tablename__ = "exported"

    export_id: Mapped[str] = mapped_column(sa.ForeignKey("export.id"), primary_key=True)
    study: Mapped[str] = mapped_column(primary_key=True)  # the project's pseudonym
    patient: Mapped[str] = mapped_column(index=True)  # likewise, as in the vault
