"""Studies, by their pseudonyms."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from node.auth import AnyCaller
from node.blind import seen_series, unseen_by
from node.parts import parts_of
from node.views import Study, view_study
from pipelines.store import Standing

router = APIRouter(prefix="/api/studies", tags=["studies"])

Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0)]


@router.get("")
def studies(
    request: Request,
    caller: AnyCaller,
    standing: Standing | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[Study]:
    """List studies with their series and jobs, the newest first."""
    parts = parts_of(request)
    rows = parts.studies.studies(standing=standing, limit=limit, offset=offset)
    ids = [row.id for row in rows]
    series, jobs = parts.studies.series_of_studies(ids), parts.jobs.jobs_of_studies(ids)
    unseen = unseen_by(request, caller.name)
    return [view_study(row, seen_series(series[row.id], unseen), jobs[row.id]) for row in rows]


@router.get("/{study}")
def study(study: str, request: Request, caller: AnyCaller) -> Study:
    """Show one study."""
    parts = parts_of(request)
    row = parts.studies.study(study)
    series = seen_series(parts.studies.series_of(study), unseen_by(request, caller.name))
    return view_study(row, series, parts.jobs.jobs_of(study))
