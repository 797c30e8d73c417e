"""Datasets that people asked for: waiting, being read, frozen."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import Conflict, NotFound, RadloopError
from pipelines.records import FreezingRow
from pipelines.store.database import Database
from pipelines.store.job_views import State

_OPEN: Final = ("scheduled", "in_progress")


@dataclass(frozen=True, slots=True)
class NewFreezing:
    """A dataset that is asked for.

    Attributes
    ----------
    name : str
        Of the dataset; its next version is made.
    picked : mapping
        Which readings, as :meth:`pipelines.learning.Picked.as_json` says it.
    validation, test : float
        Shares of the patients.
    then : mapping or None
        What is asked of :func:`pipelines.learning.order_training` once it is frozen.
    """

    name: str
    picked: Mapping[str, Any]
    asked_by: str
    validation: float = 0.2
    test: float = 0.2
    then: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FreezingView:
    """How it stands; `left_out` says how many series are in no case, by an error's code or a word.

    `dataset` is what it made, `training_id` what followed.
    """

    id: str
    name: str
    picked: Mapping[str, Any]
    validation: float
    test: float
    then: Mapping[str, Any] | None
    asked_by: str
    asked_at: datetime
    state: State
    done: int
    total: int
    dataset: str | None
    training_id: str | None
    left_out: Mapping[str, int]
    ended_at: datetime | None
    error_code: str | None
    error_message: str | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _OPEN


class Freezings:
    """The rows of datasets that people asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, new: NewFreezing) -> FreezingView:
        """Note it; the worker carries it out.

        Raises
        ------
        Conflict
            When a dataset of that name is being made.
        """
        with self._database.write() as session:
            same = sa.select(FreezingRow.id).where(
                FreezingRow.name == new.name, FreezingRow.state.in_(_OPEN)
            )
            if session.scalar(same) is not None:
                raise Conflict(f"a version of {new.name} is being made already")
            row = FreezingRow(
                id=secrets.token_hex(12),
                name=new.name,
                picked=dict(new.picked),
                validation=new.validation,
                test=new.test,
                then=None if new.then is None else dict(new.then),
                asked_by=new.asked_by,
                asked_at=datetime.now(UTC),
                state="scheduled",
                attempt=1,
                handed_over=False,
                done=0,
                total=0,
                left_out={},
            )
            session.add(row)
            session.flush()
            return _view(row)

    def freezing(self, freezing_id: str) -> FreezingView:
        """Return one.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _view(_row(session, freezing_id))

    def all(self, *, limit: int = 50) -> list[FreezingView]:
        """Return them, the newest first."""
        query = sa.select(FreezingRow).order_by(FreezingRow.asked_at.desc()).limit(limit)
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(query)]

    def cancel(self, freezing_id: str) -> FreezingView:
        """End it; nothing of it is kept.

        Raises
        ------
        NotFound
        Conflict
            When it is over.
        """
        with self._database.write() as session:
            row = _row(session, freezing_id)
            if row.state not in _OPEN:
                raise Conflict("the dataset was frozen, or given up, already")
            _end(row, "canceled")
            row.error_code, row.error_message = "canceled", "canceled by a person"
            return _view(row)

    # --- the engine's side ----------------------------------------------------------------------

    def not_handed_over(self) -> list[tuple[str, int]]:
        """Return what the engine shall get: ids, and which try it is."""
        query = sa.select(FreezingRow.id, FreezingRow.attempt).where(
            FreezingRow.state == "scheduled", ~FreezingRow.handed_over
        )
        with self._database.read() as session:
            return [(row.id, row.attempt) for row in session.execute(query)]

    def handed_over(self, freezing_id: str) -> None:
        """Note that the engine has it."""
        with self._database.write() as session:
            _row(session, freezing_id).handed_over = True

    def read(self, freezing_id: str, done: int, total: int) -> bool:
        """Note how many cases are read; return whether it is still wanted."""
        with self._database.write() as session:
            row = _row(session, freezing_id)
            if row.state not in _OPEN:
                return False
            row.state, row.done, row.total = "in_progress", done, total
            return True

    def frozen(self, freezing_id: str, dataset: str, left_out: Mapping[str, int]) -> None:
        """Note the version that was made."""
        with self._database.write() as session:
            row = _row(session, freezing_id)
            row.dataset, row.left_out = dataset, dict(left_out)

    def followed(self, freezing_id: str, training_id: str) -> None:
        """Note the training that learns from it."""
        with self._database.write() as session:
            _row(session, freezing_id).training_id = training_id

    def end(self, freezing_id: str, error: RadloopError | None = None) -> None:
        """Note its end, and why where it failed; one that is over stays as it is."""
        with self._database.write() as session:
            row = _row(session, freezing_id)
            if row.state not in _OPEN:
                return
            _end(row, "completed" if error is None else "canceled")
            if error is not None:
                row.error_code, row.error_message = error.code, error.message


def _end(row: FreezingRow, state: State) -> None:
    row.state, row.ended_at = state, datetime.now(UTC)


def _row(session: Session, freezing_id: str) -> FreezingRow:
    row = session.get(FreezingRow, freezing_id)
    if row is None:
        raise NotFound("nobody asked for such a dataset")
    return row


def _view(row: FreezingRow) -> FreezingView:
    return FreezingView(
        id=row.id,
        name=row.name,
        picked=row.picked,
        validation=row.validation,
        test=row.test,
        then=row.then,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        state=row.state,  # type: ignore[arg-type]  # only `State`s are written
        done=row.done,
        total=row.total,
        dataset=row.dataset,
        training_id=row.training_id,
        left_out=row.left_out,
        ended_at=row.ended_at,
        error_code=row.error_code,
        error_message=row.error_message,
    )
