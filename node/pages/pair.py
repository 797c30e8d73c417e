"""A cascade on the training form: two plans, one below the other, each changed field by field."""

from __future__ import annotations

from typing import Any, Final

from dicom.errors import RadloopError
from models.learning.planning import Plan, trace_plan
from models.learning.recipe import get_recipe
from node.api.learning.cascades import CascadeRequest, planned_cascade
from node.faults import fault
from node.pages.desk import CascadeStep, Desk
from node.pages.diagrams import graph_diagram, network_diagram
from node.pages.planform import changes_of, field_groups, first_fields, plan_fields
from node.parts import FrontParts
from pipelines.learning import changed_plan

_WORDS: Final = ("first", "second")


def plan_both(parts: FrontParts, desk: Desk) -> None:
    """Plan both models as the node would, with what was typed; draw networks and augmentation."""
    assert desk.cascade is not None and desk.cascade.first is not None  # it is one
    try:
        plans = planned_cascade(
            parts, desk.get("dataset"), desk.minutes, device=desk.get("device", "auto")
        )
    except RadloopError as error:
        desk.faults["plan"] = fault(error)
        return
    recipes = (get_recipe(desk.cascade.first.recipe), desk.cascade)
    desk.steps = tuple(
        CascadeStep(
            word=word,
            recipe=recipe,
            drawing=None if recipe.graph is None else graph_diagram(recipe.graph, {}),
            **_planned(desk, word, plan),
        )
        for word, recipe, plan in zip(_WORDS, recipes, plans, strict=True)
    )


def _planned(desk: Desk, word: str, own: Plan) -> dict[str, Any]:
    """Return one model's form, and its network drawn; what does not fit is a fault of its own."""
    fields = plan_fields(own, desk.typed, before=f"{word}-")
    found: dict[str, Any] = {
        "plan": own,
        "fields": fields,
        "first_fields": first_fields(fields),
        "groups": field_groups(fields),
    }
    try:
        plan = changed_plan(own, changes_of(fields))
        traced = trace_plan(plan)
    except RadloopError as error:
        desk.faults[word] = fault(error)
        return found
    image = plan.in_channels, plan.patch
    return {
        **found,
        "plan": plan,
        "traced": traced,
        "network": network_diagram(traced, image=image),
    }


def cascade_order(desk: Desk) -> CascadeRequest:
    """Return what is asked for when the button is pressed."""
    first, second = (changes_of(step.fields) for step in desk.steps)
    return CascadeRequest(
        dataset=desk.get("dataset"),
        name=desk.get("name"),
        minutes=desk.minutes,
        device=desk.get("device", "auto"),
        launcher=desk.launcher,
        at_once=desk.at_once,
        first=first,
        second=second,
    )
