"""Images of the archive and the newest labels of each: what other clients work through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from pydicom.uid import SegmentationStorage
from sqlalchemy.orm import Session

from dicom.seg.form import LABEL_MAP_STORAGE
from pipelines.records import CorrectionRow, DeliveryRow, ResultRow, SeriesRow, TaskRow
from pipelines.store.database import Database
from pipelines.store.rounds import Unseen
from pipelines.store.studies import SeriesView, series_view

LabelTag = Literal["original", "final"]
"""What a model made, and what a person made of it: MONAI Label's words."""

_SEGMENTATIONS = (str(SegmentationStorage), LABEL_MAP_STORAGE)
_NO_IMAGES = ("SEG", "RTSTRUCT", "SR", "PR", "KO")


@dataclass(frozen=True, slots=True)
class LabelView:
    """A segmentation of a series; `labels` are its segments' names in their order.

    `orthanc_id` is the instance's in the archive, None where `id` is its SOPInstanceUID.
    """

    id: str
    orthanc_id: str | None
    tag: LabelTag
    series_id: str
    bundle: str | None
    author: str | None
    labels: tuple[str, ...]
    confidence: Mapping[str, Any] | None
    created_at: datetime


class Labelled:
    """Which images there are, and how far they are labelled."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def images(self) -> list[SeriesView]:
        """Return every series of images that has come in whole, the oldest first."""
        query = (
            sa.select(SeriesRow)
            .where(
                SeriesRow.state == "complete",
                SeriesRow.ours.is_(False),
                SeriesRow.modality.not_in(_NO_IMAGES),
            )
            .order_by(SeriesRow.changed_at, SeriesRow.id)
        )
        with self._database.read() as session:
            return [series_view(row) for row in session.scalars(query)]

    def labels(
        self, unseen: Unseen, series_id: str | None = None
    ) -> dict[str, dict[LabelTag, LabelView]]:
        """Return the newest label of each tag, by series; of one series, or of all.

        Parameters
        ----------
        unseen : Unseen
            What the person who asks may not see yet.
        """
        with self._database.read() as session:
            found: dict[str, dict[LabelTag, LabelView]] = {}
            people = _of_people(session, series_id, unseen)
            for label in (*_of_models(session, series_id), *people):
                found.setdefault(label.series_id, {})[label.tag] = label  # the newest comes last
            return found

    def of_models(self, series_id: str) -> list[LabelView]:
        """Return what models made of a series, the newest first."""
        with self._database.read() as session:
            return _of_models(session, series_id)[::-1]


def _of_models(session: Session, series_id: str | None) -> list[LabelView]:
    query = (
        sa.select(ResultRow, TaskRow)
        .join(TaskRow, TaskRow.id == ResultRow.task_id)
        .join(DeliveryRow, DeliveryRow.result_id == ResultRow.id)
        .where(
            DeliveryRow.destination == "archive",
            DeliveryRow.state == "completed",
            ResultRow.sop_class_uid.in_(_SEGMENTATIONS),
        )
        .order_by(ResultRow.created_at, ResultRow.id)
    )
    if series_id is not None:
        query = query.where(TaskRow.series_id == series_id)
    return [
        LabelView(
            id=result.id,
            orthanc_id=None,
            tag="original",
            series_id=task.series_id,
            bundle=task.bundle,
            author=None,
            labels=tuple(result.summary),
            confidence=task.confidence,
            created_at=result.created_at,
        )
        for result, task in session.execute(query)
    ]


def _of_people(session: Session, series_id: str | None, unseen: Unseen) -> list[LabelView]:
    query = (
        sa.select(CorrectionRow)
        .where(CorrectionRow.state == "stored")
        .order_by(CorrectionRow.created_at, CorrectionRow.id)
    )
    if series_id is not None:
        query = query.where(CorrectionRow.series_id == series_id)
    return [
        LabelView(
            id=row.id,
            orthanc_id=row.orthanc_id or None,
            tag="final",
            series_id=row.series_id,
            bundle=row.bundle,
            author=row.author or None,
            labels=tuple(str(segment["label"]) for segment in row.segments),
            confidence=None,
            created_at=row.created_at,
        )
        for row in session.scalars(query)
        if not unseen.covers(row.study_id, row.author, row.created_at)
    ]
