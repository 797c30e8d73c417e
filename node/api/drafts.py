"""Drafts: work in the viewer that is not saved yet; it outlives a closed tab and a login."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, BackgroundTasks, Request, Response

from node.api.documents import REQUEST_BODY, LabelsBody, LabelsResponse
from node.auth import ClinicalCaller
from node.parts import parts_of

router = APIRouter(prefix="/api/drafts", tags=["drafts"])


@dataclass(frozen=True, slots=True)
class KeptDraft:
    """A draft that was kept."""

    id: str
    saved_at: datetime


@router.put("", openapi_extra=REQUEST_BODY)
def keep(
    caller: ClinicalCaller, content: LabelsBody, request: Request, later: BackgroundTasks
) -> KeptDraft:
    """Keep a labels document, sealed; there is one for each series and predecessor."""
    desk = parts_of(request).desk
    row = desk.keep_draft(content, user=caller.name)
    later.add_task(desk.warm, content)
    return KeptDraft(row.id, row.saved_at)


@router.post("/{draft}/open", response_class=LabelsResponse)
def open_draft(draft: str, request: Request, caller: ClinicalCaller) -> LabelsResponse:
    """Return one's own draft as the labels document that it was."""
    return LabelsResponse(parts_of(request).desk.open_draft(draft, user=caller.name))


@router.delete("/{draft}", status_code=204)
def drop(draft: str, request: Request, caller: ClinicalCaller) -> Response:
    """Throw one's own draft away."""
    parts_of(request).desk.drop_draft(draft, user=caller.name)
    return Response(status_code=204)
