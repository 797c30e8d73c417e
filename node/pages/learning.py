"""`/learning`: datasets, trainings as they run, models and which version of each is current."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markdown_it import MarkdownIt
from markupsafe import Markup

from dicom.errors import NotFound, RadloopError
from models.learning.comparison import Comparison, in_unit
from models.learning.watching import looks_of
from node.api.learning.alarms import settle_alarm
from node.api.learning.models import (
    docs_of,
    policy_of,
    promote_model,
    roll_model_back,
    withdraw_model,
)
from node.api.learning.trainings import end_training
from node.auth import AdminCaller, Caller, LearningCaller
from node.faults import Fault, fault, fault_of, status_of
from node.pages.curves import curve
from node.pages.render import render
from node.parts import FrontParts, parts_of
from pipelines.learning.reporting import CARDS, REPORT
from pipelines.store import AlarmView, EvaluationView, TrainingView

router = APIRouter(include_in_schema=False)

_SHOWN_SETTLED: Final = 3
_SHOWN_VALUES: Final = 12
FIGURES: Final = {
    "dice": "Dice",
    "surface_dice": "Surface Dice",
    "hausdorff95_mm": "HD95, mm",
    "volume_error": "Volume error",
    "added_path_mm": "Added path, mm",
    "correct": "Correct",
    "ap50": "Average precision",
    "found": "Found",
    "right": "Right boxes",
}
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
KINDS: Final = {
    "input": "Other images than before",
    "greys": "Other grey values",
    "effort": "Readers draw more",
    "empty": "More empty results",
    "odd": "Amounts that it hardly ever gave",
    "training": "A training failed",
}
DOING: Final = {
    "waiting": "Waiting for its turn",
    "learning": "Learning",
    "paused": "Paused: other work comes first",
    "bundling": "Writing the bundle",
    "measuring": "Measuring it on patients that nobody learnt from",
    "deciding": "Asking the policy",
    "done": "Done",
}


@router.get("/learning", response_class=HTMLResponse)
def learning_page(request: Request, caller: LearningCaller) -> Response:
    """Show what learns, what was learnt, and which version of each model is current."""
    parts = parts_of(request)
    return render(
        "learning.html",
        caller=caller,
        version=parts.version,
        trainings=parts.school.trainings.all(limit=50),
        versions=parts.school.versions.all(),
        alarms=_alarms(parts),
        kinds=KINDS,
        doing=DOING,
        has_datasets=bool(parts.school.shelf.names()),
    )


@router.post("/learning/alarms/{alarm}/settle")
def settle(alarm: str, request: Request, caller: LearningCaller) -> Response:
    """Say that one has seen to an alarm."""
    settle_alarm(parts_of(request), caller, alarm)
    return RedirectResponse("/learning", status_code=303)


def _alarms(parts: FrontParts) -> list[AlarmView]:
    """Return the open alarms, and the last that somebody has seen to."""
    every = parts.school.alarms.all()
    settled = [one for one in every if one.settled_at is not None]
    return [*(one for one in every if one.settled_at is None), *settled[:_SHOWN_SETTLED]]


# --- trainings ----------------------------------------------------------------------------------


@router.get("/learning/trainings/{training}", response_class=HTMLResponse)
def training_page(training: str, request: Request, caller: LearningCaller) -> Response:
    """Show a training; while it runs the page follows it."""
    return _training(request, caller, training, "training.html")


@router.get("/fragments/learning/trainings/{training}", response_class=HTMLResponse)
def training_fragment(training: str, request: Request, caller: LearningCaller) -> Response:
    """Return what of a training's page changes."""
    return _training(request, caller, training, "_training.html")


@router.post("/learning/trainings/{training}/cancel")
def cancel(training: str, request: Request, caller: LearningCaller) -> Response:
    """Call a training off."""
    end_training(parts_of(request), caller, training)
    return RedirectResponse(f"/learning/trainings/{training}", status_code=303)


