"""Trainings: asked for, handed to the engine one at a time, watched, ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import Conflict, NotFound, RadloopError
from pipelines.records import EpochRow, TaskRow, TrainingRow, TrainingSpanRow
from pipelines.store.database import Database
from pipelines.store.job_views import State

TrainingStep = Literal["waiting", "learning", "paused", "bundling", "measuring", "deciding", "done"]
"""What a training does now."""
LauncherName = Literal["local", "slurm"]
"""Where a training learns."""

_OPEN = ("scheduled", "in_progress")


@dataclass(frozen=True, slots=True)
class NewTraining:
    """A training that is asked for.

    Attributes
    ----------
    id : str
    name, version : str
        Of the bundle that it will make.
    dataset : str
        ``NAME@VERSION``.
    plan, graph : mapping
        As :class:`models.learning.planning.Plan` and the augmentation graph are written.
    start_from : str or None
        A bundle whose weights it begins with.
    launcher : str
        Where it learns: on this machine, or on a cluster.
    at_once : bool
        Also outside quiet hours.
    rule : str or None
        The `[[learning]]` that asks; None for a person.
    then : mapping or None
        Of a cascade's first model: what shall be learnt when it is there.
    """

    id: str
    name: str
    version: str
    dataset: str
    task: str
    plan: Mapping[str, Any]
    asked_by: str
    graph: Mapping[str, Any] | None = None
    start_from: str | None = None
    minutes: float | None = None
    device: str = "auto"
    launcher: LauncherName = "local"
    at_once: bool = True
    rule: str | None = None
    then: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class EpochView:
    """One epoch: its loss, and the mean score on the validation split, also by class."""

    number: int
    step: int
    loss: float
    score: float
    classes: Mapping[str, Any]
    rate: float
    seconds: float
    waited_s: float


@dataclass(frozen=True, slots=True)
class TrainingView:
    """A training as it stands."""

    id: str
    name: str
    version: str
    dataset: str
    task: str
    plan: Mapping[str, Any]
    graph: Mapping[str, Any] | None
    start_from: str | None
    minutes: float | None
    device: str
    launcher: LauncherName
    place: str
    at_once: bool
    rule: str | None
    asked_by: str
    asked_at: datetime
    state: State
    step: TrainingStep
    attempt: int
    cancel_requested: bool
    progress: float
    used_s: float
    started_at: datetime | None
    ended_at: datetime | None
    changed_at: datetime
    error_code: str | None
    error_message: str | None
    candidate: str | None
    then: Mapping[str, Any] | None = None
    followed_by: str | None = None
    epochs: tuple[EpochView, ...] = field(default=())

    @property
    def bundle(self) -> str:
        """The identity of what it makes."""
        return f"{self.name}@{self.version}"


class Trainings:
    """The rows of trainings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- asking ---------------------------------------------------------------------------------

    def ask(self, new: NewTraining) -> TrainingView:
        """Note a training; the worker begins it when no other runs.

        Raises
        ------
        Conflict
            When a training that has not ended makes that very version.
        """
        now = datetime.now(UTC)
        with self._database.write() as session:
            same = sa.select(TrainingRow.id).where(
                TrainingRow.name == new.name,
                TrainingRow.version == new.version,
                TrainingRow.state.in_(_OPEN),
            )
            if session.scalar(same) is not None:
                raise Conflict(f"a training of {new.name}@{new.version} is not over yet")
            row = TrainingRow(
                id=new.id,
                name=new.name,
                version=new.version,
                dataset=new.dataset,
                task=new.task,
                plan=dict(new.plan),
                graph=None if new.graph is None else dict(new.graph),
                start_from=new.start_from,
                minutes=new.minutes,
                device=new.device,
                launcher=new.launcher,
                place="",
                at_once=new.at_once,
                rule=new.rule,
                asked_by=new.asked_by,
                asked_at=now,
                state="scheduled",
                step="waiting",
                attempt=1,
                handed_over=False,
                cancel_requested=False,
                progress=0.0,
                used_s=0.0,
                changed_at=now,
                then=None if new.then is None else dict(new.then),
            )
            session.add(row)
            session.flush()
            return _view(row, ())

    def cancel(self, training_id: str) -> None:
        """Ask for its end; one that nobody has begun ends at once.

        Raises
        ------
        NotFound
        Conflict
            When it is over.
        """
        with self._database.write() as session:
            row = _training(session, training_id)
            if row.state not in _OPEN:
                raise Conflict("the training is over")
            row.cancel_requested = True
            row.changed_at = datetime.now(UTC)
            if not row.handed_over:
                _end(row, "canceled")
                row.error_code, row.error_message = "canceled", "canceled by a person"

    # --- looking --------------------------------------------------------------------------------

    def training(self, training_id: str) -> TrainingView:
        """Return one with its epochs.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _view(_training(session, training_id), _epochs(session, training_id))

    def all(self, *, limit: int = 200) -> list[TrainingView]:
        """Return trainings without their epochs, the newest first."""
        query = sa.select(TrainingRow).order_by(TrainingRow.asked_at.desc()).limit(limit)
        with self._database.read() as session:
            return [_view(row, ()) for row in session.scalars(query)]

    def moving(self, *, since: datetime) -> list[TrainingView]:
        """Return those that are open, or changed since then, with their epochs."""
        query = sa.select(TrainingRow).where(
            sa.or_(TrainingRow.state == "in_progress", TrainingRow.changed_at >= since)
        )
        with self._database.read() as session:
            rows = list(session.scalars(query.order_by(TrainingRow.asked_at)))
            return [_view(row, _epochs(session, row.id)) for row in rows]

    def is_cancel_requested(self, training_id: str) -> bool:
        """Return whether somebody asked for its end."""
        with self._database.read() as session:
            return _training(session, training_id).cancel_requested

    def versions_of(self, name: str) -> list[str]:
        """Return every version that a training of that name makes or made."""
        query = sa.select(TrainingRow.version).where(TrainingRow.name == name)
        with self._database.read() as session:
            return list(session.scalars(query))

    # --- the engine's side ----------------------------------------------------------------------

    def next(self, *, quiet: bool) -> TrainingView | None:
        """Return what the engine shall get, or None while another training is with it.

        Parameters
        ----------
        quiet : bool
            Whether these are quiet hours: outside them, only what was asked for at once.
        """
        running = sa.select(TrainingRow.id).where(
            TrainingRow.state.in_(_OPEN), TrainingRow.handed_over
        )
        waiting = sa.select(TrainingRow).where(
            TrainingRow.state == "scheduled", ~TrainingRow.handed_over
        )
        if not quiet:
            waiting = waiting.where(TrainingRow.at_once)
        with self._database.read() as session:
            if session.scalar(running.limit(1)) is not None:
                return None
            row = session.scalar(waiting.order_by(TrainingRow.asked_at, TrainingRow.id).limit(1))
            return None if row is None else _view(row, ())

    def is_hindered(self) -> bool:
        """Return whether a task runs or waits that no training may delay."""
        query = sa.select(TaskRow.id).where(
            TaskRow.state.in_(_OPEN), TaskRow.priority.in_(("stat", "high"))
        )
        with self._database.read() as session:
            return session.scalar(query.limit(1)) is not None

    def handed_over(self, training_id: str, attempt: int) -> None:
        """Note that the engine has it."""
        with self._database.write() as session:
            row = _training(session, training_id)
            if row.attempt == attempt and row.state in _OPEN:
                row.handed_over = True

    def put_back(self, training_id: str, *, used_s: float) -> None:
        """Let it wait for the next quiet hours; it goes on from its checkpoint then."""
        with self._database.write() as session:
            row = _training(session, training_id)
            row.state, row.step = "scheduled", "waiting"
            row.handed_over, row.attempt = False, row.attempt + 1
            _note_use(session, row, used_s)
            row.changed_at = datetime.now(UTC)

    def doing(self, training_id: str, step: TrainingStep) -> TrainingView:
        """Note what it does now."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = _training(session, training_id)
            row.state, row.step, row.changed_at = "in_progress", step, now
            row.started_at = row.started_at or now
            return _view(row, ())

    def keep_epochs(
        self, training_id: str, epochs: Sequence[EpochView], *, progress: float
    ) -> None:
        """Keep the curve so far; what is there already stays."""
        with self._database.write() as session:
            row = _training(session, training_id)
            row.progress, row.changed_at = progress, datetime.now(UTC)
            for one in epochs:
                if session.get(EpochRow, (training_id, one.number)) is None:
                    session.add(
                        EpochRow(
                            training_id=training_id,
                            number=one.number,
                            step=one.step,
                            loss=one.loss,
                            score=one.score,
                            classes=dict(one.classes),
                            rate=one.rate,
                            seconds=one.seconds,
                            waited_s=one.waited_s,
                        )
                    )

    def stands(self, training_id: str, place: str) -> None:
        """Note where it is, and how it stands there, in one line."""
        with self._database.write() as session:
            row = _training(session, training_id)
            row.place, row.changed_at = place, datetime.now(UTC)

    def used(self, training_id: str, seconds: float) -> None:
        """Add to the seconds that its child ran."""
        with self._database.write() as session:
            _note_use(session, _training(session, training_id), seconds)

    def used_since(self, since: datetime) -> float:
        """Return the seconds since then of trainings that keep to quiet hours."""
        query = (
            sa.select(sa.func.sum(TrainingSpanRow.seconds))
            .join(TrainingRow, TrainingRow.id == TrainingSpanRow.training_id)
            .where(TrainingSpanRow.ended_at >= since, ~TrainingRow.at_once)
        )
        with self._database.read() as session:
            return float(session.scalar(query) or 0.0)

    def followed(self, training_id: str, by: str) -> None:
        """Note the training that came after one."""
        with self._database.write() as session:
            _training(session, training_id).followed_by = by

    def made(self, training_id: str, candidate: str) -> None:
        """Note the bundle that came of it."""
        with self._database.write() as session:
            row = _training(session, training_id)
            row.candidate, row.changed_at = candidate, datetime.now(UTC)

    def end(self, training_id: str, error: RadloopError | None = None) -> None:
        """Note its end, and why where it failed; one that is over stays as it is."""
        with self._database.write() as session:
            row = _training(session, training_id)
            if row.state not in _OPEN:
                return
            _end(row, "completed" if error is None else "canceled")
            if error is not None:
                row.error_code, row.error_message = error.code, error.message


