"""`/worklist`: what is to be read, who holds it, and what comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar, get_args
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, BackgroundTasks, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom.archive import ArchivedStudy
from dicom.errors import InvalidRequest
from node.api import rounds as rounds_api
from node.api import worklist as worklist_api
from node.auth import Caller, ClinicalCaller
from node.blind import unseen_by
from node.cases import Case, Round, view_one, view_round
from node.pages.render import render
from node.pages.studies import identities
from node.parts import FrontParts, parts_of
from pipelines.reading import Comment
from pipelines.store import PRIORITIES, CaseState, Priority, Sort, Strategy, WantedCases

router = APIRouter(include_in_schema=False)

Known = TypeVar("Known", bound=str)

_A_PAGE = 25
_MOST_FOUND = 100
_HERE = "/worklist"

Deed = Literal[
    "open",
    "claim",
    "release",
    "hand_over",
    "assign",
    "prioritise",
    "comment",
    "read_twice",
    "done",
    "settle",
    "cancel_round",
    "withdraw",
    "put",
    "take",
]
Word = Annotated[str, Form(max_length=64)]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page's address asks for."""

    state: CaseState | None
    modality: str
    reader: str
    priority: Priority | None
    workspace: str
    sort: Sort
    page: int

    @property
    def wanted(self) -> WantedCases:
        """The same for the rows."""
        return WantedCases(
            self.state,
            self.modality or None,
            self.reader or None,
            self.priority,
            self.workspace or None,
        )

    def address(self, **changed: object) -> str:
        """Return the page's address with something else."""
        asked = replace(self, **{"page": 1, **changed})  # type: ignore[arg-type]  # names of fields
        values = {
            "state": asked.state,
            "modality": asked.modality,
            "reader": asked.reader,
            "priority": asked.priority,
            "workspace": asked.workspace,
            "sort": None if asked.sort == "urgency" else asked.sort,
            "page": None if asked.page == 1 else asked.page,
        }
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{_HERE}?{query}" if query else _HERE


