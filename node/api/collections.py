"""Collections: series picked for a project, de-identified into the research archive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from node.api.studies import Limit, Offset
from node.auth import DatasetCaller
from node.faults import Fault, fault_of
from node.parts import parts_of
from node.shared import (
    Collection,
    begin_collection,
    cancel_collection,
    retry_collection,
    series_filter,
    view_collection,
)
from pipelines.store import Choices, Count, SeriesFilter

PickedBy = Annotated[SeriesFilter, Depends(series_filter)]

router = APIRouter(prefix="/api/collections", tags=["collections"])


class Filter(BaseModel):
    """What is asked of a series; what is left out asks nothing."""

    model_config = ConfigDict(extra="forbid")

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    text: str = ""
    received_from: date | None = None
    received_until: date | None = None
    within_days: int | None = None
    with_labels: bool = False
    without: tuple[str, ...] = ()

    def as_filter(self) -> SeriesFilter:
        """Return it as the store takes it."""
        return SeriesFilter(**self.model_dump())


class NewCollection(BaseModel):
    """What to collect, and for whom."""

    model_config = ConfigDict(extra="forbid")

    name: str
    project: str
    filter: Filter = Field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class CollectedSeries:
    """One series of a collection; `series` is the node's pseudonym, the others the project's."""

    series: str
    state: str
    study: str | None
    patient: str | None
    images: int
    labels: int
    fault: Fault | None
    left_out: tuple[Fault, ...]


@router.get("/choices")
def choices(request: Request, _caller: DatasetCaller) -> Choices:
    """List modalities and body parts of what can be collected, with their numbers of series."""
    return parts_of(request).picking.choices()


@router.get("/count")
def count(
    request: Request,
    _caller: DatasetCaller,
    wanted: PickedBy,
) -> Count:
    """Count what a filter picks; nothing is collected."""
    return parts_of(request).picking.count(wanted)


@router.get("")
def collections(
    request: Request, _caller: DatasetCaller, limit: Limit = 100, offset: Offset = 0
) -> list[Collection]:
    """List collections, the newest first."""
    rows = parts_of(request).collections.collections(limit=limit, offset=offset)
    return [view_collection(row) for row in rows]


@router.post("", status_code=202)
def collect(
    body: NewCollection, request: Request, caller: DatasetCaller, bell: BackgroundTasks
) -> Collection:
    """Collect what the filter picks now, de-identified for the project."""
    return begin_collection(
        parts_of(request),
        caller,
        bell,
        name=body.name,
        project=body.project,
        wanted=body.filter.as_filter(),
    )


@router.get("/{collection}")
def collection(collection: str, request: Request, _caller: DatasetCaller) -> Collection:
    """Show one collection."""
    return view_collection(parts_of(request).collections.collection(collection))


@router.get("/{collection}/series")
def series(collection: str, request: Request, _caller: DatasetCaller) -> list[CollectedSeries]:
    """List its series: stored, refused and why, waiting."""
    parts = parts_of(request)
    parts.collections.collection(collection)
    return [
        CollectedSeries(
            series=one.series_id,
            state=one.state,
            study=one.study,
            patient=one.patient,
            images=one.images,
            labels=len(one.labels),
            fault=fault_of(one.reason_code, one.reason),
            left_out=tuple(
                found
                for said in one.left_out
                if (found := fault_of(said["code"], said["message"])) is not None
            ),
        )
        for one in parts.collections.members(collection)
    ]


@router.post("/{collection}/cancel", status_code=202)
def cancel(collection: str, request: Request, caller: DatasetCaller) -> Collection:
    """Ask for it to end; what is stored stays stored."""
    return cancel_collection(parts_of(request), caller, collection)


@router.post("/{collection}/retry", status_code=202)
def retry(
    collection: str, request: Request, caller: DatasetCaller, bell: BackgroundTasks
) -> Collection:
    """Try again what is not stored, and what was refused."""
    return retry_collection(parts_of(request), caller, bell, collection)
