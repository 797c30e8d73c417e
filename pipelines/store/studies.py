"""Studies, series and the cursor of the change feed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from dicom.errors import NotFound
from pipelines.records import CursorRow, JobRow, SeriesRow, StudyRow
from pipelines.store.database import Database

Standing = Literal["working", "failed", "completed"]
"""How a study stands, by its newest job: being received or worked on; failed; completed."""


@dataclass(frozen=True, slots=True)
class ArchivedChange:
    """A series of the archive that got new instances, identified by pseudonyms.

    `stored_at` is when the newest of them was written, as far as it is known.
    """

    study_id: str
    study_orthanc_id: str
    series_id: str
    series_orthanc_id: str
    modality: str
    instance_count: int
    ours: bool
    stored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study as the rest of the house sees it."""

    id: str
    orthanc_id: str
    received_at: datetime
    description: str


@dataclass(frozen=True, slots=True)
class SeriesView:
    """A series as the rest of the house sees it."""

    id: str
    study_id: str
    orthanc_id: str
    modality: str
    state: str
    instance_count: int
    changed_at: datetime
    fingerprint: str | None
    ours: bool
    facts: Mapping[str, Any] | None


class Studies:
    """What is known of the studies in the clinical archive."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cursor(self, archive: str) -> int:
        """Return the last change of `archive` whose rows were written; 0 at first."""
        with self._database.read() as session:
            row = session.get(CursorRow, archive)
            return row.seq if row else 0

    def record_changes(
        self, archive: str, *, since: int, until: int, changes: Iterable[ArchivedChange]
    ) -> bool:
        """Write what a page of the change feed brought, and move the cursor, in one transaction.

        A series that was complete and got instances is `receiving` again.

        Returns
        -------
        bool
            False, with nothing written, when another worker has read this page already.
        """
        now = datetime.now(UTC)
        with self._database.write() as session:
            if not _move_cursor(session, archive, since, until):
                return False
            for change in changes:
                _receive(session, change, now)
            return True

    def rewind(self, archive: str) -> None:
        """Read the archive's feed from its beginning at the next look (an archive was replaced)."""
        with self._database.write() as session:
            session.execute(sa.delete(CursorRow).where(CursorRow.archive == archive))

    def quiet(self, *, quiet_s: float) -> list[str]:
        """Return the studies with new content, all of whose series have been quiet that long."""
        horizon = datetime.now(UTC) - timedelta(seconds=quiet_s)
        with self._database.read() as session:
            rows = session.execute(
                sa.select(SeriesRow.study_id)
                .where(SeriesRow.state == "receiving")
                .group_by(SeriesRow.study_id)
                .having(sa.func.max(SeriesRow.changed_at) <= horizon)
            )
            return [study_id for (study_id,) in rows]

    def receiving(self) -> list[SeriesView]:
        """Return the series that are still being received."""
        with self._database.read() as session:
            rows = session.scalars(sa.select(SeriesRow).where(SeriesRow.state == "receiving"))
            return [series_view(row) for row in rows]

    def study(self, study_id: str) -> StudyView:
        """Return one study.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(StudyRow, study_id)
            if row is None:
                raise NotFound("no such study")
            return _study_view(row)

    def study_in_archive(self, orthanc_id: str) -> StudyView | None:
        """Return the study that the archive knows by that id; None when it was not read yet."""
        with self._database.read() as session:
            row = session.scalar(sa.select(StudyRow).where(StudyRow.orthanc_id == orthanc_id))
            return _study_view(row) if row else None

    def studies_in_archive(self, orthanc_ids: Sequence[str]) -> list[StudyView]:
        """Return the studies that the archive knows by these ids; others are left out."""
        with self._database.read() as session:
            rows = session.scalars(sa.select(StudyRow).where(StudyRow.orthanc_id.in_(orthanc_ids)))
            return [_study_view(row) for row in rows]

    def studies_called(self, study_ids: Collection[str]) -> list[StudyView]:
        """Return these studies, in no order; unknown ones are left out."""
        with self._database.read() as session:
            rows = session.scalars(sa.select(StudyRow).where(StudyRow.id.in_(study_ids)))
            return [_study_view(row) for row in rows]

    def series_in_archive(self, orthanc_id: str) -> SeriesView | None:
        """Return the series that the archive knows by that id; None when it was not read yet."""
        with self._database.read() as session:
            row = session.scalar(sa.select(SeriesRow).where(SeriesRow.orthanc_id == orthanc_id))
            return series_view(row) if row else None

    def studies(
        self, *, standing: Standing | None = None, limit: int = 100, offset: int = 0
    ) -> list[StudyView]:
        """Return studies, the newest first; with `standing` only those that stand so."""
        query = sa.select(StudyRow).order_by(StudyRow.received_at.desc(), StudyRow.id)
        if standing is not None:
            query = query.where(_stands(standing))
        with self._database.read() as session:
            rows = session.scalars(query.limit(limit).offset(offset))
            return [_study_view(row) for row in rows]

    def count(self, standing: Standing | None = None) -> int:
        """Return how many studies are known, or stand so."""
        query = sa.select(sa.func.count()).select_from(StudyRow)
        if standing is not None:
            query = query.where(_stands(standing))
        with self._database.read() as session:
            return session.scalar(query) or 0

    def arriving(self) -> dict[str, int]:
        """Return the number of instances of each study that is being received now."""
        with self._database.read() as session:
            rows = session.execute(
                sa.select(SeriesRow.study_id, sa.func.sum(SeriesRow.instance_count))
                .where(SeriesRow.state == "receiving")
                .group_by(SeriesRow.study_id)
            )
            return {study_id: int(count) for study_id, count in rows}

    def series_of_studies(self, study_ids: Sequence[str]) -> dict[str, list[SeriesView]]:
        """Return the series of each of these studies; all of them are keys."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(SeriesRow).where(SeriesRow.study_id.in_(study_ids)).order_by(SeriesRow.id)
            )
            found: dict[str, list[SeriesView]] = {study_id: [] for study_id in study_ids}
            for row in rows:
                found[row.study_id].append(series_view(row))
            return found

    def series_of(self, study_id: str) -> list[SeriesView]:
        """Return the series of a study."""
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(SeriesRow).where(SeriesRow.study_id == study_id).order_by(SeriesRow.id)
            )
            return [series_view(row) for row in rows]

    def series(self, series_id: str) -> SeriesView:
        """Return one series.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(SeriesRow, series_id)
            if row is None:
                raise NotFound("no such series")
            return series_view(row)

    def describe(self, study_id: str, description: str) -> None:
        """Keep a study's cleaned description."""
        with self._database.write() as session:
            session.execute(
                sa.update(StudyRow).where(StudyRow.id == study_id).values(description=description)
            )

    def keep_facts(self, series_id: str, facts: Mapping[str, Any]) -> None:
        """Keep what routing asks about a series, so that a rule can be explained later."""
        with self._database.write() as session:
            session.execute(
                sa.update(SeriesRow).where(SeriesRow.id == series_id).values(facts=dict(facts))
            )


