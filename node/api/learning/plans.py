"""What a training would do, and the samples that an augmentation graph makes; nothing runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from models.designs.tracing import Figures
from models.learning.graph import read_graph
from models.learning.planning import Plan, trace_plan
from node.api.learning.pictures import PNG, picture
from node.auth import LearningCaller
from node.parts import FrontParts, parts_of
from node.previews import Previews
from pipelines.learning import School, changed_plan, plan_training
from pipelines.store import LauncherName

router = APIRouter(prefix="/api/learning", tags=["learning"])


class Asked(BaseModel):
    """What a request says; nothing else is taken."""

    model_config = ConfigDict(extra="forbid")


class Lesson(Asked):
    """What is learnt from, the seed of all that is drawn, and where it shall learn."""

    dataset: str = Field(max_length=130)
    seed: int = Field(0, ge=0)
    device: str = Field("auto", max_length=16, description="auto, cpu, cuda or cuda:1")


class PlanRequest(Lesson):
    """What shall be learnt; `changes` are fields of the plan, in place of what the node plans."""

    start_from: str | None = Field(None, max_length=130, description="a bundle, NAME@VERSION")
    minutes: float | None = Field(None, ge=0.01, le=100_000)
    changes: dict[str, Any] = Field(default_factory=dict)


class Order(Lesson):
    """What shall come of it, and where and when it learns: the same for one model and for two."""

    name: str = Field(max_length=64, description="of the bundle that comes of it")
    version: str | None = Field(None, max_length=32, description="null: the next one")
    launcher: LauncherName | None = Field(
        None, description="where it learns; null: where the settings say"
    )
    at_once: bool = Field(default=True, description="also outside quiet hours")


class TrainingRequest(PlanRequest, Order):
    """A training."""

    graph: str | dict[str, Any] | None = Field(
        None, description="of augmentation: TOML, JSON, or the object"
    )


class GraphRequest(Asked):
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
    return as_planned(planned(parts_of(request), asked))


@router.post("/graphs/preview")
def graph_preview(asked: GraphRequest, request: Request, caller: LearningCaller) -> GraphPreview:
    """Return some of the samples that a graph makes; an invalid one is refused with its place."""
    key, made = previewed(request, asked)
    return GraphPreview(dict(made.counts), made.shown, f"/api/learning/previews/{key}")


@router.get("/previews/{key}", response_class=Response, responses=PNG)
def preview_picture(key: str, request: Request, caller: LearningCaller) -> Response:
    """Return the picture of a preview, for as long as the front remembers it."""
    previews: Previews = request.app.state.previews
    return picture(previews.picture(key))


def as_planned(made: Plan) -> PlannedTraining:
    """Return a plan with what its network comes to."""
    traced = trace_plan(made)
    return PlannedTraining(
        plan=made.model_dump(mode="json", by_alias=True, exclude={"why"}),
        why=dict(made.why),
        blocks=traced.blocks,
        parameters=traced.parameters,
        sees=traced.sees,
        step_bytes=traced.step_bytes,
    )


def planned(parts: FrontParts, asked: PlanRequest) -> Plan:
    """Return what a training would do."""
    known = parts.school.shelf.get(asked.dataset).dataset
    made = _plan_of(
        parts.school,
        known.identity,
        known.sha256,
        asked.start_from,
        asked.minutes,
        asked.seed,
        asked.device,
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
    device: str,
) -> Plan:
    """Return the node's own plan; it reads every image, and a page asks at each click."""
    return plan_training(
        school,
        dataset=dataset,
        start_from=start_from,
        minutes=minutes,
        seed=seed,
        device=device,
    )


def previewed(request: Request, asked: GraphRequest) -> tuple[str, Any]:
    """Return a preview's key, and the preview."""
    graph = read_graph(asked.graph)
    folder = parts_of(request).school.shelf.get(asked.dataset)
    previews: Previews = request.app.state.previews
    document = graph.model_dump(mode="json", by_alias=True)
    return previews.make(folder.root, document, draw=asked.draw)
