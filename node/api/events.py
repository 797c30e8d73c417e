"""Server-sent events: what changes, as it changes (HTML standard, 9.2)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from dicom.errors import LoginNeeded
from node.auth import ROLES, Guard
from node.live import Event, Feed, Kind
from node.parts import parts_of

_KEEP_ALIVE_S = 15.0  # below the idle limit of the usual proxies
_RETRY_MS = 2000

router = APIRouter(prefix="/api/events", tags=["events"])

listening_caller = Guard(*ROLES, note_use=False)
"""A page that only listens does not keep a login alive."""


@router.get(
    "",
    dependencies=[Depends(listening_caller)],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(request: Request) -> StreamingResponse:
    """Stream all: a `job` event for each job that moves, a `study` event for each that arrives."""

    async def nothing() -> list[Event]:
        return []

    return stream(request, nothing)


def stream(
    request: Request,
    present: Callable[[], Awaitable[list[Event]]],
    *,
    only_job: str | None = None,
    kinds: Container[Kind] = ("job", "study"),
) -> StreamingResponse:
    """Return a stream of events.

    Parameters
    ----------
    request : Request
        Whose login is looked at again now and then: the stream ends with it, by a `logout` event.
    present : callable
        Returns what is told first.
    only_job : str, optional
        A job's id: only its events, and `end` when it has ended.
    kinds : container of str
        What is told; cases are for clinical roles.
    """
    feed: Feed = request.app.state.feed
    return StreamingResponse(
        _events(request, feed, present, only_job, kinds),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # nginx would hold small answers back
    )


async def _events(
    request: Request,
    feed: Feed,
    present: Callable[[], Awaitable[list[Event]]],
    only_job: str | None,
    kinds: Container[Kind],
) -> AsyncIterator[bytes]:
    yield f"retry: {_RETRY_MS}\n\n".encode()
    async with feed.listen() as queue:
        told: str | None = None
        for event in await present():
            yield _message(event.kind, event.text)
            told = event.text
            if only_job is not None and _has_ended(event):
                yield _message("end", "{}")
                return
        checked = time.monotonic()
        while True:
            try:
                event_or_end = await asyncio.wait_for(queue.get(), _KEEP_ALIVE_S)
            except TimeoutError:
                yield b": still here\n\n"
            else:
                if event_or_end is None:
                    return
                event = event_or_end
                wanted = only_job is None or (event.kind == "job" and event.id == only_job)
                if wanted and event.kind in kinds and event.text != told:
                    yield _message(event.kind, event.text)
                    told = event.text
                    if only_job is not None and _has_ended(event):
                        yield _message("end", "{}")
                        return
            if time.monotonic() - checked > _KEEP_ALIVE_S:
                checked = time.monotonic()
                if not await asyncio.to_thread(_still_logged_in, request):
                    yield _message("logout", "{}")
                    return


def _still_logged_in(request: Request) -> bool:
    try:
        return parts_of(request).auth.caller(request, note_use=False) is not None
    except LoginNeeded:
        return False


def _has_ended(event: Event) -> bool:
    return json.loads(event.text)["state"] in ("completed", "canceled")


def _message(kind: str, text: str) -> bytes:
    return f"event: {kind}\ndata: {text}\n\n".encode()
