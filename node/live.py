"""What changes, as it changes: one look at the rows for everybody who listens.

The worker is another process; the rows are what both sides know. One task reads the few jobs that
move, twice a second and only while somebody listens, and passes on what differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from node.views import job_json, view_job
from pipelines.store import CaseView, Jobs, Studies, Worklist

_LOOK_EVERY_S = 0.5
_LOOK_BACK = timedelta(seconds=10)  # a job that began and ended between two looks is seen, too
_MOST_WAITING = 1000

Kind = Literal["job", "study", "case"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed: a job, how many instances of a study have arrived, or a case.

    `text` is JSON: a `Job`, or `{"id": study, "arriving": count, or null when it is complete}`, or
    `{"id": case, "study": ..., "state": ..., "holder": ...}`, which is for clinical roles.
    """

    kind: Kind
    id: str
    text: str


class Feed:
    """Watches the rows for listeners.

    Parameters
    ----------
    jobs, studies, worklist : Jobs, Studies, Worklist
        The rows.
    """

    def __init__(self, jobs: Jobs, studies: Studies, worklist: Worklist) -> None:
        self._jobs = jobs
        self._studies = studies
        self._worklist = worklist
        self._listeners: set[asyncio.Queue[Event | None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator[asyncio.Queue[Event | None]]:
        """Give a queue of what changes from now on; None in it is the end of the feed."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MOST_WAITING)
        if self._closed:
            queue.put_nowait(None)
        self._listeners.add(queue)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_rows())
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        for queue in self._listeners:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    async def _watch_rows(self) -> None:
        known: dict[tuple[Kind, str], str] = {}  # so that the first look tells all that moves
        try:
            while self._listeners and not self._closed:
                now = await asyncio.to_thread(self._look)
                for key, text in now.items():
                    if known.get(key) != text:
                        self._tell(Event(*key, text))
                for kind, study in known.keys() - now.keys():
                    if kind == "study":
                        self._tell(Event(kind, study, _arriving_json(study, None)))
                known = now
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            self._tell(None)  # also when the database went away: browsers come back by themselves

    def _tell(self, event: Event | None) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:  # a browser that does not read: end it, it comes back
                self._listeners.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def _look(self) -> dict[tuple[Kind, str], str]:
        since = datetime.now(UTC) - _LOOK_BACK
        seen: dict[tuple[Kind, str], str] = {
            ("job", job.id): job_json(view_job(job)) for job in self._jobs.moving(ended_since=since)
        }
        for study, count in self._studies.arriving().items():
            seen["study", study] = _arriving_json(study, count)
        self._worklist.look()
        for case in self._worklist.moving(since=since):
            seen["case", case.id] = _case_json(case)
        return seen


def _case_json(case: CaseView) -> str:
    told = {
        "id": case.id,
        "study": case.study_id,
        "state": case.state,
        "holder": case.holder,
        "assigned_to": case.assigned_to,
        "changed_at": case.changed_at.isoformat(),
    }
    return json.dumps(told)


def _arriving_json(study: str, count: int | None) -> str:
    return json.dumps({"id": study, "arriving": count})
