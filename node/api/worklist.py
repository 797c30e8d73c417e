"""The worklist: cases, who holds which, which one is next, and their small pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import InvalidRequest, PeerError
from node.api.events import stream
from node.api.studies import Limit, Offset
from node.auth import CLINICAL_ROLES, Caller, ClinicalCaller, Guard
from node.blind import unseen_by
from node.cases import (
    Case,
    NextCase,
    view_cases,
    view_chosen,
    view_one,
    wanted_by,
)
from node.live import Event
from node.parts import FrontParts, parts_of
from node.reading import study_in_archive
from node.study_names import StudyNames
from pipelines.labels import Uid
from pipelines.reading import Comment
from pipelines.store import CaseState, Priority, Sort, Strategy, WantedCases

router = APIRouter(prefix="/api/worklist", tags=["worklist"])

beating_caller = Guard(*CLINICAL_ROLES, note_use=False)
"""An open page keeps its cases, and no login alive."""

BeatingCaller = Annotated[Caller, Depends(beating_caller)]

_MOST_STUDIES = 200
Word = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list; `counts` are by state, of all that the other filters let through."""

    cases: list[Case]
    total: int
    counts: dict[str, int]


class Filters(BaseModel):
    """Which cases are wanted; what is left out does not matter."""

    model_config = ConfigDict(extra="forbid")

    state: CaseState | None = None
    modality: str | None = Field(None, max_length=16)
    priority: Priority | None = None
    workspace: str | None = Field(None, max_length=64)


class NextWanted(Filters):
    """How the next case is chosen, of which ones; with `claim` it is the caller's at once."""

    strategy: Strategy = "priority"
    claim: bool = False


class NewCase(BaseModel):
    """A series that is to be a case of its own, by the pseudonyms of the rows."""

    model_config = ConfigDict(extra="forbid")

    study: str = Field(max_length=64)
    series: str = Field(max_length=64)


class CaseChange(BaseModel):
    """What of a case is to be otherwise; `assigned_to` null is anybody."""

    model_config = ConfigDict(extra="forbid")

    priority: Priority | None = None
    assigned_to: str | None = Field(None, max_length=64)


class Reader(BaseModel):
    """A user of a clinical role."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(min_length=1, max_length=64)


class Beat(BaseModel):
    """Which study is open: as the viewer knows it, or by its pseudonym; neither: all held ones."""

    model_config = ConfigDict(extra="forbid")

    study_uid: Uid | None = Field(None, alias="StudyInstanceUID")
    study: str | None = Field(None, max_length=64)


class Words(BaseModel):
    """A comment."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=4000)


class ShownStudies(BaseModel):
    """Studies of the clinical archive, as the viewer's own list knows them."""

    model_config = ConfigDict(extra="forbid")

    study_uids: list[Uid] = Field(alias="StudyInstanceUIDs", max_length=_MOST_STUDIES)


@dataclass(frozen=True, slots=True)
class Listed:
    """What the viewer's own list shows of a study."""

    StudyInstanceUID: str
    case: str
    state: CaseState
    holder: str | None
    changed_at: datetime


@router.get("")
def worklist(
    request: Request,
    caller: ClinicalCaller,
    state: CaseState | None = None,
    modality: Annotated[str | None, Query(max_length=16)] = None,
    reader: Word | None = None,
    priority: Priority | None = None,
    workspace: Word | None = None,
    search: Word | None = None,
    sort: Sort = "urgency",
    limit: Limit = 50,
    offset: Offset = 0,
) -> Page:
    """List cases, the most urgent first; `reader=me` are the caller's own."""
    parts = parts_of(request)
    wanted = WantedCases(
        state, modality, caller.name if reader == "me" else reader, priority, workspace, search
    )
    return page_of(parts, caller, wanted, sort=sort, limit=limit, offset=offset)


def page_of(
    parts: FrontParts, caller: Caller, wanted: WantedCases, *, sort: Sort, limit: int, offset: int
) -> Page:
    """Return a page of the list for that person.

    Raises
    ------
    NotFound
        When they do not share the wanted workspace.
    """
    wanted_by(parts, caller, wanted)
    room = parts.reading.worklist
    room.look()
    rows = room.cases(wanted, sort=sort, limit=limit, offset=offset)
    counts = room.counts(wanted)
    total = counts.get(wanted.state, 0) if wanted.state else sum(counts.values())
    return Page(view_cases(parts, caller, rows), total, counts)


