"""Routes: the rules, and why each took a series or did not."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from pydantic import TypeAdapter

from dicom.volume import SeriesFacts
from node.auth import AnyCaller
from node.parts import FrontParts, parts_of
from pipelines.routing import Check, Route, explain

router = APIRouter(prefix="/api/routes", tags=["routes"])

_FACTS = TypeAdapter(SeriesFacts)


@dataclass(frozen=True, slots=True)
class RouteExplained:
    """One rule and one series: each condition, what was found, whether it holds."""

    route: str
    matched: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class SeriesExplained:
    """One series and every rule; no rules while it was not de-identified yet."""

    series: str
    modality: str
    deidentified: bool
    routes: tuple[RouteExplained, ...]


@router.get("")
def routes(request: Request, _caller: AnyCaller) -> list[Route]:
    """List the rules, in the order in which they are asked."""
    return list(parts_of(request).routes)


@router.get("/explain/{study}")
def explain_study(study: str, request: Request, _caller: AnyCaller) -> list[SeriesExplained]:
    """Say for each series of a study why each rule took it, or why not."""
    parts = parts_of(request)
    parts.studies.study(study)
    return explained(parts, study)


def explained(parts: FrontParts, study: str) -> list[SeriesExplained]:
    """Return each series of a study, our own results apart, with every rule looked at."""
    answers = []
    for series in parts.studies.series_of(study):
        if series.ours:
            continue
        rules: tuple[RouteExplained, ...] = ()
        if series.facts is not None:
            facts = _FACTS.validate_python(dict(series.facts))
            looked_at = [explain(facts, route) for route in parts.routes]
            rules = tuple(RouteExplained(e.route, e.matched, e.checks) for e in looked_at)
        answers.append(SeriesExplained(series.id, series.modality, series.facts is not None, rules))
    return answers
