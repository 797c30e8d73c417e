"""What is held back, and what a custodian decides about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from node.api.studies import Limit, Offset
from node.auth import Caller, CustodyCaller
from node.faults import Fault, fault_of
from node.parts import FrontParts, parts_of
from pipelines.custody import RELEASABLE, is_releasable
from pipelines.custody.holding import LONGEST_REASON, checked_reason
from pipelines.store import HeldState, HeldView

router = APIRouter(prefix="/api/held", tags=["held back"])


@dataclass(frozen=True, slots=True)
class HeldItem:
    """Something that is held back, or was: what, why, and what may be done.

    `series` is empty where it is the study as a whole. `collection` is the one that somebody picked
    it for; null where a route did. `released_means` is null where nobody may
    overrule the refusal. `reason` is that of the decision.
    """

    id: str
    study: str
    series: str
    job: str
    collection: str | None
    project: str
    fault: Fault | None
    held_at: datetime
    state: HeldState
    released_means: str | None
    settled_at: datetime | None
    settled_by: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class WhoseStudy:
    """Whose study it is, as the clinical archive says at this moment."""

    study: str
    patient_name: str
    patient_id: str
    study_date: str
    study_description: str


class Reason(BaseModel):
    """Why; kept sealed, since people write names."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=LONGEST_REASON)


@router.get("")
def held(
    request: Request,
    _caller: CustodyCaller,
    state: HeldState | None = None,
    code: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[HeldItem]:
    """List what is held back, and what was; the newest first."""
    parts = parts_of(request)
    rows = parts.custody.held.all(state=state, code=code, limit=limit, offset=offset)
    return [view_held(parts, row) for row in rows]


@router.get("/{held}")
def held_one(held: str, request: Request, _caller: CustodyCaller) -> HeldItem:
    """Show one of them."""
    parts = parts_of(request)
    return view_held(parts, parts.custody.held.one(held))


@router.post("/{held}/release", status_code=202)
def release(
    held: str, why: Reason, request: Request, bell: BackgroundTasks, caller: CustodyCaller
) -> HeldItem:
    """Let exactly this content pass for its project; its job or its collection goes on."""
    return release_held(parts_of(request), held, caller, why.reason, bell)


@router.post("/{held}/delete", status_code=202)
def delete(
    held: str, why: Reason, request: Request, bell: BackgroundTasks, caller: CustodyCaller
) -> HeldItem:
    """Never use this content; the rest of the study goes on, the original stays as it is."""
    return delete_held(parts_of(request), held, caller, why.reason, bell)


@router.post("/{held}/whose")
def whose(held: str, why: Reason, request: Request, caller: CustodyCaller) -> WhoseStudy:
    """Say whose study it is; the audit trail gets who asked first."""
    return whose_study(parts_of(request), held, caller, why.reason)


def release_held(
    parts: FrontParts, held: str, caller: Caller, reason: str, bell: BackgroundTasks
) -> HeldItem:
    """Release something, note who did, and wake the worker up after the answer.

    Raises
    ------
    NotFound, Conflict, InvalidRequest
        As :meth:`pipelines.custody.Desk.release`.
    """
    row = parts.custody.desk.release(held, by=caller.name, reason=reason)
    parts.audit.note("held_released", actor=caller.name, object=held, reason=row.code)
    bell.add_task(parts.bell.ring)
    return view_held(parts, row)


def delete_held(
    parts: FrontParts, held: str, caller: Caller, reason: str, bell: BackgroundTasks
) -> HeldItem:
    """Delete something, note who did, and wake the worker up after the answer.

    Raises
    ------
    NotFound, Conflict, InvalidRequest
        As :meth:`pipelines.custody.Desk.delete`.
    """
    row = parts.custody.desk.delete(held, by=caller.name, reason=reason)
    parts.audit.note("held_deleted", actor=caller.name, object=held, reason=row.code)
    bell.add_task(parts.bell.ring)
    return view_held(parts, row)


def whose_study(parts: FrontParts, held: str, caller: Caller, reason: str) -> WhoseStudy:
    """Ask the clinical archive whose study it is; on the trail before anything is told.

    Raises
    ------
    NotFound
    InvalidRequest
        Without a reason.
    PeerError
        When the archive does not answer.
    """
    checked_reason(reason)
    row = parts.custody.held.one(held)
    study = parts.studies.study(row.content.study_id)
    parts.audit.note("identity_looked", actor=caller.name, object=study.id, reason="held back")
    found = parts.clinical.study(study.orthanc_id)
    return WhoseStudy(
        study.id,
        found.patient_name,
        found.patient_id,
        found.study_date,
        found.study_description,
    )


def view_held(parts: FrontParts, row: HeldView) -> HeldItem:
    """Return what is shown of something that was held back."""
    content = row.content
    may = row.state == "held" and is_releasable(row.code)
    return HeldItem(
        id=row.id,
        study=content.study_id,
        series=content.series_id,
        job=content.job_id,
        collection=row.collection,
        project=content.project,
        fault=fault_of(row.code, row.message),
        held_at=row.held_at,
        state=row.state,
        released_means=RELEASABLE[row.code] if may else None,
        settled_at=row.settled_at,
        settled_by=row.settled_by,
        reason=parts.custody.desk.reason_of(row),
    )
