"""Datasets that people asked for, and how long trainings ran, day by day."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class FreezingRow(Base):
    """A dataset that somebody asked for; its cases are read by the worker."""

    __tablename__ = "freezing"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)  # of the dataset
    picked: Mapped[dict[str, Any]]  # which readings, as pipelines/learning/rules.py has it
    validation: Mapped[float]  # share of the patients
    test: Mapped[float]
    then: Mapped[dict[str, Any] | None]  # the training that follows; null: none
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(index=True)  # the four UPS states
    attempt: Mapped[int]
    handed_over: Mapped[bool]
    done: Mapped[int]  # cases that were read, of `total`
    total: Mapped[int]
    dataset: Mapped[str | None]  # name@version, once it is frozen
    training_id: Mapped[str | None] = mapped_column(sa.ForeignKey("training.id"))
    left_out: Mapped[dict[str, Any]]  # series that are in no case: how many, by why
    ended_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]


class TrainingSpanRow(Base):
    """A while that a training's child ran: what a day's budget is counted by."""

    __tablename__ = "training_span"

    id: Mapped[int] = mapped_column(primary_key=True)
    training_id: Mapped[str] = mapped_column(sa.ForeignKey("training.id"), index=True)
    ended_at: Mapped[datetime] = mapped_column(index=True)
    seconds: Mapped[float]
