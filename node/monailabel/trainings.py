"""`/train`: the node learns from what was corrected, asked for by a MONAI Label client.

What the client calls a training is two things here: a dataset that is frozen of all corrections of
the model, and the training that learns from it. It makes a candidate; a person promotes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom.errors import InvalidRequest, NotFound
from models.bundle import Bundle
from node.auth import AdminCaller, ClinicalCaller
from node.parts import FrontParts, parts_of
from pipelines.learning import learn_from_corrections
from pipelines.store import FreezingView, TrainingView

router = APIRouter(prefix="/monailabel/train", tags=["monailabel"])

_MINUTES: Final = 60.0
_SHOWN: Final = 20

Status = Literal["RUNNING", "DONE", "ERROR", "CANCELED"]
Params = dict[str, Any] | None


class TrainParams(BaseModel):
    """What is understood of a client's params: its table shows `minutes`, and sends it as text."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    minutes: float = Field(_MINUTES, ge=0.01, le=100_000)


@dataclass(frozen=True, slots=True)
class Learning:
    """One wish to learn: the dataset, and the training that follows, as soon as there is one."""

    freezing: FreezingView
    training: TrainingView | None

    @property
    def status(self) -> Status:
        """How it stands, in MONAI Label's words."""
        last = self.training or self.freezing
        if self.freezing.is_open or last.state in ("scheduled", "in_progress"):
            return "RUNNING"
        if last.state == "completed":
            return "DONE"
        return "CANCELED" if last.error_code == "canceled" else "ERROR"

    @property
    def said(self) -> str:
        """How it stands, in a sentence."""
        last = self.training or self.freezing
        if last.error_message:
            return f"{last.error_code}: {last.error_message}"
        if self.training is None:
            read = f"{self.freezing.done} of {self.freezing.total} cases read"
            return f"making a dataset of the corrections: {read}"
        made = f", made {self.training.candidate}" if self.training.candidate else ""
        doing = self.training.step if self.status == "RUNNING" else "done"
        return f"{self.training.bundle}: {doing}, {len(self.training.epochs)} epochs{made}"

    def told(self) -> dict[str, Any]:
        """Return it as a server of MONAI Label does."""
        last = self.training or self.freezing
        ended = None if self.status == "RUNNING" else _stamp(last.ended_at)
        return {
            "id": self.freezing.id,
            "model": self.freezing.name,
            "status": self.status,
            "start_ts": _stamp(self.freezing.asked_at),
            "end_ts": ended,
            "details": [self.said],
            "result": {"candidate": self.training.candidate if self.training else None},
        }

    def figures(self) -> dict[str, Any]:
        """Return how far it has come, for a client's bars; the score is that of the validation."""
        training = self.training
        if training is None or not training.epochs:
            return {}
        known = {
            "best_metric": max(epoch.score for epoch in training.epochs),
            "epoch": len(training.epochs),
            "total_epochs": max(1, round(len(training.epochs) / max(training.progress, 0.01))),
        }
        return known if self.status == "RUNNING" else {**known, "total_time": training.used_s}


def trainers(parts: FrontParts) -> dict[str, Any]:
    """Return the models that corrections can teach."""
    return {
        bundle.identity: {
            "description": "A new version, from all that readers corrected; a person promotes it",
            "config": {"minutes": _MINUTES},
        }
        for bundle in parts.registry.allowed()
        if _can_learn(bundle)
    }


def train_stats(parts: FrontParts) -> dict[str, Any]:
    """Return how far the newest training of each model has come, the newest first."""
    found: dict[str, Any] = {}
    for one in _asked(parts):
        figures = one.figures()
        if figures:
            found.setdefault(one.freezing.name, figures)
    return found


@router.get("/")
def status(
    request: Request, _caller: ClinicalCaller, all: bool = False, check_if_running: bool = False
) -> Any:  # noqa: ANN401 - two answers, as the real server has them
    """Tell how the newest training stands that was asked for so, or all of them."""
    known = list(_asked(parts_of(request)))
    if check_if_running and not any(one.status == "RUNNING" for one in known):
        raise NotFound("no training is running")
    if not known:
        raise NotFound("nobody asked for a training yet")
    return [one.told() for one in known] if all else known[0].told()


@router.post("/")
def train_all(request: Request, caller: AdminCaller, params: Params = None) -> dict[str, Any]:
    """Learn; where several models could, the client says which."""
    names = list(trainers(parts_of(request)))
    if len(names) != 1:
        raise InvalidRequest("say which model shall learn")
    return train(names[0], request, caller, params)


@router.post("/{model}")
def train(
    model: str, request: Request, caller: AdminCaller, params: Params = None
) -> dict[str, Any]:
    """Learn from all that was corrected of a model; its current version stays until promoted."""
    parts = parts_of(request)
    bundle = parts.registry.installed(model)
    if not _can_learn(bundle):
        raise InvalidRequest("that model draws no segments that could be corrected")
    try:
        wanted = TrainParams.model_validate(params or {})
    except ValidationError:
        raise InvalidRequest("minutes: a number above 0") from None
    made = learn_from_corrections(
        parts.school, model=bundle.identity, asked_by=caller.name, minutes=wanted.minutes
    )
    parts.audit.note("dataset_asked", actor=caller.name, object=made.id, reason=made.name)
    parts.bell.ring()
    return Learning(made, None).told()


@router.delete("/")
def stop(request: Request, caller: AdminCaller) -> dict[str, Any]:
    """Call what runs off; what was learnt so far stays in its folder."""
    parts = parts_of(request)
    running = [one for one in _asked(parts) if one.status == "RUNNING"]
    if not running:
        raise NotFound("no training is running")
    for one in running:
        if one.training is not None:
            parts.school.trainings.cancel(one.training.id)
            parts.audit.note("training_canceled", actor=caller.name, object=one.training.id)
        else:
            parts.school.freezings.cancel(one.freezing.id)
            parts.audit.note("dataset_canceled", actor=caller.name, object=one.freezing.id)
    parts.bell.ring()
    return next(iter(_asked(parts))).told()


def _asked(parts: FrontParts) -> Iterator[Learning]:
    """Yield what people asked the node to learn, the newest first."""
    for freezing in parts.school.freezings.all(limit=_SHOWN):
        if freezing.then is not None:
            training = freezing.training_id
            yield Learning(
                freezing, None if training is None else parts.school.trainings.training(training)
            )


def _can_learn(bundle: Bundle) -> bool:
    return bool(bundle.segments) and bundle.prompts is None


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"
