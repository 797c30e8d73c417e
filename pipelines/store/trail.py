"""The audit trail: who did what to which thing, and why; a chain that shows every change to it.

Each event carries a number, without gaps, and an HMAC-SHA256 over itself and the event before it,
under a key that does not lie in the database: who can write rows but has not the key can neither
change, nor remove, nor slip in an event unseen. The last number and its code are kept in a row of
their own, so that a cut tail shows too. A whole older copy of the database is consistent in itself;
that is seen by comparing with a number and code that were noted elsewhere
(`radloop audit verify --expect`).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import AuditBroken
from pipelines.records import AuditHeadRow, AuditRow
from pipelines.store.database import Database

_THE_HEAD = 1
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what to which thing, and why.

    `number` is 0 for an event that is older than the chain.
    """

    number: int
    at: datetime
    actor: str
    action: str
    object: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of the chain: the newest event's number and its code; 0 and empty when there is none.

    Written as ``NUMBER:CODE``.
    """

    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.number}:{self.code}"

    @classmethod
    def from_text(cls, text: str) -> Seal:
        """Read ``NUMBER:CODE``.

        Raises
        ------
        ValueError
            When it is not written so.
        """
        number, _, code = text.partition(":")
        return cls(int(number), code)


class Trail:
    """The audit trail of one database.

    Parameters
    ----------
    database : Database
    key : bytes
        Secret; kept outside the database.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        if not key:
            raise ValueError("a trail without a key proves nothing")
        self._database = database
        self._key = key

    def note(
        self, *, actor: str, action: str, object: str = "", outcome: str = "ok", reason: str = ""
    ) -> None:
        """Add one event; writers wait for each other."""
        with self._database.write() as session:
            head = self._locked_head(session)
            number = head.number + 1
            row = AuditRow(
                number=number,
                at=datetime.now(UTC),
                actor=actor,
                action=action,
                object=object,
                outcome=outcome,
                reason=reason,
            )
            row.code = self._code(head.code, row)
            session.add(row)
            head.number, head.code = number, row.code

    def events(self, *, limit: int = 200) -> list[AuditEvent]:
        """Return the newest events first."""
        with self._database.read() as session:
            rows = session.scalars(sa.select(AuditRow).order_by(AuditRow.id.desc()).limit(limit))
            return [_event(row) for row in rows]

    def verify(self, *, expect: Seal | None = None) -> Seal:
        """Follow the chain from its first event to its last.

        Parameters
        ----------
        expect : Seal or None
            What an earlier call returned: that event must still be there, unchanged.

        Raises
        ------
        AuditBroken
            Naming the first event that was changed, removed or slipped in.
        """
        with self._database.read() as session:
            head = session.get(AuditHeadRow, _THE_HEAD)
            kept = Seal(head.number, head.code) if head else Seal(0, "")
            reached = Seal(0, "")
            for row in _chained(session, up_to=kept.number):
                if row.number != reached.number + 1:
                    raise AuditBroken(f"event {reached.number + 1} of the audit trail is missing")
                if not hmac.compare_digest(row.code or "", self._code(reached.code, row)):
                    raise AuditBroken(f"event {row.number} of the audit trail was changed")
                reached = Seal(row.number, row.code or "")
                if expect and expect.number == row.number and expect != reached:
                    raise AuditBroken(f"event {row.number} is not the one that was noted")
            if reached != kept:
                raise AuditBroken(f"the audit trail ends at {reached.number}, not {kept.number}")
            if expect and expect.number > reached.number:
                raise AuditBroken(f"the audit trail ends before event {expect.number}")
            _refuse_loose(session, kept.number)
        return reached

    def _locked_head(self, session: Session) -> AuditHeadRow:
        head = session.get(AuditHeadRow, _THE_HEAD, with_for_update=True)
        if head is None:
            raise AuditBroken("the end of the audit trail was removed")
        return head

    def _code(self, before: str, row: AuditRow) -> str:
        at = row.at.astimezone(UTC).isoformat(timespec="microseconds")
        words = [row.number, at, row.actor, row.action, row.object, row.outcome, row.reason]
        text = json.dumps([before, *words], ensure_ascii=False, separators=(",", ":"))
        return hmac.new(self._key, text.encode(), sha256).hexdigest()


def _chained(session: Session, *, up_to: int) -> Iterator[AuditRow]:
    """Yield the chain's events in order, a page at a time; those that come meanwhile stay out."""
    last = 0
    while True:
        page = list(
            session.scalars(
                sa.select(AuditRow)
                .where(AuditRow.number > last, AuditRow.number <= up_to)
                .order_by(AuditRow.number)
                .limit(_PAGE)
            )
        )
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1].number or 0
        session.expunge_all()


def _refuse_loose(session: Session, up_to: int) -> None:
    """Refuse events without a number that lie behind the first of the chain."""
    first = session.scalar(sa.select(sa.func.min(AuditRow.id)).where(AuditRow.number.is_not(None)))
    if first is None or up_to == 0:
        return
    loose = sa.select(sa.exists().where(AuditRow.number.is_(None), AuditRow.id > first))
    if session.scalar(loose):
        raise AuditBroken("an event of the audit trail stands outside its chain")


def _event(row: AuditRow) -> AuditEvent:
    return AuditEvent(
        number=row.number or 0,
        at=row.at,
        actor=row.actor,
        action=row.action,
        object=row.object,
        outcome=row.outcome,
        reason=row.reason,
    )
