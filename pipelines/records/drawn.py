"""What people draw and say: corrections, assessments, drafts, and what other systems stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class CorrectionRow(Base):
    """A segmentation that a person drew or corrected, here or elsewhere, and what it cost."""

    __tablename__ = "correction"

    id: Mapped[str] = mapped_column(primary_key=True)  # SOPInstanceUID; a pseudonym if elsewhere
    series_uid: Mapped[str] = mapped_column(index=True)  # of the segmentation; likewise
    orthanc_id: Mapped[str | None] = mapped_column(index=True)  # of the instance, once stored
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    series_id: Mapped[str] = mapped_column(sa.ForeignKey("series.id"), index=True)  # the images
    source: Mapped[str]  # viewer | export | client | elsewhere
    state: Mapped[str] = mapped_column(index=True)  # storing | stored
    predecessor_id: Mapped[str | None] = mapped_column(index=True)  # a result or a correction
    result_id: Mapped[str | None] = mapped_column(index=True)  # the model's, where it began
    bundle: Mapped[str | None] = mapped_column(index=True)  # that model, name@version
    author: Mapped[str] = mapped_column(index=True)
    title: Mapped[str]
    series_number: Mapped[int]
    stale: Mapped[bool]
    segments: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON())
    created_at: Mapped[datetime]
    stored_at: Mapped[datetime | None]
    active_s: Mapped[float | None]
    idle_s: Mapped[float | None]
    strokes: Mapped[int | None]
    measured_at: Mapped[datetime | None]
    changed_voxels: Mapped[int | None]
    added_path_mm: Mapped[float | None]
    surface_dice: Mapped[float | None]
    tolerance_mm: Mapped[float | None]
    compared: Mapped[list[dict[str, Any]] | None] = mapped_column(sa.JSON())  # by segment


class AssessmentRow(Base):
    """What a person says of a result (IHE AIRAI): accepted, modified or rejected, and why."""

    __tablename__ = "assessment"

    id: Mapped[str] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    result_id: Mapped[str] = mapped_column(index=True)  # of a result or a correction
    verdict: Mapped[str]  # accepted | modified | rejected
    reason: Mapped[str | None]  # a code's value
    comment: Mapped[bytes | None]  # sealed: people write names
    correction_id: Mapped[str | None] = mapped_column(sa.ForeignKey("correction.id"))
    author: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[datetime] = mapped_column(index=True)


class DraftRow(Base):
    """Work of a reader that is not saved yet; sealed, and known by keyed digests of its UIDs."""

    __tablename__ = "draft"
    __table_args__ = (sa.UniqueConstraint("user", "series_key", "predecessor_key"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(index=True)
    study_key: Mapped[str] = mapped_column(index=True)
    series_key: Mapped[str]
    predecessor_key: Mapped[str]  # empty: drawn from scratch
    saved_at: Mapped[datetime]
    saving_since: Mapped[datetime | None] = mapped_column(index=True)  # it is being stored
    sealed: Mapped[bytes]


class ElsewhereRow(Base):
    """A segmentation or a structure set that another system stored, and what became of it."""

    __tablename__ = "seen_elsewhere"

    id: Mapped[str] = mapped_column(primary_key=True)  # pseudonymised SOPInstanceUID
    orthanc_id: Mapped[str] = mapped_column(unique=True)  # of the instance
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    series_id: Mapped[str] = mapped_column(sa.ForeignKey("series.id"), index=True)  # its own
    modality: Mapped[str]  # SEG | RTSTRUCT
    state: Mapped[str] = mapped_column(index=True)  # waiting | matched | dismissed
    reason_code: Mapped[str | None]  # why it waits
    reason: Mapped[str | None]
    correction_id: Mapped[str | None] = mapped_column(sa.ForeignKey("correction.id"))
    seen_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]
