"""Corrections and assessments: what people drew, and what they say of results."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound
from pipelines.records import (
    AssessmentRow,
    CorrectionRow,
    DraftRow,
    JobRow,
    ResultRow,
    TaskRow,
)
from pipelines.store.database import Database
from pipelines.store.veiled import is_veiled

Verdict = Literal["accepted", "modified", "rejected"]
"""What a person says of a result, by word or by deed (IHE AIRAI)."""

CorrectionSource = Literal["viewer", "export", "client", "elsewhere"]
"""By which way a correction came: the viewer's panel, its own export, another client,
another system."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a correction cost: seconds of active editing, seconds of rest, strokes."""

    active_s: float
    idle_s: float
    strokes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a correction is from what it began with.

    Attributes
    ----------
    changed_voxels : int
        Voxels that any segment gained or lost.
    added_path_mm : float
        Length of the contours that had to be drawn anew.
    surface_dice : float or None
        Share of the surfaces that lie within `tolerance_mm`; None where neither has a surface.
    segments : sequence of mapping
        The same for each segment, by `number` and `label`.
    """

    changed_voxels: int
    added_path_mm: float
    surface_dice: float | None
    tolerance_mm: float
    segments: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class NewCorrection:
    """A correction that is about to be stored."""

    id: str
    series_uid: str
    study_id: str
    series_id: str
    source: CorrectionSource
    predecessor_id: str | None
    result_id: str | None
    bundle: str | None
    author: str
    title: str
    segments: Sequence[Mapping[str, Any]]
    effort: Effort | None = None
    orthanc_id: str | None = None


@dataclass(frozen=True, slots=True)
class CorrectionView:
    """A correction as the rest of the house sees it."""

    id: str
    series_uid: str
    orthanc_id: str | None
    study_id: str
    series_id: str
    source: CorrectionSource
    is_stored: bool
    predecessor_id: str | None
    result_id: str | None
    bundle: str | None
    author: str
    title: str
    series_number: int
    stale: bool
    segments: Sequence[Mapping[str, Any]]
    created_at: datetime
    stored_at: datetime | None
    effort: Effort | None
    difference: Difference | None
    measured_at: datetime | None


@dataclass(frozen=True, slots=True)
class AssessmentView:
    """An assessment; `comment` is sealed."""

    id: str
    study_id: str
    result_id: str
    verdict: Verdict
    reason: str | None
    comment: bytes | None
    correction_id: str | None
    author: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Judged:
    """A result or a correction, as far as a person's verdict is concerned.

    `result_id` is the model's result that it goes back to, `bundle` that model.
    """

    id: str
    study_id: str
    result_id: str | None
    bundle: str | None


class Corrections:
    """What people drew, and what they say of results."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- storing --------------------------------------------------------------------------------

    def begin(self, new: NewCorrection, *, first_series_number: int) -> CorrectionView:
        """Note a correction before it is stored, so that the intake knows it as ours.

        A second time with the same id returns what is there. It is stale when another correction
        of the same predecessor was stored before.
        """
        with self._database.write() as session:
            row = session.get(CorrectionRow, new.id)
            if row is None:
                row = self._add(session, new, first_series_number)
            return _view(row)

    def stored(
        self, correction_id: str, *, orthanc_id: str, draft_id: str | None = None
    ) -> CorrectionView:
        """Note that the archive holds it, that its predecessor was modified, and end its draft.

        All in one transaction, and a second time nothing more.

        Raises
        ------
        NotFound
        """
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = _correction(session, correction_id)
            if row.state != "stored":
                row.state, row.stored_at, row.orthanc_id = "stored", now, orthanc_id
                row.stale = _rivals(session, row) > 0
                if row.predecessor_id is not None:
                    session.add(_modified(row, now))
            if draft_id is not None:
                session.execute(sa.delete(DraftRow).where(DraftRow.id == draft_id))
            return _view(row)

    def dropped(self, correction_id: str) -> None:
        """Forget a correction that could not be stored."""
        with self._database.write() as session:
            session.execute(
                sa.delete(CorrectionRow).where(
                    CorrectionRow.id == correction_id, CorrectionRow.state == "storing"
                )
            )

    def _add(self, session: Session, new: NewCorrection, first_series_number: int) -> CorrectionRow:
        before = session.scalar(
            sa.select(sa.func.count())
            .select_from(CorrectionRow)
            .where(
                CorrectionRow.study_id == new.study_id,
                # a number that is left out would tell a blind reader that there is one
                sa.or_(CorrectionRow.author == new.author, ~is_veiled(CorrectionRow)),
            )
        )
        row = CorrectionRow(
            id=new.id,
            series_uid=new.series_uid,
            orthanc_id=new.orthanc_id,
            study_id=new.study_id,
            series_id=new.series_id,
            source=new.source,
            state="storing",
            predecessor_id=new.predecessor_id,
            result_id=new.result_id,
            bundle=new.bundle,
            author=new.author,
            title=new.title,
            series_number=first_series_number + (before or 0),
            stale=False,
            segments=[dict(segment) for segment in new.segments],
            created_at=datetime.now(UTC),
            active_s=new.effort.active_s if new.effort else None,
            idle_s=new.effort.idle_s if new.effort else None,
            strokes=new.effort.strokes if new.effort else None,
        )
        row.stale = _rivals(session, row) > 0
        session.add(row)
        session.flush()
        return row

    # --- looking --------------------------------------------------------------------------------

    def correction(self, correction_id: str) -> CorrectionView:
        """Return one correction.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _view(_correction(session, correction_id))

    def of_study(self, study_id: str) -> list[CorrectionView]:
        """Return the stored corrections of a study, the newest first."""
        return self._found(CorrectionRow.study_id == study_id, CorrectionRow.state == "stored")

    def of_predecessor(self, predecessor_id: str) -> list[CorrectionView]:
        """Return the stored corrections of one result or correction, the newest first."""
        return self._found(
            CorrectionRow.predecessor_id == predecessor_id, CorrectionRow.state == "stored"
        )

    def by_orthanc_id(self, orthanc_id: str) -> CorrectionView | None:
        """Return the correction that an instance of the archive holds."""
        return next(iter(self._found(CorrectionRow.orthanc_id == orthanc_id)), None)

    def exported_since(self, author: str, series_id: str, since: datetime) -> bool:
        """Whether that person's viewer exported a segmentation of that series since then."""
        return bool(
            self._found(
                CorrectionRow.author == author,
                CorrectionRow.series_id == series_id,
                CorrectionRow.source == "export",
                CorrectionRow.created_at >= since,
            )
        )

    def judged(self, result_id: str) -> Judged:
        """Return what a verdict would be about: a result of a model, or a correction.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _judged(session, result_id)

    def _found(self, *conditions: sa.ColumnElement[bool]) -> list[CorrectionView]:
        query = sa.select(CorrectionRow).where(*conditions)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(CorrectionRow.created_at.desc()))
            return [_view(row) for row in rows]

    # --- effort ---------------------------------------------------------------------------------

    def unmeasured(self, *, limit: int = 20) -> list[str]:
        """Return stored corrections that were not compared with their predecessor yet."""
        with self._database.read() as session:
            return list(
                session.scalars(
                    sa.select(CorrectionRow.id)
                    .where(CorrectionRow.state == "stored", CorrectionRow.measured_at.is_(None))
                    .order_by(CorrectionRow.created_at)
                    .limit(limit)
                )
            )

    def keep_difference(self, correction_id: str, difference: Difference | None) -> None:
        """Keep what was measured; None where there is nothing to compare with."""
        with self._database.write() as session:
            row = _correction(session, correction_id)
            row.measured_at = datetime.now(UTC)
            if difference is None:
                return
            row.changed_voxels = difference.changed_voxels
            row.added_path_mm = difference.added_path_mm
            row.surface_dice = difference.surface_dice
            row.tolerance_mm = difference.tolerance_mm
            row.compared = [dict(segment) for segment in difference.segments]

    def measured(
        self, *, bundle: str | None = None, author: str | None = None
    ) -> list[CorrectionView]:
        """Return the stored corrections of a model's results, or of a reader, or all of them."""
        conditions = [CorrectionRow.state == "stored"]
        if bundle is not None:
            conditions.append(CorrectionRow.bundle == bundle)
        if author is not None:
            conditions.append(CorrectionRow.author == author)
        return self._found(*conditions)

    # --- assessments ----------------------------------------------------------------------------

    def assess(
        self,
        result_id: str,
        *,
        verdict: Verdict,
        reason: str | None,
        comment: bytes | None,
        author: str,
    ) -> AssessmentView:
        """Note what a person says of a result.

        Raises
        ------
        NotFound
            When there is no such result or correction.
        """
        with self._database.write() as session:
            row = AssessmentRow(
                id=secrets.token_hex(12),
                study_id=_judged(session, result_id).study_id,
                result_id=result_id,
                verdict=verdict,
                reason=reason,
                comment=comment,
                correction_id=None,
                author=author,
                created_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
            return _assessment(row)

    def assessments(
        self, *, study_id: str | None = None, result_id: str | None = None, limit: int = 500
    ) -> list[AssessmentView]:
        """Return assessments, the newest first."""
        query = sa.select(AssessmentRow).order_by(AssessmentRow.created_at.desc(), AssessmentRow.id)
        if study_id is not None:
            query = query.where(AssessmentRow.study_id == study_id)
        if result_id is not None:
            query = query.where(AssessmentRow.result_id == result_id)
        with self._database.read() as session:
            return [_assessment(row) for row in session.scalars(query.limit(limit))]


def _rivals(session: Session, row: CorrectionRow) -> int:
    """Return how many others were stored on the same predecessor before this one."""
    if row.predecessor_id is None:
        return 0
    query = (
        sa.select(sa.func.count())
        .select_from(CorrectionRow)
        .where(
            CorrectionRow.predecessor_id == row.predecessor_id,
            CorrectionRow.id != row.id,
            CorrectionRow.state == "stored",
        )
    )
    return session.scalar(query) or 0


def _modified(row: CorrectionRow, now: datetime) -> AssessmentRow:
    return AssessmentRow(
        id=secrets.token_hex(12),
        study_id=row.study_id,
        result_id=row.predecessor_id,
        verdict="modified",
        reason=None,
        comment=None,
        correction_id=row.id,
        author=row.author,
        created_at=now,
    )


def _judged(session: Session, result_id: str) -> Judged:
    correction = session.get(CorrectionRow, result_id)
    if correction is not None:
        return Judged(result_id, correction.study_id, correction.result_id, correction.bundle)
    found = session.execute(
        sa.select(JobRow.study_id, TaskRow.bundle)
        .join(TaskRow, TaskRow.job_id == JobRow.id)
        .join(ResultRow, ResultRow.task_id == TaskRow.id)
        .where(ResultRow.id == result_id)
    ).one_or_none()
    if found is None:
        raise NotFound("no such result")
    return Judged(result_id, found.study_id, result_id, found.bundle)


def _correction(session: Session, correction_id: str) -> CorrectionRow:
    row = session.get(CorrectionRow, correction_id)
    if row is None:
        raise NotFound("no such correction")
    return row


def _view(row: CorrectionRow) -> CorrectionView:
    return CorrectionView(
        id=row.id,
        series_uid=row.series_uid,
        orthanc_id=row.orthanc_id,
        study_id=row.study_id,
        series_id=row.series_id,
        source=_one_of(row.source, get_args(CorrectionSource)),
        is_stored=row.state == "stored",
        predecessor_id=row.predecessor_id,
        result_id=row.result_id,
        bundle=row.bundle,
        author=row.author,
        title=row.title,
        series_number=row.series_number,
        stale=row.stale,
        segments=tuple(row.segments),
        created_at=row.created_at,
        stored_at=row.stored_at,
        effort=None
        if row.active_s is None
        else Effort(row.active_s, row.idle_s or 0.0, row.strokes or 0),
        difference=None
        if row.changed_voxels is None
        else Difference(
            row.changed_voxels,
            row.added_path_mm or 0.0,
            row.surface_dice,
            row.tolerance_mm or 0.0,
            tuple(row.compared or ()),
        ),
        measured_at=row.measured_at,
    )


def _assessment(row: AssessmentRow) -> AssessmentView:
    return AssessmentView(
        id=row.id,
        study_id=row.study_id,
        result_id=row.result_id,
        verdict=_one_of(row.verdict, get_args(Verdict)),
        reason=row.reason,
        comment=row.comment,
        correction_id=row.correction_id,
        author=row.author,
        created_at=row.created_at,
    )


def _one_of(text: str, words: tuple[str, ...]) -> Any:  # noqa: ANN401 - a Literal of its caller
    if text not in words:
        raise ValueError("a row holds a word that nobody wrote")
    return text
