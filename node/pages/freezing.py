"""`/learning/datasets/new`: what readers corrected is looked through, picked, and frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from starlette.datastructures import FormData

from dicom.errors import InvalidRequest, RadloopError
from node.api.learning.freezings import (
    Following,
    FoundReading,
    FreezingRequest,
    Rule,
    begin_freezing,
    end_freezing,
    found_readings,
)
from node.auth import Caller, LearningCaller
from node.faults import Fault, fault, fault_of
from node.pages.render import render
from node.parts import FrontParts, parts_of
from pipelines.store import FreezingView

router = APIRouter(include_in_schema=False)

_SHOWN: Final = 60
_MOST_LABELS: Final = 40
_COUNTS_AS: Final = "class:"
_LEFT_OUT: Final = {
    "withdrawn": "the patient has withdrawn",
    "no_identity": "nobody knows whose they are any more",
    "not_in_the_archive": "they are not in the archive any more",
    "locked_by_another_test_set": "the patient is tested by another dataset",
}


async def _sent(request: Request) -> FormData:
    return await request.form(max_fields=5000)


Sent = Annotated[FormData, Depends(_sent)]


@dataclass(slots=True)
class _Form:
    """The form as it was sent, and what is found by it."""

    typed: Mapping[str, str]
    ticked: frozenset[str] = frozenset()
    found: list[FoundReading] = field(default_factory=list)
    fault: Fault | None = None

    def get(self, name: str, default: str = "") -> str:
        """Return a field as it was typed."""
        return self.typed.get(name, default).strip()

    def many(self, name: str) -> tuple[str, ...]:
        """Return a field's one value; nothing where it was left open."""
        value = self.get(name)
        return (value,) if value else ()


@router.get("/learning/datasets/new", response_class=HTMLResponse)
def new_dataset(request: Request, caller: LearningCaller, model: str = "") -> Response:
    """Show what could become a dataset."""
    return _page(parts_of(request), caller, _Form({"model": model}))


@router.post("/learning/datasets/new", response_class=HTMLResponse)
def change_dataset(request: Request, caller: LearningCaller, sent: Sent) -> Response:
    """Show what the filters leave; or ask for the dataset, and go to where it is made."""
    parts = parts_of(request)
    typed = {name: str(value) for name, value in sent.items() if isinstance(value, str)}
    form = _Form(typed, frozenset(str(one) for one in sent.getlist("series")))
    if typed.get("do") != "freeze":
        return _page(parts, caller, form)
    try:
        made = begin_freezing(parts, caller, _request(form))
    except RadloopError as error:
        form.fault = fault(error)
        return _page(parts, caller, form)
    return RedirectResponse(f"/learning/freezings/{made.id}", status_code=303)


@router.get("/learning/freezings/{freezing}", response_class=HTMLResponse)
def freezing_page(freezing: str, request: Request, caller: LearningCaller) -> Response:
    """Show how far a dataset has got."""
    return _freezing(parts_of(request), caller, freezing, "freezing.html")


@router.get("/fragments/learning/freezings/{freezing}", response_class=HTMLResponse)
def freezing_fragment(freezing: str, request: Request, caller: LearningCaller) -> Response:
    """Return what of that page changes."""
    return _freezing(parts_of(request), caller, freezing, "_freezing.html")


@router.post("/learning/freezings/{freezing}/cancel")
def cancel(freezing: str, request: Request, caller: LearningCaller) -> Response:
    """Give a dataset up."""
    end_freezing(parts_of(request), caller, freezing)
    return RedirectResponse(f"/learning/freezings/{freezing}", status_code=303)


