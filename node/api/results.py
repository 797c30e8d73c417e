"""Results: DICOM objects that the models made, and where they went."""

from __future__ import annotations

from fastapi import APIRouter, Request

from node.auth import AnyCaller
from node.parts import parts_of
from node.views import Result, view_job

router = APIRouter(prefix="/api/studies/{study}/results", tags=["results"])


@router.get("")
def results(study: str, request: Request, _caller: AnyCaller) -> list[Result]:
    """List the results of a study, those of its newest job first."""
    parts = parts_of(request)
    parts.studies.study(study)
    return [result for job in parts.jobs.jobs_of(study) for result in view_job(job).results]
