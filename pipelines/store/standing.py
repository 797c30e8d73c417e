"""How cases stand: what jobs, results, corrections and verdicts mean for what is to be read.

Everything here can be told from other rows. It is kept with the cases, so that ten thousand of them
are filtered and sorted by an index, and told anew for the studies of which something has changed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from pipelines.records import (
    AssessmentRow,
    CaseRow,
    CorrectionRow,
    DeliveryRow,
    JobRow,
    ReadingRow,
    ResultRow,
    RoundRow,
    SeriesRow,
    StudyRow,
    TaskRow,
)
from pipelines.store.veiled import is_veiled

CaseState = Literal["running", "ready", "corrected", "accepted", "rejected", "failed", "no_result"]
"""What of a case is done, by its newest results: the AI's, then what people said or drew."""

NO_IMAGES = ("SEG", "SR", "RTSTRUCT", "PR", "KO", "DOC", "REG")
"""Modalities of what is drawn or written (PS3.3 C.7.3.1.1.1): nobody waits for it to be read."""

_OPEN = ("scheduled", "in_progress")
_SAID: Mapping[str, CaseState] = {
    "accepted": "accepted",
    "modified": "corrected",
    "rejected": "rejected",
}
_LEAST_ML = 0.1  # below it, a volume is a few voxels, and no measure of anything


@dataclass(frozen=True, slots=True)
class Score:
    """A figure from 0 to 1 to choose cases by, and in words where it comes from."""

    value: float
    why: str


@dataclass(frozen=True, slots=True)
class FoundResult:
    """What a model made of a series, as far as it lies in the archive."""

    id: str
    series_id: str
    bundle: str
    is_segmentation: bool
    summary: Mapping[str, Any]
    confidence: Mapping[str, Any] | None
    at: datetime


