"""Datasets that the node knows: their versions, and whose cases are in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound
from pipelines.records import (
    AssessmentRow,
    CorrectionRow,
    DatasetCaseRow,
    DatasetRow,
    ResultRow,
    TaskRow,
)
from pipelines.store.database import Database
from pipelines.store.veiled import is_veiled

_SEGMENTATIONS: Final = (
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation Storage
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation Storage
)


@dataclass(frozen=True, slots=True)
class DatasetCase:
    """One case as the node knows it.

    Attributes
    ----------
    patient : str
        The node's pseudonym; of a dataset from a folder, that dataset's own.
    split : str
        train, validation or test.
    study_id, series_id : str or None
        Pseudonyms of this node; None where the case came from a folder.
    label_ids : tuple of str
        The corrections, and results that were accepted, which the label was made from.
    fused : str
        How several readings became one label; empty for one reading.
    """

    case: str
    patient: str
    split: str
    study_id: str | None = None
    series_id: str | None = None
    label_ids: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    route: str = ""
    fused: str = ""


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A version of a dataset; `rule` is None where it was taken in from a folder."""

    id: str
    name: str
    version: int
    sha256: str
    rule: Mapping[str, Any] | None
    created_by: str
    created_at: datetime
    cases: tuple[DatasetCase, ...] = field(default=())

    def of(self, split: str) -> tuple[DatasetCase, ...]:
        """Return the cases of one split."""
        return tuple(case for case in self.cases if case.split == split)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a person made of a series, by drawing or by finding a model's result right.

    Attributes
    ----------
    id : str
        Of the correction, or of the result that was accepted.
    orthanc_id : str or None
        Of the object in the archive, where it is known; else it is found by `id`.
    bundle : str or None
        The model that it began with, ``NAME@VERSION``.
    route : str
        By which the series was taken; empty where that is not known.
    """

    id: str
    orthanc_id: str | None
    study_id: str
    series_id: str
    verdict: Literal["accepted", "modified"]
    bundle: str | None
    route: str
    author: str
    at: datetime


class Datasets:
    """The rows of datasets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, new: DatasetView) -> None:
        """Keep a version; one that is there already stays as it is."""
        with self._database.write() as session:
            if session.get(DatasetRow, new.id) is not None:
                return
            session.add(
                DatasetRow(
                    id=new.id,
                    name=new.name,
                    version=new.version,
                    sha256=new.sha256,
                    rule=None if new.rule is None else dict(new.rule),
                    created_by=new.created_by,
                    created_at=new.created_at,
                )
            )
            session.flush()
            session.add_all(_case_row(new.id, case) for case in new.cases)

    def dataset(self, dataset_id: str) -> DatasetView:
        """Return a version with its cases, by ``NAME@VERSION``, or the newest of ``NAME``.

        Raises
        ------
        NotFound
        """
        name, _, version = dataset_id.partition("@")
        query = sa.select(DatasetRow).where(DatasetRow.name == name)
        if version:
            query = query.where(DatasetRow.id == dataset_id)
        with self._database.read() as session:
            row = session.scalar(query.order_by(DatasetRow.version.desc()).limit(1))
            if row is None:
                raise NotFound(f"the node knows no dataset {dataset_id}")
            return _view(row, _cases(session, row.id))

    def all(self) -> list[DatasetView]:
        """Return every version without its cases, by name, the newest first."""
        query = sa.select(DatasetRow).order_by(DatasetRow.name, DatasetRow.version.desc())
        with self._database.read() as session:
            return [_view(row, ()) for row in session.scalars(query)]

    def splits_of(self, name: str) -> dict[str, str]:
        """Return the split that each patient has had in any version of a dataset of that name."""
        query = (
            sa.select(DatasetCaseRow.patient, DatasetCaseRow.split)
            .join(DatasetRow, DatasetRow.id == DatasetCaseRow.dataset)
            .where(DatasetRow.name == name)
            .order_by(DatasetRow.version)
        )
        with self._database.read() as session:
            rows = session.execute(query)
            return {row.patient: row.split for row in rows}

    def locked(self) -> frozenset[str]:
        """Return the patients of any test split: nothing on this node learns from them."""
        query = sa.select(DatasetCaseRow.patient).where(DatasetCaseRow.split == "test").distinct()
        with self._database.read() as session:
            return frozenset(session.scalars(query))

    def learnt_from(self) -> frozenset[str]:
        """Return the patients of any other split: some model has learnt from them."""
        query = sa.select(DatasetCaseRow.patient).where(DatasetCaseRow.split != "test").distinct()
        with self._database.read() as session:
            return frozenset(session.scalars(query))

    def with_patient(self, patients: Iterable[str]) -> list[str]:
        """Return the versions that hold a case of any of these patients, the newest first."""
        query = (
            sa.select(DatasetRow.id)
            .join(DatasetCaseRow, DatasetCaseRow.dataset == DatasetRow.id)
            .where(DatasetCaseRow.patient.in_(list(patients)))
            .order_by(DatasetRow.created_at.desc())
        )
        with self._database.read() as session:
            return list(dict.fromkeys(session.scalars(query)))

    def new_corrections(self, *, since: datetime, bundle: str | None = None) -> int:
        """Return how many corrections were stored since then, also of one model, any version."""
        query = sa.select(sa.func.count()).where(
            CorrectionRow.state == "stored", CorrectionRow.stored_at > since
        )
        if bundle is not None:
            query = query.where(CorrectionRow.bundle.like(f"{bundle.partition('@')[0]}@%"))
        with self._database.read() as session:
            return session.scalar(query) or 0

    def readings(self, *, since: datetime | None = None) -> list[Reading]:
        """Return what counts as somebody's last word on a series, the oldest first.

        Of each person and series the newest; a correction that somebody corrected further does not
        count, nor one that was rejected. What an open round hides waits until all have read.
        """
        with self._database.read() as session:
            found = [*_drawn(session), *_accepted(session)]
        last: dict[tuple[str, str, str], Reading] = {}
        for one in sorted(found, key=lambda one: (one.at, one.id)):
            model = (one.bundle or "").partition("@")[0]
            last[one.series_id, one.author, model] = one
        return sorted(
            (one for one in last.values() if since is None or one.at >= since),
            key=lambda one: (one.at, one.id),
        )


