"""The tables: what radloop remembers, one class each.

No table holds a patient's name, id, date or original UID in clear. Studies and series are known
by their pseudonymised UIDs; the way back lies sealed in :class:`VaultRow`. Orthanc's resource ids
are kept because the archive is addressed by them. Times are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC, on databases with and without time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the time with its zone, also where the database dropped it."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Names for constraints, so that migrations can address them."""

    metadata = sa.MetaData(naming_convention=_NAMING)
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: sa.JSON(), list[str]: sa.JSON()}  # noqa: RUF012 - SQLAlchemy reads it from the class


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


class JobRow(Base):
    """One study through one workflow."""

    __tablename__ = "job"

    id: Mapped[str] = mapped_column(primary_key=True)  # derived from study and content
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    state: Mapped[str] = mapped_column(index=True)  # the four UPS states
    attempt: Mapped[int]
    handed_over: Mapped[bool] = mapped_column(index=True)  # the engine has this attempt
    cancel_requested: Mapped[bool]
    collect: Mapped[bool]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(index=True)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class JobSeriesRow(Base):
    """Which content of which series a job is about, and what became of it."""

    __tablename__ = "job_series"

    job_id: Mapped[str] = mapped_column(sa.ForeignKey("job.id"), primary_key=True)
    series_id: Mapped[str] = mapped_column(sa.ForeignKey("series.id"), primary_key=True)
    fingerprint: Mapped[str]
    reason_code: Mapped[str | None]  # why the series went no further
    reason: Mapped[str | None]


class TaskRow(Base):
    """One model run inside a job."""

    __tablename__ = "task"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("job.id"), index=True)
    series_id: Mapped[str] = mapped_column(sa.ForeignKey("series.id"))
    route: Mapped[str]
    bundle: Mapped[str]  # name@version
    bundle_sha256: Mapped[str]
    outputs: Mapped[list[str]]
    destinations: Mapped[list[str]]
    priority: Mapped[str]
    state: Mapped[str]
    progress: Mapped[float]  # 0..1 of the running step
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    forward_s: Mapped[float | None]
    device: Mapped[str | None]


class StepRow(Base):
    """One step of a job or task: what runs now, and the seconds that each took."""

    __tablename__ = "step"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(sa.ForeignKey("job.id"), index=True)
    task_id: Mapped[str | None] = mapped_column(sa.ForeignKey("task.id"))
    name: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    error_code: Mapped[str | None]


class ResultRow(Base):
    """A DICOM object made from a prediction; its UIDs derive from the task."""

    __tablename__ = "result"

    id: Mapped[str] = mapped_column(primary_key=True)  # SOPInstanceUID
    task_id: Mapped[str] = mapped_column(sa.ForeignKey("task.id"), index=True)
    series_uid: Mapped[str] = mapped_column(index=True)
    sop_class_uid: Mapped[str]
    summary: Mapped[dict[str, Any]]  # millilitres per segment label
    created_at: Mapped[datetime]


class DeliveryRow(Base):
    """One result on its way to one destination."""

    __tablename__ = "delivery"

    result_id: Mapped[str] = mapped_column(sa.ForeignKey("result.id"), primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]  # the four UPS states
    attempts: Mapped[int]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    delivered_at: Mapped[datetime | None]


class AskedRunRow(Base):
    """A job that a person asked for: this model on this series, whatever the routes say."""

    __tablename__ = "asked_run"

    job_id: Mapped[str] = mapped_column(sa.ForeignKey("job.id"), primary_key=True)
    series_id: Mapped[str] = mapped_column(sa.ForeignKey("series.id"))
    bundle: Mapped[str]  # name@version
    region: Mapped[dict[str, Any] | None]  # first and last voxel; None: the whole series
    asked_by: Mapped[str]


class CorrectionRow(Base):
    """A segmentation that a person drew or corrected, here or elsewhere, and what it cost."""

    __tablename__ = "correction"

    id: Mapped[str] = mapped_column(primary_key=True)  # SOPInstanceUID; a pseudonym if elsewhere
    series_uid: Mapped[str] = mapped_column(index=True)  # of the segmentation; likewise
    orthanc_id: Mapped[str | None] = mapped_column(index=True)  # of the instance, once stored
    study_id: Mapped[str] = mapped_column(sa.ForeignKey("study.id"), index=True)
    series_id: Mapped[str] = mapped_column(sa.ForeignKey("series.id"), index=True)  # the images
    source: Mapped[str]  # viewer | export | elsewhere
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


class VaultRow(Base):
    """A study's sealed identity; opened by `pipelines.identity` alone."""

    __tablename__ = "identity_vault"

    study_id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(server_default="node")
    patient: Mapped[str] = mapped_column(server_default="", index=True)  # a pseudonym
    sealed: Mapped[bytes]


class UserRow(Base):
    """A person who may log in."""

    __tablename__ = "user"

    name: Mapped[str] = mapped_column(primary_key=True)
    password_hash: Mapped[str]  # argon2id
    role: Mapped[str]
    disabled: Mapped[bool]
    created_at: Mapped[datetime]


class SessionRow(Base):
    """A login; the cookie's value is kept as a hash only."""

    __tablename__ = "login_session"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(sa.ForeignKey("user.name"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class TokenRow(Base):
    """An API token of a user; kept as a hash only."""

    __tablename__ = "api_token"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    user: Mapped[str] = mapped_column(sa.ForeignKey("user.name"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked: Mapped[bool]
    used_at: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what to which thing, and why; rows are only ever added."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None] = mapped_column(unique=True)  # without gaps; None: before the chain
    code: Mapped[str | None]  # HMAC of this event and the code before it
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]  # a pseudonym, job or route; never an original UID
    outcome: Mapped[str]
    reason: Mapped[str]


class AuditHeadRow(Base):
    """The end of the audit trail's chain: one row."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    code: Mapped[str]


class WorkerRow(Base):
    """A worker's heartbeat, so that a dead one's work can be taken over."""

    __tablename__ = "worker"

    executor_id: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
