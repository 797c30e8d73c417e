"""Collections: series that somebody picked for a project, and what became of each."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import InvalidRequest, NotFound, RadloopError
from pipelines.records import CollectedRow, CollectionRow, SeriesRow, StudyRow
from pipelines.store.database import Database
from pipelines.store.job_views import State
from pipelines.store.picking import SeriesFilter, matching

CollectedState = Literal["waiting", "stored", "refused"]

_OPEN = ("scheduled", "in_progress")


@dataclass(frozen=True, slots=True)
class Collected:
    """One series of a collection; see :class:`pipelines.records.CollectedRow`."""

    collection_id: str
    series_id: str
    study_id: str
    state: CollectedState
    images: int
    study: str | None
    patient: str | None
    orthanc_id: str | None
    labels: tuple[str, ...]
    reason_code: str | None
    reason: str | None
    left_out: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class CollectionView:
    """A collection as the rest of the house sees it.

    The figures count its series: all of them, those that are stored, those that were refused.
    """

    id: str
    name: str
    project: str
    wanted: SeriesFilter
    state: State
    attempt: int
    cancel_requested: bool
    error_code: str | None
    error_message: str | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    series: int
    stored: int
    refused: int
    studies: int
    patients: int
    images: int
    labels: int

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in _OPEN


@dataclass(frozen=True, slots=True)
class Stored:
    """What the research archive has of a series: see :class:`pipelines.records.CollectedRow`."""

    study: str
    patient: str
    orthanc_id: str
    images: int
    labels: tuple[str, ...] = ()
    left_out: tuple[RadloopError, ...] = ()


class Collections:
    """What was picked for projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- making and handing over ---------------------------------------------------------------

    def begin(
        self,
        name: str,
        *,
        project: str,
        wanted: SeriesFilter,
        series: Mapping[str, tuple[str, int]],
        created_by: str,
    ) -> CollectionView:
        """Note a collection of these series: each with its study and its number of images.

        Raises
        ------
        InvalidRequest
            When there is no series in it.
        """
        if not series:
            raise InvalidRequest("nothing matches, so there is nothing to collect")
        row = CollectionRow(
            id=secrets.token_hex(8),
            name=name,
            project=project,
            wanted=wanted.as_json(),
            state="scheduled",
            attempt=1,
            handed_over=False,
            cancel_requested=False,
            created_by=created_by,
            created_at=datetime.now(UTC),
        )
        with self._database.write() as session:
            session.add(row)
            session.flush()
            for series_id, (study_id, images) in series.items():
                session.add(
                    CollectedRow(
                        collection_id=row.id,
                        series_id=series_id,
                        study_id=study_id,
                        state="waiting",
                        images=images,
                        labels=[],
                        left_out=[],
                    )
                )
            session.flush()
            return _views(session, [row])[0]

    def not_handed_over(self) -> list[tuple[str, int]]:
        """Return (id, attempt) of those that wait for the engine, the oldest first."""
        with self._database.read() as session:
            rows = session.execute(
                sa.select(CollectionRow.id, CollectionRow.attempt)
                .where(CollectionRow.handed_over.is_(False), CollectionRow.state.in_(_OPEN))
                .order_by(CollectionRow.created_at)
            )
            return [(collection_id, attempt) for collection_id, attempt in rows]

    def handed_over(self, collection_id: str, attempt: int) -> None:
        """Note that the engine has that attempt."""
        with self._database.write() as session:
            session.execute(
                sa.update(CollectionRow)
                .where(CollectionRow.id == collection_id, CollectionRow.attempt == attempt)
                .values(handed_over=True)
            )

    def start(self, collection_id: str) -> bool:
        """Note that it runs; False when it has ended already, or is to be canceled."""
        with self._database.write() as session:
            row = _collection(session, collection_id)
            if row.state not in _OPEN or row.cancel_requested:
                return False
            row.state, row.started_at = "in_progress", row.started_at or datetime.now(UTC)
            return True

    def end(self, collection_id: str, error: RadloopError | None = None) -> None:
        """Note its end; one that has ended already stays as it is."""
        with self._database.write() as session:
            row = _collection(session, collection_id)
            if row.state in _OPEN:
                row.state = "completed" if error is None else "canceled"
                row.error_code = error.code if error else None
                row.error_message = error.message if error else None
                row.ended_at = datetime.now(UTC)

    def ask_cancel(self, collection_id: str) -> bool:
        """Ask for its end; False when it has ended already.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _collection(session, collection_id)
            row.cancel_requested = row.cancel_requested or row.state in _OPEN
            return row.state in _OPEN

    def is_cancel_requested(self, collection_id: str) -> bool:
        """Whether somebody asked for its end."""
        with self._database.read() as session:
            return _collection(session, collection_id).cancel_requested

    def retry(self, collection_id: str) -> bool:
        """Schedule it again where it was canceled or failed; what is stored stays stored.

        What was refused is tried again: the project may take it by now.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = _collection(session, collection_id)
            if row.state in _OPEN:
                return False
            _reopen(row)
            session.execute(
                sa.update(CollectedRow)
                .where(CollectedRow.collection_id == collection_id, CollectedRow.state == "refused")
                .values(state="waiting", reason_code=None, reason=None)
            )
            return True

    def take_again(self, collection_id: str, series_id: str) -> None:
        """Schedule one series again that was refused; nothing where it is not, or not in it.

        A collection that runs gets to it before it ends.
        """
        with self._database.write() as session:
            collection = session.get(CollectionRow, collection_id)
            row = session.get(CollectedRow, (collection_id, series_id))
            if collection is None or row is None or row.state != "refused":
                return
            row.state, row.reason_code, row.reason = "waiting", None, None
            if collection.state not in _OPEN:
                _reopen(collection)

    # --- one series after the other ------------------------------------------------------------

    def waiting(self, collection_id: str) -> list[Collected]:
        """Return the series that are still to be stored, those of one study together."""
        return [one for one in self.members(collection_id) if one.state == "waiting"]

    def keep_stored(self, collection_id: str, series_id: str, stored: Stored) -> None:
        """Note what the research archive has of a series."""
        with self._database.write() as session:
            row = _member(session, collection_id, series_id)
            row.state, row.reason_code, row.reason = "stored", None, None
            row.study, row.patient = stored.study, stored.patient
            row.orthanc_id, row.images = stored.orthanc_id, stored.images
            row.labels = list(stored.labels)
            row.left_out = [
                {"code": error.code, "message": error.message} for error in stored.left_out
            ]

    def keep_refused(self, collection_id: str, series_id: str, error: RadloopError) -> None:
        """Note why the project does not take a series."""
        with self._database.write() as session:
            row = _member(session, collection_id, series_id)
            row.state, row.reason_code, row.reason = "refused", error.code, error.message

    # --- looking --------------------------------------------------------------------------------

    def collection(self, collection_id: str) -> CollectionView:
        """Return one collection.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _views(session, [_collection(session, collection_id)])[0]

    def collections(self, *, limit: int = 100, offset: int = 0) -> list[CollectionView]:
        """Return collections, the newest first."""
        query = sa.select(CollectionRow).order_by(CollectionRow.created_at.desc(), CollectionRow.id)
        with self._database.read() as session:
            return _views(session, list(session.scalars(query.limit(limit).offset(offset))))

    def members(self, collection_id: str) -> list[Collected]:
        """Return the series of a collection, those of one study together."""
        query = sa.select(CollectedRow).where(CollectedRow.collection_id == collection_id)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(CollectedRow.study_id, CollectedRow.series_id))
            return [_member_view(row) for row in rows]

    def stored_for(
        self, project: str, *, collection_id: str | None = None, wanted: SeriesFilter | None = None
    ) -> list[Collected]:
        """Return what the research archive holds for a project, each series once.

        Parameters
        ----------
        project : str
        collection_id : str or None
            Of that collection only.
        wanted : SeriesFilter or None
            Only series of which that is true.
        """
        query = (
            sa.select(CollectedRow)
            .join(CollectionRow, CollectionRow.id == CollectedRow.collection_id)
            .where(CollectionRow.project == project, CollectedRow.state == "stored")
        )
        if collection_id is not None:
            query = query.where(CollectionRow.id == collection_id)
        conditions = matching(wanted) if wanted is not None else []
        if conditions:
            query = query.join(SeriesRow, SeriesRow.id == CollectedRow.series_id)
            query = query.join(StudyRow, StudyRow.id == SeriesRow.study_id).where(*conditions)
        newest_last = query.order_by(CollectionRow.created_at, CollectionRow.id)
        with self._database.read() as session:
            found = {row.series_id: _member_view(row) for row in session.scalars(newest_last)}
        labelled = wanted is not None and wanted.with_labels
        kept = [one for one in found.values() if one.labels or not labelled]
        return sorted(kept, key=lambda one: (one.study or "", one.series_id))

    # --- a patient ------------------------------------------------------------------------------

    def holding(self, patient: str) -> list[CollectionView]:
        """Return the collections that hold a patient, by the pseudonym in their project."""
        query = (
            sa.select(CollectionRow)
            .where(
                CollectionRow.id.in_(
                    sa.select(CollectedRow.collection_id).where(CollectedRow.patient == patient)
                )
            )
            .order_by(CollectionRow.created_at.desc(), CollectionRow.id)
        )
        with self._database.read() as session:
            return _views(session, list(session.scalars(query)))

    def forget_patient(self, patient: str) -> int:
        """Drop a patient's series from every collection; return how many rows it was."""
        with self._database.write() as session:
            found = session.execute(
                sa.delete(CollectedRow)
                .where(CollectedRow.patient == patient)
                .returning(CollectedRow.series_id)
            )
            return len(found.all())

    def forget_waiting(self, study_ids: Sequence[str]) -> int:
        """Drop series of these studies (the node's pseudonyms) that are not stored yet."""
        with self._database.write() as session:
            found = session.execute(
                sa.delete(CollectedRow)
                .where(CollectedRow.study_id.in_(study_ids), CollectedRow.state != "stored")
                .returning(CollectedRow.series_id)
            )
            return len(found.all())


