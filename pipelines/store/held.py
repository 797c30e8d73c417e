"""What was held back, and what people decided about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import Conflict, InputError, NotFound
from pipelines.records import HeldRow
from pipelines.store.database import Database

HeldState = Literal["held", "released", "deleted"]


@dataclass(frozen=True, slots=True)
class HeldContent:
    """Exactly what is held back: one content of one series, for one project.

    Attributes
    ----------
    study_id, series_id : str
        The node's pseudonyms; no series: the study as a whole.
    job_id : str
    project : str
        For whom it was de-identified; `node`: for the node's own models.
    fingerprint : str
        Of the series' content; of a whole study the job's id, which derives from all of it.
    """

    study_id: str
    series_id: str
    job_id: str
    project: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class HeldView:
    """Something that is held back, or was; `reason` is sealed.

    `collection` is the collection that somebody picked it for; None: a route did.
    """

    id: str
    content: HeldContent
    collection: str | None
    code: str
    message: str
    held_at: datetime
    state: HeldState
    settled_at: datetime | None
    settled_by: str | None
    reason: bytes | None


class Held:
    """The rows of what was held back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hold(
        self, content: HeldContent, error: InputError, *, collection: str | None = None
    ) -> str:
        """Note a refusal; the same one again is the same row. Return its id.

        What was released and is refused again for the same reason is held again: the release did
        not help. What was deleted stays so.
        """
        held_id = _id_of(content, error.code)
        with self._database.write() as session:
            row = session.get(HeldRow, held_id)
            if row is None:
                session.add(
                    HeldRow(
                        id=held_id,
                        study_id=content.study_id,
                        series_id=content.series_id,
                        job_id=content.job_id,
                        collection_id=collection,
                        project=content.project,
                        fingerprint=content.fingerprint,
                        code=error.code,
                        message=error.message,
                        held_at=datetime.now(UTC),
                        state="held",
                    )
                )
            else:
                row.job_id, row.message = content.job_id, error.message
                row.collection_id = collection or row.collection_id
                if row.state == "released":
                    row.state, row.held_at = "held", datetime.now(UTC)
                    row.settled_at = row.settled_by = row.reason = None
        return held_id

    def settle(
        self,
        held_id: str,
        state: Literal["released", "deleted"],
        *,
        by: str,
        seal: Callable[[str], bytes],
    ) -> HeldView:
        """Note what a person decided.

        Parameters
        ----------
        seal : callable
            Returns the sealed reason for the row's id, to which it is bound.

        Raises
        ------
        NotFound
        Conflict
            When somebody decided already.
        """
        with self._database.write() as session:
            row = session.get(HeldRow, held_id, with_for_update=True)
            if row is None:
                raise NotFound("nothing of that id is held back")
            if row.state != "held":
                raise Conflict(f"it was {row.state} already")
            row.state, row.settled_by, row.settled_at = state, by, datetime.now(UTC)
            row.reason = seal(held_id)
            return _view(row)

    def lift(self, content: HeldContent) -> None:
        """Drop what nobody has decided on: by other rules of the project, the content passed."""
        with self._database.write() as session:
            for row in _rows_about(session, content):
                if row.state == "held" and row.series_id:
                    session.delete(row)

    def one(self, held_id: str) -> HeldView:
        """Return one.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(HeldRow, held_id)
            if row is None:
                raise NotFound("nothing of that id is held back")
            return _view(row)

    def all(
        self,
        *,
        state: HeldState | None = None,
        code: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> list[HeldView]:
        """Return what was held back, the newest first."""
        wanted = sa.select(HeldRow).order_by(HeldRow.held_at.desc(), HeldRow.id)
        if state is not None:
            wanted = wanted.where(HeldRow.state == state)
        if code:
            wanted = wanted.where(HeldRow.code == code)
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(wanted.limit(limit).offset(offset))]

    def counts(self) -> dict[tuple[HeldState, str], int]:
        """Return how many there are of each state and code."""
        wanted = sa.select(HeldRow.state, HeldRow.code, sa.func.count()).group_by(
            HeldRow.state, HeldRow.code
        )
        with self._database.read() as session:
            return {(_state(state), code): count for state, code, count in session.execute(wanted)}

    def undecided(self, job_id: str, project: str) -> int:
        """Return how much of a job still waits for a person."""
        with self._database.read() as session:
            return (
                session.scalar(
                    sa.select(sa.func.count())
                    .select_from(HeldRow)
                    .where(
                        HeldRow.job_id == job_id,
                        HeldRow.project == project,
                        HeldRow.state == "held",
                    )
                )
                or 0
            )

    def released(self, content: HeldContent) -> frozenset[str]:
        """Return the codes of the refusals that a person overruled for exactly this content."""
        with self._database.read() as session:
            return frozenset(
                row.code for row in _rows_about(session, content) if row.state == "released"
            )

    def is_deleted(self, content: HeldContent) -> bool:
        """Whether a person decided that this content is not to be used."""
        with self._database.read() as session:
            return any(row.state == "deleted" for row in _rows_about(session, content))


def _rows_about(session: Session, content: HeldContent) -> Sequence[HeldRow]:
    """Return the rows about a series' content, and about the whole of its job."""
    about = sa.or_(
        sa.and_(HeldRow.series_id == content.series_id, HeldRow.fingerprint == content.fingerprint),
        sa.and_(HeldRow.series_id == "", HeldRow.fingerprint == content.job_id),
    )
    wanted = sa.select(HeldRow).where(
        HeldRow.study_id == content.study_id, HeldRow.project == content.project, about
    )
    return session.scalars(wanted).all()


def _id_of(content: HeldContent, code: str) -> str:
    words = (content.study_id, content.series_id, content.project, content.fingerprint, code)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:24]


def _state(state: str) -> HeldState:
    if state not in get_args(HeldState):
        raise ValueError("something held with an unknown state")
    return state  # type: ignore[return-value]  # checked above; mypy does not narrow str


def _view(row: HeldRow) -> HeldView:
    return HeldView(
        id=row.id,
        content=HeldContent(row.study_id, row.series_id, row.job_id, row.project, row.fingerprint),
        collection=row.collection_id,
        code=row.code,
        message=row.message,
        held_at=row.held_at,
        state=_state(row.state),
        settled_at=row.settled_at,
        settled_by=row.settled_by,
        reason=row.reason,
    )
