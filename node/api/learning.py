"""Learning: datasets, plans, trainings, and which version of a model is current."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import InvalidRequest, NotFound
from models.designs.tracing import Figures
from models.learning.cases import Dataset, Split, difference
from models.learning.graph import read_graph
from models.learning.pictures import as_png, colours_of, painted, sheet, slice_to_show
from models.learning.planning import Plan, trace_plan
from models.learning.watching import looks_of
from node.auth import AdminCaller, Caller, Guard, guard
from node.parts import FrontParts, parts_of
from node.previews import Previews
from pipelines.learning import (
    Policy,
    School,
    cancel,
    changed_plan,
    order_training,
    plan_training,
    promote,
    results_of,
    roll_back,
)
from pipelines.store import EvaluationView, ResultOf, TrainingView, VersionView

router = APIRouter(prefix="/api/learning", tags=["learning"])

LEARNING_ROLES: Final = ("admin", "researcher")
"""Who may train: the data is de-identified."""
LearningCaller = Annotated[Caller, Depends(guard(*LEARNING_ROLES))]
_listening: Final = Guard(*LEARNING_ROLES, note_use=False)

_A_SHEET: Final = 24
_SIDE: Final = 160
_LOOK_EVERY_S: Final = 1.0
_KEEP_ALIVE_S: Final = 15.0
_PNG: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"image/png": {}}}}


# --- datasets -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """A version of a dataset in short; `splits` counts cases, `patients` whose they are."""

    id: str
    task: str
    dimensions: int
    classes: dict[int, str]
    channels: tuple[str, ...]
    modalities: tuple[str, ...]
    splits: dict[Split, int]
    patients: int
    licence: str
    source: str
    sha256: str
    has_codes: bool


@dataclass(frozen=True, slots=True)
class DatasetDifference:
    """What changed from one version to another: ids of cases, names of fields."""

    older: str
    newer: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    image_changed: tuple[str, ...]
    label_changed: tuple[str, ...]
    split_changed: tuple[str, ...]
    fields: tuple[str, ...]


@router.get("/datasets")
def datasets(request: Request, caller: LearningCaller) -> list[DatasetSummary]:
    """Return every version of every dataset, the newest of a name first."""
    return summaries(parts_of(request))


@router.get("/datasets/{dataset}")
def dataset(dataset: str, request: Request, caller: LearningCaller) -> DatasetSummary:
    """Return one version, or the newest of a name."""
    return summary(parts_of(request).school.shelf.get(dataset).dataset)


@router.get("/datasets/{dataset}/difference")
def dataset_difference(
    dataset: str, older: str, request: Request, caller: LearningCaller
) -> DatasetDifference:
    """Return what changed from version `older` to this one."""
    return differing(parts_of(request), older, dataset)


@router.get("/datasets/{dataset}/sheet.png", response_class=Response, responses=_PNG)
def contact_sheet(
    dataset: str,
    request: Request,
    caller: LearningCaller,
    split: Split = "train",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """Return pictures of a split's cases with their labels, the slice with most of them."""
    folder = parts_of(request).school.shelf.get(dataset)
    colours = colours_of(folder.dataset)
    pictures = []
    for case in folder.dataset.of(split)[(page - 1) * _A_SHEET : page * _A_SHEET]:
        label = folder.label(case) if case.label_sha256 else None
        at = slice_to_show(label, case.shape[0])
        flat = None if label is None else label[..., at, :, :]
        pictures.append(painted(folder.image(case)[:, at], flat, colours, side=_SIDE))
    if not pictures:
        raise NotFound("the split has no more cases")
    return _picture(as_png(sheet(pictures, columns=6)))


def summaries(parts: FrontParts) -> list[DatasetSummary]:
    """Return every version of every dataset, the newest of a name first."""
    shelf = parts.school.shelf
    return [summary(shelf.get(name).dataset) for name in reversed(shelf.names())]


def summary(found: Dataset) -> DatasetSummary:
    """Return a dataset in short."""
    return DatasetSummary(
        id=found.identity,
        task=found.task,
        dimensions=found.dimensions,
        classes=dict(found.classes),
        channels=found.channels,
        modalities=found.modalities,
        splits={
            "train": len(found.of("train")),
            "validation": len(found.of("validation")),
            "test": len(found.of("test")),
        },
        patients=len({case.patient for case in found.cases}),
        licence=found.licence,
        source=found.source,
        sha256=found.sha256,
        has_codes=bool(found.segments or found.findings),
    )


