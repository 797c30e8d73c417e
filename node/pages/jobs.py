"""`/jobs/ID`: one job with all that is known of it."""

from __future__ import annotations

from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from node.api.jobs import cancel_job, retry_job
from node.api.routes import explained
from node.auth import AnyCaller, ClinicalCaller
from node.pages.render import render
from node.pages.studies import identities
from node.parts import parts_of
from node.views import view_job, view_study

router = APIRouter(include_in_schema=False)


@router.get("/jobs/{job}", response_class=HTMLResponse)
def job_page(job: str, request: Request, caller: AnyCaller) -> Response:
    """Show one job."""
    parts = parts_of(request)
    found = parts.jobs.job(job)
    row = parts.studies.study(found.study_id)
    series = parts.studies.series_of(row.id)
    return render(
        "job.html",
        caller=caller,
        version=parts.version,
        job=view_job(found),
        study=view_study(row, series, parts.jobs.jobs_of(row.id)),
        series={one.id: one for one in series},
        patients=identities(request, caller, [row]),
        explained=explained(parts, row.id),
        title_of=parts.registry.title_of,
    )


@router.get("/fragments/jobs/{job}", response_class=HTMLResponse)
def job_fragment(job: str, request: Request, caller: AnyCaller) -> Response:
    """Return a job's changing part as a piece of the page."""
    parts = parts_of(request)
    found = parts.jobs.job(job)
    series = parts.studies.series_of(found.study_id)
    return render(
        "_job.html",
        caller=caller,
        job=view_job(found),
        series={one.id: one for one in series},
        title_of=parts.registry.title_of,
    )


@router.post("/jobs/{job}/cancel")
def cancel(job: str, request: Request, bell: BackgroundTasks, caller: ClinicalCaller) -> Response:
    """Ask for a job to be canceled, and go back to it."""
    cancel_job(parts_of(request), job, caller, bell)
    return RedirectResponse(f"/jobs/{job}", status_code=303)


@router.post("/jobs/{job}/retry")
def retry(job: str, request: Request, bell: BackgroundTasks, caller: ClinicalCaller) -> Response:
    """Schedule a job again, and go back to it."""
    retry_job(parts_of(request), job, caller, bell)
    return RedirectResponse(f"/jobs/{job}", status_code=303)