def _note_use(session: Session, row: TrainingRow, seconds: float) -> None:
    row.used_s += seconds
    now = datetime.now(UTC)
    session.add(TrainingSpanRow(training_id=row.id, ended_at=now, seconds=seconds))


def _end(row: TrainingRow, state: State) -> None:
    row.state, row.step = state, "done"
    row.ended_at = row.changed_at = datetime.now(UTC)


def _training(session: Session, training_id: str) -> TrainingRow:
    row = session.get(TrainingRow, training_id)
    if row is None:
        raise NotFound("no such training")
    return row


def _epochs(session: Session, training_id: str) -> tuple[EpochView, ...]:
    query = sa.select(EpochRow).where(EpochRow.training_id == training_id)
    return tuple(
        EpochView(
            row.number,
            row.step,
            row.loss,
            row.score,
            row.classes,
            row.rate,
            row.seconds,
            row.waited_s,
        )
        for row in session.scalars(query.order_by(EpochRow.number))
    )


def _view(row: TrainingRow, epochs: tuple[EpochView, ...]) -> TrainingView:
    return TrainingView(
        id=row.id,
        name=row.name,
        version=row.version,
        dataset=row.dataset,
        task=row.task,
        plan=row.plan,
        graph=row.graph,
        start_from=row.start_from,
        minutes=row.minutes,
        device=row.device,
        launcher=row.launcher,  # type: ignore[arg-type]  # only `LauncherName`s are written
        place=row.place,
        at_once=row.at_once,
        rule=row.rule,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        state=row.state,  # type: ignore[arg-type]  # only `State`s are written
        step=row.step,  # type: ignore[arg-type]  # only `TrainingStep`s are written
        attempt=row.attempt,
        cancel_requested=row.cancel_requested,
        progress=row.progress,
        used_s=row.used_s,
        started_at=row.started_at,
        ended_at=row.ended_at,
        changed_at=row.changed_at,
        error_code=row.error_code,
        error_message=row.error_message,
        candidate=row.candidate,
        then=row.then,
        followed_by=row.followed_by,
        epochs=epochs,
    )