def _training(request: Request, caller: Caller, training: str, template: str) -> Response:
    parts = parts_of(request)
    found = parts.school.trainings.training(training)
    looks = looks_of(parts.school.run_folder(found.id))
    epochs = sorted(looks, reverse=True)
    shown = [epochs[0], epochs[len(epochs) // 2], epochs[-1]] if epochs else []
    return render(
        template,
        caller=caller,
        version=parts.version,
        training=found,
        names=_class_names(parts, found),
        doing=DOING,
        fault=fault_of(found.error_code, found.error_message),
        loss=curve(found.epochs, "loss", title="Loss"),
        score=curve(found.epochs, "score", title="Score on validation", top=1.0),
        looks=[(epoch, [path.stem for path in looks[epoch]]) for epoch in dict.fromkeys(shown)],
        left=_seconds_left(found),
    )


def _class_names(parts: FrontParts, training: TrainingView) -> dict[str, str]:
    try:
        classes = parts.school.shelf.get(training.dataset).dataset.classes
    except NotFound:  # the dataset's folder was removed meanwhile
        return {}
    return {str(number): name for number, name in classes.items()}


def _seconds_left(training: TrainingView) -> float | None:
    """Return about how long it will learn on, by the share that is learnt."""
    if training.step != "learning" or training.started_at is None or training.progress <= 0.01:
        return None
    epochs = training.epochs
    spent = sum(one.seconds for one in epochs)
    if not spent:
        spent = (datetime.now(UTC) - training.started_at).total_seconds()
    return spent * (1 - training.progress) / training.progress


# --- models -------------------------------------------------------------------------------------


@router.get("/learning/models/{identity}", response_class=HTMLResponse)
def model_page(identity: str, request: Request, caller: LearningCaller) -> Response:
    """Show a version: its figures beside the current one, the worst cases, what was decided."""
    return _model(request, caller, identity, None)


@router.get("/learning/models/{identity}/card", response_class=HTMLResponse)
def model_card(identity: str, request: Request, caller: LearningCaller) -> Response:
    """Show what its bundle says of itself: data, licences, intended use, limits, figures."""
    parts = parts_of(request)
    card = _card_of(docs_of(parts, identity))
    if card is None:
        raise NotFound("the version has no card")
    said = Markup(_MARKDOWN.render(card.read_text("utf-8", "replace")))  # noqa: S704 - no HTML of it
    return render(
        "model_card.html", caller=caller, version=parts.version, identity=identity, said=said
    )


@router.post("/learning/models/{identity}/promote", response_class=HTMLResponse)
def promote(
    identity: str, request: Request, caller: AdminCaller, why: Annotated[str, Form()] = ""
) -> Response:
    """Let it become current."""
    if len(why.strip()) < 3:
        return _model(request, caller, identity, _say_why())
    try:
        promote_model(parts_of(request), caller, identity, why.strip()[:500])
    except RadloopError as error:
        return _model(request, caller, identity, fault(error), status_of(error))
    return RedirectResponse(f"/learning/models/{identity}", status_code=303)


@router.post("/learning/models/{identity}/rollback", response_class=HTMLResponse)
def roll_back(
    identity: str, request: Request, caller: AdminCaller, why: Annotated[str, Form()] = ""
) -> Response:
    """Withdraw it, and return to the version before; its results are listed then."""
    if len(why.strip()) < 3:
        return _model(request, caller, identity, _say_why())
    try:
        roll_model_back(parts_of(request), caller, identity.partition("@")[0], why.strip()[:500])
    except RadloopError as error:
        return _model(request, caller, identity, fault(error), status_of(error))
    return RedirectResponse(f"/learning/models/{identity}", status_code=303)


@router.post("/learning/models/{identity}/withdraw", response_class=HTMLResponse)
def withdraw(
    identity: str, request: Request, caller: AdminCaller, why: Annotated[str, Form()] = ""
) -> Response:
    """Let it never run again; its results are listed then."""
    if len(why.strip()) < 3:
        return _model(request, caller, identity, _say_why())
    try:
        withdraw_model(parts_of(request), caller, identity, why.strip()[:500])
    except RadloopError as error:
        return _model(request, caller, identity, fault(error), status_of(error))
    return RedirectResponse(f"/learning/models/{identity}", status_code=303)


def _say_why() -> Fault:
    return Fault("invalid_request", "say why", "A few words; they are kept with it.", "person")


def _model(
    request: Request, caller: Caller, identity: str, trouble: Fault | None, status: int = 422
) -> Response:
    parts = parts_of(request)
    version = parts.school.versions.version(identity)
    current = parts.school.versions.current(version.name)
    docs = docs_of(parts, identity)
    measured = sorted(parts.school.versions.evaluations(identity), key=lambda e: e.split != "test")
    evaluations = [(one, _compared(one)) for one in measured]
    page = render(
        "model.html",
        caller=caller,
        version=parts.version,
        model=version,
        current=current,
        is_stopped=version.name in parts.school.versions.stopped(),
        evaluations=evaluations,
        figures_of=_names_of,
        policy=policy_of(parts, identity),
        has_card=_card_of(docs) is not None,
        has_report=REPORT in docs,
        results=parts.school.versions.results_of(identity) if version.stage == "withdrawn" else [],
        fault=trouble,
        interval=_interval,
    )
    if trouble is not None:
        page.status_code = status
    return page


def _card_of(docs: Mapping[str, Path]) -> Path | None:
    return next((docs[name] for name in CARDS if name in docs), None)


def _names_of(compared: Comparison) -> dict[str, str]:
    """Return what its figures are called; lengths have the unit that images say."""
    return {figure: in_unit(name, compared.unit) for figure, name in FIGURES.items()}


def _compared(evaluation: EvaluationView) -> Comparison:
    return Comparison.model_validate(evaluation.figures)


def _interval(span: object, *, sign: bool = False) -> Markup:
    """Return a mean with its interval."""
    if span is None:
        return Markup("–")  # noqa: RUF001 - an en dash stands for no value
    mean, low, high = (getattr(span, name) for name in ("mean", "low", "high"))
    form = "{:+.3f}" if sign else "{:.3f}"
    words = Markup('{} <span class="quiet">({} to {})</span>')
    return words.format(form.format(mean), form.format(low), form.format(high))
