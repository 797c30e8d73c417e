"""Jobs, their tasks and steps, what came of them and where it went."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


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
    confidence: Mapped[dict[str, Any] | None]  # by segment label; null: labels alone
    greys: Mapped[dict[str, Any] | None]  # of the first input, beside what the model learnt from


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


class WorkerRow(Base):
    """A worker's heartbeat, so that a dead one's work can be taken over."""

    __tablename__ = "worker"

    executor_id: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
