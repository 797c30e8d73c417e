"""`/exports`: datasets for other tools, from what was collected; their data cards; downloads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom.errors import Conflict, InvalidRequest, InvalidSettings, RadloopError
from node.auth import Caller, DatasetCaller
from node.faults import fault, status_of
from node.pages.render import render
from node.parts import FrontParts, parts_of
from node.shared import (
    begin_export,
    cancel_export,
    delete_export,
    retry_export,
    view_collection,
    view_export,
)
from pipelines.exports import format_names
from pipelines.store import NewExport, SeriesFilter

router = APIRouter(include_in_schema=False)

_LISTED = 50
_FILES = 60


@router.get("/exports", response_class=HTMLResponse)
def exports_page(request: Request, caller: DatasetCaller, source: str = "") -> Response:
    """Show the exports, and the form for another one."""
    return _page(request, caller, source=source)


@router.post("/exports", response_class=HTMLResponse)
def export(
    request: Request,
    caller: DatasetCaller,
    bell: BackgroundTasks,
    source: Annotated[str, Form(max_length=80)] = "",
    name: Annotated[str, Form(max_length=80)] = "",
    formats: Annotated[list[str] | None, Form()] = None,
    validation: Annotated[float, Form()] = 10,
    test: Annotated[float, Form()] = 20,
    seed: Annotated[str, Form(max_length=80)] = "",
    zipped: Annotated[str, Form()] = "zip",
    licence: Annotated[str, Form(max_length=200)] = "",
    description: Annotated[str, Form(max_length=4000)] = "",
    modality: Annotated[str, Form(max_length=16)] = "",
    body_part: Annotated[str, Form(max_length=32)] = "",
    text: Annotated[str, Form(max_length=200)] = "",
    with_labels: Annotated[bool, Form()] = False,
) -> Response:
    """Begin an export and go to its page; what is wrong is said beside the form."""
    parts = parts_of(request)
    try:
        project, collection = _source(parts, source)
        wanted = SeriesFilter(
            modality=(modality,) if modality else (),
            body_part=(body_part,) if body_part else (),
            text=text.strip(),
            with_labels=with_labels,
        )
        order = NewExport(
            name=name.strip(),
            project=project,
            collection_id=collection,
            wanted=wanted,
            formats=tuple(formats or ()),
            validation=validation / 100,
            test=test / 100,
            seed=seed,
            zipped=zipped == "zip",
            licence=licence.strip(),
            description=description.strip(),
            created_by=caller.name,
        )
        begun = begin_export(parts, caller, bell, order)
    except (InvalidRequest, InvalidSettings, Conflict) as error:
        return _page(request, caller, source=source, name=name, error=error)
    return RedirectResponse(f"/exports/{begun.id}", status_code=303, background=bell)


@router.get("/exports/{export}", response_class=HTMLResponse)
def export_page(export: str, request: Request, caller: DatasetCaller) -> Response:
    """Show one export with its data card."""
    parts = parts_of(request)
    return render("export.html", caller=caller, version=parts.version, **_export(parts, export))


@router.get("/fragments/exports/{export}", response_class=HTMLResponse)
def export_fragment(export: str, request: Request, caller: DatasetCaller) -> Response:
    """Return how an export stands as a piece of the page."""
    return render("_export.html", caller=caller, **_export(parts_of(request), export))


@router.post("/exports/{export}/cancel")
def cancel(export: str, request: Request, caller: DatasetCaller) -> Response:
    """Ask for an export to end, and go back to its page."""
    cancel_export(parts_of(request), caller, export)
    return RedirectResponse(f"/exports/{export}", status_code=303)


@router.post("/exports/{export}/retry")
def retry(export: str, request: Request, caller: DatasetCaller, bell: BackgroundTasks) -> Response:
    """Try an export again, and go back to its page."""
    retry_export(parts_of(request), caller, bell, export)
    return RedirectResponse(f"/exports/{export}", status_code=303, background=bell)


@router.post("/exports/{export}/delete")
def delete(export: str, request: Request, caller: DatasetCaller) -> Response:
    """Remove an export's files, and go back to the list."""
    delete_export(parts_of(request), caller, export)
    return RedirectResponse("/exports", status_code=303)


def _source(parts: FrontParts, source: str) -> tuple[str, str | None]:
    """Return (project, collection or None) of the form's word for where the series come from."""
    kind, _, name = source.partition(":")
    if kind == "collection" and name:
        return parts.collections.collection(name).project, name
    if kind == "project" and name:
        return name, None
    raise InvalidRequest("choose what to export: a collection, or all of a project")


def _page(
    request: Request,
    caller: Caller,
    *,
    source: str,
    name: str = "",
    error: RadloopError | None = None,
) -> HTMLResponse:
    parts = parts_of(request)
    rows = parts.collections.collections(limit=_LISTED)
    page = render(
        "exports.html",
        caller=caller,
        version=parts.version,
        exports=[view_export(row) for row in parts.exports.exports(limit=_LISTED)],
        collections=[view_collection(row) for row in rows if row.stored],
        choices=parts.picking.choices(),
        formats=format_names(),
        source=source,
        name=name,
        fault=fault(error) if error else None,
    )
    if error is not None:
        page.status_code = status_of(error)
    return page


def _export(parts: FrontParts, export: str) -> dict[str, object]:
    row = parts.exports.export(export)
    target = parts.export_files.target(row)
    here = row.is_there and target.exists()
    files = parts.export_files.listed(row) if here else {}
    return {
        "export": view_export(row),
        "files": list(files.items())[:_FILES],
        "more_files": max(0, len(files) - _FILES),
        "gone": row.is_there and not here,
    }