def _reopen(row: CollectionRow) -> None:
    row.state, row.attempt, row.handed_over = "scheduled", row.attempt + 1, False
    row.cancel_requested, row.ended_at = False, None
    row.error_code = row.error_message = None


def _views(session: Session, rows: Sequence[CollectionRow]) -> list[CollectionView]:
    members: dict[str, list[CollectedRow]] = {row.id: [] for row in rows}
    found = session.scalars(sa.select(CollectedRow).where(CollectedRow.collection_id.in_(members)))
    for member in found:
        members[member.collection_id].append(member)
    return [_view(row, members[row.id]) for row in rows]


def _view(row: CollectionRow, members: Sequence[CollectedRow]) -> CollectionView:
    stored = [member for member in members if member.state == "stored"]
    return CollectionView(
        id=row.id,
        name=row.name,
        project=row.project,
        wanted=SeriesFilter.from_json(row.wanted),
        state=_state(row.state),
        attempt=row.attempt,
        cancel_requested=row.cancel_requested,
        error_code=row.error_code,
        error_message=row.error_message,
        created_by=row.created_by,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        series=len(members),
        stored=len(stored),
        refused=sum(member.state == "refused" for member in members),
        studies=len({member.study_id for member in members}),
        patients=len({member.patient for member in stored}),
        images=sum(member.images for member in stored),
        labels=sum(len(member.labels) for member in stored),
    )


def _member_view(row: CollectedRow) -> Collected:
    return Collected(
        collection_id=row.collection_id,
        series_id=row.series_id,
        study_id=row.study_id,
        state=_collected_state(row.state),
        images=row.images,
        study=row.study,
        patient=row.patient,
        orthanc_id=row.orthanc_id,
        labels=tuple(row.labels),
        reason_code=row.reason_code,
        reason=row.reason,
        left_out=tuple(row.left_out),
    )


def _collection(session: Session, collection_id: str) -> CollectionRow:
    row = session.get(CollectionRow, collection_id)
    if row is None:
        raise NotFound("no such collection")
    return row


def _member(session: Session, collection_id: str, series_id: str) -> CollectedRow:
    row = session.get(CollectedRow, (collection_id, series_id))
    if row is None:
        raise NotFound("no such series in the collection")
    return row


def _state(text: str) -> Any:  # noqa: ANN401 - a Literal of its caller
    if text not in ("scheduled", "in_progress", "completed", "canceled"):
        raise ValueError("a row holds a word that nobody wrote")
    return text


def _collected_state(text: str) -> Any:  # noqa: ANN401 - likewise
    if text not in ("waiting", "stored", "refused"):
        raise ValueError("a row holds a word that nobody wrote")
    return text
