"""What is learnt from what: datasets, trainings, versions of models, figures, alarms."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class DatasetRow(Base):
    """A version of a dataset that this node froze or took in; never changed."""

    __tablename__ = "dataset"

    id: Mapped[str] = mapped_column(primary_key=True)  # name@version
    name: Mapped[str] = mapped_column(index=True)
    version: Mapped[int]
    sha256: Mapped[str]
    rule: Mapped[dict[str, Any] | None]  # what it was made by; null: taken in from a folder
    created_by: Mapped[str]
    created_at: Mapped[datetime]


class DatasetCaseRow(Base):
    """One case of a dataset: whose, in which split, and from which drawings its label is."""

    __tablename__ = "dataset_case"

    dataset: Mapped[str] = mapped_column(sa.ForeignKey("dataset.id"), primary_key=True)
    case: Mapped[str] = mapped_column(primary_key=True)
    patient: Mapped[str] = mapped_column(index=True)  # the node's pseudonym; of a folder, its own
    split: Mapped[str]  # train | validation | test
    study_id: Mapped[str | None] = mapped_column(index=True)  # of this node, a pseudonym
    series_id: Mapped[str | None]
    label_ids: Mapped[list[str]]  # corrections, and results that were accepted
    authors: Mapped[list[str]]
    route: Mapped[str]
    fused: Mapped[str]  # how several readings became one: majority | staple; empty: one reading


class TrainingRow(Base):
    """A training that somebody, or the schedule, asked for."""

    __tablename__ = "training"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)  # of the bundle that it will make
    version: Mapped[str]
    dataset: Mapped[str] = mapped_column(sa.ForeignKey("dataset.id"), index=True)
    task: Mapped[str]
    plan: Mapped[dict[str, Any]]  # as models/learning/planning.py makes it, with what was changed
    graph: Mapped[dict[str, Any] | None]  # of augmentation
    start_from: Mapped[str | None]  # a bundle, name@version
    minutes: Mapped[float | None]
    device: Mapped[str]
    launcher: Mapped[str]  # local | slurm
    place: Mapped[str]  # how it stands there, in one line; empty: on this machine
    at_once: Mapped[bool]  # also outside quiet hours
    rule: Mapped[str | None]  # the [[learning]] that asked; null: a person
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(index=True)  # the four UPS states
    step: Mapped[str]  # waiting | learning | paused | bundling | measuring | deciding | done
    attempt: Mapped[int]
    handed_over: Mapped[bool]
    cancel_requested: Mapped[bool]
    progress: Mapped[float]  # 0..1 of the steps of learning
    used_s: Mapped[float]  # seconds that the training child ran
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    changed_at: Mapped[datetime] = mapped_column(index=True)
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    candidate: Mapped[str | None]  # name@version, once it is a bundle
    then: Mapped[dict[str, Any] | None]  # of a cascade's first model: what is learnt after it
    followed_by: Mapped[str | None]  # the training that came of that


class EpochRow(Base):
    """One epoch of a training."""

    __tablename__ = "training_epoch"

    training_id: Mapped[str] = mapped_column(sa.ForeignKey("training.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int]
    loss: Mapped[float]
    score: Mapped[float]  # mean over the classes on the validation split
    classes: Mapped[dict[str, Any]]  # the same of each class, by its number
    rate: Mapped[float]
    seconds: Mapped[float]
    waited_s: Mapped[float]


class ModelVersionRow(Base):
    """A version of a model that this node answers for: its hash, signed, and its standing."""

    __tablename__ = "model_version"

    id: Mapped[str] = mapped_column(primary_key=True)  # name@version
    name: Mapped[str] = mapped_column(index=True)
    version: Mapped[str]
    sha256: Mapped[str]
    signature: Mapped[str]  # HMAC over name, version and hash
    stage: Mapped[str] = mapped_column(index=True)  # candidate | current | retired | withdrawn
    dataset: Mapped[str | None]
    training_id: Mapped[str | None] = mapped_column(sa.ForeignKey("training.id"))
    predecessor: Mapped[str | None]  # what it took the place of when it became current
    created_at: Mapped[datetime]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    why: Mapped[str]


class ModelDeedRow(Base):
    """Something that was done with a version: signed, approved, promoted, rolled back."""

    __tablename__ = "model_deed"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(sa.ForeignKey("model_version.id"), index=True)
    deed: Mapped[str]  # signed | approved | promoted | refused | retired | withdrawn | restored
    by: Mapped[str]
    at: Mapped[datetime]
    why: Mapped[str]


class EvaluationRow(Base):
    """A version measured, on a locked test set or on what readers corrected since."""

    __tablename__ = "evaluation"

    id: Mapped[str] = mapped_column(primary_key=True)
    bundle: Mapped[str] = mapped_column(index=True)  # name@version
    bundle_sha256: Mapped[str]
    against: Mapped[str | None]  # the version that was current
    dataset: Mapped[str]
    dataset_sha256: Mapped[str]
    split: Mapped[str]  # test | shadow
    figures: Mapped[dict[str, Any]]  # as models/learning/comparing.py makes them
    accepted: Mapped[bool | None]  # by the policy; null: it was not asked
    verdict: Mapped[str]  # why, in one sentence
    created_at: Mapped[datetime]


class AlarmRow(Base):
    """Something about a model that a person should look at."""

    __tablename__ = "model_alarm"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  # input | effort | empty | odd | training
    bundle: Mapped[str] = mapped_column(index=True)
    scanner: Mapped[str]  # empty: all of them
    message: Mapped[str]
    facts: Mapped[dict[str, Any]]
    raised_at: Mapped[datetime] = mapped_column(index=True)
    told_at: Mapped[datetime | None]  # by webhook or e-mail
    settled_at: Mapped[datetime | None]
    settled_by: Mapped[str | None]


class LearningRuleRow(Base):
    """How far a [[learning]] rule of the settings has got."""

    __tablename__ = "learning_rule"

    name: Mapped[str] = mapped_column(primary_key=True)
    looked_at: Mapped[datetime]  # corrections since then are new; cron's last time
    training_id: Mapped[str | None]  # the last one that it asked for
    outcome: Mapped[str]  # what came of the last time, in one sentence
