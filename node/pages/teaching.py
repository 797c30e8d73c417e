"""`/learning/train`: a training without code, in one form that each button sends whole.

Nothing is kept between two clicks but the form itself, so that two people, or two tabs, are never
in each other's way; and it works without a script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup
from starlette.datastructures import FormData

from dicom.errors import InvalidDesign, InvalidGraph, InvalidRequest, RadloopError
from models.designs.document import Activation, Attention, Design, Norm, read_design, write_design
from models.designs.shapes import (
    UNetShape,
    classifier,
    fresh_name,
    unet,
    with_block,
    with_fields,
    without_block,
)
from models.designs.tracing import Traced
from models.learning.graph import Graph, read_graph
from models.learning.graphing import KINDS, shipped_graphs, with_node, without_node, write_graph
from models.learning.planning import ClassifierPlan, Plan, UNetPlan, trace_plan
from node.api.learning.datasets import summaries
from node.api.learning.plans import (
    GraphRequest,
    PlanRequest,
    TrainingRequest,
    planned,
    previewed,
)
from node.api.learning.trainings import begin_training
from node.auth import Caller, LearningCaller
from node.faults import Fault, fault
from node.pages.diagrams import Box, draw, graph_diagram, network_diagram
from node.pages.planform import FormField, changes_of, numbers, plan_fields
from node.pages.render import render
from node.parts import FrontParts, parts_of
from pipelines.learning import changed_plan
from pipelines.store import LauncherName

router = APIRouter(include_in_schema=False)

_LONGEST: Final = 60_000
_BLOCKS: Final = ("convolutions", "down", "up", "join", "attention", "deep")


async def _sent(request: Request) -> FormData:
    return await request.form(max_fields=400)


Sent = Annotated[FormData, Depends(_sent)]


@dataclass(slots=True)
class _Desk:
    """The form as it was sent, and what is made of it; each part has room for what is wrong."""

    typed: dict[str, str]
    plan: Plan | None = None
    fields: tuple[FormField, ...] = ()
    design: str = ""
    graph: str = ""
    traced: Traced | None = None
    drawing: Markup | None = None
    graph_drawing: Markup | None = None
    preview: str = ""
    shown: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """Return a field as it was typed."""
        return self.typed.get(name, default).strip()


@router.get("/learning/train", response_class=HTMLResponse)
def train_page(
    request: Request, caller: LearningCaller, dataset: Annotated[str, Query(max_length=130)] = ""
) -> Response:
    """Show what the node would do with a dataset; without one, which there are."""
    return _answered(request, caller, _Desk({"dataset": dataset}), "look")


@router.post("/learning/train", response_class=HTMLResponse)
def change_training(request: Request, caller: LearningCaller, sent: Sent) -> Response:
    """Do what the button says, and show the form again; or begin the training."""
    typed = {name: str(value) for name, value in sent.items() if isinstance(value, str)}
    if any(len(value) > _LONGEST for value in typed.values()):
        raise InvalidRequest(f"a field has at most {_LONGEST} characters")
    desk = _Desk(typed, design=typed.get("design", ""), graph=typed.get("graph", ""))
    return _answered(request, caller, desk, typed.get("do", "look"))


def _answered(request: Request, caller: Caller, desk: _Desk, deed: str) -> Response:
    parts = parts_of(request)
    if desk.get("dataset"):
        _plan(parts, desk, deed)
        _augment(request, desk, deed)
    if deed == "train" and not desk.faults:
        try:
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
        datasets=summaries(parts),
        bundles=[bundle.identity for bundle in parts.school.registry.bundles],
        graphs=list(shipped_graphs()),
        node_kinds=KINDS,
        block_kinds=_BLOCKS,
        norms=get_args(Norm),
        activations=get_args(Activation),
        launchers=parts.school.launchers,
    )
    if desk.faults:
        page.status_code = 400
    return page


# --- plan and network ---------------------------------------------------------------------------


def _plan(parts: FrontParts, desk: _Desk, deed: str) -> None:
    """Plan as the node would, with what was typed; draw the network."""
    try:
        own = planned(parts, _request(desk))
        desk.fields = plan_fields(own, desk.typed if desk.get("planned") else {})
        desk.plan = own
    except RadloopError as error:
        desk.faults["plan"] = fault(error)
        return
    changes = changes_of(desk.fields)
    try:
        _design(desk, own, deed)
        if desk.design.strip():
            changes["network"] = read_design(desk.design).model_dump(mode="json", by_alias=True)
    except InvalidDesign as error:
        _wrong_design(desk, error)
        return
    try:
        desk.plan = changed_plan(own, changes)
        desk.traced = trace_plan(desk.plan)
        image = desk.plan.in_channels, desk.plan.patch
        desk.drawing = network_diagram(desk.traced, image=image)
    except RadloopError as error:
        if "block " in error.message or "network" in error.message:
            _wrong_design(desk, error)
        else:
            desk.faults["plan"] = fault(error)


def _design(desk: _Desk, plan: Plan, deed: str) -> None:
    """Change the network's document as a button says."""
    verb, _, which = deed.partition(":")
    if verb == "own-network":
        desk.design = ""
    elif verb == "open-network":
        desk.design = write_design(_as_design(plan))
    elif verb == "shape-network":
        desk.design = write_design(_shaped(desk, plan))
    elif verb in ("remove-block", "add-block", "change-block"):
        design = read_design(desk.design) if desk.design.strip() else _as_design(plan)
        if verb == "remove-block":
            design = without_block(design, which)
        elif verb == "add-block":
            design = _with_new_block(desk, design)
        else:
            design = _with_changed_block(desk, design)
        desk.design = write_design(design)


