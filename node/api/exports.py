"""Exports: datasets for other tools, from what was collected for a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from node.api.collections import Filter
from node.api.studies import Limit, Offset
from node.auth import DatasetCaller
from node.parts import parts_of
from node.shared import (
    Export,
    begin_export,
    cancel_export,
    delete_export,
    retry_export,
    view_export,
)
from pipelines.exports import format_names
from pipelines.store import NewExport as Order

router = APIRouter(prefix="/api/exports", tags=["exports"])


class NewExport(BaseModel):
    """What to export, and how; the shares are of patients, the rest is for training."""

    model_config = ConfigDict(extra="forbid")

    name: str
    project: str
    collection: str | None = None
    filter: Filter = Field(default_factory=Filter)
    formats: tuple[str, ...]
    validation: float = 0.1
    test: float = 0.2
    seed: str = Field(default="", max_length=80)
    zipped: bool = True
    licence: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4000)


@router.get("")
def exports(
    request: Request,
    _caller: DatasetCaller,
    with_deleted: Annotated[bool, Query()] = False,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[Export]:
    """List exports, the newest first."""
    rows = parts_of(request).exports.exports(with_deleted=with_deleted, limit=limit, offset=offset)
    return [view_export(row) for row in rows]


@router.get("/formats")
def formats(_caller: DatasetCaller) -> tuple[str, ...]:
    """List the formats that can be asked for."""
    return format_names()


@router.post("", status_code=202)
def export(
    body: NewExport, request: Request, caller: DatasetCaller, bell: BackgroundTasks
) -> Export:
    """Write a dataset: split by patient, with manifest and data card, whole or not at all."""
    order = Order(
        name=body.name,
        project=body.project,
        collection_id=body.collection,
        wanted=body.filter.as_filter(),
        formats=body.formats,
        validation=body.validation,
        test=body.test,
        seed=body.seed,
        zipped=body.zipped,
        licence=body.licence,
        description=body.description,
        created_by=caller.name,
    )
    return begin_export(parts_of(request), caller, bell, order)


@router.get("/{export}")
def one_export(export: str, request: Request, _caller: DatasetCaller) -> Export:
    """Show one export with its data card."""
    return view_export(parts_of(request).exports.export(export))


@router.get("/{export}/files")
def files(export: str, request: Request, _caller: DatasetCaller) -> dict[str, int]:
    """List its files with their sizes in bytes; of a zip, the zip."""
    parts = parts_of(request)
    return parts.export_files.listed(parts.exports.export(export))


@router.get("/{export}/file", response_class=FileResponse)
def file(
    export: str,
    request: Request,
    caller: DatasetCaller,
    name: Annotated[str, Query(description="as `files` lists it; of a zip, nothing")] = "",
) -> FileResponse:
    """Download a file; a download that broke off goes on with `Range` (RFC 9110 14)."""
    parts = parts_of(request)
    path = parts.export_files.file(parts.exports.export(export), name)
    parts.audit.note("export_downloaded", actor=caller.name, object=export)
    return FileResponse(path, filename=path.name)


@router.post("/{export}/cancel", status_code=202)
def cancel(export: str, request: Request, caller: DatasetCaller) -> Export:
    """Ask for it to end."""
    return cancel_export(parts_of(request), caller, export)


@router.post("/{export}/retry", status_code=202)
def retry(export: str, request: Request, caller: DatasetCaller, bell: BackgroundTasks) -> Export:
    """Try it again; it goes on where it stopped."""
    return retry_export(parts_of(request), caller, bell, export)


@router.delete("/{export}", status_code=204)
def delete(export: str, request: Request, caller: DatasetCaller) -> None:
    """Remove its files; that it was, and whom it held, stays known."""
    delete_export(parts_of(request), caller, export)
