"""Which series somebody means: a filter on what the rows know, never on an identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from dicom.errors import InvalidRequest
from pipelines.keyring import NODE_PROJECT
from pipelines.records import (
    AssessmentRow,
    CorrectionRow,
    ResultRow,
    SeriesRow,
    StudyRow,
    TaskRow,
    VaultRow,
)
from pipelines.store.database import Database
from pipelines.store.studies import SeriesView, series_view
from pipelines.store.veiled import is_veiled

_LONGEST_TEXT = 200
_MOST_WITHOUT = 5000


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """What is asked of a series; empty asks nothing.

    Attributes
    ----------
    modality, body_part : tuple of str
        One of these, in capitals or not.
    text : str
        Each of its words stands in the description of the series or of the study, in the protocol,
        the body part or the manufacturer.
    received_from, received_until : date or None
        When the node received the study, both days included. A study's own date is part of what
        de-identification takes away.
    within_days : int or None
        Received in the last so many days.
    with_labels : bool
        Somebody corrected or accepted a result on it.
    without : tuple of str
        None of these, the node's pseudonyms of series, or of studies as a whole.

    Raises
    ------
    InvalidRequest
        When the dates contradict each other, a text is too long, or too much is left out by name.
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    text: str = ""
    received_from: date | None = None
    received_until: date | None = None
    within_days: int | None = None
    with_labels: bool = False
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        begin, end = self.received_from, self.received_until
        if begin is not None and end is not None and begin > end:
            raise InvalidRequest("the first day is after the last one")
        if self.within_days is not None and not 1 <= self.within_days <= 36_500:
            raise InvalidRequest("the last so many days are 1 to 36500")
        if len(self.text) > _LONGEST_TEXT:
            raise InvalidRequest(f"the text to look for has {_LONGEST_TEXT} characters at most")
        if len(self.without) > _MOST_WITHOUT:
            raise InvalidRequest(f"{_MOST_WITHOUT} are left out by name at most: filter closer")

    def as_json(self) -> dict[str, Any]:
        """Return what is asked, as a row keeps it."""
        said = {key: value for key, value in asdict(self).items() if value}
        return {k: v.isoformat() if isinstance(v, date) else v for k, v in said.items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> SeriesFilter:
        """Return what a row keeps."""
        known = {field.name for field in fields(cls)}
        said = {key: value for key, value in content.items() if key in known}
        for key in ("modality", "body_part", "without"):
            said[key] = tuple(said.get(key, ()))
        for key in ("received_from", "received_until"):
            if key in said:
                said[key] = date.fromisoformat(said[key])
        return cls(**said)


@dataclass(frozen=True, slots=True)
class Count:
    """How much it is; `images` are stored objects, `labelled` series that somebody judged."""

    patients: int
    studies: int
    series: int
    images: int
    labelled: int


@dataclass(frozen=True, slots=True)
class Described:
    """One series as a table shows it, by the node's pseudonyms and cleaned descriptions."""

    id: str
    study_id: str
    received_at: datetime
    modality: str
    body_part: str
    description: str
    images: int
    labelled: bool


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to choose from: each word with its number of series, most frequent first."""

    modalities: tuple[tuple[str, int], ...]
    body_parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A result or a correction that goes with its images.

    `orthanc_id` is of the instance in the clinical archive; None: it is found by `id`, its SOP
    Instance UID.
    """

    id: str
    orthanc_id: str | None


class Picking:
    """What can be collected."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def choices(self) -> Choices:
        """Return the modalities and body parts of the series that can be collected."""
        modality = SeriesRow.facts["modality"].as_string()
        body_part = SeriesRow.facts["body_part"].as_string()
        with self._database.read() as session:
            return Choices(_words(session, modality), _words(session, body_part))

    def count(self, wanted: SeriesFilter) -> Count:
        """Return how many patients, studies, series and images these are."""
        chosen = _chosen(wanted).subquery()
        with self._database.read() as session:
            figures = session.execute(
                sa.select(
                    sa.func.count(sa.distinct(VaultRow.patient)),
                    sa.func.count(sa.distinct(chosen.c.study_id)),
                    sa.func.count(sa.distinct(chosen.c.id)),
                    sa.func.coalesce(sa.func.sum(chosen.c.instance_count), 0),
                )
                .select_from(chosen)
                .outerjoin(
                    VaultRow,
                    sa.and_(
                        VaultRow.study_id == chosen.c.study_id, VaultRow.project == NODE_PROJECT
                    ),
                )
            ).one()
            labelled = session.scalar(
                sa.select(sa.func.count()).select_from(
                    _chosen(wanted).where(has_labels()).subquery()
                )
            )
        patients, studies, series, images = (int(figure) for figure in figures)
        return Count(patients, studies, series, images, int(labelled or 0))

    def series(self, wanted: SeriesFilter, *, limit: int | None = None) -> list[SeriesView]:
        """Return the series, those of one study together, the newest study first."""
        query = _chosen(wanted).order_by(
            StudyRow.received_at.desc(), SeriesRow.study_id, SeriesRow.id
        )
        with self._database.read() as session:
            return [series_view(row) for row in session.scalars(query.limit(limit))]

    def described(self, wanted: SeriesFilter, *, limit: int) -> list[Described]:
        """Return the first series of a filter as a table shows them."""
        query = _chosen(wanted).add_columns(
            StudyRow.received_at, StudyRow.description, has_labels().label("labelled")
        )
        ordered = query.order_by(StudyRow.received_at.desc(), SeriesRow.study_id, SeriesRow.id)
        with self._database.read() as session:
            return [
                Described(
                    id=row.id,
                    study_id=row.study_id,
                    received_at=received_at,
                    modality=str((row.facts or {}).get("modality") or row.modality),
                    body_part=str((row.facts or {}).get("body_part") or ""),
                    description=str((row.facts or {}).get("description") or description),
                    images=row.instance_count,
                    labelled=labelled,
                )
                for row, received_at, description, labelled in session.execute(ordered.limit(limit))
            ]

    def labels_of(self, series_id: str) -> list[Drawn]:
        """Return what was drawn on a series and holds: corrections, and results that were accepted.

        Of a correction, and of a result, the newest verdict counts; a rejected one stays. A report
        goes with the segmentation of the same run, and a result with what corrects it.
        """
        corrections = sa.select(CorrectionRow.id, CorrectionRow.orthanc_id).where(
            CorrectionRow.series_id == series_id, _holds()
        )
        other = aliased(ResultRow)
        results = (
            sa.select(ResultRow.id)
            .join(TaskRow, TaskRow.id == ResultRow.task_id)
            .where(
                TaskRow.series_id == series_id,
                sa.or_(
                    sa.exists().where(
                        other.task_id == ResultRow.task_id, _newest_verdict(other.id) == "accepted"
                    ),
                    sa.exists().where(CorrectionRow.predecessor_id == ResultRow.id, _holds()),
                ),
                _not_rejected(ResultRow.id),
            )
        )
        with self._database.read() as session:
            drawn = [
                Drawn(id_, orthanc_id)
                for id_, orthanc_id in session.execute(corrections.order_by(CorrectionRow.id))
            ]
            found = session.scalars(results.order_by(ResultRow.id))
            return [*(Drawn(id_, None) for id_ in found), *drawn]


def matching(wanted: SeriesFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on SeriesRow and StudyRow that `wanted` means."""
    conditions: list[sa.ColumnElement[bool]] = []
    for keyword, words in (("modality", wanted.modality), ("body_part", wanted.body_part)):
        if words:
            fact = sa.func.upper(SeriesRow.facts[keyword].as_string())
            conditions.append(fact.in_([word.upper() for word in words]))
    told = [
        SeriesRow.facts[keyword].as_string()
        for keyword in ("description", "protocol", "body_part", "manufacturer")
    ]
    told.append(StudyRow.description)
    for word in wanted.text.lower().split():
        conditions.append(
            sa.or_(*(sa.func.lower(text).contains(word, autoescape=True) for text in told))
        )
    if wanted.received_from is not None:
        conditions.append(StudyRow.received_at >= _midnight(wanted.received_from))
    if wanted.received_until is not None:
        conditions.append(
            StudyRow.received_at < _midnight(wanted.received_until + timedelta(days=1))
        )
    if wanted.within_days is not None:
        conditions.append(
            StudyRow.received_at >= datetime.now(UTC) - timedelta(days=wanted.within_days)
        )
    if wanted.without:
        conditions.append(SeriesRow.id.not_in(wanted.without))
        conditions.append(SeriesRow.study_id.not_in(wanted.without))
    return conditions


def has_labels() -> sa.ColumnElement[bool]:
    """Return the condition on SeriesRow: somebody corrected or accepted a result on it."""
    corrected = sa.exists().where(CorrectionRow.series_id == SeriesRow.id, _holds())
    accepted = sa.exists().where(
        TaskRow.series_id == SeriesRow.id,
        ResultRow.task_id == TaskRow.id,
        _newest_verdict(ResultRow.id) == "accepted",
    )
    return sa.or_(corrected, accepted)


def _chosen(wanted: SeriesFilter) -> sa.Select[SeriesRow]:
    """Return the whole series of images that are wanted: no results, nothing half received."""
    query = (
        sa.select(SeriesRow)
        .join(StudyRow, StudyRow.id == SeriesRow.study_id)
        .where(*_collectable(), *matching(wanted))
    )
    return query.where(has_labels()) if wanted.with_labels else query


def _collectable() -> Sequence[sa.ColumnElement[bool]]:
    return (
        SeriesRow.ours.is_(False),
        SeriesRow.state == "complete",
        SeriesRow.facts["slice_count"].as_integer() > 0,
        SeriesRow.facts["modality"].as_string() != "SEG",  # its frames count as images
    )


def _holds() -> sa.ColumnElement[bool]:
    return sa.and_(
        CorrectionRow.state == "stored",
        _not_rejected(CorrectionRow.id),
        ~is_veiled(CorrectionRow),
    )


def _newest_verdict(result_id: sa.ColumnElement[str] | Any) -> sa.ScalarSelect[str]:  # noqa: ANN401 - a mapped column is either
    return (
        sa.select(AssessmentRow.verdict)
        .where(AssessmentRow.result_id == result_id, ~is_veiled(AssessmentRow))
        .order_by(AssessmentRow.created_at.desc(), AssessmentRow.id)
        .limit(1)
        .scalar_subquery()
    )


def _not_rejected(result_id: sa.ColumnElement[str] | Any) -> sa.ColumnElement[bool]:  # noqa: ANN401 - likewise
    return sa.func.coalesce(_newest_verdict(result_id), "") != "rejected"


def _words(session: Session, fact: sa.ColumnElement[str]) -> tuple[tuple[str, int], ...]:
    rows = session.execute(
        sa.select(fact, sa.func.count())
        .where(*_collectable(), fact.is_not(None), fact != "")
        .group_by(fact)
        .order_by(sa.func.count().desc(), fact)
    )
    return tuple((str(word), int(count)) for word, count in rows)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
