"""Patients who were withdrawn, by their pseudonyms, and what became of what holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import sqlalchemy as sa

from dicom.errors import NotFound, RadloopError
from pipelines.records import WithdrawalRow, WithdrawnRow
from pipelines.store.database import Database

FoundKind = Literal["study", "collection", "export", "dataset", "model"]
Became = Literal["found", "removed", "stays"]


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
        In plain words, what was done, or why nothing can be.
    """

    kind: FoundKind
    name: str
    project: str = ""
    became: Became = "found"
    why: str = ""


@dataclass(frozen=True, slots=True)
class WithdrawalView:
    """A withdrawal; `reason` is sealed."""

    id: str
    patient: str
    state: Literal["open", "done"]
    asked_at: datetime
    asked_by: str
    done_at: datetime | None
    error_code: str | None
    reason: bytes
    found: tuple[FoundIn, ...]
    pseudonyms: Mapping[str, str]


class Withdrawals:
    """The rows of withdrawals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self,
        patient: str,
        pseudonyms: Mapping[str, str],
        *,
        by: str,
        seal: Callable[[str], bytes],
    ) -> str:
        """Note that a patient is withdrawn, from now on; return the withdrawal's id.

        Asked again, it is the same withdrawal, which looks for what came since.

        Parameters
        ----------
        patient : str
            The node's pseudonym.
        pseudonyms : Mapping
            Project to pseudonym, the node's own among them.
        seal : callable
            Returns the sealed reason for the row's id, to which it is bound.
        """
        withdrawal_id = hashlib.sha256(f"withdrawal\n{patient}".encode()).hexdigest()[:24]
        with self._database.write() as session:
            row = session.get(WithdrawalRow, withdrawal_id, with_for_update=True)
            if row is None:
                row = WithdrawalRow(
                    id=withdrawal_id,
                    patient=patient,
                    state="open",
                    asked_at=datetime.now(UTC),
                    asked_by=by,
                    reason=seal(withdrawal_id),
                    found=[],
                )
                session.add(row)
                session.flush()
            elif row.state == "done":
                row.state, row.asked_at, row.asked_by = "open", datetime.now(UTC), by
                row.reason, row.done_at, row.error_code = seal(withdrawal_id), None, None
            for project, pseudonym in pseudonyms.items():
                if session.get(WithdrawnRow, pseudonym) is None:
                    session.add(
                        WithdrawnRow(
                            patient=pseudonym, project=project, withdrawal_id=withdrawal_id
                        )
                    )
        return withdrawal_id

    def keep_found(self, withdrawal_id: str, found: Iterable[FoundIn]) -> None:
        """Keep what holds the patient and what became of it; what an earlier run removed stays."""
        with self._database.write() as session:
            row = _row(session.get(WithdrawalRow, withdrawal_id, with_for_update=True))
            known = {(one["kind"], one["name"]): one for one in row.found}
            for one in found:
                known[one.kind, one.name] = asdict(one)
            row.found = list(known.values())

    def end(self, withdrawal_id: str, error: RadloopError | None = None) -> None:
        """Note that all is done, or why the last try was not."""
        with self._database.write() as session:
            row = _row(session.get(WithdrawalRow, withdrawal_id, with_for_update=True))
            row.error_code = error.code if error else None
            if error is None:
                row.state, row.done_at = "done", datetime.now(UTC)

    def one(self, withdrawal_id: str) -> WithdrawalView:
        """Return one.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = _row(session.get(WithdrawalRow, withdrawal_id))
            pseudonyms = session.execute(
                sa.select(WithdrawnRow.project, WithdrawnRow.patient).where(
                    WithdrawnRow.withdrawal_id == withdrawal_id
                )
            )
            return _view(row, {each.project: each.patient for each in pseudonyms})

    def all(self) -> list[WithdrawalView]:
        """Return every withdrawal, the newest first."""
        with self._database.read() as session:
            ids = list(
                session.scalars(sa.select(WithdrawalRow.id).order_by(WithdrawalRow.asked_at.desc()))
            )
        return [self.one(each) for each in ids]

    def open(self) -> list[WithdrawalView]:
        """Return those that are not done."""
        return [one for one in self.all() if one.state == "open"]

    def patients(self) -> frozenset[str]:
        """Return the pseudonyms of everybody who was withdrawn, in every project."""
        with self._database.read() as session:
            return frozenset(session.scalars(sa.select(WithdrawnRow.patient)))

    def is_withdrawn(self, patients: Sequence[str]) -> bool:
        """Whether one of these pseudonyms is of somebody who was withdrawn."""
        with self._database.read() as session:
            wanted = sa.select(sa.exists().where(WithdrawnRow.patient.in_(patients)))
            return bool(session.scalar(wanted))


def _row(row: WithdrawalRow | None) -> WithdrawalRow:
    if row is None:
        raise NotFound("there is no such withdrawal")
    return row


def _view(row: WithdrawalRow, pseudonyms: Mapping[str, str]) -> WithdrawalView:
    if row.state not in ("open", "done"):
        raise ValueError("a withdrawal with an unknown state")
    return WithdrawalView(
        id=row.id,
        patient=row.patient,
        state=row.state,  # type: ignore[arg-type]  # checked above; mypy does not narrow str
        asked_at=row.asked_at,
        asked_by=row.asked_by,
        done_at=row.done_at,
        error_code=row.error_code,
        reason=row.reason,
        found=tuple(_found(one) for one in row.found),
        pseudonyms=pseudonyms,
    )


def _found(one: Mapping[str, str]) -> FoundIn:
    if one["kind"] not in get_args(FoundKind) or one["became"] not in get_args(Became):
        raise ValueError("something found of an unknown kind")
    return FoundIn(**one)  # type: ignore[arg-type]  # checked above
