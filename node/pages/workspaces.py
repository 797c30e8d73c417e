"""`/workspaces`: sets of cases that some people share, for a meeting, a course, a second look."""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from dicom.errors import InputError, InvalidRequest
from node.api import workspaces as api
from node.api.worklist import Filters, readers
from node.auth import Caller, ClinicalCaller
from node.blind import unseen_by
from node.cases import view_cases
from node.faults import Fault, fault
from node.pages.render import render
from node.pages.studies import identities
from node.parts import parts_of
from pipelines.store import PRIORITIES, CaseState, WantedCases

router = APIRouter(include_in_schema=False)

_HERE = "/workspaces"
_SHOWN = 25
_LOOKED_AT = 200
_COMMENTS = 20

Word = Annotated[str, Form(max_length=64)]
Words = Annotated[list[str] | None, Form()]


@router.get(_HERE, response_class=HTMLResponse)
def workspaces_page(request: Request, caller: ClinicalCaller) -> Response:
    """Show the workspaces that the caller shares, and a form for another one."""
    return _list(request, caller)


@router.post(_HERE)
def make(
    request: Request, caller: ClinicalCaller, name: Word = "", members: Words = None
) -> Response:
    """Make a workspace, and go to it; what is wrong with it is said beside the form."""
    try:
        new = _new(name, members or [])
        made = api.make(new, request, caller)
    except InputError as error:
        return _list(request, caller, said=fault(error), name=name, chosen=members or [])
    return RedirectResponse(_address(made.name), status_code=303)


@router.get(_HERE + "/{workspace}", response_class=HTMLResponse)
def workspace_page(workspace: str, request: Request, caller: ClinicalCaller) -> Response:
    """Show who shares a workspace, what is in it, and what was written of that."""
    return _one(workspace, request, caller)


@router.post(_HERE + "/{workspace}/members")
def members(
    workspace: str, request: Request, caller: ClinicalCaller, members: Words = None
) -> Response:
    """Say who shares it, besides oneself."""
    wanted = api.Members(members=sorted({caller.name, *(members or [])}))
    try:
        api.set_members(workspace, wanted, request, caller)
    except InputError as error:
        return _one(workspace, request, caller, said=fault(error))
    return RedirectResponse(_address(workspace), status_code=303)


@router.post(_HERE + "/{workspace}/fill")
def fill(
    workspace: str,
    request: Request,
    caller: ClinicalCaller,
    state: Word = "",
    modality: Word = "",
    priority: Word = "",
) -> Response:
    """Put every case in that is like that now."""
    try:
        asked = {"state": state, "modality": modality, "priority": priority}
        wanted = Filters.model_validate({name: value for name, value in asked.items() if value})
        api.fill(workspace, wanted, request, caller)
    except ValidationError:
        return _one(workspace, request, caller, said=fault(InvalidRequest("choose from the lists")))
    except InputError as error:
        return _one(workspace, request, caller, said=fault(error))
    return RedirectResponse(_address(workspace), status_code=303)


@router.post(_HERE + "/{workspace}/take")
def take(workspace: str, request: Request, caller: ClinicalCaller, case: Word) -> Response:
    """Take a case out."""
    api.take_case(workspace, case, request, caller)
    return RedirectResponse(_address(workspace), status_code=303)


@router.post(_HERE + "/{workspace}/leave")
def leave(workspace: str, request: Request, caller: ClinicalCaller) -> Response:
    """Share it no more."""
    row = parts_of(request).reading.workspaces.workspace(workspace, member=caller.name)
    others = [name for name in row.members if name != caller.name]
    if not others:
        lonely = InvalidRequest("nobody else shares it: end it instead, or add somebody first")
        return _one(workspace, request, caller, said=fault(lonely))
    api.set_members(workspace, api.Members(members=others), request, caller)
    return RedirectResponse(_HERE, status_code=303)


@router.post(_HERE + "/{workspace}/end")
def end(workspace: str, request: Request, caller: ClinicalCaller) -> Response:
    """End it for all; its cases stay on the worklist."""
    api.delete(workspace, request, caller)
    return RedirectResponse(_HERE, status_code=303)


def _new(name: str, members: list[str]) -> api.NewWorkspace:
    try:
        return api.NewWorkspace(name="-".join(name.lower().split()), members=members)
    except ValidationError:
        raise InvalidRequest(
            "a workspace's name has letters, digits and -, 48 at most, such as tumour-board"
        ) from None


def _list(
    request: Request,
    caller: Caller,
    *,
    said: Fault | None = None,
    name: str = "",
    chosen: list[str] | None = None,
) -> Response:
    parts = parts_of(request)
    page = render(
        "workspaces.html",
        caller=caller,
        version=parts.version,
        workspaces=parts.reading.workspaces.of_member(caller.name),
        others=[one for one in readers(parts) if one != caller.name],
        fault=said,
        name=name,
        chosen=chosen or [],
    )
    page.status_code = 422 if said else 200
    return page


def _one(
    workspace: str, request: Request, caller: Caller, *, said: Fault | None = None
) -> Response:
    parts = parts_of(request)
    row = parts.reading.workspaces.workspace(workspace, member=caller.name)
    room = parts.reading.worklist
    room.look()
    rows = room.cases(WantedCases(workspace=row.name), sort="newest", limit=_LOOKED_AT)
    cases = view_cases(parts, caller, rows[:_SHOWN])
    studies = parts.studies.studies_called({case.study for case in cases})
    unseen = unseen_by(request, caller.name)
    written = [
        (case, said)
        for case in view_cases(parts, caller, rows)
        for said in parts.reading.comments(case.id, unseen)
    ]
    written.sort(key=lambda one: one[1].created_at, reverse=True)
    page = render(
        "workspace.html",
        caller=caller,
        version=parts.version,
        workspace=row,
        cases=cases,
        patients=identities(request, caller, studies),
        written=written[:_COMMENTS],
        others=[one for one in readers(parts) if one != caller.name],
        states=get_args(CaseState),
        priorities=PRIORITIES,
        modalities=room.modalities(),
        fault=said,
    )
    page.status_code = 422 if said else 200
    return page


def _address(name: str) -> str:
    return f"{_HERE}/{quote(name, safe='')}"
