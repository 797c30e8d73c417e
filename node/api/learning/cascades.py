"""Cascades: two models that belong together, asked for in one deed."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import Field

from node.api.learning.plans import Order
from node.api.learning.trainings import noted
from node.auth import Caller, LearningCaller
from node.parts import FrontParts, parts_of
from pipelines.learning import order_cascade
from pipelines.store import TrainingView

router = APIRouter(prefix="/api/learning", tags=["learning"])


class CascadeRequest(Order):
    """Both models of a cascade, from a dataset that was taken in by its recipe.

    The name is that of the model that looks second.
    """

    minutes: float = Field(60.0, ge=0.01, le=100_000, description="for both")


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
    )
    return noted(parts, caller, made)