def differing(parts: FrontParts, older: str, newer: str) -> DatasetDifference:
    """Return what changed from one version to another."""
    one, other = (parts.school.shelf.get(name).dataset for name in (older, newer))
    return DatasetDifference(one.identity, other.identity, **asdict(difference(one, other)))


# --- plans and graphs ---------------------------------------------------------------------------


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlanRequest(_Asked):
    """What shall be learnt; `changes` are fields of the plan, in place of what the node plans."""

    dataset: str = Field(max_length=130)
    start_from: str | None = Field(None, max_length=130, description="a bundle, NAME@VERSION")
    minutes: float | None = Field(None, ge=0.01, le=100_000)
    seed: int = Field(0, ge=0)
    changes: dict[str, Any] = Field(default_factory=dict)


class TrainingRequest(PlanRequest):
    """A training."""

    name: str = Field(max_length=64, description="of the bundle that comes of it")
    version: str | None = Field(None, max_length=32, description="null: the next one")
    graph: str | dict[str, Any] | None = Field(
        None, description="of augmentation: TOML, JSON, or the object"
    )
    device: str = Field("auto", max_length=16)
    at_once: bool = Field(default=True, description="also outside quiet hours")


class GraphRequest(_Asked):
    """An augmentation graph, and the dataset that it is looked at with."""

    dataset: str = Field(max_length=130)
    graph: str | dict[str, Any] = Field(description="TOML, JSON, or the object")
    draw: int = Field(0, ge=0, description="another one draws anew")


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """A plan, its reasons, and what its network comes to."""

    plan: dict[str, Any]
    why: dict[str, str]
    blocks: tuple[Figures, ...]
    parameters: int
    sees: tuple[int, ...]
    step_bytes: int


@dataclass(frozen=True, slots=True)
class GraphPreview:
    """Samples of a graph: how many come out of each sink, and a picture of some."""

    counts: dict[str, int]
    shown: tuple[str, ...]
    picture: str


@router.post("/plans")
def plan(asked: PlanRequest, request: Request, caller: LearningCaller) -> PlannedTraining:
    """Return what a training would do, and why; nothing runs."""
    made = planned(parts_of(request), asked)
    traced = trace_plan(made)
    return PlannedTraining(
        plan=made.model_dump(mode="json", by_alias=True, exclude={"why"}),
        why=dict(made.why),
        blocks=traced.blocks,
        parameters=traced.parameters,
        sees=traced.sees,
        step_bytes=traced.step_bytes,
    )


@router.post("/graphs/preview")
def graph_preview(asked: GraphRequest, request: Request, caller: LearningCaller) -> GraphPreview:
    """Return some of the samples that a graph makes; an invalid one is refused with its place."""
    key, made = previewed(request, asked)
    return GraphPreview(dict(made.counts), made.shown, f"/api/learning/previews/{key}")


@router.get("/previews/{key}", response_class=Response, responses=_PNG)
def preview_picture(key: str, request: Request, caller: LearningCaller) -> Response:
    """Return the picture of a preview, for as long as the front remembers it."""
    previews: Previews = request.app.state.previews
    return _picture(previews.picture(key))


def planned(parts: FrontParts, asked: PlanRequest) -> Plan:
    """Return what a training would do."""
    known = parts.school.shelf.get(asked.dataset).dataset
    made = _plan_of(
        parts.school, known.identity, known.sha256, asked.start_from, asked.minutes, asked.seed
    )
    return changed_plan(made, asked.changes)


@lru_cache(maxsize=64)
def _plan_of(
    school: School,
    dataset: str,
    sha256: str,  # a part of the key: the same name may be taken in again with other cases
    start_from: str | None,
    minutes: float | None,
    seed: int,
) -> Plan:
    """Return the node's own plan; it reads every image, and a page asks at each click."""
    return plan_training(school, dataset=dataset, start_from=start_from, minutes=minutes, seed=seed)