def _page(parts: FrontParts, caller: Caller, form: _Form) -> Response:
    parts.reading.worklist.look()  # it makes the cases whose pictures are shown
    every = found_readings(parts, Rule().picked())
    try:
        form.found = found_readings(parts, _rule(form, picks=False).picked())
    except RadloopError as error:
        form.fault = form.fault or fault(error)
    page = render(
        "learning_new_dataset.html",
        caller=caller,
        version=parts.version,
        form=form,
        shown=form.found[:_SHOWN],
        every=len(every),
        studies=len({one.study for one in form.found}),
        models=_counted(one.model.partition("@")[0] for one in every),
        readers=_counted(one.author for one in every),
        workspaces=_counted(one.route for one in every),
        modalities=_counted(one.modality for one in every),
        labels=_labels(parts, form),
        counts_as=_COUNTS_AS,
        names=sorted({name.split("@")[0] for name in parts.school.shelf.names()}),
    )
    if form.fault is not None:
        page.status_code = 400
    return page


def _counted(words: Iterable[str]) -> list[tuple[str, int]]:
    return sorted((word, count) for word, count in Counter(words).items() if word)


def _labels(parts: FrontParts, form: _Form) -> list[str]:
    """Return the names of what the models draw whose results were read."""
    found: dict[str, None] = {}
    for model in sorted({one.model.partition("@")[0] for one in form.found} - {""}):
        try:
            bundle = parts.school.registry.installed(model)
        except RadloopError:
            continue  # it was removed since
        found |= dict.fromkeys(segment.label for segment in bundle.segments)
    return list(found)[:_MOST_LABELS]


def _freezing(parts: FrontParts, caller: Caller, freezing: str, template: str) -> Response:
    found: FreezingView = parts.school.freezings.freezing(freezing)
    return render(
        template,
        caller=caller,
        version=parts.version,
        freezing=found,
        fault=fault_of(found.error_code, found.error_message),
        left_out=[(count, _LEFT_OUT.get(why, why)) for why, count in found.left_out.items()],
    )


# --- what was typed -----------------------------------------------------------------------------


def _rule(form: _Form, *, picks: bool) -> Rule:
    """Return the rule of the filters; `picks`: with the cases that were ticked, and the labels.

    Raises
    ------
    InvalidRequest
        When it makes no sense; the message names the field.
    """
    fields: dict[str, object] = {
        "models": form.many("model"),
        "readers": form.many("reader"),
        "workspaces": form.many("workspace"),
        "modalities": form.many("modality"),
        "description": form.get("description"),
        "since": _day(form.get("since")),
    }
    if form.get("verdict"):
        fields["verdicts"] = form.many("verdict")
    if picks:
        fields |= {"classes": _classes(form), "fusion": form.get("fusion", "staple")}
    if picks and form.ticked:
        fields["series"] = tuple(sorted(form.ticked))
    try:
        return Rule.model_validate(fields)
    except ValidationError as error:
        raise _refused(error) from None


def _request(form: _Form) -> FreezingRequest:
    then = None
    if form.get("then") == "train":
        then = {
            "name": form.get("train_name") or form.get("model"),
            "minutes": form.get("minutes", "60"),
            "start_from": form.get("model") if form.get("begin") == "current" else None,
            "at_once": form.get("when", "now") == "now",
        }
    try:
        return FreezingRequest(
            name=form.get("name"),
            rule=_rule(form, picks=True),
            validation=_percent(form, "validation"),
            test=_percent(form, "test"),
            then=None if then is None else Following.model_validate(then),
        )
    except ValidationError as error:
        raise _refused(error) from None


def _classes(form: _Form) -> dict[str, str]:
    found = {
        name.removeprefix(_COUNTS_AS): value.strip()
        for name, value in form.typed.items()
        if name.startswith(_COUNTS_AS) and value.strip()
    }
    for line in form.get("classes").splitlines():
        label, equals, name = (word.strip() for word in line.rpartition("="))
        if not line.strip():
            continue
        if not (label and equals and name):
            raise InvalidRequest(f'labels are written "Left kidney = Kidney", not {line.strip()!r}')
        found[label] = name
    return found


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no day") from None


def _percent(form: _Form, name: str) -> float:
    try:
        return float(form.get(name, "20") or 0) / 100
    except ValueError:
        raise InvalidRequest(f"{name}: a number of percent is needed") from None


def _refused(error: ValidationError) -> InvalidRequest:
    first = error.errors()[0]
    return InvalidRequest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
