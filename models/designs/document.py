"""A network as a document of blocks: what flows into each, and what it makes of it.

::

    {"kind": "blocks", "norm": "instance", "activation": "leaky_relu", "block": [
      {"name": "first", "kind": "convolutions", "from": ["image"], "channels": 16},
      {"name": "smaller", "kind": "down", "from": ["first"], "by": 2},
      ...
      {"name": "answer", "kind": "head", "from": ["last"]}]}

``image`` is what the network is given. Whether a design fits a patch is asked of
:func:`models.designs.tracing.trace`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom.errors import InvalidDesign

IMAGE: Final = "image"
"""What a block that takes from nothing else takes from."""

Norm = Literal["instance", "batch", "group", "none"]
Activation = Literal["leaky_relu", "relu", "elu", "gelu"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
Channels = Annotated[int, Field(ge=1, le=2048)]
Factor = Annotated[int, Field(ge=1, le=4)]

GROUPS: Final = 8
"""Of a group norm; its channels are a multiple of it."""


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Name
    from_: tuple[Name, ...] = Field(alias="from", min_length=1)


class Convolutions(_Block):
    """Convolutions one after the other, each with norm, dropout and activation.

    With `residual` what flows in is added to what comes out. `by` makes the map coarser: the first
    convolution stands on every so many voxels only; one factor, or one an axis (x, y, z).
    """

    kind: Literal["convolutions"]
    channels: Channels
    count: int = Field(2, ge=1, le=8)
    kernel: Literal[1, 3, 5, 7] = 3
    residual: bool = False
    dropout: float = Field(0.0, ge=0, le=0.9)
    by: Factor | tuple[Factor, ...] = 1


class Down(_Block):
    """A coarser map; `by` is one factor, or one an axis (x, y, z)."""

    kind: Literal["down"]
    by: Factor | tuple[Factor, ...] = 2
    how: Literal["max", "average", "convolution"] = "max"


class Up(_Block):
    """A finer map of `channels` channels."""

    kind: Literal["up"]
    channels: Channels
    by: Factor | tuple[Factor, ...] = 2
    how: Literal["transposed", "linear"] = "transposed"


class Join(_Block):
    """Maps of one size become one: side by side, or added."""

    kind: Literal["join"]
    from_: tuple[Name, ...] = Field(alias="from", min_length=2)
    how: Literal["concatenate", "add"] = "concatenate"


class Attention(_Block):
    """The first map, weighed voxel by voxel by what the second says (Oktay et al. 2018)."""

    kind: Literal["attention"]
    from_: tuple[Name, Name] = Field(alias="from")
    channels: Channels = 16


class Head(_Block):
    """The answer: a number for each class and voxel; with `whole`, for each class and image."""

    kind: Literal["head"]
    whole: bool = False


class Deep(_Block):
    """An answer from a coarser map, which only the training listens to (deep supervision)."""

    kind: Literal["deep"]


Block = Annotated[
    Convolutions | Down | Up | Join | Attention | Head | Deep, Field(discriminator="kind")
]


class Design(BaseModel):
    """A whole network; it hangs together once it has been built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["blocks"] = "blocks"
    norm: Norm = "instance"
    activation: Activation = "leaky_relu"
    block: tuple[Block, ...] = Field(min_length=1, max_length=128)

    def by_name(self) -> dict[str, Block]:
        """Return the blocks by their names."""
        return {block.name: block for block in self.block}

    def in_order(self) -> tuple[Block, ...]:
        """Return the blocks so that each comes after those that it takes from."""
        blocks = self.by_name()
        order = TopologicalSorter(
            {name: [one for one in block.from_ if one != IMAGE] for name, block in blocks.items()}
        )
        return tuple(blocks[name] for name in order.static_order())

    @property
    def head(self) -> Head:
        """The one block that answers."""
        return next(block for block in self.block if isinstance(block, Head))

    @model_validator(mode="after")
    def _hangs_together(self) -> Design:
        names = [block.name for block in self.block]
        for name in names:
            if name == IMAGE or names.count(name) > 1:
                raise ValueError(f"block {name}: the name is taken")
        ends = {block.name for block in self.block if isinstance(block, Head | Deep)}
        taken = {reference for block in self.block for reference in block.from_}
        for block in self.block:
            if not isinstance(block, Join | Attention) and len(block.from_) > 1:
                raise ValueError(f"block {block.name}: takes from one block; use a join before it")
            for reference in block.from_:
                if reference != IMAGE and reference not in names:
                    raise ValueError(f"block {block.name}: there is no {reference} to take from")
                if reference in ends:
                    raise ValueError(f"block {block.name}: {reference} is an answer, the end")
        for block in self.block:
            if not isinstance(block, Head | Deep) and block.name not in taken:
                raise ValueError(f"block {block.name}: nothing takes from it")
        try:
            self.in_order()
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise ValueError(f"block {error.args[1][0]}: goes in a circle, {circle}") from None
        if sum(isinstance(block, Head) for block in self.block) != 1:
            raise ValueError("design: there is one head, which answers")
        return self


def read_design(document: str | Mapping[str, Any]) -> Design:
    """Read a design from JSON, or what it holds.

    Raises
    ------
    InvalidDesign
        When it is none; the message names the block and the field.
    """
    content: Any = document
    if isinstance(document, str):
        try:
            content = json.loads(document)
        except json.JSONDecodeError as error:
            raise InvalidDesign(f"line {error.lineno}: {error.msg}") from None
    try:
        return Design.model_validate(content)
    except ValidationError as error:
        raise InvalidDesign("; ".join(_places(error, content))) from None


def write_design(design: Design) -> str:
    """Return a design as JSON, a block a line, as people edit it."""
    content = design.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    blocks = [json.dumps({"name": b["name"], "kind": b["kind"], **b}) for b in content["block"]]
    lines = ",\n  ".join(blocks)
    return (
        f'{{"kind": "blocks", "norm": "{design.norm}", "activation": "{design.activation}",\n'
        f' "block": [\n  {lines}]}}\n'
    )


def _places(error: ValidationError, content: Any) -> list[str]:  # noqa: ANN401 - any JSON
    found = []
    for one in error.errors()[:5]:
        where = list(one["loc"])
        message = one["msg"].removeprefix("Value error, ")
        if len(where) >= 2 and where[0] == "block" and isinstance(where[1], int):
            block = content["block"][where[1]]
            known = block if isinstance(block, Mapping) else {}
            rest = [str(part) for part in where[2:] if part != known.get("kind")]
            where = [f"block {known.get('name', where[1] + 1)}", *rest]
        found.append(": ".join([*map(str, where), message]))
    return found