def previewed(request: Request, asked: GraphRequest) -> tuple[str, Any]:
    """Return a preview's key, and the preview."""
    graph = read_graph(asked.graph)
    folder = parts_of(request).school.shelf.get(asked.dataset)
    previews: Previews = request.app.state.previews
    document = graph.model_dump(mode="json", by_alias=True)
    return previews.make(folder.root, document, draw=asked.draw)


# --- trainings ----------------------------------------------------------------------------------


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


@router.get("/trainings/{training}/pictures/{name}", response_class=Response, responses=_PNG)
def training_picture(
    training: str, name: str, request: Request, caller: LearningCaller
) -> Response:
    """Return a picture: EPOCH-NUMBER of an unseen case, or worst-NUMBER of the evaluation."""
    found = pictures_of(parts_of(request), training).get(name)
    if found is None:
        raise NotFound("no such picture")
    try:
        return _picture(found.read_bytes())
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
        seed=asked.seed,
        at_once=asked.at_once,
    )
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
    looks = [path for paths in looks_of(run).values() for path in paths]
    return {path.stem: path for path in [*looks, *sorted(run.rglob("worst-*.png"))]}


async def _told(request: Request, parts: FrontParts, seen: TrainingView) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    told, quiet_since = "", time.monotonic()
    while True:
        text = json.dumps(
            {"id": seen.id, "state": seen.state, "step": seen.step, "progress": seen.progress}
            | {"epochs": len(seen.epochs)}
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


def _picture(png: bytes) -> Response:
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})


# --- models -------------------------------------------------------------------------------------


class Decision(_Asked):
    """Why somebody decides so."""

    why: str = Field(min_length=3, max_length=500)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model: its standing, what was done with it, its figures."""

    version: VersionView
    evaluations: tuple[EvaluationView, ...]


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What is current now, and the results that the withdrawn version made."""

    current: VersionView
    withdrawn: str
    results: tuple[ResultOf, ...]


@router.get("/models")
def model_versions(request: Request, caller: LearningCaller) -> list[VersionView]:
    """Return every version that this node answers for."""
    return parts_of(request).school.versions.all()


@router.get("/models/{identity}")
def model_version(identity: str, request: Request, caller: LearningCaller) -> ModelVersion:
    """Return one version, ``NAME@VERSION``, with its deeds and figures."""
    versions = parts_of(request).school.versions
    return ModelVersion(versions.version(identity), tuple(versions.evaluations(identity)))


@router.post("/models/{identity}/promote")
def promote_version(
    identity: str, said: Decision, request: Request, caller: AdminCaller
) -> VersionView:
    """Let a version become current; where two people have to, note the first of them."""
    return promote_model(parts_of(request), caller, identity, said.why)


@router.post("/models/{name}/rollback")
def rollback(name: str, said: Decision, request: Request, caller: AdminCaller) -> RolledBack:
    """Withdraw the current version of a model, and return to the one before it."""
    return roll_model_back(parts_of(request), caller, name, said.why)


def promote_model(parts: FrontParts, caller: Caller, identity: str, why: str) -> VersionView:
    """Let a version become current, and note it on the trail."""
    if "@" not in identity:
        raise InvalidRequest("say which version: NAME@VERSION")
    policy = policy_of(parts, identity)
    found = promote(parts.school, identity, by=caller.name, why=why, policy=policy)
    deed: Literal["model_promoted", "model_approved"] = (
        "model_promoted" if found.stage == "current" else "model_approved"
    )
    parts.audit.note(deed, actor=caller.name, object=identity, reason=why)
    parts.bell.ring()
    return found


def policy_of(parts: FrontParts, identity: str) -> Policy:
    """Return what has to be so before a version becomes current."""
    own = parts.policies.get("", Policy())
    try:
        training = parts.school.versions.version(identity).training_id
    except NotFound:  # not signed yet, such as one that was imported
        return own
    if training is None:
        return own
    return parts.policies.get(parts.school.trainings.training(training).rule or "", own)


def roll_model_back(parts: FrontParts, caller: Caller, name: str, why: str) -> RolledBack:
    """Return to the version before, and note it on the trail."""
    before = parts.school.versions.current(name)
    now = roll_back(parts.school, name, by=caller.name, why=why)
    gone = "" if before is None else before.id
    parts.audit.note("model_rolled_back", actor=caller.name, object=gone, reason=why)
    parts.bell.ring()
    return RolledBack(now, gone, tuple(results_of(parts.school, gone)))