@router.get(_HERE, response_class=HTMLResponse)
def worklist_page(
    request: Request,
    caller: ClinicalCaller,
    state: Annotated[str, Query(max_length=16)] = "",
    modality: Annotated[str, Query(max_length=16)] = "",
    reader: Annotated[str, Query(max_length=64)] = "",
    priority: Annotated[str, Query(max_length=16)] = "",
    workspace: Annotated[str, Query(max_length=64)] = "",
    sort: Sort = "urgency",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Show the list, the most urgent first, a page at a time."""
    asked = Asked(
        _one_of(state, get_args(CaseState)),
        modality,
        reader,
        _one_of(priority, PRIORITIES),
        workspace,
        sort,
        page,
    )
    parts = parts_of(request)
    found = worklist_api.page_of(
        parts,
        caller,
        asked.wanted,
        sort=sort,
        limit=_A_PAGE,
        offset=(page - 1) * _A_PAGE,
    )
    return _list(request, caller, asked, found)


@router.post("/worklist/search", response_class=HTMLResponse)
def search(request: Request, caller: ClinicalCaller, text: Word) -> Response:
    """Show what a name, a pseudonym or a description finds; a name stands in no address."""
    asked = Asked(None, "", "", None, "", "newest", 1)
    parts = parts_of(request)
    found = worklist_api.found_by(parts, caller, text, limit=_MOST_FOUND)
    return _list(request, caller, asked, found, searched=text)


@router.post("/worklist/next")
def next_case(
    request: Request,
    caller: ClinicalCaller,
    strategy: Annotated[Strategy, Form()],
    workspace: Word = "",
    back: Annotated[str, Form(max_length=500)] = _HERE,
) -> Response:
    """Claim the next case, and go to it."""
    parts = parts_of(request)
    wanted = worklist_api.NextWanted(strategy=strategy, workspace=workspace or None, claim=True)
    chosen = worklist_api.next_case(wanted, request, caller)
    if chosen is None:
        return RedirectResponse(_with(back, none=strategy), status_code=303)
    parts.audit.note("study_opened", actor=caller.name, object=chosen.case.study)
    return RedirectResponse(f"/open/{chosen.case.study}", status_code=303)


@router.get("/fragments/worklist/{case}", response_class=HTMLResponse)
def panel(case: str, request: Request, caller: ClinicalCaller, work: BackgroundTasks) -> Response:
    """Return what is known of one case, as the panel beside the list shows it; no identity."""
    parts = parts_of(request)
    return render("_case.html", caller=caller, **_panel(request, parts, caller, case, work))


@router.get("/fragments/worklist/{case}/row", response_class=HTMLResponse)
def row(case: str, request: Request, caller: ClinicalCaller) -> Response:
    """Return one row of the list, without the patient's identity."""
    parts = parts_of(request)
    found = view_one(parts, caller, parts.reading.worklist.case(case))
    return render("_case_row.html", caller=caller, case=found, patients=None, back=_HERE)


@router.post("/worklist/{case}")
def act(
    case: str,
    request: Request,
    caller: ClinicalCaller,
    work: BackgroundTasks,
    deed: Annotated[Deed, Form()],
    value: Annotated[str, Form(max_length=4000)] = "",
    other: Word = "",
    third: Word = "",
    back: Annotated[str, Form(max_length=500)] = _HERE,
) -> Response:
    """Do what a button of the page says, and go back to where it was."""
    _do(case, deed, (value, other, third), request, caller, work)
    if deed == "open":
        study = parts_of(request).reading.worklist.case(case).study_id
        return RedirectResponse(f"/open/{study}", status_code=303)
    return RedirectResponse(_with(back, case=case), status_code=303)


def _do(
    case: str,
    deed: Deed,
    said: tuple[str, str, str],
    request: Request,
    caller: Caller,
    work: BackgroundTasks,
) -> None:
    value, other, third = said
    change = worklist_api.CaseChange
    match deed:
        case "open" | "claim":
            worklist_api.claim(case, request, caller)
        case "release":
            worklist_api.release(case, request, caller)
        case "hand_over":
            worklist_api.hand_over(case, worklist_api.Reader(to=_some(value)), request, caller)
        case "assign":
            worklist_api.change(case, change(assigned_to=value or None), request, caller)
        case "prioritise":
            priority = _one_of(value, PRIORITIES)
            worklist_api.change(case, change(priority=priority), request, caller)
        case "comment":
            worklist_api.comment(case, worklist_api.Words(text=_some(value)), request, caller)
        case "read_twice":
            new = rounds_api.NewRound(readers=[value, other], adjudicator=third or None)
            rounds_api.open_round(case, new, request, caller)
        case "done":
            rounds_api.done(case, request, work, caller)
        case "settle":
            settled = rounds_api.Settlement(reader=other or None)
            rounds_api.settle(_some(value), settled, request, caller)
        case "cancel_round":
            rounds_api.cancel(_some(value), request, caller)
        case "withdraw":
            gone = rounds_api.Gone(reader=_some(other))
            rounds_api.withdraw(_some(value), gone, request, caller)
        case "put" | "take":
            spaces = parts_of(request).reading.workspaces
            spaces.workspace(_some(value), member=caller.name)
            if deed == "put":
                spaces.put(value, [case])
            else:
                spaces.take(value, case)
            parts_of(request).audit.note(
                "workspace_changed", actor=caller.name, object=value, reason=f"{deed} a case"
            )


def _list(
    request: Request,
    caller: Caller,
    asked: Asked,
    found: worklist_api.Page,
    *,
    searched: str = "",
) -> Response:
    parts = parts_of(request)
    return render(
        "worklist.html",
        caller=caller,
        version=parts.version,
        asked=asked,
        back=asked.address(page=asked.page),
        found=found,
        patients=_names(request, caller, found),
        has_more=asked.page * _A_PAGE < found.total and not searched,
        searched=searched,
        none=request.query_params.get("none", ""),
        selected=request.query_params.get("case", ""),
        modalities=parts.reading.worklist.modalities(),
        readers=worklist_api.readers(parts),
        workspaces=[one.name for one in parts.reading.workspaces.of_member(caller.name)],
        states=get_args(CaseState),
        priorities=PRIORITIES,
        sorts=get_args(Sort),
        strategies=get_args(Strategy),
    )


def _names(request: Request, caller: Caller, found: worklist_api.Page) -> dict[str, ArchivedStudy]:
    parts = parts_of(request)
    studies = parts.studies.studies_called({case.study for case in found.cases})
    return identities(request, caller, studies)


def _panel(
    request: Request, parts: FrontParts, caller: Caller, case: str, work: BackgroundTasks
) -> dict[str, Case | list[Round] | list[Comment] | list[str] | str]:
    found = view_one(parts, caller, parts.reading.worklist.case(case))
    rounds = [view_round(one, caller) for one in parts.reading.rounds.of_case(case)]
    if parts.reading.rounds.unmeasured():
        work.add_task(rounds_api.measure, parts)
    return {
        "case": found,
        "rounds": rounds,
        "comments": parts.reading.comments(case, unseen_by(request, caller.name)),
        "readers": worklist_api.readers(parts),
        "workspaces": [one.name for one in parts.reading.workspaces.of_member(caller.name)],
        "back": _HERE,
    }


def _with(address: str, **values: str) -> str:
    """Return an address of this page with more to say; any other address becomes this page's."""
    path, _, query = address.partition("?")
    if path != _HERE:
        query = ""
    kept = [(name, value) for name, value in parse_qsl(query) if name not in ("case", "none")]
    return f"{_HERE}?{urlencode([*kept, *values.items()])}"


def _some(value: str) -> str:
    if not value.strip():
        raise InvalidRequest("nothing was chosen or written")
    return value


def _one_of(value: str, known: tuple[Known, ...]) -> Known | None:
    return next((one for one in known if one == value), None)
