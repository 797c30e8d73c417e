"""Alarms about models, and how far the rules of learning have got."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa

from dicom.errors import NotFound
from pipelines.records import AlarmRow, LearningRuleRow
from pipelines.store.database import Database

AlarmKind = Literal["input", "greys", "effort", "empty", "odd", "training"]
"""What is not as it was: images, their grey values, the work of readers, results; or a training
failed."""

_TOLD_BY: Final = "told_by"  # among an alarm's facts


@dataclass(frozen=True, slots=True)
class AlarmView:
    """Something about a model that a person should look at; `scanner` is empty for all of them."""

    id: str
    kind: AlarmKind
    bundle: str
    scanner: str
    message: str
    facts: Mapping[str, Any]
    raised_at: datetime
    told_at: datetime | None = None
    settled_at: datetime | None = None
    settled_by: str | None = None

    @property
    def told_by(self) -> tuple[str, ...]:
        """The ways in which people were told already."""
        return tuple(self.facts.get(_TOLD_BY, ()))


@dataclass(frozen=True, slots=True)
class RuleView:
    """How far a `[[learning]]` rule has got."""

    name: str
    looked_at: datetime
    training_id: str | None
    outcome: str


class Alarms:
    """The rows of alarms and rules."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def raise_alarm(
        self,
        kind: AlarmKind,
        *,
        bundle: str,
        message: str,
        scanner: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> AlarmView | None:
        """Raise an alarm; None where the same one is open already."""
        open_one = sa.select(AlarmRow.id).where(
            AlarmRow.kind == kind,
            AlarmRow.bundle == bundle,
            AlarmRow.scanner == scanner,
            AlarmRow.settled_at.is_(None),
        )
        with self._database.write() as session:
            if session.scalar(open_one) is not None:
                return None
            row = AlarmRow(
                id=secrets.token_hex(12),
                kind=kind,
                bundle=bundle,
                scanner=scanner,
                message=message,
                facts=dict(facts or {}),
                raised_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
            return _view(row)

    def told_by(self, alarm_id: str, way: str) -> None:
        """Note that people were told of it in one way."""
        with self._database.write() as session:
            row = session.get(AlarmRow, alarm_id)
            if row is not None:
                row.facts = {**row.facts, _TOLD_BY: [*row.facts.get(_TOLD_BY, ()), way]}

    def told(self, alarm_id: str) -> None:
        """Note that people were told of it, in every way."""
        with self._database.write() as session:
            row = session.get(AlarmRow, alarm_id)
            if row is not None:
                row.told_at = datetime.now(UTC)

    def settle(self, alarm_id: str, *, by: str) -> AlarmView:
        """Note that a person has seen to it; who did first stays.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = session.get(AlarmRow, alarm_id)
            if row is None:
                raise NotFound("no such alarm")
            if row.settled_at is None:
                row.settled_at, row.settled_by = datetime.now(UTC), by
            return _view(row)

    def all(self, *, open_only: bool = False, limit: int = 200) -> list[AlarmView]:
        """Return alarms, the newest first."""
        query = sa.select(AlarmRow).order_by(AlarmRow.raised_at.desc()).limit(limit)
        if open_only:
            query = query.where(AlarmRow.settled_at.is_(None))
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(query)]

    def untold(self) -> list[AlarmView]:
        """Return the alarms that nobody was told of yet, the oldest first."""
        query = sa.select(AlarmRow).where(AlarmRow.told_at.is_(None), AlarmRow.settled_at.is_(None))
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(query.order_by(AlarmRow.raised_at))]

    # --- rules ----------------------------------------------------------------------------------

    def rule(self, name: str) -> RuleView | None:
        """Return how far a rule has got; None where it was never looked at."""
        with self._database.read() as session:
            row = session.get(LearningRuleRow, name)
            if row is None:
                return None
            return RuleView(row.name, row.looked_at, row.training_id, row.outcome)

    def keep_rule(self, rule: RuleView) -> None:
        """Keep how far a rule has got."""
        with self._database.write() as session:
            row = session.get(LearningRuleRow, rule.name)
            if row is None:
                row = LearningRuleRow(name=rule.name)
                session.add(row)
            row.looked_at, row.training_id = rule.looked_at, rule.training_id
            row.outcome = rule.outcome


def _view(row: AlarmRow) -> AlarmView:
    return AlarmView(
        id=row.id,
        kind=row.kind,  # type: ignore[arg-type]  # only `AlarmKind`s are written
        bundle=row.bundle,
        scanner=row.scanner,
        message=row.message,
        facts=row.facts,
        raised_at=row.raised_at,
        told_at=row.told_at,
        settled_at=row.settled_at,
        settled_by=row.settled_by,
    )
