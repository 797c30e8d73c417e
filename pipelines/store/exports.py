"""Exports: datasets that were asked for, what came of them, and whose studies they hold."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound, RadloopError
from pipelines.records import ExportedRow, ExportRow
from pipelines.store.database import Database
from pipelines.store.job_views import State
from pipelines.store.picking import SeriesFilter

_OPEN = ("scheduled", "in_progress")


@dataclass(frozen=True, slots=True)
class NewExport:
    """A dataset as somebody asks for it; see :class:`pipelines.records.ExportRow`."""

    name: str
    project: str
    collection_id: str | None
    wanted: SeriesFilter
    formats: tuple[str, ...]
    validation: float
    test: float
    seed: str
    zipped: bool
    licence: str
    description: str
    created_by: str


@dataclass(frozen=True, slots=True)
class ExportView:
    """An export as the rest of the house sees it; `card` says what is in it."""

    id: str
    order: NewExport
    state: State
    attempt: int
    cancel_requested: bool
    done: int
    total: int
    error_code: str | None
    error_message: str | None
    manifest_sha256: str | None
    files: int
    size_bytes: int
    card: Mapping[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    deleted_at: datetime | None
    deleted_by: str | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _OPEN

    @property
    def is_there(self) -> bool:
        """Whether it can be downloaded."""
        return self.state == "completed" and self.deleted_at is None


@dataclass(frozen=True, slots=True)
class Finished:
    """What was written."""

    manifest_sha256: str
    files: int
    size_bytes: int
    card: Mapping[str, Any]


class Exports:
    """Datasets for other tools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- making and handing over ---------------------------------------------------------------

    def begin(self, new: NewExport) -> ExportView:
        """Note an export that somebody asks for."""
        with self._database.write() as session:
            row = ExportRow(
                id=secrets.token_hex(8),
                name=new.name,
                project=new.project,
                collection_id=new.collection_id,
                wanted=new.wanted.as_json(),
                formats=list(new.formats),
                validation=new.validation,
                test=new.test,
                seed=new.seed,
                zipped=new.zipped,
                licence=new.licence,
                description=new.description,
                state="scheduled",
                attempt=1,
                handed_over=False,
                cancel_requested=False,
                done=0,
                total=0,
                files=0,
                size_bytes=0,
                created_by=new.created_by,
                created_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
            return _view(row)

    def not_handed_over(self) -> list[tuple[str, int]]:
        """Return (id, attempt) of those that wait for the engine, the oldest first."""
        with self._database.read() as session:
            rows = session.execute(
                sa.select(ExportRow.id, ExportRow.attempt)
                .where(ExportRow.handed_over.is_(False), ExportRow.state.in_(_OPEN))
                .order_by(ExportRow.created_at)
            )
            return [(export_id, attempt) for export_id, attempt in rows]

    def handed_over(self, export_id: str, attempt: int) -> None:
        """Note that the engine has that attempt."""
        with self._database.write() as session:
            session.execute(
                sa.update(ExportRow)
                .where(ExportRow.id == export_id, ExportRow.attempt == attempt)
                .values(handed_over=True)
            )

    def start(self, export_id: str) -> bool:
        """Note that it runs; False when it has ended already, or is to be canceled."""
        with self._database.write() as session:
            row = _export(session, export_id)
            if row.state not in _OPEN or row.cancel_requested:
                return False
            row.state, row.started_at = "in_progress", row.started_at or datetime.now(UTC)
            return True

    def report_progress(self, export_id: str, done: int, total: int) -> None:
        """Note how many of its cases are written."""
        with self._database.write() as session:
            session.execute(
                sa.update(ExportRow).where(ExportRow.id == export_id).values(done=done, total=total)
            )

    def holds(self, export_id: str, studies: Mapping[str, str]) -> None:
        """Note whose studies go into it, before one is written: patient by study.

        Of a second call the second counts.
        """
        with self._database.write() as session:
            session.execute(sa.delete(ExportedRow).where(ExportedRow.export_id == export_id))
            for study, patient in studies.items():
                session.add(ExportedRow(export_id=export_id, study=study, patient=patient))

    def finish(self, export_id: str, finished: Finished) -> None:
        """Note what was written."""
        with self._database.write() as session:
            row = _export(session, export_id)
            row.manifest_sha256, row.files = finished.manifest_sha256, finished.files
            row.size_bytes, row.card = finished.size_bytes, dict(finished.card)
            row.done = row.total
            if row.state in _OPEN:
                row.state, row.ended_at = "completed", datetime.now(UTC)

    def fail(self, export_id: str, error: RadloopError) -> None:
        """Note why nothing came of it; one that has ended already stays as it is."""
        with self._database.write() as session:
            row = _export(session, export_id)
            if row.state in _OPEN:
                row.state, row.ended_at = "canceled", datetime.now(UTC)
                row.error_code, row.error_message = error.code, error.message

    def ask_cancel(self, export_id: str) -> bool:
        """Ask for its end; False when it has ended already.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _export(session, export_id)
            row.cancel_requested = row.cancel_requested or row.state in _OPEN
            return row.state in _OPEN

    def is_cancel_requested(self, export_id: str) -> bool:
        """Whether somebody asked for its end."""
        with self._database.read() as session:
            return _export(session, export_id).cancel_requested

    def retry(self, export_id: str) -> bool:
        """Schedule one that failed or was canceled again; it goes on where it stopped.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _export(session, export_id)
            if row.state != "canceled" or row.deleted_at is not None:
                return False
            row.state, row.attempt, row.handed_over = "scheduled", row.attempt + 1, False
            row.cancel_requested, row.ended_at = False, None
            row.error_code = row.error_message = None
            return True

    def delete(self, export_id: str, *, deleted_by: str) -> bool:
        """Note that its files are removed; False while it is open. The row stays, and says whose.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _export(session, export_id)
            if row.state in _OPEN:
                return False
            if row.deleted_at is None:
                row.deleted_at, row.deleted_by = datetime.now(UTC), deleted_by
            return True

    # --- looking --------------------------------------------------------------------------------

    def export(self, export_id: str) -> ExportView:
        """Return one export.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _view(_export(session, export_id))

    def exports(
        self, *, with_deleted: bool = False, limit: int = 100, offset: int = 0
    ) -> list[ExportView]:
        """Return exports, the newest first."""
        query = sa.select(ExportRow).order_by(ExportRow.created_at.desc(), ExportRow.id)
        if not with_deleted:
            query = query.where(ExportRow.deleted_at.is_(None))
        return self._found(query.limit(limit).offset(offset))

    def holding(self, patient: str) -> list[ExportView]:
        """Return the exports that hold a patient, by the pseudonym in their project.

        Deleted ones are among them, and such as never ended: their files may be somewhere.
        """
        query = (
            sa.select(ExportRow)
            .where(
                ExportRow.id.in_(
                    sa.select(ExportedRow.export_id).where(ExportedRow.patient == patient)
                )
            )
            .order_by(ExportRow.created_at.desc(), ExportRow.id)
        )
        return self._found(query)

    def patients_of(self, export_id: str) -> dict[str, str]:
        """Return whose studies an export holds: patient by study."""
        query = sa.select(ExportedRow.study, ExportedRow.patient)
        with self._database.read() as session:
            rows = session.execute(
                query.where(ExportedRow.export_id == export_id).order_by(ExportedRow.study)
            )
            return {row.study: row.patient for row in rows}

    def ended(self, export_ids: Iterable[str]) -> list[str]:
        """Return which of these need no files: unknown, or deleted."""
        wanted = list(export_ids)
        query = sa.select(ExportRow.id).where(
            ExportRow.id.in_(wanted), ExportRow.deleted_at.is_(None)
        )
        with self._database.read() as session:
            kept = set(session.scalars(query))
        return [export_id for export_id in wanted if export_id not in kept]

    def _found(self, query: sa.Select[ExportRow]) -> list[ExportView]:
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(query)]


def _export(session: Session, export_id: str) -> ExportRow:
    row = session.get(ExportRow, export_id)
    if row is None:
        raise NotFound("no such export")
    return row


def _view(row: ExportRow) -> ExportView:
    return ExportView(
        id=row.id,
        order=NewExport(
            name=row.name,
            project=row.project,
            collection_id=row.collection_id,
            wanted=SeriesFilter.from_json(row.wanted),
            formats=tuple(row.formats),
            validation=row.validation,
            test=row.test,
            seed=row.seed,
            zipped=row.zipped,
            licence=row.licence,
            description=row.description,
            created_by=row.created_by,
        ),
        state=_state(row.state),
        attempt=row.attempt,
        cancel_requested=row.cancel_requested,
        done=row.done,
        total=row.total,
        error_code=row.error_code,
        error_message=row.error_message,
        manifest_sha256=row.manifest_sha256,
        files=row.files,
        size_bytes=row.size_bytes,
        card=row.card,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        deleted_at=row.deleted_at,
        deleted_by=row.deleted_by,
    )


def _state(text: str) -> Any:  # noqa: ANN401 - a Literal of its caller
    if text not in ("scheduled", "in_progress", "completed", "canceled"):
        raise ValueError("a row holds a word that nobody wrote")
    return text
