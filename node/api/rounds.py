"""Rounds: cases that several read alone, and who settles what they disagree on."""

from __future__ import annotations

import structlog
from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import RadloopError
from node.api.worklist import check_reader
from node.auth import ClinicalCaller
from node.cases import Round, view_round
from node.parts import FrontParts, parts_of
from pipelines.labels import Uid

router = APIRouter(prefix="/api/worklist", tags=["worklist"])

log = structlog.get_logger()


class NewRound(BaseModel):
    """Who reads a case, each alone; and who settles it: null is anybody who is none of them."""

    model_config = ConfigDict(extra="forbid")

    readers: list[str] = Field(min_length=2, max_length=8)
    adjudicator: str | None = Field(None, max_length=64)


class Settlement(BaseModel):
    """What counts: one reader's answer, by the reader's name; or a result or correction by its id.

    Neither: none of them is right.
    """

    model_config = ConfigDict(extra="forbid")

    reader: str | None = Field(None, max_length=64)
    answer: Uid | None = None


class Gone(BaseModel):
    """A reader who reads no more in a round."""

    model_config = ConfigDict(extra="forbid")

    reader: str = Field(min_length=1, max_length=64)


@router.get("/cases/{case}/rounds")
def rounds(
    case: str, request: Request, work: BackgroundTasks, caller: ClinicalCaller
) -> list[Round]:
    """List the rounds of a case, the newest first; of an open one, only the caller's own part."""
    parts = parts_of(request)
    parts.reading.worklist.case(case)
    rows = parts.reading.rounds.of_case(case)
    if any(row.read_at is not None and row.measured_at is None for row in rows):
        work.add_task(measure, parts)
    return [view_round(row, caller) for row in rows]


@router.post("/cases/{case}/rounds", status_code=201)
def open_round(case: str, new: NewRound, request: Request, caller: ClinicalCaller) -> Round:
    """Have a case read by several, blind to each other, from now on."""
    parts = parts_of(request)
    for name in (*new.readers, *([new.adjudicator] if new.adjudicator else [])):
        check_reader(parts, name)
    row = parts.reading.rounds.open(case, new.readers, by=caller.name, adjudicator=new.adjudicator)
    parts.audit.note(
        "round_opened",
        actor=caller.name,
        object=case,
        reason=f"for {', '.join(sorted(set(new.readers)))}",
    )
    return view_round(row, caller)


@router.post("/cases/{case}/rounds/done")
def done(case: str, request: Request, work: BackgroundTasks, caller: ClinicalCaller) -> Round:
    """Say that one's reading is done: the newest correction or verdict is the answer.

    When all have done, all may see all, and the agreement is measured.
    """
    parts = parts_of(request)
    row = parts.reading.rounds.finish(case, caller.name)
    parts.audit.note("reading_done", actor=caller.name, object=case)
    if row.read_at is not None:
        work.add_task(measure, parts)
    return view_round(row, caller)


@router.post("/rounds/{round}/settle")
def settle(round: str, said: Settlement, request: Request, caller: ClinicalCaller) -> Round:
    """Say what counts where readers disagree; the one who settles is none of them."""
    parts = parts_of(request)
    row = parts.reading.rounds.settle(round, by=caller.name, answer_id=_answer(parts, round, said))
    parts.audit.note("round_settled", actor=caller.name, object=row.case_id)
    return view_round(row, caller)


@router.post("/rounds/{round}/withdraw")
def withdraw(round: str, gone: Gone, request: Request, caller: ClinicalCaller) -> Round:
    """Go on without a reader who has not done: oneself, or who opened the round says whom.

    Two have to remain.
    """
    parts = parts_of(request)
    row = parts.reading.rounds.withdraw(
        round, gone.reader, by=caller.name, is_admin=caller.role == "admin"
    )
    parts.audit.note(
        "round_canceled", actor=caller.name, object=row.case_id, reason=f"without {gone.reader}"
    )
    return view_round(row, caller)


@router.post("/rounds/{round}/cancel")
def cancel(round: str, request: Request, caller: ClinicalCaller) -> Round:
    """Give an open round up: who opened it or an administrator, and none of its readers."""
    parts = parts_of(request)
    row = parts.reading.rounds.cancel(round, by=caller.name, is_admin=caller.role == "admin")
    parts.audit.note("round_canceled", actor=caller.name, object=row.case_id)
    return view_round(row, caller)


def measure(parts: FrontParts) -> None:
    """Measure the rounds that wait for it; one whose archive is away is tried at the next look."""
    try:
        parts.reading.agreeing.catch_up()
    except RadloopError as error:
        log.warning("agreement_not_measured", code=error.code)


def _answer(parts: FrontParts, round_id: str, said: Settlement) -> str | None:
    if said.reader is None:
        return said.answer
    readings = parts.reading.rounds.round(round_id).readings
    return next((one.answer_id for one in readings if one.reader == said.reader), None)
