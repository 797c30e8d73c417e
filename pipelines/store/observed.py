"""What was seen of a model while it worked: its inputs, its results, and what readers had to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipelines.records import CorrectionRow, ResultRow, SeriesRow, TaskRow
from pipelines.store.database import Database


@dataclass(frozen=True, slots=True)
class Observed:
    """One result of a model.

    Attributes
    ----------
    bundle : str
        ``NAME@VERSION``.
    facts : mapping
        Of the series, as :class:`dicom.volume.SeriesFacts`.
    amounts : mapping of str to float
        Millilitres of each segment, or the probability of each finding.
    added_path_mm : float or None
        What a reader had to draw anew; None where nobody corrected it, or it was not measured.
    """

    bundle: str
    at: datetime
    facts: Mapping[str, Any]
    amounts: Mapping[str, float]
    added_path_mm: float | None


class Observations:
    """Reads what was seen of models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, since: datetime) -> list[Observed]:
        """Return the results since then, the oldest first."""
        query = (
            sa.select(
                TaskRow.bundle,
                ResultRow.created_at,
                SeriesRow.facts,
                ResultRow.summary,
                CorrectionRow.added_path_mm,
            )
            .join(TaskRow, TaskRow.id == ResultRow.task_id)
            .join(SeriesRow, SeriesRow.id == TaskRow.series_id)
            .outerjoin(
                CorrectionRow,
                sa.and_(CorrectionRow.result_id == ResultRow.id, CorrectionRow.state == "stored"),
            )
            .where(ResultRow.created_at >= since, ResultRow.summary.is_not(None))
            .order_by(ResultRow.created_at)
        )
        with self._database.read() as session:
            return [
                Observed(bundle, at, facts or {}, amounts, path)
                for bundle, at, facts, amounts, path in session.execute(query)
            ]
