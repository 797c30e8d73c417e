"""`/profiles`: what happens to every attribute, project by project, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from dicom.errors import NotFound
from dicom.profile import known_iods, lines_of
from node.auth import AnyCaller
from node.pages.render import render
from node.parts import parts_of
from pipelines.projects import NODE, project_called

router = APIRouter(include_in_schema=False)


@router.get("/profiles", response_class=HTMLResponse)
def profiles(
    request: Request,
    caller: AnyCaller,
    project: Annotated[str, Query(max_length=32)] = NODE.name,
    iod: Annotated[str, Query(max_length=80)] = "",
    find: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    """Show one project's profile, attribute by attribute; `find` narrows it down."""
    parts = parts_of(request)
    chosen = project_called(project, parts.projects)
    if iod and iod not in known_iods():
        raise NotFound("there is no such kind of object")
    wanted = find.strip().casefold()
    lines = [
        line
        for line in lines_of(chosen.profile, iod=iod)
        if wanted in f"{line.tag} {line.name} {line.options} {line.happens} {line.why}".casefold()
    ]
    return render(
        "profiles.html",
        caller=caller,
        version=parts.version,
        projects=(NODE, *parts.projects),
        chosen=chosen,
        iods=known_iods(),
        iod=iod,
        find=find,
        lines=lines,
    )
