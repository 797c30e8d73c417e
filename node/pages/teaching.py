"""`/learning/train`: a training without code, in one form that each button sends whole.

Nothing is kept between two clicks but the form itself, so that two people, or two tabs, are never
in each other's way; and it works without a script.
"""

from __future__ import annotations

from typing import Annotated, Final, get_args

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import FormData

from dicom.errors import InvalidDesign, InvalidRequest, RadloopError
from models.designs.document import Activation, Norm, read_design
from models.learning.beginning import cascade_of, recipe_of
from models.learning.fitting import least_bytes
from models.learning.graph import Graph, Sink, read_graph
from models.learning.graphing import KINDS, shipped_graphs, with_node, without_node, write_graph
from models.learning.planning import trace_plan
from models.learning.room import machine_bytes
from node.api.learning.cascades import begin_cascade
from node.api.learning.datasets import DatasetSummary, summaries
from node.api.learning.plans import (
    GraphRequest,
    PlanRequest,
    TrainingRequest,
    planned,
    previewed,
)
from node.api.learning.trainings import begin_training
from node.auth import Caller, LearningCaller
from node.faults import fault
from node.pages.designing import BLOCKS, change_design, propose_shape, show_wrong_design
from node.pages.desk import Desk
from node.pages.diagrams import graph_diagram, half_a_graph, network_diagram
from node.pages.pair import cascade_order, plan_both
from node.pages.planform import changes_of, field_groups, first_fields, plan_fields
from node.pages.render import render
from node.parts import FrontParts, parts_of
from pipelines.learning import changed_plan

router = APIRouter(include_in_schema=False)

_LONGEST: Final = 60_000
_TASKS: Final = {
    "segmentation": "Segmentation",
    "multilabel": "Segmentation with labels that overlap",
    "classification": "Classification",
    "detection": "Detection",
}


async def _sent(request: Request) -> FormData:
    return await request.form(max_fields=400)


Sent = Annotated[FormData, Depends(_sent)]


@router.get("/learning/train", response_class=HTMLResponse)
def train_page(
    request: Request, caller: LearningCaller, dataset: Annotated[str, Query(max_length=130)] = ""
) -> Response:
    """Show what the node would do with a dataset; without one, which there are."""
    return _answered(request, caller, Desk({"dataset": dataset}), "look")


@router.post("/learning/train", response_class=HTMLResponse)
def change_training(request: Request, caller: LearningCaller, sent: Sent) -> Response:
    """Do what the button says, and show the form again; or begin the training."""
    typed = {name: str(value) for name, value in sent.items() if isinstance(value, str)}
    if any(len(value) > _LONGEST for value in typed.values()):
        raise InvalidRequest(f"a field has at most {_LONGEST} characters")
    desk = Desk(typed, design=typed.get("design", ""), graph=typed.get("graph", ""))
    return _answered(request, caller, desk, typed.get("do", "look"))


def _answered(request: Request, caller: Caller, desk: Desk, deed: str) -> Response:
    parts = parts_of(request)
    if desk.get("dataset"):
        _take_recipe(parts, desk)
        if desk.is_cascade:
            plan_both(parts, desk)
        else:
            _plan(parts, desk, deed)
            _augment(request, desk, deed)
    if deed == "train" and not desk.faults:
        try:
            if desk.is_cascade:
                made = begin_cascade(parts, caller, cascade_order(desk))
            else:
                made = begin_training(parts, caller, _order(desk))
        except RadloopError as error:
            desk.faults["order"] = fault(error)
        else:
            return RedirectResponse(f"/learning/trainings/{made.id}", status_code=303)
    page = render(
        "train.html",
        caller=caller,
        version=parts.version,
        desk=desk,
        plan=desk.plan,
        first_fields=first_fields(desk.fields),
        field_groups=field_groups(desk.fields),
        datasets=_by_task(summaries(parts)),
        bundles=[bundle.identity for bundle in parts.school.registry.allowed()],
        graphs=list(shipped_graphs()),
        node_kinds=KINDS,
        block_kinds=BLOCKS,
        norms=get_args(Norm),
        activations=get_args(Activation),
        launchers=parts.school.launchers,
        memory=machine_bytes(),
        least_bytes=least_bytes,
    )
    if desk.faults:
        page.status_code = 400
    return page


def _by_task(every: list[DatasetSummary]) -> dict[str, list[DatasetSummary]]:
    """Return the datasets by what can be learnt from them, in words."""
    found: dict[str, list[DatasetSummary]] = {}
    for one in every:
        found.setdefault(f"{_TASKS[one.task]}, {one.dimensions}D", []).append(one)
    return dict(sorted(found.items()))


# --- recipes ------------------------------------------------------------------------------------


