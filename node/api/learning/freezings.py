"""Datasets that people ask for: which readings a rule takes, and how far the worker has got."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from node.api.learning.plans import Asked
from node.auth import Caller, LearningCaller
from node.parts import FrontParts, parts_of
from pipelines.learning import Fusion, Picked, ask_dataset, fitting
from pipelines.store import FreezingView

router = APIRouter(prefix="/api/learning", tags=["learning"])


class Rule(Asked):
    """Which readings become cases; all that is given must hold."""

    verdicts: tuple[Literal["accepted", "modified"], ...] = Field(
        ("accepted", "modified"),
        min_length=1,
        description="modified: what people drew; accepted: results that they found right",
    )
    models: tuple[str, ...] = Field((), description="it began with a result of one of these")
    readers: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = Field((), description="taken by one of these routes")
    modalities: tuple[str, ...] = ()
    description: str = Field(
        "", max_length=200, description="a regular expression, of the series' description"
    )
    since: datetime | None = None
    series: tuple[str, ...] = Field((), description="picked by hand; none: all that fit")
    classes: dict[str, str] = Field(
        default_factory=dict, description="a segment's label to the class it counts as; -: left out"
    )
    fusion: Fusion = Field("staple", description="of several people's readings of one series")

    def picked(self) -> Picked:
        """Return it as a value.

        Raises
        ------
        InvalidSettings
            When the description is no regular expression.
        """
        return Picked(**self.model_dump())


class Following(Asked):
    """The training that follows a dataset."""

    name: str = Field(max_length=64, description="of the model")
    minutes: float = Field(60, ge=0.01, le=100_000)
    start_from: str | None = Field(
        None, max_length=130, description="a bundle; one that does not say how it was trained: none"
    )
    at_once: bool = Field(default=True, description="also outside quiet hours")


class FreezingRequest(Asked):
    """A dataset of readings, and the training that follows; null: none does."""

    name: str = Field(max_length=64)
    rule: Rule = Field(default_factory=Rule)
    validation: float = Field(0.2, ge=0, lt=1, description="share of the patients")
    test: float = Field(0.2, ge=0, lt=1, description="share of the patients; locked")
    then: Following | None = None


@dataclass(frozen=True, slots=True)
class FoundReading:
    """What a person made of a series.

    `description` is the cleaned one of the series.
    """

    id: str
    study: str
    series: str
    verdict: Literal["accepted", "modified"]
    model: str
    route: str
    author: str
    at: datetime
    modality: str
    description: str


@router.get("/readings")
def readings(
    request: Request,
    caller: LearningCaller,
    model: str = "",
    verdict: Literal["", "accepted", "modified"] = "",
    reader: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[FoundReading]:
    """Return what could become cases: people's last words on series, the newest first."""
    rule = Rule(
        models=(model,) if model else (),
        verdicts=(verdict,) if verdict else ("accepted", "modified"),
        readers=(reader,) if reader else (),
    )
    return found_readings(parts_of(request), rule.picked())[:limit]


@router.get("/freezings")
def freezings(request: Request, caller: LearningCaller) -> list[FreezingView]:
    """Return the datasets that people asked for, the newest first."""
    return parts_of(request).school.freezings.all()


@router.post("/freezings", status_code=201)
def freeze(asked: FreezingRequest, request: Request, caller: LearningCaller) -> FreezingView:
    """Ask for the next version of a dataset; the worker makes it."""
    return begin_freezing(parts_of(request), caller, asked)


@router.get("/freezings/{freezing}")
def freezing(freezing: str, request: Request, caller: LearningCaller) -> FreezingView:
    """Return one."""
    return parts_of(request).school.freezings.freezing(freezing)


@router.post("/freezings/{freezing}/cancel")
def cancel(freezing: str, request: Request, caller: LearningCaller) -> FreezingView:
    """End it; nothing of it is kept."""
    return end_freezing(parts_of(request), caller, freezing)


def found_readings(parts: FrontParts, picked: Picked) -> list[FoundReading]:
    """Return the readings that a rule takes, the newest first."""
    chosen = fitting(parts.studies, parts.school.datasets.readings(), picked)
    return [
        FoundReading(
            id=one.id,
            study=one.study_id,
            series=one.series_id,
            verdict=one.verdict,
            model=one.bundle or "",
            route=one.route,
            author=one.author,
            at=one.at,
            modality=series.modality,
            description=str((series.facts or {}).get("description") or ""),
        )
        for one, series in reversed(chosen)
    ]


def begin_freezing(parts: FrontParts, caller: Caller, asked: FreezingRequest) -> FreezingView:
    """Ask for a dataset, note it on the trail, wake the worker."""
    made = ask_dataset(
        parts.school,
        name=asked.name,
        picked=asked.rule.picked(),
        asked_by=caller.name,
        validation=asked.validation,
        test=asked.test,
        then=None if asked.then is None else asked.then.model_dump(),
    )
    parts.audit.note("dataset_asked", actor=caller.name, object=made.id, reason=made.name)
    parts.bell.ring()
    return made


def end_freezing(parts: FrontParts, caller: Caller, freezing_id: str) -> FreezingView:
    """Give a dataset up, and note it on the trail."""
    ended = parts.school.freezings.cancel(freezing_id)
    parts.audit.note("dataset_canceled", actor=caller.name, object=ended.id, reason=ended.name)
    return ended
