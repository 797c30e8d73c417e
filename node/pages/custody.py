"""`/held`, `/withdrawals`, `/trail`: what a custodian decides on and looks at."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from fastapi import APIRouter, BackgroundTasks, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom.errors import InputError, PeerError, RadloopError
from node.api.held import WhoseStudy, delete_held, release_held, view_held, whose_study
from node.api.withdrawals import (
    ask_withdrawal,
    confirm_withdrawal,
    retry_withdrawal,
    view_withdrawal,
)
from node.auth import Caller, CustodyCaller
from node.faults import fault, status_of
from node.pages.render import render
from node.parts import parts_of
from pipelines.custody import Patient
from pipelines.custody.holding import LONGEST_REASON
from pipelines.store import HeldState

router = APIRouter(include_in_schema=False)

_A_PAGE: Final = 25
_EVENTS: Final = 200

Why = Annotated[str, Form(max_length=LONGEST_REASON)]
Code = Annotated[str, Query(max_length=64)]
State = Annotated[HeldState, Query()]


# --- held back ------------------------------------------------------------------------------------


@router.get("/held", response_class=HTMLResponse)
def held_page(
    request: Request,
    caller: CustodyCaller,
    state: State = "held",
    code: Code = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Show what is held back, and why."""
    return _held(request, caller, state=state, code=code, page=page)


@router.post("/held/{held}/{deed}", response_class=HTMLResponse)
def decide(
    held: str,
    deed: Literal["release", "delete", "whose"],
    request: Request,
    bell: BackgroundTasks,
    caller: CustodyCaller,
    reason: Why = "",
) -> Response:
    """Release, delete, or ask whose it is; what is wrong is said on the page."""
    parts = parts_of(request)
    whose = None
    try:
        if deed == "release":
            release_held(parts, held, caller, reason, bell)
        elif deed == "delete":
            delete_held(parts, held, caller, reason, bell)
        else:
            whose = whose_study(parts, held, caller, reason)
    except (InputError, PeerError) as error:
        return _held(request, caller, error=error, about=held)
    if whose is not None:
        return _held(request, caller, whose=whose, about=held)
    return RedirectResponse("/held", status_code=303, background=bell)


def _held(
    request: Request,
    caller: Caller,
    *,
    state: HeldState = "held",
    code: str = "",
    page: int = 1,
    about: str = "",
    error: RadloopError | None = None,
    whose: WhoseStudy | None = None,
) -> Response:
    parts = parts_of(request)
    rows = parts.custody.held.all(
        state=state, code=code, limit=_A_PAGE + 1, offset=(page - 1) * _A_PAGE
    )
    counts = parts.custody.held.counts()
    answer = render(
        "held.html",
        caller=caller,
        version=parts.version,
        held=[view_held(parts, row) for row in rows[:_A_PAGE]],
        has_more=len(rows) > _A_PAGE,
        page=page,
        state=state,
        code=code,
        states={each: _of_state(counts, each) for each in get_args(HeldState)},
        codes=sorted({known for _, known in counts}),
        about=about,
        fault=fault(error) if error else None,
        whose=whose,
    )
    answer.headers["Cache-Control"] = "no-store"
    if error is not None:
        answer.status_code = status_of(error)
    return answer


def _of_state(counts: dict[tuple[HeldState, str], int], state: HeldState) -> int:
    return sum(count for (known, _), count in counts.items() if known == state)


# --- withdrawals ----------------------------------------------------------------------------------


@router.get("/withdrawals", response_class=HTMLResponse)
def withdrawals_page(request: Request, caller: CustodyCaller) -> Response:
    """Show the withdrawals, and the form for another one."""
    return _withdrawals(request, caller)


@router.post("/withdrawals", response_class=HTMLResponse)
def ask(
    request: Request,
    bell: BackgroundTasks,
    caller: CustodyCaller,
    patient_id: Annotated[str, Form(max_length=256)] = "",
    issuer: Annotated[str, Form(max_length=256)] = "",
    study: Annotated[str, Form(max_length=64)] = "",
    reason: Why = "",
) -> Response:
    """Ask what holds a patient; what is wrong is said beside the form."""
    try:
        patient = Patient(patient_id.strip(), issuer.strip(), study.strip())
        asked = ask_withdrawal(parts_of(request), patient, caller, reason, bell)
    except InputError as error:
        return _withdrawals(request, caller, error=error)
    return RedirectResponse(f"/withdrawals/{asked.id}", status_code=303, background=bell)


@router.get("/withdrawals/{withdrawal}", response_class=HTMLResponse)
def withdrawal_page(withdrawal: str, request: Request, caller: CustodyCaller) -> Response:
    """Show one withdrawal: what holds the patient, and what became of it."""
    parts = parts_of(request)
    return render(
        "withdrawal.html",
        caller=caller,
        version=parts.version,
        one=view_withdrawal(parts, parts.custody.withdrawals.one(withdrawal)),
    )


@router.post("/withdrawals/{withdrawal}/confirm")
def confirm(
    withdrawal: str, request: Request, bell: BackgroundTasks, caller: CustodyCaller
) -> Response:
    """Withdraw the patient, and go back to the page."""
    confirm_withdrawal(parts_of(request), withdrawal, caller, bell)
    return RedirectResponse(f"/withdrawals/{withdrawal}", status_code=303, background=bell)


@router.post("/withdrawals/{withdrawal}/retry")
def retry(
    withdrawal: str, request: Request, bell: BackgroundTasks, caller: CustodyCaller
) -> Response:
    """Try again what failed, and go back to the page."""
    retry_withdrawal(parts_of(request), withdrawal, caller, bell)
    return RedirectResponse(f"/withdrawals/{withdrawal}", status_code=303, background=bell)


def _withdrawals(
    request: Request, caller: Caller, *, error: RadloopError | None = None
) -> Response:
    parts = parts_of(request)
    answer = render(
        "withdrawals.html",
        caller=caller,
        version=parts.version,
        withdrawals=[view_withdrawal(parts, row) for row in parts.custody.withdrawals.all()],
        fault=fault(error) if error else None,
    )
    if error is not None:
        answer.status_code = status_of(error)
    return answer


# --- the trail ------------------------------------------------------------------------------------


@router.get("/trail", response_class=HTMLResponse)
def trail_page(
    request: Request, caller: CustodyCaller, find: Annotated[str, Query(max_length=80)] = ""
) -> Response:
    """Show who did what, the newest first; `find` narrows it down."""
    parts = parts_of(request)
    wanted = find.strip().casefold()
    events = [
        event
        for event in parts.trail.events(limit=_EVENTS if not wanted else 50 * _EVENTS)
        if wanted in f"{event.actor} {event.action} {event.object} {event.reason}".casefold()
    ]
    return render(
        "trail.html",
        caller=caller,
        version=parts.version,
        events=events[:_EVENTS],
        find=find,
    )
