"""Objects from elsewhere: what other systems drew, and what waits for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from node.api.studies import Limit, Offset
from node.auth import ClinicalCaller
from node.faults import Fault, fault_of
from node.parts import parts_of
from pipelines.labels import Uid
from pipelines.store import ElsewhereState, ElsewhereView

router = APIRouter(prefix="/api/elsewhere", tags=["elsewhere"])


@dataclass(frozen=True, slots=True)
class DrawnElsewhere:
    """A SEG or RTSTRUCT that another system stored; `fault` says why it waits."""

    id: str
    study: str
    modality: str
    state: ElsewhereState
    fault: Fault | None
    correction: str | None
    seen_at: datetime
    settled_at: datetime | None
    settled_by: str | None


class SeriesName(BaseModel):
    """A series of the clinical archive."""

    model_config = ConfigDict(extra="forbid")

    study_uid: Uid = Field(alias="StudyInstanceUID")
    series_uid: Uid = Field(alias="SeriesInstanceUID")


@router.get("")
def elsewhere(
    request: Request,
    _caller: ClinicalCaller,
    state: ElsewhereState | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[DrawnElsewhere]:
    """List what other systems drew, the newest first; `waiting` is for a person to settle."""
    rows = parts_of(request).elsewhere.objects.objects(state=state, limit=limit, offset=offset)
    return [_view(row) for row in rows]


@router.post("/{object}/match")
def match(
    object: str, name: SeriesName, request: Request, caller: ClinicalCaller
) -> DrawnElsewhere:
    """Take it as drawn on a series that a person names; its voxels have to lie there."""
    parts = parts_of(request)
    parts.elsewhere.match(object, name.study_uid, name.series_uid, by=caller.name)
    parts.audit.note("elsewhere_matched", actor=caller.name, object=object)
    return _view(parts.elsewhere.objects.object(object))


@router.post("/{object}/dismiss", status_code=204)
def dismiss(object: str, request: Request, caller: ClinicalCaller) -> Response:
    """Say that it is no correction of anything here; it stays in the archive."""
    parts = parts_of(request)
    parts.elsewhere.dismiss(object, by=caller.name)
    parts.audit.note("elsewhere_dismissed", actor=caller.name, object=object)
    return Response(status_code=204)


def _view(row: ElsewhereView) -> DrawnElsewhere:
    return DrawnElsewhere(
        id=row.id,
        study=row.study_id,
        modality=row.modality,
        state=row.state,
        fault=fault_of(row.reason_code, row.reason) if row.state == "waiting" else None,
        correction=row.correction_id,
        seen_at=row.seen_at,
        settled_at=row.settled_at,
        settled_by=row.settled_by,
    )