def _take_recipe(parts: FrontParts, desk: Desk) -> None:
    """Know the recipe by which the dataset was taken in; its graph is there from the beginning."""
    try:
        dataset = parts.school.shelf.get(desk.get("dataset")).dataset
    except RadloopError as error:
        desk.faults["plan"] = fault(error)
        return
    desk.recipe, desk.cascade = recipe_of(dataset), cascade_of(dataset)
    if desk.get("planned") == desk.get("dataset"):
        return  # what stands there was looked at already
    before = shipped_graphs().get(desk.get("graph-from"), "")
    if desk.graph.split() == before.split():
        graph = None if desk.recipe is None else desk.recipe.graph
        desk.graph = "" if graph is None else write_graph(graph)


# --- plan and network ---------------------------------------------------------------------------


def _plan(parts: FrontParts, desk: Desk, deed: str) -> None:
    """Plan as the node would, with what was typed; draw the network."""
    try:
        own = planned(parts, _request(desk))
        desk.fields = plan_fields(own, desk.typed if desk.get("planned") else {})
        desk.plan = own
    except RadloopError as error:
        desk.faults["plan"] = fault(error)
        return
    changes = changes_of(desk.fields)
    desk.design_before = desk.typed.get("design-before", "")
    propose_shape(desk, own)
    try:
        change_design(desk, own, deed)
        if desk.design.strip():
            changes["network"] = read_design(desk.design).model_dump(mode="json", by_alias=True)
    except InvalidDesign as error:
        show_wrong_design(desk, error)
        return
    try:
        desk.plan = changed_plan(own, changes)
        desk.traced = trace_plan(desk.plan)
        desk.block_names = tuple(block.name for block in desk.traced.blocks)
        desk.design_before = desk.design
        image = desk.plan.in_channels, desk.plan.patch
        desk.drawing = network_diagram(desk.traced, image=image)
    except RadloopError as error:
        if "block " in error.message or "network" in error.message:
            show_wrong_design(desk, error)
        else:
            desk.faults["plan"] = fault(error)


# --- augmentation -------------------------------------------------------------------------------


def _augment(request: Request, desk: Desk, deed: str) -> None:
    """Change the graph's text as a button says; draw it, and samples where they are asked for."""
    verb, _, which = deed.partition(":")
    if verb == "no-graph":
        desk.graph = ""
    elif verb == "take-graph":
        desk.graph = shipped_graphs().get(desk.get("shipped"), desk.graph)
    if not desk.graph.strip():
        return
    try:
        graph = read_graph(desk.graph)
        if verb == "add-node":
            graph = with_node(graph, desk.get("node-kind"), desk.get("node-after"))
            desk.graph = write_graph(graph)
        elif verb == "remove-node":
            graph = without_node(graph, which)
            desk.graph = write_graph(graph)
        if verb in ("preview", "take-graph", "add-node", "remove-node", "train"):
            _look_at(request, desk, graph)
        desk.graph_drawing = graph_diagram(graph, desk.counts)
        in_order = graph.in_order()
        desk.graph_nodes = tuple((node.name, node.kind) for node in in_order)
        ports = (node.ports for node in in_order if not isinstance(node, Sink))
        desk.graph_ports = tuple(port for ports_of_one in ports for port in ports_of_one)
        desk.graph_title = graph.title
    except RadloopError as error:
        desk.faults["graph"] = fault(error)
        _draw_wrong_graph(desk, error)


def _look_at(request: Request, desk: Desk, graph: Graph) -> None:
    if desk.get("do") == "train":
        return
    draw_number = desk.whole("draw", 0)
    asked = GraphRequest(
        dataset=desk.get("dataset"),
        graph=graph.model_dump(mode="json", by_alias=True),
        draw=draw_number,
    )
    key, made = previewed(request, asked)
    desk.preview, desk.shown, desk.counts = f"/api/learning/previews/{key}", made.shown, made.counts
    desk.typed["draw"] = str(draw_number + 1)


def _draw_wrong_graph(desk: Desk, error: RadloopError) -> None:
    """Draw what can be read of a graph that is none, and mark the node that the error names."""
    wrong = error.message.partition("node ")[2].partition(":")[0]
    desk.graph_drawing = half_a_graph(desk.graph, wrong=wrong)


# --- what was typed -----------------------------------------------------------------------------


def _request(desk: Desk) -> PlanRequest:
    return PlanRequest(
        dataset=desk.get("dataset"),
        start_from=desk.get("start_from") or None,
        minutes=desk.minutes,
        device=desk.get("device", "auto"),
    )


def _order(desk: Desk) -> TrainingRequest:
    changes = changes_of(desk.fields)
    if desk.design.strip():
        changes["network"] = read_design(desk.design).model_dump(mode="json", by_alias=True)
    by_steps = "steps" in changes  # their number, not a time, ends it then
    return TrainingRequest(
        dataset=desk.get("dataset"),
        start_from=desk.get("start_from") or None,
        minutes=None if by_steps else desk.minutes,
        changes=changes,
        name=desk.get("name"),
        graph=desk.graph if desk.graph.strip() else None,
        device=desk.get("device", "auto"),
        launcher=desk.launcher,
        at_once=desk.at_once,
    )
