"""`/collect`: pick series for a project, see how many it is, and collect them."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import StringConstraints

from dicom.errors import InvalidRequest, RadloopError
from node.auth import Caller, DatasetCaller
from node.faults import fault, status_of
from node.pages.render import render
from node.parts import FrontParts, parts_of
from node.shared import (
    begin_collection,
    cancel_collection,
    refusals,
    retry_collection,
    series_filter,
    view_collection,
)
from pipelines.exports import format_names
from pipelines.store import SeriesFilter

router = APIRouter(include_in_schema=False)

_SHOWN = 20
_MORE = 100
_LISTED = 30
_LONGEST_ID = 64
PickedBy = Annotated[SeriesFilter, Depends(series_filter)]
Shown = Annotated[int, Query(ge=1, le=2000)]
Ids = Annotated[list[Annotated[str, StringConstraints(max_length=_LONGEST_ID)]], Form()]


@router.get("/collect", response_class=HTMLResponse)
def collect_page(
    request: Request, caller: DatasetCaller, wanted: PickedBy, shown: Shown = _SHOWN
) -> Response:
    """Show what a filter picks, and what was collected."""
    return _page(request, caller, wanted, shown=shown)


@router.post("/fragments/picked", response_class=HTMLResponse)
def picked_fragment(
    request: Request,
    caller: DatasetCaller,
    wanted: PickedBy,
    shown: Shown = _SHOWN,
    without: Ids = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """Return what a filter picks as a piece of the page, less what is unticked there."""
    picked = replace(wanted, without=tuple(without))
    return render("_picked.html", caller=caller, **_picked(parts_of(request), picked, shown=shown))


@router.post("/collect", response_class=HTMLResponse)
def collect(
    request: Request,
    caller: DatasetCaller,
    bell: BackgroundTasks,
    wanted: PickedBy,
    name: Annotated[str, Form(max_length=80)] = "",
    project: Annotated[str, Form(max_length=32)] = "",
    listed: Ids = [],  # noqa: B006 - FastAPI copies it
    picked: Ids = [],  # noqa: B006
    without: Ids = [],  # noqa: B006
) -> Response:
    """Begin a collection and go to its page; what is wrong is said beside the form.

    Left out is what the page listed and nobody ticks, and what the script says was unticked before.
    """
    unticked = dict.fromkeys([*without, *(one for one in listed if one not in set(picked))])
    try:
        wanted = replace(wanted, without=tuple(unticked))
        begun = begin_collection(
            parts_of(request), caller, bell, name=name, project=project, wanted=wanted
        )
    except InvalidRequest as error:
        return _page(request, caller, wanted, error=error, name=name, project=project)
    return RedirectResponse(f"/collections/{begun.id}", status_code=303, background=bell)


@router.get("/collections/{collection}", response_class=HTMLResponse)
def collection_page(collection: str, request: Request, caller: DatasetCaller) -> Response:
    """Show one collection, and the form to make a dataset of it."""
    parts = parts_of(request)
    return render(
        "collection.html",
        caller=caller,
        version=parts.version,
        formats=format_names(),
        **_collection(parts, collection),
    )


@router.get("/fragments/collections/{collection}", response_class=HTMLResponse)
def collection_fragment(collection: str, request: Request, caller: DatasetCaller) -> Response:
    """Return how a collection stands as a piece of the page."""
    return render("_collection.html", caller=caller, **_collection(parts_of(request), collection))


@router.post("/collections/{collection}/cancel")
def cancel(collection: str, request: Request, caller: DatasetCaller) -> Response:
    """Ask for a collection to end, and go back to its page."""
    cancel_collection(parts_of(request), caller, collection)
    return RedirectResponse(f"/collections/{collection}", status_code=303)


@router.post("/collections/{collection}/retry")
def retry(
    collection: str, request: Request, caller: DatasetCaller, bell: BackgroundTasks
) -> Response:
    """Try again what is not stored, and go back to its page."""
    retry_collection(parts_of(request), caller, bell, collection)
    return RedirectResponse(f"/collections/{collection}", status_code=303, background=bell)


def _page(
    request: Request,
    caller: Caller,
    wanted: SeriesFilter,
    *,
    shown: int = _SHOWN,
    error: RadloopError | None = None,
    name: str = "",
    project: str = "",
) -> HTMLResponse:
    parts = parts_of(request)
    page = render(
        "collect.html",
        caller=caller,
        version=parts.version,
        choices=parts.picking.choices(),
        projects=parts.projects,
        collections=[view_collection(row) for row in parts.collections.collections(limit=_LISTED)],
        query=request.url.query,
        fault=fault(error) if error else None,
        name=name,
        project=project,
        dicom=parts.dicom,
        **_picked(parts, wanted, shown=shown),
    )
    if error is not None:
        page.status_code = status_of(error)
    return page


def _picked(parts: FrontParts, wanted: SeriesFilter, *, shown: int) -> dict[str, object]:
    """Return what a filter finds, by study, and how much of it is picked."""
    found = replace(wanted, without=())
    rows = parts.picking.described(found, limit=shown)
    return {
        "wanted": wanted,
        "count": parts.picking.count(wanted),
        "found": parts.picking.count(found).series if wanted.without else None,
        "studies": [list(series) for _, series in groupby(rows, key=lambda row: row.study_id)],
        "rows": rows,
        "shown": shown,
        "more": min(shown + _MORE, 2000),
    }


def _collection(parts: FrontParts, collection: str) -> dict[str, object]:
    refused, left_out = refusals(parts, collection)
    return {
        "collection": view_collection(parts.collections.collection(collection)),
        "refused": refused,
        "left_out": left_out,
    }
