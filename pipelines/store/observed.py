"""What was seen of a model while it worked: its inputs, its results, and what readers had to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from pipelines.records import CorrectionRow, ResultRow, SeriesRow, TaskRow
from pipelines.store.database import Database
from pipelines.store.veiled import is_veiled


@dataclass(frozen=True, slots=True)
class ShownGreys:
    """Grey values that a model was shown, as :mod:`models.greys` has them.

    Attributes
    ----------
    unlike, usual : float or None
        How unlike the training's images it is, and they are of each other; None where the model
        does not say what it learnt from.
    """

    percentiles: tuple[float, ...]
    unlike: float | None = None
    usual: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What a model made of one series.

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
    greys: ShownGreys | None = None


class Observations:
    """Reads what was seen of models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, since: datetime) -> list[Observed]:
        """Return what was made since then, the oldest first; several results of a task are one."""
        query = (
            sa.select(
                TaskRow.id,
                TaskRow.bundle,
                TaskRow.greys,
                ResultRow.created_at,
                SeriesRow.facts,
                ResultRow.summary,
                CorrectionRow.added_path_mm,
            )
            .join(TaskRow, TaskRow.id == ResultRow.task_id)
            .join(SeriesRow, SeriesRow.id == TaskRow.series_id)
            .outerjoin(
                CorrectionRow,
                sa.and_(
                    CorrectionRow.result_id == ResultRow.id,
                    CorrectionRow.state == "stored",
                    ~is_veiled(CorrectionRow),
                ),
            )
            .where(ResultRow.created_at >= since, ResultRow.summary.is_not(None))
            .order_by(ResultRow.created_at)
        )
        with self._database.read() as session:
            found: dict[str, Observed] = {}
            for task, bundle, greys, at, facts, amounts, path in session.execute(query):
                first = found.setdefault(
                    task, Observed(bundle, at, facts or {}, amounts, path, _greys(greys))
                )
                if path is not None and (first.added_path_mm or 0.0) <= path:
                    found[task] = replace(first, added_path_mm=path)
            return list(found.values())


def _greys(kept: Mapping[str, Any] | None) -> ShownGreys | None:
    if kept is None:
        return None
    return ShownGreys(tuple(kept["percentiles"]), kept.get("unlike"), kept.get("usual"))
