"""Trainings: asked for, followed, called off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from dicom.errors import NotFound
from models.learning.graph import read_graph
from models.learning.watching import looks_of
from node.api.learning.pictures import PNG, picture
from node.api.learning.plans import TrainingRequest
from node.auth import LEARNING_ROLES, Caller, Guard, LearningCaller
from node.parts import FrontParts, parts_of
from pipelines.learning import cancel, order_training
from pipelines.store import TrainingView

router = APIRouter(prefix="/api/learning", tags=["learning"])

_listening: Final = Guard(*LEARNING_ROLES, note_use=False)
_LOOK_EVERY_S: Final = 1.0
_KEEP_ALIVE_S: Final = 15.0


@router.get("/trainings")
def trainings(
    request: Request, caller: LearningCaller, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[TrainingView]:
    """Return trainings, the newest first, without their curves."""
    return parts_of(request).school.trainings.all(limit=limit)


@router.post("/trainings", status_code=201)
def ask_training(asked: TrainingRequest, request: Request, caller: LearningCaller) -> TrainingView:
    """Ask for a training; it begins when no other runs."""
    return begin_training(parts_of(request), caller, asked)


@router.get("/trainings/{training}")
def training(training: str, request: Request, caller: LearningCaller) -> TrainingView:
    """Return one with its learning curve."""
    return parts_of(request).school.trainings.training(training)


@router.post("/trainings/{training}/cancel")
def cancel_training(training: str, request: Request, caller: LearningCaller) -> TrainingView:
    """Call a training off; what it has learnt so far stays."""
    return end_training(parts_of(request), caller, training)


@router.get("/trainings/{training}/pictures/{name}", response_class=Response, responses=PNG)
def training_picture(
    training: str, name: str, request: Request, caller: LearningCaller
) -> Response:
    """Return a picture: EPOCH-NUMBER of an unseen case, or SPLIT-worst-NUMBER of an evaluation."""
    found = pictures_of(parts_of(request), training).get(name)
    if found is None:
        raise NotFound("no such picture")
    try:
        return picture(found.read_bytes())
    except FileNotFoundError:
        raise NotFound("the picture is gone") from None


@router.get(
    "/trainings/{training}/events",
    dependencies=[Depends(_listening)],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def training_events(training: str, request: Request) -> StreamingResponse:
    """Stream a training as it changes, until it ends."""
    parts = parts_of(request)
    first = await asyncio.to_thread(parts.school.trainings.training, training)
    return StreamingResponse(
        _told(request, parts, first),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


def begin_training(parts: FrontParts, caller: Caller, asked: TrainingRequest) -> TrainingView:
    """Ask for a training, note it on the trail, wake the worker."""
    made = order_training(
        parts.school,
        dataset=asked.dataset,
        name=asked.name,
        version=asked.version,
        asked_by=caller.name,
        changes=asked.changes,
        graph=None if asked.graph is None else read_graph(asked.graph),
        start_from=asked.start_from,
        minutes=asked.minutes,
        device=asked.device,
        launcher=asked.launcher,
        seed=asked.seed,
        at_once=asked.at_once,
    )
    return noted(parts, caller, made)


def noted(parts: FrontParts, caller: Caller, made: TrainingView) -> TrainingView:
    """Note on the trail who asked for a training, and wake the worker."""
    parts.audit.note("training_asked", actor=caller.name, object=made.id, reason=made.bundle)
    parts.bell.ring()
    return made


def end_training(parts: FrontParts, caller: Caller, training_id: str) -> TrainingView:
    """Call a training off, and note it on the trail."""
    cancel(parts.school, training_id)
    parts.audit.note("training_canceled", actor=caller.name, object=training_id)
    parts.bell.ring()
    return parts.school.trainings.training(training_id)


def pictures_of(parts: FrontParts, training_id: str) -> Mapping[str, Path]:
    """Return a training's pictures by their names."""
    run = parts.school.run_folder(parts.school.trainings.training(training_id).id)
    looks = {path.stem: path for paths in looks_of(run).values() for path in paths}
    worst = {f"{path.parent.name}-{path.stem}": path for path in run.glob("*/worst-*.png")}
    return {**looks, **worst}


async def _told(request: Request, parts: FrontParts, seen: TrainingView) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    told, quiet_since = "", time.monotonic()
    while True:
        text = json.dumps(
            {"id": seen.id, "state": seen.state, "step": seen.step, "progress": seen.progress}
            | {"epochs": len(seen.epochs), "place": seen.place}
        )
        if text != told:
            yield f"event: training\ndata: {text}\n\n".encode()
            told, quiet_since = text, time.monotonic()
        if seen.state in ("completed", "canceled"):
            yield b"event: end\ndata: {}\n\n"
            return
        if time.monotonic() - quiet_since > _KEEP_ALIVE_S:
            if await asyncio.to_thread(parts.auth.caller, request, note_use=False) is None:
                yield b"event: logout\ndata: {}\n\n"
                return
            yield b": still here\n\n"
            quiet_since = time.monotonic()
        await asyncio.sleep(_LOOK_EVERY_S)
        if await request.is_disconnected() or getattr(request.app.state, "is_closing", False):
            return
        seen = await asyncio.to_thread(parts.school.trainings.training, seen.id)
