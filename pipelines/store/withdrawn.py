"""Patients who were withdrawn, by their pseudonyms, and what became of what holds them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import Conflict, NotFound, RadloopError
from pipelines.records import WithdrawalRow, WithdrawnRow
from pipelines.store.database import Database

FoundKind = Literal["study", "collection", "export", "dataset", "model"]
Became = Literal["found", "removed", "stays"]
WithdrawalState = Literal["asked", "found", "confirmed", "done"]


@dataclass(frozen=True, slots=True)
class FoundIn:
    """One thing that holds the patient.

    Attributes
    ----------
    kind : str
        A study of the research archive, a collection, an export, a dataset or a model.
    name : str
        A pseudonym, or the thing's own name.
    project : str
    became : str
        `found` before anything was done; then `removed`, or `stays`.
    why : str
        In plain words: what was done, or why nothing can be.
    """

    kind: FoundKind
    name: str
    project: str = ""
    became: Became = "found"
    why: str = ""


@dataclass(frozen=True, slots=True)
class WithdrawalView:
    """A withdrawal; `request` and `reason` are sealed.

    `asked` until it is known what holds the patient, `found` until a person has seen that and
    confirmed it, `confirmed` until all is removed that can be, then `done`.
    """

    id: str
    patient: str | None
    state: WithdrawalState
    request: bytes | None
    reason: bytes
    asked_by: str
    asked_at: datetime
    confirmed_by: str | None
    done_at: datetime | None
    error_code: str | None
    error_message: str | None
    attempt: int
    found: tuple[FoundIn, ...]
    pseudonyms: Mapping[str, str]


class Withdrawals:
    """The rows of withdrawals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self, *, by: str, request: Callable[[str], bytes], reason: Callable[[str], bytes]
    ) -> str:
        """Note that somebody asks for a withdrawal; nothing is refused or removed yet.

        Parameters
        ----------
        request, reason : callable
            Return the sealed bytes for the row's id, to which they are bound.
        """
        withdrawal_id = secrets.token_hex(12)
        with self._database.write() as session:
            session.add(
                WithdrawalRow(
                    id=withdrawal_id,
                    state="asked",
                    request=request(withdrawal_id),
                    reason=reason(withdrawal_id),
                    asked_by=by,
                    asked_at=datetime.now(UTC),
                    attempt=1,
                    found=[],
                    pseudonyms={},
                )
            )
        return withdrawal_id

    def resolve(
        self,
        withdrawal_id: str,
        pseudonyms: Mapping[str, str],
        patient: str,
        found: Iterable[FoundIn],
    ) -> None:
        """Keep whom it is about and what holds the patient, and forget how that was asked."""
        with self._database.write() as session:
            row = _row(session, withdrawal_id)
            if row.state != "asked":
                return
            row.state, row.request, row.patient = "found", None, patient
            row.pseudonyms, row.found = dict(pseudonyms), [asdict(one) for one in found]
            row.error_code = row.error_message = None

    def confirm(self, withdrawal_id: str, *, by: str) -> bool:
        """Withdraw the patient from now on: nothing of him is collected, frozen or exported again.

        What is there is removed by the worker. False when that was confirmed before.

        Raises
        ------
        NotFound
        Conflict
            While it is not known yet what holds the patient.
        """
        with self._database.write() as session:
            row = _row(session, withdrawal_id)
            if row.state == "asked":
                raise Conflict("it is not known yet what holds the patient")
            if row.state != "found":
                return False
            row.state, row.confirmed_by, row.confirmed_at = "confirmed", by, datetime.now(UTC)
            for project, pseudonym in row.pseudonyms.items():
                if session.get(WithdrawnRow, pseudonym) is None:
                    session.add(
                        WithdrawnRow(
                            patient=pseudonym, project=project, withdrawal_id=withdrawal_id
                        )
                    )
            return True

    def keep_found(self, withdrawal_id: str, found: Iterable[FoundIn]) -> None:
        """Keep what became of what holds the patient; what was kept of other things stays."""
        with self._database.write() as session:
            row = _row(session, withdrawal_id)
            known = {(one["kind"], one["name"]): one for one in row.found}
            known |= {(one.kind, one.name): asdict(one) for one in found}
            row.found = list(known.values())

    def end(self, withdrawal_id: str) -> None:
        """Note that all is removed that can be."""
        with self._database.write() as session:
            row = _row(session, withdrawal_id)
            row.state, row.done_at = "done", datetime.now(UTC)
            row.error_code = row.error_message = None

    def fail(self, withdrawal_id: str, error: RadloopError) -> None:
        """Note why the last try was not the last; it stays withdrawn, and open."""
        with self._database.write() as session:
            row = _row(session, withdrawal_id)
            row.error_code, row.error_message = error.code, error.message

    def try_again(self, withdrawal_id: str) -> bool:
        """Let the worker try again what failed; False when nothing did."""
        with self._database.write() as session:
            row = _row(session, withdrawal_id)
            if row.error_code is None or row.state == "done":
                return False
            row.attempt, row.error_code, row.error_message = row.attempt + 1, None, None
            return True

    def one(self, withdrawal_id: str) -> WithdrawalView:
        """Return one.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(WithdrawalRow, withdrawal_id)
            if row is None:
                raise NotFound("there is no such withdrawal")
            return _view(row)

    def all(self) -> list[WithdrawalView]:
        """Return every withdrawal, the newest first."""
        wanted = sa.select(WithdrawalRow).order_by(WithdrawalRow.asked_at.desc())
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(wanted)]

    def to_be_done(self) -> list[WithdrawalView]:
        """Return those that wait for the worker, and have not failed."""
        wanted = sa.select(WithdrawalRow).where(
            WithdrawalRow.state.in_(("asked", "confirmed")), WithdrawalRow.error_code.is_(None)
        )
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(wanted)]

    def patients(self) -> frozenset[str]:
        """Return the pseudonyms of everybody who was withdrawn, in every project."""
        with self._database.read() as session:
            return frozenset(session.scalars(sa.select(WithdrawnRow.patient)))

    def is_withdrawn(self, patients: Sequence[str]) -> bool:
        """Whether one of these pseudonyms is of somebody who was withdrawn."""
        with self._database.read() as session:
            wanted = sa.select(sa.exists().where(WithdrawnRow.patient.in_(patients)))
            return bool(session.scalar(wanted))


def _row(session: Session, withdrawal_id: str) -> WithdrawalRow:
    row = session.get(WithdrawalRow, withdrawal_id, with_for_update=True)
    if row is None:
        raise NotFound("there is no such withdrawal")
    return row


def _view(row: WithdrawalRow) -> WithdrawalView:
    if row.state not in get_args(WithdrawalState):
        raise ValueError("a withdrawal with an unknown state")
    return WithdrawalView(
        id=row.id,
        patient=row.patient,
        state=row.state,  # type: ignore[arg-type]  # checked above; mypy does not narrow str
        request=row.request,
        reason=row.reason,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        confirmed_by=row.confirmed_by,
        done_at=row.done_at,
        error_code=row.error_code,
        error_message=row.error_message,
        attempt=row.attempt,
        found=tuple(_found(one) for one in row.found),
        pseudonyms=row.pseudonyms,
    )


def _found(one: Mapping[str, str]) -> FoundIn:
    if one["kind"] not in get_args(FoundKind) or one["became"] not in get_args(Became):
        raise ValueError("something found of an unknown kind")
    return FoundIn(**one)  # type: ignore[arg-type]  # checked above
