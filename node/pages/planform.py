"""A plan as a form: a field for each that the schema has, and back again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from models.learning.planning import Plan

_SHOWN_ELSEWHERE: Final = {"task", "dimensions", "in_channels", "classes", "network", "why"}
_LABELS: Final = {
    "spacing_mm": "Spacing, mm",
    "labelled": "Patches with a label",
    "rate": "Learning rate",
    "decay": "Weight decay",
    "warm_up": "Warm-up",
    "accumulate": "Batches a step",
    "steps_an_epoch": "Steps an epoch",
    "average": "Average of weights",
    "intensity": "Grey values",
    "size": "Size of all images",
    "typical_box": "A usual box",
    "frozen": "Frozen blocks",
    "window": "Window",
}


@dataclass(frozen=True, slots=True)
class FormField:
    """One field of the form; `value` is text as it is typed."""

    name: str
    label: str
    kind: Literal["number", "text", "choice"]
    value: str
    help: str
    why: str
    choices: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    is_whole: bool = False
    is_changed: bool = False


def plan_fields(plan: Plan, typed: Mapping[str, str]) -> tuple[FormField, ...]:
    """Return the form of a plan, with what was typed in place of what was planned."""
    schema = Plan.model_json_schema()["properties"]
    content = plan.model_dump(mode="json")
    return tuple(
        _field(name, facts, _text(content[name]), plan.why.get(name, ""), typed.get(name))
        for name, facts in schema.items()
        if name not in _SHOWN_ELSEWHERE
    )


def changes_of(fields: tuple[FormField, ...]) -> dict[str, Any]:
    """Return the fields that were changed, as a plan has them."""
    return {field.name: _typed_value(field) for field in fields if field.is_changed}


def numbers(text: str) -> list[Any]:
    """Return what was typed as a list: ``96, 96``; ``[2, 2, 1]`` within it is one entry.

    What is no number is a word: ``in0, in1``.
    """
    try:
        found = json.loads(f"[{text}]")
    except json.JSONDecodeError:
        return [word.strip() for word in text.split(",")]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def _field(
    name: str, facts: Mapping[str, Any], planned: str, why: str, typed: str | None
) -> FormField:
    value = planned if typed is None else typed.strip()
    choices = tuple(str(one) for one in facts.get("enum", ()))
    is_number = facts.get("type") in ("number", "integer")
    return FormField(
        name=name,
        label=_LABELS.get(name, name.replace("_", " ").capitalize()),
        kind="choice" if choices else "number" if is_number else "text",
        value=value,
        help=facts.get("description", ""),
        why=why,
        choices=choices,
        low=str(facts.get("minimum", "")),
        high=str(facts.get("maximum", facts.get("exclusiveMaximum", ""))),
        is_whole=facts.get("type") == "integer",
        is_changed=value != planned,
    )


def _typed_value(field: FormField) -> Any:  # noqa: ANN401 - the plan checks it
    if field.kind == "choice":
        return field.value
    if not field.value:
        return None
    if field.kind == "text":
        return numbers(field.value)
    try:
        return json.loads(field.value)
    except json.JSONDecodeError:
        return field.value


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
