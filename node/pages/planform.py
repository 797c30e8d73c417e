"""A plan as a form: a field for each that the schema has, and back again.

What people change first stands first; the rest is folded away in groups that say what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from models.learning.planning import Plan

_SHOWN_ELSEWHERE: Final = {"task", "dimensions", "in_channels", "classes", "network", "why"}
LABELS: Final = {
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
_FIRST: Final = ("spacing_mm", "patch", "batch", "loss", "rate", "steps", "steps_an_epoch")
_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "How images are brought in": ("intensity", "window", "size", "labelled", "typical_box"),
    "How it learns": (
        "patience",
        "average",
        "accumulate",
        "decay",
        "warm_up",
        "frozen",
        "precision",
        "seed",
    ),
}


@dataclass(frozen=True, slots=True)
class FormField:
    """One field of the form; `value` is text as it is typed, `planned` as the node planned it.

    `key` is what the form calls it: its name, on a form of two plans with a word before it.
    """

    name: str
    key: str
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
    planned: str = ""


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Fields that are folded away together.

    Attributes
    ----------
    title : str
    says : str
        Their values in a line: what the group holds, without opening it.
    fields : tuple of FormField
    """

    title: str
    says: str
    fields: tuple[FormField, ...]

    @property
    def is_changed(self) -> bool:
        """Whether one of them was changed; the group stands open then."""
        return any(field.is_changed for field in self.fields)


def plan_fields(plan: Plan, typed: Mapping[str, str], *, before: str = "") -> tuple[FormField, ...]:
    """Return the form of a plan, with what was typed in place of what was planned.

    Parameters
    ----------
    typed : mapping
        By field; ``was-FIELD`` is what was planned when the form was shown: who left it as it was
        wants what is planned now, be it for another dataset.
    before : str
        Stands before each field's name, where a form has several plans.
    """
    schema = Plan.model_json_schema()["properties"]
    content = plan.model_dump(mode="json")
    return tuple(
        _field(
            name,
            f"{before}{name}",
            facts,
            _text(content[name]),
            plan.why.get(name, ""),
            _changed(f"{before}{name}", typed),
        )
        for name, facts in schema.items()
        if name not in _SHOWN_ELSEWHERE and not _says_nothing(name, plan)
    )


def first_fields(fields: tuple[FormField, ...]) -> tuple[FormField, ...]:
    """Return what people change first."""
    by_name = {field.name: field for field in fields}
    return tuple(by_name[name] for name in _FIRST if name in by_name)


def field_groups(fields: tuple[FormField, ...]) -> tuple[FieldGroup, ...]:
    """Return the other fields, in groups; one that no group names stands in the last."""
    named = {name for names in _GROUPS.values() for name in names}
    rest = tuple(f.name for f in fields if f.name not in named and f.name not in _FIRST)
    by_name = {field.name: field for field in fields}
    groups = []
    last = list(_GROUPS)[-1]
    for title, names in _GROUPS.items():
        wanted = (*names, *rest) if title == last else names
        found = tuple(by_name[name] for name in wanted if name in by_name)
        says = ", ".join(f"{one.label.lower()} {one.value}" for one in found if one.value)
        groups.append(FieldGroup(title, says, found))
    return tuple(groups)


def changes_of(fields: tuple[FormField, ...]) -> dict[str, Any]:
    """Return the fields that were changed, as a plan has them.

    An epoch is as long as the form says where the number of steps was changed: nothing is measured
    at the start then.
    """
    changes = {field.name: _typed_value(field) for field in fields if field.is_changed}
    if "steps" in changes:
        epoch = next(field for field in fields if field.name == "steps_an_epoch")
        changes.setdefault(epoch.name, _typed_value(epoch))
    return changes


def numbers(text: str) -> list[Any]:
    """Return what was typed as a list: ``96, 96``; ``[2, 2, 1]`` within it is one entry.

    What is no number is a word: ``in0, in1``.
    """
    try:
        found = json.loads(f"[{text}]")
    except json.JSONDecodeError:
        return [word.strip() for word in text.split(",")]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def _changed(name: str, typed: Mapping[str, str]) -> str | None:
    found = typed.get(name)
    return None if found is not None and found == typed.get(f"was-{name}") else found


def _says_nothing(name: str, plan: Plan) -> bool:
    """Return whether a field has no meaning for the task of a plan."""
    if name == "typical_box":
        return plan.task != "detection"
    if name in ("size", "labelled"):  # a classification sees whole images, as large as its patch
        return plan.task == "classification"
    return False


def _field(
    name: str, key: str, facts: Mapping[str, Any], planned: str, why: str, typed: str | None
) -> FormField:
    value = planned if typed is None else typed.strip()
    choices = tuple(str(one) for one in facts.get("enum", ()))
    is_number = facts.get("type") in ("number", "integer")
    return FormField(
        name=name,
        key=key,
        label=LABELS.get(name, name.replace("_", " ").capitalize()),
        kind="choice" if choices else "number" if is_number else "text",
        value=value,
        help=facts.get("description", "").replace("null:", "empty:"),
        why=why,
        choices=choices,
        low=str(facts.get("minimum", "")),
        high=str(facts.get("maximum", facts.get("exclusiveMaximum", ""))),
        is_whole=facts.get("type") == "integer",
        is_changed=value != planned,
        planned=planned,
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