def _as_design(plan: Plan) -> Design:
    """Return a plan's network as blocks: the same one, or one of the same levels."""
    network = plan.network
    if isinstance(network, Design):
        return network
    if isinstance(network, UNetPlan):
        shape = UNetShape(
            network.channels,
            network.strides,
            residual=network.residual_units > 0,
            dropout=network.dropout,
        )
        return unet(shape)
    if isinstance(network, ClassifierPlan):
        first = network.first_channels
        levels = min(len(network.layers), _halvings(plan.patch))
        return classifier([first * 2**level for level in range(max(1, levels))])
    raise InvalidDesign("the network cannot be drawn as blocks")


def _halvings(patch: tuple[int, ...]) -> int:
    found = 1
    while all(side % 2**found == 0 and side // 2**found >= 2 for side in patch):
        found += 1
    return found


def _shaped(desk: _Desk, plan: Plan) -> Design:
    channels = numbers(desk.get("shape-channels"))
    if not all(isinstance(one, int) for one in channels) or not channels:
        raise InvalidDesign("levels: channels are whole numbers, such as 16, 32, 64")
    if plan.task == "classification":
        count = _whole(desk, "shape-convolutions", 2)
        norm: Any = desk.get("shape-norm", "batch")
        return classifier(channels, convolutions=count, dropout=_share(desk), norm=norm)
    strides = numbers(desk.get("shape-strides")) or [2] * (len(channels) - 1)
    if len(strides) != len(channels) - 1:
        raise InvalidDesign(
            f"levels: {len(channels)} of them have {len(channels) - 1} strides between them, "
            f"not {len(strides)}"
        )
    steps = [tuple(one) if isinstance(one, list) else one for one in strides]
    fields: dict[str, Any] = {
        "convolutions": _whole(desk, "shape-convolutions", 2),
        "kernel": _whole(desk, "shape-kernel", 3),
        "residual": bool(desk.get("shape-residual")),
        "attention": bool(desk.get("shape-attention")),
        "deep": bool(desk.get("shape-deep")),
        "dropout": _share(desk),
        "norm": desk.get("shape-norm", "instance"),
        "activation": desk.get("shape-activation", "leaky_relu"),
        "down": desk.get("shape-down", "max"),
        "up": desk.get("shape-up", "transposed"),
    }
    return unet(UNetShape(channels, steps, **fields))


def _with_new_block(desk: _Desk, design: Design) -> Design:
    kind, taken = desk.get("new-kind"), desk.get("new-from")
    content: dict[str, Any] = {"name": fresh_name(design, kind), "kind": kind, "from": [taken]}
    if kind in ("convolutions", "up", "attention"):
        content["channels"] = _whole(desk, "new-channels", 16)
    if kind in ("join", "attention"):
        content["from"] = [taken, desk.get("new-second")]
    if kind == "deep":
        return read_design(_document(design, [*_blocks(design), content]))
    return with_block(design, content)


def _with_changed_block(desk: _Desk, design: Design) -> Design:
    name = desk.get("change-name")
    block = design.by_name().get(name)
    if block is None:
        raise InvalidDesign(f"block {name}: there is none of that name")
    fields: dict[str, Any] = {}
    if desk.get("change-from"):
        fields["from"] = [one.strip() for one in desk.get("change-from").split(",")]
    for key, value in (
        pair.split("=", 1) for pair in desk.get("change-fields").split(";") if "=" in pair
    ):
        found = numbers(value.strip())
        fields[key.strip()] = found[0] if len(found) == 1 else found
    if desk.get("change-channels") and not isinstance(block, Attention):
        fields["channels"] = _whole(desk, "change-channels", 16)
    return with_fields(design, name, fields)


def _blocks(design: Design) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = design.model_dump(mode="json", by_alias=True)["block"]
    return blocks


def _document(design: Design, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"norm": design.norm, "activation": design.activation, "block": blocks}


def _wrong_design(desk: _Desk, error: RadloopError) -> None:
    """Show what is wrong, and the blocks without figures where there are any."""
    _, block, after = error.message.partition("block ")
    shown = InvalidDesign(block + after) if block else error  # the plan says where it met it
    desk.faults["network"] = fault(shown)
    wrong = after.partition(":")[0]
    try:
        design = read_design(desk.design)
    except InvalidDesign:
        return
    boxes = [
        Box(block.name, block.kind, block.from_, (block.kind,), is_wrong=block.name == wrong)
        for block in design.in_order()
    ]
    desk.drawing = draw(boxes, title="The network as it was sent; it does not fit together")


# --- augmentation -------------------------------------------------------------------------------


def _augment(request: Request, desk: _Desk, deed: str) -> None:
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
    except RadloopError as error:
        desk.faults["graph"] = fault(error)
        _draw_wrong_graph(desk, error)


def _look_at(request: Request, desk: _Desk, graph: Graph) -> None:
    if desk.get("do") == "train":
        return
    draw_number = _whole(desk, "draw", 0)
    asked = GraphRequest(
        dataset=desk.get("dataset"),
        graph=graph.model_dump(mode="json", by_alias=True),
        draw=draw_number,
    )
    key, made = previewed(request, asked)
    desk.preview, desk.shown, desk.counts = f"/api/learning/previews/{key}", made.shown, made.counts
    desk.typed["draw"] = str(draw_number + 1)


def _draw_wrong_graph(desk: _Desk, error: RadloopError) -> None:
    wrong = error.message.partition("node ")[2].partition(":")[0]
    try:
        graph = read_graph(desk.graph)
    except InvalidGraph:
        return
    desk.graph_drawing = graph_diagram(graph, {}, wrong=wrong)


# --- what was typed -----------------------------------------------------------------------------


def _request(desk: _Desk) -> PlanRequest:
    return PlanRequest(
        dataset=desk.get("dataset"),
        start_from=desk.get("start_from") or None,
        minutes=_minutes(desk),
    )


def _order(desk: _Desk) -> TrainingRequest:
    changes = changes_of(desk.fields)
    if desk.design.strip():
        changes["network"] = read_design(desk.design).model_dump(mode="json", by_alias=True)
    by_steps = "steps" in changes  # their number, not a time, ends it then
    if by_steps:
        own = {one.name: one.value for one in desk.fields}
        changes.setdefault("steps_an_epoch", int(own["steps_an_epoch"]))
    return TrainingRequest(
        dataset=desk.get("dataset"),
        start_from=desk.get("start_from") or None,
        minutes=None if by_steps else _minutes(desk),
        changes=changes,
        name=desk.get("name"),
        graph=desk.graph if desk.graph.strip() else None,
        device=desk.get("device", "auto"),
        launcher=_launcher(desk),
        at_once=desk.get("when", "now") == "now",
    )


def _launcher(desk: _Desk) -> LauncherName | None:
    chosen = desk.get("launcher")
    found: dict[str, LauncherName] = {"local": "local", "slurm": "slurm"}
    return found.get(chosen)


def _minutes(desk: _Desk) -> float | None:
    try:
        found = float(desk.get("minutes") or 30)
    except ValueError:
        raise InvalidRequest("minutes are a number") from None
    if not 0.01 <= found <= 100_000:
        raise InvalidRequest("minutes are between 0.01 and 100000")
    return found


def _whole(desk: _Desk, name: str, default: int) -> int:
    text = desk.get(name)
    if not text:
        return default
    if not text.isdigit():
        raise InvalidDesign(f"{name.partition('-')[2] or name}: a whole number is needed")
    return int(text)


def _share(desk: _Desk) -> float:
    try:
        return float(desk.get("shape-dropout") or 0)
    except ValueError:
        raise InvalidDesign("dropout: a number between 0 and 0.9 is needed") from None