@dataclass(slots=True)
class Facts:
    """What the rows hold of one study."""

    received_at: datetime
    series: list[tuple[str, str, str, bool]] = field(default_factory=list)  # id, modality, state
    jobs: list[tuple[datetime, str, str | None]] = field(default_factory=list)  # made, state, code
    results: list[FoundResult] = field(default_factory=list)
    drawn: list[tuple[str, datetime, str, str]] = field(default_factory=list)  # series, at, by, id
    said: list[tuple[str, datetime, str, str]] = field(default_factory=list)  # result, at, by, word
    compared: list[tuple[datetime, str, Mapping[str, Any]]] = field(default_factory=list)
    blind: list[tuple[str, datetime]] = field(default_factory=list)  # reader, since

    def covers(self, author: str, at: datetime) -> bool:
        """Whether that work is nobody's to see yet."""
        return any(author == reader and at >= since for reader, since in self.blind)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is kept with a case."""

    received_at: datetime
    state: CaseState
    modalities: str
    uncertainty: Score | None
    disagreement: Score | None
    agreement: Mapping[str, Any] | None


def is_image(modality: str) -> bool:
    """Whether a series of that modality is one of images: not drawn, not written."""
    return modality not in NO_IMAGES


def stands(facts: Facts, series_id: str | None, similar: Mapping[str, float]) -> Standing:
    """Return how a case stands.

    Parameters
    ----------
    facts : Facts
        Of its study.
    series_id : str or None
        Of a case that is one series.
    similar : mapping
        How much of a model's results was redrawn elsewhere, 0 to 1, by its name.
    """
    results = [one for one in facts.results if series_id in (None, one.series_id)]
    newest = _newest(results)
    compared = [one for one in facts.compared if series_id in (None, one[1])]
    return Standing(
        received_at=facts.received_at,
        state=_state(facts, series_id, newest),
        modalities=f" {' '.join(_modalities(facts, series_id))} ",
        uncertainty=uncertainty(newest),
        disagreement=disagreement(newest, similar),
        agreement=max(compared, key=lambda one: one[0])[2] if compared else None,
    )


def uncertainty(results: Iterable[FoundResult]) -> Score | None:
    """Return how unsure the models were: of the least sure one.

    Of a segment it is the entropy along its border, where the network says it, else what its mean
    probability lacks of certainty; of a finding the entropy of its probability. All are 0 for
    certain; 1 is a guess.
    """
    found: list[Score] = []
    for one in results:
        for label, figures in (one.confidence or {}).items():
            border, sure = _share(figures.get("border_entropy")), _share(figures.get("probability"))
            if border is not None:
                why = f"{one.bundle}: entropy {border:.2f} along the border of {label}"
                found.append(Score(border, why))
            elif sure is not None:
                found.append(Score(1.0 - sure, f"{one.bundle} is {sure:.0%} sure of {label}"))
        if not one.is_segmentation:
            for label, value in one.summary.items():
                likely = _share(value)
                if likely is not None:
                    why = f"{one.bundle} gives {label} {likely:.0%}"
                    found.append(Score(_entropy(likely), why))
    return max(found, key=lambda score: score.value, default=None)


def disagreement(
    results: Sequence[FoundResult], similar: Mapping[str, float] | None = None
) -> Score | None:
    """Return how far models are apart on a case; of a single one, how much of it is redrawn.

    Two models are compared by the volumes of what both call the same: |a - b| / (a + b), which is 0
    for equal ones and 1 where one found nothing. It needs no voxels, and is blind for what has
    the same size in another place.
    """
    best: Score | None = None
    drawn = [one for one in results if one.is_segmentation]
    for place, one in enumerate(drawn):
        for other in drawn[place + 1 :]:
            if one.series_id == other.series_id and _name(one) != _name(other):
                apart = _apart(one, other)
                if apart is not None and (best is None or apart.value > best.value):
                    best = apart
    if best is not None:
        return best
    for one in drawn:
        redrawn = (similar or {}).get(_name(one))
        if redrawn is not None and (best is None or redrawn > best.value):
            best = Score(redrawn, f"of {_name(one)}, readers redrew {redrawn:.0%} of the surface")
    return best


def facts_of(session: Session, study_ids: Sequence[str]) -> dict[str, Facts]:
    """Return what the rows hold of these studies: a query a table, however many they are."""
    found = {
        row.id: Facts(row.received_at)
        for row in session.execute(
            sa.select(StudyRow.id, StudyRow.received_at).where(StudyRow.id.in_(study_ids))
        )
    }
    columns = (SeriesRow.study_id, SeriesRow.id, SeriesRow.modality, SeriesRow.state)
    for row in session.execute(
        sa.select(*columns, SeriesRow.ours).where(SeriesRow.study_id.in_(study_ids))
    ):
        found[row.study_id].series.append((row.id, row.modality, row.state, row.ours))
    for job in session.execute(
        sa.select(JobRow.study_id, JobRow.created_at, JobRow.state, JobRow.error_code).where(
            JobRow.study_id.in_(study_ids)
        )
    ):
        found[job.study_id].jobs.append((job.created_at, job.state, job.error_code))
    for study_id, result in _results(session, study_ids):
        found[study_id].results.append(result)
    for drawn in session.execute(
        sa.select(
            CorrectionRow.study_id,
            CorrectionRow.series_id,
            CorrectionRow.id,
            CorrectionRow.author,
            CorrectionRow.created_at,
            CorrectionRow.compared,
            CorrectionRow.surface_dice,
        ).where(CorrectionRow.study_id.in_(study_ids), CorrectionRow.state == "stored")
    ):
        facts = found[drawn.study_id]
        facts.drawn.append((drawn.series_id, drawn.created_at, drawn.author, drawn.id))
    for said in session.execute(
        sa.select(
            AssessmentRow.study_id,
            AssessmentRow.result_id,
            AssessmentRow.verdict,
            AssessmentRow.author,
            AssessmentRow.created_at,
        ).where(AssessmentRow.study_id.in_(study_ids))
    ):
        words = (said.result_id, said.created_at, said.author, said.verdict)
        found[said.study_id].said.append(words)
    _read_together(session, study_ids, found)
    return found


def redrawn_share(session: Session) -> dict[str, float]:
    """Return how much of each model's surface readers redrew, by its name: 1 - surface Dice.

    What an open round hides does not count yet: the figure stands on every case of the model.
    """
    share = sa.func.avg(1.0 - CorrectionRow.surface_dice)
    rows = session.execute(
        sa.select(CorrectionRow.bundle, share, sa.func.count())
        .where(
            CorrectionRow.surface_dice.is_not(None),
            CorrectionRow.bundle.is_not(None),
            ~is_veiled(CorrectionRow),
        )
        .group_by(CorrectionRow.bundle)
    )
    sums: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for bundle, mean, count in rows:
        sums[bundle.partition("@")[0]].append((float(mean), count))
    return {
        name: sum(mean * count for mean, count in each) / sum(count for _, count in each)
        for name, each in sums.items()
    }


def _read_together(session: Session, study_ids: Sequence[str], found: dict[str, Facts]) -> None:
    for row in session.execute(
        sa.select(RoundRow.study_id, RoundRow.opened_at, ReadingRow.reader)
        .join(ReadingRow, ReadingRow.round_id == RoundRow.id)
        .where(RoundRow.study_id.in_(study_ids), RoundRow.state == "open")
    ):
        found[row.study_id].blind.append((row.reader, row.opened_at))
    for measured in session.execute(
        sa.select(RoundRow.study_id, RoundRow.case_id, RoundRow.read_at, RoundRow.agreement).where(
            RoundRow.study_id.in_(study_ids), RoundRow.measured_at.is_not(None)
        )
    ):
        if measured.agreement:
            total = {k: v for k, v in measured.agreement.items() if k != "segments"}
            facts = found[measured.study_id]
            facts.compared.append((measured.read_at, measured.case_id, total))


def _results(session: Session, study_ids: Sequence[str]) -> Iterable[tuple[str, FoundResult]]:
    """Yield what models stored of these studies."""
    query = (
        sa.select(
            JobRow.study_id,
            ResultRow.id,
            ResultRow.sop_class_uid,
            ResultRow.summary,
            ResultRow.created_at,
            TaskRow.series_id,
            TaskRow.bundle,
            TaskRow.confidence,
        )
        .join(TaskRow, TaskRow.id == ResultRow.task_id)
        .join(JobRow, JobRow.id == TaskRow.job_id)
        .join(DeliveryRow, DeliveryRow.result_id == ResultRow.id)
        .where(
            JobRow.study_id.in_(study_ids),
            DeliveryRow.destination == "archive",
            DeliveryRow.state == "completed",
        )
    )
    for row in session.execute(query):
        yield (
            row.study_id,
            FoundResult(
                row.id,
                row.series_id,
                row.bundle,
                row.sop_class_uid in SEGMENTATION_CLASSES,
                row.summary,
                row.confidence,
                row.created_at,
            ),
        )


SEGMENTATION_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}  # PS3.4 B.5: SEG, LABELMAP
)


def _newest(results: Iterable[FoundResult]) -> list[FoundResult]:
    """Return the last that each model made of each series: an older one is nobody's work."""
    last: dict[tuple[str, str, bool], FoundResult] = {}
    for one in sorted(results, key=lambda one: one.at):
        last[one.series_id, _name(one), one.is_segmentation] = one
    return list(last.values())


