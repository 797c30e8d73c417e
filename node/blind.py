"""Blind reading at the door: what one reader of an open round did is hidden from all others.

`pipelines.store.Rounds.unseen_by` says what; here is what takes it out of what the front shows: not
only what was drawn and said, but that anything was. Of the archive's own DICOMweb answers
:mod:`node.blind_archive` takes it out, so that the viewer sees no more than the API tells. Only
people's work is hidden: models' results are everybody's.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Request

from dicom.errors import NotFound
from node.parts import FrontParts, parts_of
from pipelines.store import AssessmentView, CorrectionView, SeriesView, Unseen


def unseen_by(request: Request, user: str) -> Unseen:
    """Return what that person may not see yet."""
    return parts_of(request).reading.rounds.unseen_by(user)


def seen_corrections(rows: Iterable[CorrectionView], unseen: Unseen) -> list[CorrectionView]:
    """Return the corrections that may be seen."""
    return [row for row in rows if not unseen.covers(row.study_id, row.author, row.created_at)]


def is_seen(said: AssessmentView, unseen: Unseen) -> bool:
    """Whether an assessment may be seen."""
    return not unseen.covers(said.study_id, said.author, said.created_at)


def check_seen(parts: FrontParts, result_id: str, unseen: Unseen) -> None:
    """Make sure that what somebody wants to judge is theirs to see.

    Raises
    ------
    NotFound
        When it is hidden.
    """
    if not unseen:
        return
    try:
        drawn = parts.corrections.correction(result_id)
    except NotFound:  # a model's result, or from elsewhere
        return
    if not seen_corrections([drawn], unseen):
        raise NotFound("no such result")


def seen_series(rows: Iterable[SeriesView], unseen: Unseen) -> list[SeriesView]:
    """Return a study's series: of one that is read blind the images alone.

    The number of those that the node made would tell that somebody stored one.
    """
    return [row for row in rows if not (row.ours and unseen.concerns(row.study_id))]


def rivals_of(parts: FrontParts, stored: CorrectionView, user: str) -> list[CorrectionView]:
    """Return the other corrections of the same result that its author may know of.

    `stored.stale` counts those that are hidden, too, and is for nobody's eyes.
    """
    if not stored.stale or stored.predecessor_id is None:
        return []
    rows = parts.corrections.of_predecessor(stored.predecessor_id)
    unseen = parts.reading.rounds.unseen_by(user)
    return [one for one in seen_corrections(rows, unseen) if one.id != stored.id]
