"""Cascades: two models that belong together, asked for in one deed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from models.learning.planning import Plan
from node.api.learning.plans import Lesson, Order, PlannedTraining, as_planned
from node.api.learning.trainings import noted
from node.auth import Caller, LearningCaller
from node.parts import FrontParts, parts_of
from pipelines.learning import School, changed_plan, order_cascade, plan_cascade
from pipelines.store import TrainingView

router = APIRouter(prefix="/api/learning", tags=["learning"])


class CascadePlansRequest(Lesson):
    """Both models of a cascade, from a dataset that was taken in by its recipe."""

    minutes: float = Field(60.0, ge=0.01, le=100_000, description="for both")
    first: dict[str, Any] = Field(
        default_factory=dict, description="fields of the plan of the model that looks first"
    )
    second: dict[str, Any] = Field(
        default_factory=dict, description="... and of the one that looks about what it finds"
    )


class CascadeRequest(CascadePlansRequest, Order):
    """What shall be learnt; the name is that of the model that looks second."""


@dataclass(frozen=True, slots=True)
class CascadePlans:
    """What each of both models would do."""

    first: PlannedTraining
    second: PlannedTraining


@router.post("/cascades/plans")
def cascade_plans(
    asked: CascadePlansRequest, request: Request, caller: LearningCaller
) -> CascadePlans:
    """Return what both models of a cascade would do, and why; nothing runs."""
    first, second = planned_cascade(
        parts_of(request), asked.dataset, asked.minutes, asked.seed, asked.device
    )
    return CascadePlans(
        as_planned(changed_plan(first, asked.first)),
        as_planned(changed_plan(second, asked.second)),
    )


def planned_cascade(
    parts: FrontParts, dataset: str, minutes: float, seed: int = 0, device: str = "auto"
) -> tuple[Plan, Plan]:
    """Return the node's own plans of both."""
    known = parts.school.shelf.get(dataset).dataset
    return _plans_of(parts.school, known.identity, known.sha256, minutes, seed, device)


@lru_cache(maxsize=16)
def _plans_of(
    school: School,
    dataset: str,
    sha256: str,  # a part of the key: the same name may be taken in again with other cases
    minutes: float,
    seed: int,
    device: str,
) -> tuple[Plan, Plan]:
    """Return both plans; making them reads every label, and a page asks at each click."""
    return plan_cascade(school, dataset=dataset, minutes=minutes, seed=seed, device=device)


@router.post("/cascades", status_code=201)
def ask_cascade(asked: CascadeRequest, request: Request, caller: LearningCaller) -> TrainingView:
    """Ask for both models of a cascade; return the training of the first, the second follows it."""
    return begin_cascade(parts_of(request), caller, asked)


def begin_cascade(parts: FrontParts, caller: Caller, asked: CascadeRequest) -> TrainingView:
    """Ask for both, note it on the trail, wake the worker."""
    made = order_cascade(
        parts.school,
        dataset=asked.dataset,
        name=asked.name,
        version=asked.version,
        asked_by=caller.name,
        minutes=asked.minutes,
        device=asked.device,
        launcher=asked.launcher,
        seed=asked.seed,
        at_once=asked.at_once,
        first=asked.first,
        second=asked.second,
    )
    return noted(parts, caller, made)
