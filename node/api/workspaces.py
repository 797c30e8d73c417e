"""Shared workspaces: named sets of cases; only their members know of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dicom.errors import InvalidRequest
from node.api.worklist import Filters, check_reader
from node.auth import ClinicalCaller
from node.parts import parts_of
from pipelines.store import WantedCases, WorkspaceView

router = APIRouter(prefix="/api/workspaces", tags=["worklist"])

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
_MOST = 10_000


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("1 to 48 of a-z, 0-9 and -; it must not name a patient")
    return name


Name = Annotated[str, AfterValidator(_named)]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A named set of cases, and who shares it."""

    name: str
    made_by: str
    made_at: datetime
    members: tuple[str, ...]
    cases: int


class NewWorkspace(BaseModel):
    """A name for a workspace."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    members: list[str] = Field(default_factory=list, max_length=100)


class Members(BaseModel):
    """Who shares a workspace."""

    model_config = ConfigDict(extra="forbid")

    members: list[str] = Field(min_length=1, max_length=100)


class CaseNames(BaseModel):
    """Cases, by their ids."""

    model_config = ConfigDict(extra="forbid")

    cases: list[str] = Field(min_length=1, max_length=500)


@router.get("")
def workspaces(request: Request, caller: ClinicalCaller) -> list[Workspace]:
    """List the workspaces that the caller shares."""
    rows = parts_of(request).reading.workspaces.of_member(caller.name)
    return [_view(row) for row in rows]


@router.post("", status_code=201)
def make(new: NewWorkspace, request: Request, caller: ClinicalCaller) -> Workspace:
    """Make a workspace; who makes it is its first member."""
    parts = parts_of(request)
    for name in new.members:
        check_reader(parts, name)
    spaces = parts.reading.workspaces
    spaces.make(new.name, by=caller.name)
    if new.members:
        spaces.set_members(new.name, [caller.name, *new.members])
    parts.audit.note("workspace_changed", actor=caller.name, object=new.name, reason="made")
    return _view(spaces.workspace(new.name, member=caller.name))


@router.put("/{workspace}/members")
def set_members(
    workspace: str, wanted: Members, request: Request, caller: ClinicalCaller
) -> Workspace:
    """Say who shares a workspace; who leaves themselves out sees it no more."""
    parts = parts_of(request)
    spaces = parts.reading.workspaces
    row = spaces.workspace(workspace, member=caller.name)
    for name in set(wanted.members) - set(row.members):
        check_reader(parts, name)
    spaces.set_members(workspace, wanted.members)
    members = ", ".join(sorted(set(wanted.members)))
    parts.audit.note("workspace_changed", actor=caller.name, object=workspace, reason=members)
    return _view(spaces.workspace(workspace, member=wanted.members[0]))


@router.put("/{workspace}/cases")
def put_cases(
    workspace: str, wanted: CaseNames, request: Request, caller: ClinicalCaller
) -> Workspace:
    """Put cases into a workspace."""
    parts = parts_of(request)
    spaces = parts.reading.workspaces
    spaces.workspace(workspace, member=caller.name)
    spaces.put(workspace, wanted.cases)
    count = f"{len(wanted.cases)} cases in"
    parts.audit.note("workspace_changed", actor=caller.name, object=workspace, reason=count)
    return _view(spaces.workspace(workspace, member=caller.name))


@router.post("/{workspace}/fill")
def fill(workspace: str, wanted: Filters, request: Request, caller: ClinicalCaller) -> Workspace:
    """Put every case in that is like that now; those that come later are not put in."""
    parts = parts_of(request)
    spaces = parts.reading.workspaces
    spaces.workspace(workspace, member=caller.name)
    parts.reading.worklist.look()
    found = parts.reading.worklist.cases(
        WantedCases(wanted.state, wanted.modality, None, wanted.priority), limit=_MOST
    )
    if not found:
        raise InvalidRequest("no case is like that now")
    spaces.put(workspace, [case.id for case in found])
    count = f"{len(found)} cases in"
    parts.audit.note("workspace_changed", actor=caller.name, object=workspace, reason=count)
    return _view(spaces.workspace(workspace, member=caller.name))


@router.delete("/{workspace}/cases/{case}", status_code=204)
def take_case(workspace: str, case: str, request: Request, caller: ClinicalCaller) -> Response:
    """Take a case out of a workspace."""
    parts = parts_of(request)
    parts.reading.workspaces.workspace(workspace, member=caller.name)
    parts.reading.workspaces.take(workspace, case)
    parts.audit.note("workspace_changed", actor=caller.name, object=workspace, reason="a case out")
    return Response(status_code=204)


@router.delete("/{workspace}", status_code=204)
def delete(workspace: str, request: Request, caller: ClinicalCaller) -> Response:
    """End a workspace; its cases stay on the worklist."""
    parts = parts_of(request)
    parts.reading.workspaces.workspace(workspace, member=caller.name)
    parts.reading.workspaces.delete(workspace)
    parts.audit.note("workspace_changed", actor=caller.name, object=workspace, reason="ended")
    return Response(status_code=204)


def _view(row: WorkspaceView) -> Workspace:
    return Workspace(row.name, row.made_by, row.made_at, row.members, row.cases)
