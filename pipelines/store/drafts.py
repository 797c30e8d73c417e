"""Drafts: sealed work of readers, one for each reader, series and predecessor."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from dicom.errors import NotFound
from pipelines.records import DraftRow
from pipelines.store.database import Database


@dataclass(frozen=True, slots=True)
class DraftKeys:
    """What a draft is about: keyed digests of the UIDs; no predecessor has an empty one."""

    study: str
    series: str
    predecessor: str


@dataclass(frozen=True, slots=True)
class DraftView:
    """A draft; what is in it, `pipelines.drawer` alone can tell."""

    id: str
    user: str
    saved_at: datetime
    sealed: bytes


class Drafts:
    """The drafts' rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, user: str, keys: DraftKeys, seal: Callable[[str], bytes]) -> DraftView:
        """Keep a draft in place of the one about the same thing.

        Parameters
        ----------
        seal : callable
            Returns the sealed bytes for the draft's id, to which they are bound.
        """
        with self._database.write() as session:
            row = session.scalar(
                sa.select(DraftRow)
                .where(
                    DraftRow.user == user,
                    DraftRow.series_key == keys.series,
                    DraftRow.predecessor_key == keys.predecessor,
                )
                .with_for_update()
            )
            now = datetime.now(UTC)
            if row is None:
                draft_id = secrets.token_hex(12)
                row = DraftRow(
                    id=draft_id,
                    user=user,
                    study_key=keys.study,
                    series_key=keys.series,
                    predecessor_key=keys.predecessor,
                    saved_at=now,
                    saving_since=None,
                    sealed=seal(draft_id),
                )
                session.add(row)
            else:
                row.sealed, row.saved_at, row.saving_since = seal(row.id), now, None
            session.flush()
            return _view(row)

    def draft(self, draft_id: str, *, user: str) -> DraftView:
        """Return one draft of a reader.

        Raises
        ------
        NotFound
            When there is none of that id, or it is another reader's.
        """
        with self._database.read() as session:
            row = session.get(DraftRow, draft_id)
            if row is None or row.user != user:
                raise NotFound("no such draft")
            return _view(row)

    def of_study(self, study_key: str, *, user: str) -> list[DraftView]:
        """Return a reader's drafts about a study, the newest first."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(DraftRow)
                .where(DraftRow.study_key == study_key, DraftRow.user == user)
                .order_by(DraftRow.saved_at.desc())
            )
            return [_view(row) for row in rows]

    def delete(self, draft_id: str, *, user: str) -> None:
        """Throw a reader's draft away; one that is gone is no error."""
        with self._database.write() as session:
            session.execute(
                sa.delete(DraftRow).where(DraftRow.id == draft_id, DraftRow.user == user)
            )

    def saving(self, draft_id: str) -> None:
        """Note that a draft is being stored as a correction from now on."""
        self._mark(draft_id, datetime.now(UTC))

    def not_saved(self, draft_id: str) -> None:
        """Note that it could not be stored: it is a draft again."""
        self._mark(draft_id, None)

    def interrupted(self, *, after: timedelta) -> list[DraftView]:
        """Return drafts whose storing has not ended for so long: its process was killed."""
        horizon = datetime.now(UTC) - after
        with self._database.read() as session:
            rows = session.scalars(sa.select(DraftRow).where(DraftRow.saving_since < horizon))
            return [_view(row) for row in rows]

    def _mark(self, draft_id: str, since: datetime | None) -> None:
        with self._database.write() as session:
            session.execute(
                sa.update(DraftRow).where(DraftRow.id == draft_id).values(saving_since=since)
            )


def _view(row: DraftRow) -> DraftView:
    return DraftView(id=row.id, user=row.user, saved_at=row.saved_at, sealed=row.sealed)
