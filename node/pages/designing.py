"""The network on the training form: blocks added, removed, joined; what does not fit is shown."""

from __future__ import annotations

from typing import Any, Final

from dicom.errors import InvalidDesign, RadloopError
from models.designs.document import (
    IMAGE,
    Attention,
    Convolutions,
    Design,
    read_design,
    write_design,
)
from models.designs.shapes import (
    UNetShape,
    classifier,
    fresh_name,
    unet,
    with_block,
    with_fields,
    without_block,
)
from models.learning.planning import ClassifierPlan, Plan, UNetPlan
from node.faults import fault
from node.pages.desk import Desk
from node.pages.diagrams import SIGNS, Box, draw
from node.pages.planform import numbers

BLOCKS: Final = ("convolutions", "down", "up", "join", "attention", "deep")
"""What can be added."""


def change_design(desk: Desk, plan: Plan, deed: str) -> None:
    """Change the network's document as a button says."""
    verb, _, which = deed.partition(":")
    if verb == "own-network":
        desk.design = ""
    elif verb == "undo-network":
        desk.design = desk.typed.get("design-before", "")
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


def _shaped(desk: Desk, plan: Plan) -> Design:
    channels = numbers(desk.get("shape-channels"))
    if not all(isinstance(one, int) for one in channels) or not channels:
        raise InvalidDesign("levels: channels are whole numbers, such as 16, 32, 64")
    if plan.task == "classification":
        count = desk.whole("shape-convolutions", 2)
        norm: Any = desk.get("shape-norm", "batch")
        return classifier(channels, convolutions=count, dropout=desk.dropout, norm=norm)
    strides = numbers(desk.get("shape-strides")) or [2] * (len(channels) - 1)
    if len(strides) != len(channels) - 1:
        raise InvalidDesign(
            f"levels: {len(channels)} of them have {len(channels) - 1} strides between them, "
            f"not {len(strides)}"
        )
    steps = [tuple(one) if isinstance(one, list) else one for one in strides]
    fields: dict[str, Any] = {
        "convolutions": desk.whole("shape-convolutions", 2),
        "kernel": desk.whole("shape-kernel", 3),
        "residual": bool(desk.get("shape-residual")),
        "attention": bool(desk.get("shape-attention")),
        "deep": bool(desk.get("shape-deep")),
        "dropout": desk.dropout,
        "norm": desk.get("shape-norm", "instance"),
        "activation": desk.get("shape-activation", "leaky_relu"),
        "down": desk.get("shape-down", "max"),
        "up": desk.get("shape-up", "transposed"),
    }
    return unet(UNetShape(channels, steps, **fields))


def _with_new_block(desk: Desk, design: Design) -> Design:
    kind, taken = desk.get("new-kind"), desk.get("new-from")
    content: dict[str, Any] = {"name": fresh_name(design, kind), "kind": kind, "from": [taken]}
    if kind in ("convolutions", "up", "attention"):
        content["channels"] = desk.whole("new-channels", 16)
    if kind in ("join", "attention"):
        content["from"] = [taken, desk.get("new-second")]
    if kind == "deep":
        return read_design(_document(design, [*_blocks(design), content]))
    return with_block(design, content)


def _with_changed_block(desk: Desk, design: Design) -> Design:
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
        fields["channels"] = desk.whole("change-channels", 16)
    return with_fields(design, name, fields)


def _blocks(design: Design) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = design.model_dump(mode="json", by_alias=True)["block"]
    return blocks


def _document(design: Design, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"norm": design.norm, "activation": design.activation, "block": blocks}


def show_wrong_design(desk: Desk, error: RadloopError) -> None:
    """Show what is wrong, and the blocks without figures where there are any."""
    _, block, after = error.message.partition("block ")
    shown = InvalidDesign(block + after) if block else error  # the plan says where it met it
    desk.faults["network"] = fault(shown)
    wrong = after.partition(":")[0]
    try:
        design = read_design(desk.design)
    except InvalidDesign:
        return
    blocks = design.in_order()
    desk.block_names = tuple(block.name for block in blocks)
    levels = _levels(design)
    boxes = [
        Box(
            block.name,
            block.kind,
            block.from_,
            (block.kind,),
            row=levels[block.name],
            sign="" if block.name == wrong else SIGNS.get(block.kind, ""),
            is_wrong=block.name == wrong,
        )
        for block in blocks
    ]
    desk.drawing = draw(boxes, title="The network as it was sent; it does not fit together")


def _levels(design: Design) -> dict[str, int]:
    """Return how coarse each block's map is meant to be, from 0: the row in which it is drawn."""
    found = {IMAGE: 0}
    for block in design.in_order():
        at = max(found[name] for name in block.from_ if name in found)
        step = {"down": 1, "up": -1}.get(block.kind, 0)
        if isinstance(block, Convolutions) and block.by != 1:
            step = 1
        found[block.name] = at + step
    least = min(found.values())
    return {name: level - least for name, level in found.items()}


def propose_shape(desk: Desk, plan: Plan) -> None:
    """Fill the form of another shape in with the one there is, until somebody types into it."""
    network = plan.network
    if isinstance(network, Design) or any(name.startswith("shape-") for name in desk.typed):
        return
    if isinstance(network, UNetPlan):
        desk.typed["shape-channels"] = ", ".join(map(str, network.channels))
        desk.typed["shape-strides"] = ", ".join(map(str, network.strides))
        desk.typed["shape-dropout"] = f"{network.dropout:g}"
        if network.residual_units:
            desk.typed["shape-residual"] = "1"