def _state(facts: Facts, series_id: str | None, newest: Sequence[FoundResult]) -> CaseState:
    receiving = any(
        state == "receiving" and is_image(modality) and not ours and series_id in (None, one)
        for one, modality, state, ours in facts.series
    )
    if receiving or any(state in _OPEN for _at, state, _code in facts.jobs):
        return "running"
    seen = [one for one in facts.said if not facts.covers(one[2], one[1])]
    drawn = [
        one
        for one in facts.drawn
        if series_id in (None, one[0]) and not facts.covers(one[2], one[1])
    ]
    mine = {one.id for one in newest} | {one[3] for one in drawn}
    last = max((one for one in seen if one[0] in mine), key=lambda one: one[1], default=None)
    failed_at = _failed_at(facts)
    if failed_at is not None and (last is None or last[1] < failed_at):
        return "failed"
    judged = {result for result, _at, _by, _word in seen}
    if any(one.is_segmentation and one.id not in judged for one in newest):
        return "ready"
    if last is not None and not (drawn and max(one[1] for one in drawn) > last[1]):
        return _SAID[last[3]]
    if drawn:
        return "corrected"
    return "ready" if newest else "no_result"


def _failed_at(facts: Facts) -> datetime | None:
    """Return when the newest job was made, where it failed by itself."""
    if not facts.jobs:
        return None
    at, state, code = max(facts.jobs)
    return at if state == "canceled" and code not in (None, "canceled") else None


def _modalities(facts: Facts, series_id: str | None) -> list[str]:
    shown = {
        modality
        for one, modality, _state, ours in facts.series
        if is_image(modality) and not ours and series_id in (None, one)
    }
    return sorted(shown)


def _apart(one: FoundResult, other: FoundResult) -> Score | None:
    worst: Score | None = None
    for label in sorted(one.summary.keys() & other.summary.keys()):
        a, b = one.summary[label], other.summary[label]
        if not isinstance(a, int | float) or not isinstance(b, int | float) or a + b < _LEAST_ML:
            continue
        apart = abs(a - b) / (a + b)
        if worst is None or apart > worst.value:
            why = f"{label}: {a:.0f} ml by {one.bundle}, {b:.0f} ml by {other.bundle}"
            worst = Score(apart, why)
    return worst


def _name(result: FoundResult) -> str:
    return result.bundle.partition("@")[0]


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None


def _entropy(likely: float) -> float:
    """Return the entropy of a yes or no, in bits: 0 where it is certain, 1 at even odds."""
    if likely in (0.0, 1.0):
        return 0.0
    return -(likely * math.log2(likely) + (1 - likely) * math.log2(1 - likely))


def case_values(standing: Standing) -> dict[str, Any]:
    """Return a case's columns that are told from other rows."""
    uncertain, apart = standing.uncertainty, standing.disagreement
    return {
        "received_at": standing.received_at,
        "state": standing.state,
        "modalities": standing.modalities,
        "uncertainty": uncertain.value if uncertain else None,
        "uncertainty_why": uncertain.why if uncertain else None,
        "disagreement": apart.value if apart else None,
        "disagreement_why": apart.why if apart else None,
        "agreement": dict(standing.agreement) if standing.agreement else None,
        "dice": (standing.agreement or {}).get("dice"),
    }


def differs(row: CaseRow, values: Mapping[str, Any]) -> bool:
    """Whether a case stands otherwise than its row says."""
    return any(getattr(row, name) != value for name, value in values.items())