class Searched(BaseModel):
    """Part of a patient's name, of a pseudonym, or of a description."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=64)
    limit: int = Field(100, ge=1, le=200)


@router.post("/search")
def search(wanted: Searched, request: Request, caller: ClinicalCaller) -> Page:
    """Find cases; names are asked live of the clinical archive, so that they stand in a body."""
    return found_by(parts_of(request), caller, wanted.text, limit=wanted.limit)


def found_by(parts: FrontParts, caller: Caller, text: str, *, limit: int) -> Page:
    """Return the cases that a text finds: by name in the archive, by pseudonym, by description.

    Where the archive does not answer, names find nothing.
    """
    text = text.strip()
    try:
        named = parts.clinical.find_studies(text, limit=limit)
    except PeerError:
        named = ()
    room = parts.reading.worklist
    room.look()
    studies = [one.id for one in parts.studies.studies_in_archive(named)]
    rows = room.cases(WantedCases(studies=studies), sort="newest", limit=limit)
    known = {row.id for row in rows}
    told = room.cases(WantedCases(text=text), sort="newest", limit=limit)
    rows = [*rows, *(row for row in told if row.id not in known)][:limit]
    counts: Counter[str] = Counter(row.state for row in rows)
    return Page(view_cases(parts, caller, rows), len(rows), dict(counts))


@router.get(
    "/events",
    dependencies=[Depends(beating_caller)],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(request: Request) -> StreamingResponse:
    """Stream a `case` event for each case that changes: its state, and who holds it."""

    async def nothing() -> list[Event]:
        return []

    return stream(request, nothing, kinds=("case",))


@router.post("/next")
def next_case(wanted: NextWanted, request: Request, caller: ClinicalCaller) -> NextCase | None:
    """Choose the case to take next; null where none waits that the strategy can judge."""
    parts = parts_of(request)
    asked = WantedCases(
        wanted.state, wanted.modality, None, wanted.priority, wanted.workspace, None
    )
    wanted_by(parts, caller, asked)
    parts.reading.worklist.look()
    chosen = parts.reading.worklist.next_case(
        caller.name, strategy=wanted.strategy, wanted=asked, claim=wanted.claim
    )
    if chosen is None:
        return None
    if wanted.claim:
        parts.audit.note(
            "case_claimed",
            actor=caller.name,
            object=chosen.case.id,
            reason=f"next by {wanted.strategy}",
        )
    return view_chosen(parts, caller, chosen)


@router.post("/heartbeat")
def heartbeat(beat: Beat, request: Request, caller: BeatingCaller) -> list[Case]:
    """Hold on to what the caller holds, while a page shows it; a lease that ran out stays lost."""
    parts = parts_of(request)
    study = beat.study
    if beat.study_uid is not None:
        found = study_in_archive(parts, beat.study_uid)
        if found is None:
            return []
        study = found.id
    return view_cases(parts, caller, parts.reading.worklist.renew(caller.name, study_id=study))


@router.post("/studies")
def listed(names: ShownStudies, request: Request, caller: ClinicalCaller) -> list[Listed]:
    """Say how studies stand that the viewer's own list shows; unknown ones are left out."""
    parts = parts_of(request)
    study_names: StudyNames = request.app.state.study_names
    known = study_names.of(names.study_uids)
    parts.reading.worklist.look()
    wanted = WantedCases(studies=tuple(known.values()))
    rows = {
        row.study_id: row
        for row in parts.reading.worklist.cases(wanted, limit=2 * _MOST_STUDIES)
        if row.series_id is None
    }
    return [
        Listed(uid, rows[study].id, rows[study].state, rows[study].holder, rows[study].changed_at)
        for uid, study in known.items()
        if study in rows
    ]


@router.post("/cases", status_code=201)
def add(new: NewCase, request: Request, caller: ClinicalCaller) -> Case:
    """Make one series of a study a case of its own."""
    parts = parts_of(request)
    made = parts.reading.worklist.add_series(new.study, new.series)
    parts.audit.note("case_changed", actor=caller.name, object=made.id, reason="a case of its own")
    return view_one(parts, caller, made)


