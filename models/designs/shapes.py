"""Designs to begin with, and changes to them: every change gives a design that hangs together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dicom.errors import InvalidDesign
from models.designs.document import IMAGE, Activation, Design, Norm, read_design

Blocks = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class UNetShape:
    """A U-Net in a few words, for the form.

    Attributes
    ----------
    channels : sequence of int
        Of each level, the finest first.
    strides : sequence
        Between the levels: one factor, or one an axis.
    convolutions : int
        On each level, down and up.
    residual, attention, deep : bool
        Residual blocks; attention gates on the skipped maps; deep supervision.
    down : str
        What makes a map coarser: a block of its own; `stride`: a level's first convolution.
    """

    channels: Sequence[int]
    strides: Sequence[int | tuple[int, ...]]
    convolutions: int = 2
    kernel: Literal[1, 3, 5, 7] = 3
    residual: bool = False
    attention: bool = False
    deep: bool = False
    dropout: float = 0.0
    norm: Norm = "instance"
    activation: Activation = "leaky_relu"
    down: Literal["max", "average", "convolution", "stride"] = "max"
    up: Literal["transposed", "linear"] = "transposed"


def unet(shape: UNetShape) -> Design:
    """Return a U-Net as blocks.

    Raises
    ------
    InvalidDesign
        When there is not one stride fewer than levels, or a field is out of its range.
    """
    levels = len(shape.channels)

    def convolutions(
        name: str, taken: str, channels: int, by: int | tuple[int, ...] = 1
    ) -> dict[str, Any]:
        return {
            "name": name,
            "kind": "convolutions",
            "from": [taken],
            "channels": channels,
            "count": shape.convolutions,
            "kernel": shape.kernel,
            "residual": shape.residual,
            "dropout": shape.dropout,
            "by": by,
        }

    blocks: Blocks = []
    last = IMAGE
    for level, channels in enumerate(shape.channels):
        by = shape.strides[level - 1] if level else 1
        if level and shape.down != "stride":
            blocks.append(
                {"name": f"down{level}", "kind": "down", "from": [last], "by": by}
                | {"how": shape.down}
            )
            last, by = f"down{level}", 1
        blocks.append(convolutions(f"in{level}", last, channels, by))
        last = f"in{level}"
    for level in reversed(range(levels - 1)):
        by, channels = shape.strides[level], shape.channels[level]
        up, skipped = f"up{level}", f"in{level}"
        blocks.append(
            {"name": up, "kind": "up", "from": [last], "channels": channels, "by": by}
            | {"how": shape.up}
        )
        if shape.attention:
            gate = {"name": f"gate{level}", "kind": "attention", "from": [skipped, up]}
            blocks.append(gate | {"channels": max(1, channels // 2)})
            skipped = f"gate{level}"
        blocks.append({"name": f"join{level}", "kind": "join", "from": [skipped, up]})
        blocks.append(convolutions(f"out{level}", f"join{level}", channels))
        last = f"out{level}"
        if shape.deep and level:
            blocks.append({"name": f"deep{level}", "kind": "deep", "from": [last]})
    blocks.append({"name": "answer", "kind": "head", "from": [last]})
    return _read(blocks, shape.norm, shape.activation)


def classifier(
    channels: Sequence[int], *, convolutions: int = 2, dropout: float = 0.0, norm: Norm = "batch"
) -> Design:
    """Return a residual classifier as blocks: a level for each of `channels`, one answer."""
    blocks: Blocks = []
    last = IMAGE
    for level, count in enumerate(channels):
        if level:
            blocks.append({"name": f"down{level}", "kind": "down", "from": [last]})
            last = f"down{level}"
        blocks.append(
            {"name": f"in{level}", "kind": "convolutions", "from": [last], "channels": count}
            | {"count": convolutions, "residual": True, "dropout": dropout}
        )
        last = f"in{level}"
    blocks.append({"name": "answer", "kind": "head", "from": [last], "whole": True})
    return _read(blocks, norm, "leaky_relu")


def with_block(design: Design, block: Mapping[str, Any], *, before: Sequence[str] = ()) -> Design:
    """Return the design with one block more.

    Parameters
    ----------
    block : mapping
        As in the document.
    before : sequence of str
        Blocks that take from it now instead of from the first that it takes from; without any
        named, all those that did, but for a join or attention that took from there too.

    Raises
    ------
    InvalidDesign
    """
    source = next(iter(block.get("from", ())), "")
    blocks = _blocks(design)
    for one in blocks:
        skips = one["kind"] in ("join", "attention") or one["name"] in block.get("from", ())
        if source in one["from"] and (one["name"] in before if before else not skips):
            one["from"] = [block["name"] if name == source else name for name in one["from"]]
    return _read([*blocks, dict(block)], design.norm, design.activation)


def without_block(design: Design, name: str) -> Design:
    """Return the design with one block less: what took from it takes from what it took from.

    Of a join, the first remains; a join that is left with one map goes, too.

    Raises
    ------
    InvalidDesign
        When there is no such block, or something hangs in the air then.
    """
    blocks = {one["name"]: one for one in _blocks(design)}
    if name not in blocks:
        raise InvalidDesign(f"block {name}: there is none of that name")
    leaving = [name]
    while leaving:
        gone = blocks.pop(leaving.pop())
        for one in blocks.values():
            taken = [gone["from"][0] if each == gone["name"] else each for each in one["from"]]
            one["from"] = list(dict.fromkeys(taken))
        meets = [each for each in blocks.values() if each["kind"] in ("join", "attention")]
        leaving = [each["name"] for each in meets if len(each["from"]) == 1][:1]
    return _read(list(blocks.values()), design.norm, design.activation)


def with_fields(design: Design, name: str, fields: Mapping[str, Any]) -> Design:
    """Return the design with other fields of one block: its channels, or what it takes from.

    Raises
    ------
    InvalidDesign
    """
    blocks = _blocks(design)
    for one in blocks:
        if one["name"] == name:
            one.update(fields)
    return _read(blocks, design.norm, design.activation)


def fresh_name(design: Design, kind: str) -> str:
    """Return a name that no block has."""
    taken = {block.name for block in design.block}
    stem = re.sub(r"[^a-z]", "", kind)[:8] or "block"
    return next(name for name in (f"{stem}{n}" for n in range(1, 999)) if name not in taken)


def _blocks(design: Design) -> Blocks:
    content = design.model_dump(mode="json", by_alias=True)
    blocks: Blocks = content["block"]
    return blocks


def _read(blocks: Blocks, norm: Norm, activation: Activation) -> Design:
    return read_design({"norm": norm, "activation": activation, "block": blocks})
