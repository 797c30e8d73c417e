"""What other systems drew: every SEG and RTSTRUCT that the archive got and that is not ours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import sqlalchemy as sa

from dicom.errors import NotFound, RadloopError
from pipelines.records import ElsewhereRow, SeriesRow
from pipelines.store.database import Database

DRAWN_MODALITIES: Final = ("SEG", "RTSTRUCT")

ElsewhereState = Literal["waiting", "matched", "dismissed"]


@dataclass(frozen=True, slots=True)
class ElsewhereView:
    """An object from elsewhere; while it waits, why."""

    id: str
    orthanc_id: str
    study_id: str
    series_id: str
    modality: str
    state: ElsewhereState
    reason_code: str | None
    reason: str | None
    correction_id: str | None
    seen_at: datetime
    settled_at: datetime | None
    settled_by: str | None


@dataclass(frozen=True, slots=True)
class UnseenSeries:
    """A series with objects that nobody has looked at."""

    id: str
    instance_count: int


class ElsewhereObjects:
    """The rows of objects from elsewhere."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unseen(self, *, limit: int = 50) -> list[UnseenSeries]:
        """Return complete series of which some object was not looked at."""
        seen = (
            sa.select(sa.func.count())
            .select_from(ElsewhereRow)
            .where(ElsewhereRow.series_id == SeriesRow.id)
            .scalar_subquery()
        )
        with self._database.read() as session:
            rows = session.scalars(
                sa.select(SeriesRow)
                .where(
                    SeriesRow.modality.in_(DRAWN_MODALITIES),
                    SeriesRow.ours.is_(False),
                    SeriesRow.state == "complete",
                    SeriesRow.instance_count > seen,
                )
                .limit(limit)
            )
            return [UnseenSeries(row.id, row.instance_count) for row in rows]

    def see(
        self, object_id: str, *, orthanc_id: str, study_id: str, series_id: str, modality: str
    ) -> ElsewhereView:
        """Note an object; one that was noted before comes back as it is."""
        with self._database.write() as session:
            row = session.get(ElsewhereRow, object_id)
            if row is None:
                row = ElsewhereRow(
                    id=object_id,
                    orthanc_id=orthanc_id,
                    study_id=study_id,
                    series_id=series_id,
                    modality=modality,
                    state="waiting",
                    seen_at=datetime.now(UTC),
                )
                session.add(row)
                session.flush()
            return _view(row)

    def wait(self, object_id: str, error: RadloopError) -> None:
        """Note why an object waits for a person."""
        with self._database.write() as session:
            session.execute(
                sa.update(ElsewhereRow)
                .where(ElsewhereRow.id == object_id, ElsewhereRow.state == "waiting")
                .values(reason_code=error.code, reason=error.message)
            )

    def settle(
        self,
        object_id: str,
        state: ElsewhereState,
        *,
        by: str | None = None,
        correction_id: str | None = None,
    ) -> None:
        """Note what became of an object; `by` is the person who decided, None: it was found."""
        with self._database.write() as session:
            session.execute(
                sa.update(ElsewhereRow)
                .where(ElsewhereRow.id == object_id)
                .values(
                    state=state,
                    settled_by=by,
                    settled_at=datetime.now(UTC),
                    correction_id=correction_id,
                )
            )

    def object(self, object_id: str) -> ElsewhereView:
        """Return one object.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = session.get(ElsewhereRow, object_id)
            if row is None:
                raise NotFound("no such object from elsewhere")
            return _view(row)

    def objects(
        self, *, state: ElsewhereState | None = None, limit: int = 100, offset: int = 0
    ) -> list[ElsewhereView]:
        """Return objects, the newest first."""
        query = sa.select(ElsewhereRow).order_by(ElsewhereRow.seen_at.desc(), ElsewhereRow.id)
        if state is not None:
            query = query.where(ElsewhereRow.state == state)
        with self._database.read() as session:
            return [_view(row) for row in session.scalars(query.limit(limit).offset(offset))]


def _view(row: ElsewhereRow) -> ElsewhereView:
    state = row.state
    if state not in ("waiting", "matched", "dismissed"):
        raise ValueError("a row holds a word that nobody wrote")
    return ElsewhereView(
        id=row.id,
        orthanc_id=row.orthanc_id,
        study_id=row.study_id,
        series_id=row.series_id,
        modality=row.modality,
        state=state,  # type: ignore[arg-type]  # mypy does not narrow str by membership
        reason_code=row.reason_code,
        reason=row.reason,
        correction_id=row.correction_id,
        seen_at=row.seen_at,
        settled_at=row.settled_at,
        settled_by=row.settled_by,
    )