@router.get("/cases/{case}")
def case(case: str, request: Request, caller: ClinicalCaller) -> Case:
    """Show one case."""
    parts = parts_of(request)
    parts.reading.worklist.look()
    return view_one(parts, caller, parts.reading.worklist.case(case))


@router.patch("/cases/{case}")
def change(case: str, wanted: CaseChange, request: Request, caller: ClinicalCaller) -> Case:
    """Say how urgent a case is, or whose it is to be."""
    parts = parts_of(request)
    told = wanted.model_fields_set
    if "priority" in told and wanted.priority is not None:
        parts.reading.worklist.prioritise(case, wanted.priority)
        parts.audit.note("case_changed", actor=caller.name, object=case, reason=wanted.priority)
    if "assigned_to" in told:
        if wanted.assigned_to is not None:
            check_reader(parts, wanted.assigned_to)
        parts.reading.worklist.assign(case, wanted.assigned_to)
        whose = f"for {wanted.assigned_to or 'anybody'}"
        parts.audit.note("case_changed", actor=caller.name, object=case, reason=whose)
    return view_one(parts, caller, parts.reading.worklist.case(case))


@router.post("/cases/{case}/claim")
def claim(case: str, request: Request, caller: ClinicalCaller) -> Case:
    """Take a case: nobody else can until it is released, or its lease has run out."""
    parts = parts_of(request)
    held = parts.reading.worklist.claim(case, caller.name)
    parts.audit.note("case_claimed", actor=caller.name, object=case)
    return view_one(parts, caller, held)


@router.post("/cases/{case}/release")
def release(case: str, request: Request, caller: ClinicalCaller) -> Case:
    """Let go of a case; what was drawn stays."""
    parts = parts_of(request)
    row = parts.reading.worklist.release(case, caller.name)
    parts.audit.note("case_released", actor=caller.name, object=case)
    return view_one(parts, caller, row)


@router.post("/cases/{case}/hand-over")
def hand_over(case: str, reader: Reader, request: Request, caller: ClinicalCaller) -> Case:
    """Give a case that one holds to another reader, who holds it from now on."""
    parts = parts_of(request)
    check_reader(parts, reader.to)
    row = parts.reading.worklist.hand_over(case, by=caller.name, to=reader.to)
    parts.audit.note("case_handed_over", actor=caller.name, object=case, reason=f"to {reader.to}")
    return view_one(parts, caller, row)


@router.get("/cases/{case}/comments")
def comments(case: str, request: Request, caller: ClinicalCaller) -> list[Comment]:
    """List what people wrote of a case, the oldest first; of an open round only one's own."""
    unseen = unseen_by(request, caller.name)
    return parts_of(request).reading.comments(case, unseen)


@router.post("/cases/{case}/comments", status_code=201)
def comment(case: str, words: Words, request: Request, caller: ClinicalCaller) -> Comment:
    """Write of a case; it is kept sealed."""
    parts = parts_of(request)
    said = parts.reading.comment(case, words.text, author=caller.name)
    parts.audit.note("case_commented", actor=caller.name, object=case)
    return said


@router.get(
    "/cases/{case}/preview",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def preview(case: str, request: Request, _caller: ClinicalCaller) -> Response:
    """Show the slice with most of the AI's newest result, 160 pixels at its longer side."""
    picture = parts_of(request).reading.previews.png(case)
    # The browser may keep it while the page is open: a new result has another address.
    headers = {"Cache-Control": "private, max-age=300"}
    return Response(picture, media_type="image/png", headers=headers)


def check_reader(parts: FrontParts, name: str) -> None:
    """Make sure that somebody of that name may read.

    Raises
    ------
    InvalidRequest
        When there is no such user, or their role does not reach the clinical archive.
    """
    if name not in readers(parts):
        raise InvalidRequest("no such user, or none who reads in the clinical archive")


def readers(parts: FrontParts) -> list[str]:
    """Return who may read."""
    users = parts.access.users()
    return sorted(one.name for one in users if one.role in CLINICAL_ROLES and not one.disabled)
