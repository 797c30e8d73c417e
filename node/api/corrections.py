"""Corrections: what was drawn in the viewer, stored as DICOM SEG on its study."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request

from node.api.documents import REQUEST_BODY, LabelsBody
from node.auth import ClinicalCaller
from node.blind import rivals_of
from node.parts import parts_of
from pipelines.store import CorrectionView

router = APIRouter(prefix="/api/corrections", tags=["corrections"])


@dataclass(frozen=True, slots=True)
class Saved:
    """A correction in the archive; its segments are numbered from 1 in the document's order.

    `stale` when somebody stored another correction of the same result before: both are kept, and
    `message` says whose it is; `others` are those people.
    """

    id: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SeriesDescription: str
    stored_at: datetime
    stale: bool
    others: tuple[str, ...]
    message: str | None


@router.post("", status_code=201, openapi_extra=REQUEST_BODY)
def save(caller: ClinicalCaller, content: LabelsBody, request: Request) -> Saved:
    """Store a labels document as a DICOM SEG of its study, with the history of what it came from.

    The head of the document holds, besides, `effort` (`active_s`, `idle_s`, `strokes`), `comment`
    and `draft`, which ends. When the archive is away the work is kept as a draft.
    """
    parts = parts_of(request)
    stored = parts.desk.save(content, author=caller.name)
    parts.audit.note("correction_saved", actor=caller.name, object=stored.id)
    others = rivals_of(parts, stored, caller.name)
    return Saved(
        id=stored.id,
        SeriesInstanceUID=stored.series_uid,
        SOPInstanceUID=stored.id,
        SeriesDescription=stored.title,
        stored_at=stored.stored_at or stored.created_at,
        stale=bool(others),
        others=tuple(sorted({one.author for one in others})),
        message=_other_words(stored, others) if others else None,
    )


def _other_words(stored: CorrectionView, others: list[CorrectionView]) -> str:
    """Return who else corrected the same result, for the one who was second."""
    names = sorted({"you" if one.author == stored.author else one.author for one in others})
    return (
        f"Saved. In the meantime {' and '.join(names) or 'somebody'} saved a correction of the "
        "same segmentation. Both are kept; compare them, and reject one."
    )
