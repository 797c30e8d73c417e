"""Blind reading at the door: what one reader of an open round did is hidden from all others.

`pipelines.store.Rounds.unseen_by` says what; here is where it is taken out of what the front shows.
Of the archive's own DICOMweb answers a middleware takes it out, so that the viewer sees no more
than the API tells. Only corrections are hidden: models' results are everybody's.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom.errors import NotFound
from node.parts import FrontParts, parts_of
from pipelines.store import AssessmentView, CorrectionView, Unseen

_NOBODY: Final = ""  # sees least: what is hidden from anyone is hidden from nobody
_LOOK_EVERY_S: Final = 1.0
_SERIES: Final = "0020000E"
_INSTANCES_OF_STUDY: Final = re.compile(r"/dicom-web/studies/[0-9.]+(/rendered|/thumbnail)?/?$")
_NOT_FOUND: Final = json.dumps(
    {
        "code": NotFound.code,
        "message": "there is nothing at this address",
        "advice": NotFound.advice,
        "acts": "person",
    }
).encode()


def unseen_by(request: Request, user: str) -> Unseen:
    """Return what that person may not see yet."""
    return parts_of(request).reading.rounds.unseen_by(user)


def seen_corrections(rows: Iterable[CorrectionView], unseen: Unseen) -> list[CorrectionView]:
    """Return the corrections that may be seen."""
    return [row for row in rows if not unseen.covers(row.study_id, row.author, row.created_at)]


def is_seen(said: AssessmentView, unseen: Unseen) -> bool:
    """Whether an assessment may be seen."""
    return not unseen.covers(said.study_id, said.author, said.created_at)


def check_seen(parts: FrontParts, result_id: str, unseen: Unseen) -> None:
    """Make sure that what somebody wants to judge is theirs to see.

    Raises
    ------
    NotFound
        When it is hidden.
    """
    if not unseen:
        return
    try:
        drawn = parts.corrections.correction(result_id)
    except NotFound:  # a model's result, or from elsewhere
        return
    if not seen_corrections([drawn], unseen):
        raise NotFound("no such result")


class BlindArchive:
    """ASGI middleware: takes hidden series out of what `/dicom-web` answers.

    While nothing is hidden, which is nearly always, every answer goes through untouched.

    Parameters
    ----------
    app : ASGIApp
        What answers.
    parts : FrontParts
        Of the front.
    """

    def __init__(self, app: ASGIApp, *, parts: FrontParts) -> None:
        self._app = app
        self._rounds = parts.reading.rounds
        self._looked_at = -math.inf
        self._any = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/dicom-web/"):
            await self._app(scope, receive, send)
            return
        if not await self._anything_hidden():
            await self._app(scope, receive, send)
            return
        scope = {**scope, "headers": _without_compression(scope["headers"])}
        state: dict[str, Any] = scope.setdefault("state", {})
        started: Message | None = None
        hidden: frozenset[str] = frozenset()
        body = bytearray()

        async def look(message: Message) -> None:
            nonlocal started, hidden
            if message["type"] == "http.response.start":
                caller = state.get("caller")
                hidden = await run_in_threadpool(self._hidden_from, caller.name if caller else "")
                if hidden and _asks_for(scope, hidden):
                    await _refuse(send)
                    started = {"refused": True}
                elif hidden and _is_json(message):
                    started = message
                else:
                    await send(message)
            elif started is None:
                await send(message)
            elif "refused" not in started:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await _send_without(hidden, started, bytes(body), send)

        await self._app(scope, receive, look)

    async def _anything_hidden(self) -> bool:
        """Whether any round is open: asked once a second, since a viewer asks for every slice.

        A round hides what is done after its beginning; nobody saves within a second of it.
        """
        if time.monotonic() - self._looked_at > _LOOK_EVERY_S:
            self._any = bool(await run_in_threadpool(self._rounds.unseen_by, _NOBODY))
            self._looked_at = time.monotonic()
        return self._any

    def _hidden_from(self, user: str) -> frozenset[str]:
        return self._rounds.hidden_series(self._rounds.unseen_by(user))


def _asks_for(scope: Scope, hidden: frozenset[str]) -> bool:
    """Whether a request names a hidden series, or wants all instances of a study at once."""
    path = unquote(scope["path"])
    if any(part in hidden for part in path.split("/")):
        return True
    return bool(_INSTANCES_OF_STUDY.search(path)) and scope["method"] == "GET"


def _without_compression(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    gone = (b"accept-encoding", b"if-none-match", b"range")
    return [(name, value) for name, value in headers if name.lower() not in gone]


def _is_json(message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return "json" in kind


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_NOT_FOUND)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": _NOT_FOUND})


async def _send_without(hidden: frozenset[str], start: Message, body: bytes, send: Send) -> None:
    """Send a DICOM JSON answer (PS3.18 F.2) without the datasets of hidden series."""
    try:
        datasets = json.loads(body) if body else []
    except ValueError:
        datasets = None
    if isinstance(datasets, list):
        kept = [one for one in datasets if _series_of(one) not in hidden]
        body = json.dumps(kept, separators=(",", ":")).encode() if body else body
    headers = MutableHeaders(raw=list(start["headers"]))
    del headers["etag"]
    headers["content-length"] = str(len(body))
    headers["cache-control"] = "no-store"
    await send({**start, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})


def _series_of(dataset: object) -> str | None:
    element = dataset.get(_SERIES) if isinstance(dataset, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]) if values else None
