"""Jobs: what is done with studies; canceling and retrying."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from fastapi.responses import StreamingResponse

from node.api.events import listening_caller, stream
from node.api.studies import Limit, Offset
from node.auth import AnyCaller, Caller, ClinicalCaller
from node.deeds import noted
from node.live import Event
from node.parts import FrontParts, parts_of
from node.views import Job, job_json, view_job
from pipelines.store import State

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


@router.get("")
def jobs(
    request: Request,
    _caller: AnyCaller,
    state: State | None = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[Job]:
    """List jobs, the newest first."""
    rows = parts_of(request).jobs.jobs(state=state, limit=limit, offset=offset)
    return [view_job(row) for row in rows]


@router.get("/{job}")
def job(job: str, request: Request, _caller: AnyCaller) -> Job:
    """Show one job with its tasks, steps and their seconds, results and deliveries."""
    return view_job(parts_of(request).jobs.job(job))


@router.get(
    "/{job}/events",
    dependencies=[Depends(listening_caller)],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def job_events(job: str, request: Request) -> StreamingResponse:
    """Stream one job: a `job` event now and at each change, and `end` when it has ended."""
    parts = parts_of(request)

    async def present() -> list[Event]:
        view = view_job(await asyncio.to_thread(parts.jobs.job, job))
        return [Event("job", view.id, job_json(view))]

    await present()  # an unknown job is a 404, not an empty stream
    return stream(request, present, only_job=job)


@router.post("/{job}/cancel", status_code=202)
def cancel(job: str, request: Request, bell: BackgroundTasks, caller: ClinicalCaller) -> Job:
    """Ask for an open job to be canceled; what it had begun is dropped."""
    return cancel_job(parts_of(request), job, caller, bell)


@router.post("/{job}/retry", status_code=202)
def retry(job: str, request: Request, bell: BackgroundTasks, caller: ClinicalCaller) -> Job:
    """Schedule a failed or canceled job again."""
    return retry_job(parts_of(request), job, caller, bell)


def cancel_job(parts: FrontParts, job: str, caller: Caller, bell: BackgroundTasks) -> Job:
    """Ask for a job to be canceled, note who asked, and wake the worker up after the answer.

    Raises
    ------
    NotFound
    Conflict
        When it has ended.
    """
    noted(
        parts,
        caller,
        "job_canceled",
        of=job,
        is_taken=parts.jobs.ask_cancel(job),
        refusal="the job has ended already",
        bell=bell,
    )
    return view_job(parts.jobs.job(job))


def retry_job(parts: FrontParts, job: str, caller: Caller, bell: BackgroundTasks) -> Job:
    """Schedule a job again, note who did, and wake the worker up after the answer.

    Raises
    ------
    NotFound
    Conflict
        When it is open or completed.
    """
    noted(
        parts,
        caller,
        "job_retried",
        of=job,
        is_taken=parts.jobs.retry(job),
        refusal="only a job that failed or was canceled can be tried again",
        bell=bell,
    )
    return view_job(parts.jobs.job(job))
