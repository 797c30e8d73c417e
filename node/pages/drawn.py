"""`/corrections`: what corrections cost by model and reader, and what of other systems' waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from node.api.effort import efforts
from node.auth import ClinicalCaller
from node.blind import seen_corrections, unseen_by
from node.faults import Fault, fault_of
from node.pages.render import render
from node.pages.studies import identities
from node.parts import FrontParts, parts_of
from node.savings import FEW, savings
from pipelines.store import ElsewhereView, SeriesView

router = APIRouter(include_in_schema=False)

_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Waiting:
    """An object that waits: why, and the series that it may have been drawn on."""

    row: ElsewhereView
    fault: Fault | None
    series: tuple[SeriesView, ...]


@router.get("/corrections", response_class=HTMLResponse)
def corrections_page(request: Request, caller: ClinicalCaller) -> Response:
    """Show what corrections cost, and what waits for a person."""
    parts = parts_of(request)
    rows = parts.elsewhere.objects.objects(state="waiting", limit=_SHOWN)
    drawn = seen_corrections(parts.corrections.measured(), unseen_by(request, caller.name))
    studies = [parts.studies.study(study) for study in {row.study_id: None for row in rows}]
    return render(
        "corrections.html",
        caller=caller,
        version=parts.version,
        efforts=efforts(drawn),
        savings=savings(drawn),
        few=FEW,
        title_of=parts.registry.title_of,
        waiting=[_waiting(parts, row) for row in rows],
        patients=identities(request, caller, studies),
    )


@router.post("/corrections/{object}/match")
def match(
    object: str, request: Request, caller: ClinicalCaller, series: Annotated[str, Form()]
) -> Response:
    """Take an object as drawn on the chosen series, and go back to the page."""
    parts = parts_of(request)
    parts.elsewhere.match_series(object, series, by=caller.name)
    parts.audit.note("elsewhere_matched", actor=caller.name, object=object)
    return RedirectResponse("/corrections", status_code=303)


@router.post("/corrections/{object}/dismiss")
def dismiss(object: str, request: Request, caller: ClinicalCaller) -> Response:
    """Say that an object corrects nothing here, and go back to the page."""
    parts = parts_of(request)
    parts.elsewhere.dismiss(object, by=caller.name)
    parts.audit.note("elsewhere_dismissed", actor=caller.name, object=object)
    return RedirectResponse("/corrections", status_code=303)


def _waiting(parts: FrontParts, row: ElsewhereView) -> Waiting:
    images = parts.elsewhere.images_of(row.study_id)
    return Waiting(row, fault_of(row.reason_code, row.reason), tuple(images))