def _stands(standing: Standing) -> sa.ColumnElement[bool]:
    """Return the condition on StudyRow; what counts is the study's newest job."""
    newest = (
        sa.select(JobRow.state, JobRow.error_code)
        .where(JobRow.study_id == StudyRow.id)
        .order_by(JobRow.created_at.desc(), JobRow.id)
        .limit(1)
        .correlate(StudyRow)
    )
    state = newest.with_only_columns(JobRow.state).scalar_subquery()
    code = newest.with_only_columns(JobRow.error_code).scalar_subquery()
    match standing:
        case "working":
            receiving = sa.exists().where(
                SeriesRow.study_id == StudyRow.id, SeriesRow.state == "receiving"
            )
            return sa.or_(receiving, state.in_(("scheduled", "in_progress")))
        case "failed":
            return sa.and_(state == "canceled", code.is_not(None), code != "canceled")
        case "completed":
            return state == "completed"


def _move_cursor(session: Session, archive: str, since: int, until: int) -> bool:
    if since == 0:  # the row may not be there yet, and two workers may make it at once
        session.execute(_insert_cursor(session, archive))
    row = session.get(CursorRow, archive, with_for_update=True)
    if row is None or row.seq != since:
        return False
    row.seq = until
    return True


def _insert_cursor(session: Session, archive: str) -> sa.Insert:
    """Return the statement that begins a cursor at 0 where there is none."""
    values = {"archive": archive, "seq": 0}
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(CursorRow).values(values).on_conflict_do_nothing()
    return sqlite.insert(CursorRow).values(values).on_conflict_do_nothing()


def _receive(session: Session, change: ArchivedChange, now: datetime) -> None:
    if session.get(StudyRow, change.study_id) is None:
        session.add(
            StudyRow(
                id=change.study_id,
                orthanc_id=change.study_orthanc_id,
                received_at=now,
                description="",
            )
        )
        session.flush()
    row = session.get(SeriesRow, change.series_id)
    if row is None:
        session.add(
            SeriesRow(
                id=change.series_id,
                study_id=change.study_id,
                orthanc_id=change.series_orthanc_id,
                modality=change.modality,
                state="complete" if change.ours else "receiving",
                instance_count=change.instance_count,
                changed_at=change.stored_at or now,
                fingerprint=None,
                ours=change.ours,
                facts=None,
            )
        )
        return
    row.instance_count = change.instance_count
    # It tells one state of a series from the next, too: it always grows.
    row.changed_at = max(change.stored_at or now, row.changed_at + timedelta(microseconds=1))
    if not row.ours:
        row.state = "receiving"


def _study_view(row: StudyRow) -> StudyView:
    return StudyView(
        id=row.id,
        orthanc_id=row.orthanc_id,
        received_at=row.received_at,
        description=row.description,
    )


def series_view(row: SeriesRow) -> SeriesView:
    """Return a row as the rest of the house sees it."""
    return SeriesView(
        id=row.id,
        study_id=row.study_id,
        orthanc_id=row.orthanc_id,
        modality=row.modality,
        state=row.state,
        instance_count=row.instance_count,
        changed_at=row.changed_at,
        fingerprint=row.fingerprint,
        ours=row.ours,
        facts=row.facts,
    )