def _drawn(session: Session) -> list[Reading]:
    corrected = sa.select(CorrectionRow.predecessor_id).where(
        CorrectionRow.state == "stored", CorrectionRow.predecessor_id.is_not(None)
    )
    rejected = sa.select(AssessmentRow.result_id).where(AssessmentRow.verdict == "rejected")
    query = (
        sa.select(CorrectionRow, TaskRow.route)
        .outerjoin(ResultRow, ResultRow.id == CorrectionRow.result_id)
        .outerjoin(TaskRow, TaskRow.id == ResultRow.task_id)
        .where(
            CorrectionRow.state == "stored",
            CorrectionRow.id.not_in(corrected),
            CorrectionRow.id.not_in(rejected),
            ~is_veiled(CorrectionRow),
        )
    )
    return [
        Reading(
            id=row.id,
            orthanc_id=row.orthanc_id,
            study_id=row.study_id,
            series_id=row.series_id,
            verdict="modified",
            bundle=row.bundle,
            route=route or "",
            author=row.author,
            at=row.stored_at or row.created_at,
        )
        for row, route in session.execute(query)
    ]


def _accepted(session: Session) -> list[Reading]:
    query = (
        sa.select(AssessmentRow, TaskRow)
        .join(ResultRow, ResultRow.id == AssessmentRow.result_id)
        .join(TaskRow, TaskRow.id == ResultRow.task_id)
        .where(
            AssessmentRow.verdict == "accepted",
            ResultRow.sop_class_uid.in_(_SEGMENTATIONS),
            ~is_veiled(AssessmentRow),
        )
    )
    return [
        Reading(
            id=said.result_id,
            orthanc_id=None,
            study_id=said.study_id,
            series_id=task.series_id,
            verdict="accepted",
            bundle=task.bundle,
            route=task.route,
            author=said.author,
            at=said.created_at,
        )
        for said, task in session.execute(query)
    ]


def known_dataset(
    dataset_id: str,
    *,
    sha256: str,
    cases: Sequence[DatasetCase],
    created_by: str,
    rule: Mapping[str, Any] | None = None,
) -> DatasetView:
    """Return what is kept of a version that was frozen now."""
    name, _, version = dataset_id.partition("@")
    return DatasetView(
        dataset_id, name, int(version), sha256, rule, created_by, datetime.now(UTC), tuple(cases)
    )


def _cases(session: Session, dataset_id: str) -> tuple[DatasetCase, ...]:
    query = sa.select(DatasetCaseRow).where(DatasetCaseRow.dataset == dataset_id)
    return tuple(
        DatasetCase(
            case=row.case,
            patient=row.patient,
            split=row.split,
            study_id=row.study_id,
            series_id=row.series_id,
            label_ids=tuple(row.label_ids),
            authors=tuple(row.authors),
            route=row.route,
            fused=row.fused,
        )
        for row in session.scalars(query.order_by(DatasetCaseRow.case))
    )


def _case_row(dataset_id: str, case: DatasetCase) -> DatasetCaseRow:
    return DatasetCaseRow(
        dataset=dataset_id,
        case=case.case,
        patient=case.patient,
        split=case.split,
        study_id=case.study_id,
        series_id=case.series_id,
        label_ids=list(case.label_ids),
        authors=list(case.authors),
        route=case.route,
        fused=case.fused,
    )


def _view(row: DatasetRow, cases: tuple[DatasetCase, ...]) -> DatasetView:
    return DatasetView(
        row.id,
        row.name,
        row.version,
        row.sha256,
        row.rule,
        row.created_by,
        row.created_at,
        cases,
    )
