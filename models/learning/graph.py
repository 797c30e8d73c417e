"""An augmentation graph: a document of nodes through which samples flow, from sources to sinks.

It says what is made of each case, as data that a page can draw and a training can carry out::

    seed = 1

    [[node]]
    name = "images"
    kind = "source"

    [[node]]
    name = "mirrored"
    kind = "flip"
    from = ["images"]
    axes = ["columns"]

    [[node]]
    name = "train"
    kind = "sink"
    from = ["images", "mirrored"]

A node is given all that flows out of the nodes of its `from` and hands on what it makes of each
sample; to keep the sample as well, a later node takes from both. The out-ports of a `split` are
written ``name:port``. Every field that is a range is drawn from evenly, anew for each sample and
each epoch. The idea is Supervisely's Data Transformation Language; the transforms are MONAI's
(:mod:`models.learning.augment`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dicom.errors import InvalidGraph
from models.learning.cases import Split

Axis = Literal["slices", "rows", "columns"]
AXES: Final[tuple[Axis, ...]] = ("slices", "rows", "columns")
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$")]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}(:[A-Za-z0-9_-]{1,32})?$")]
Chance = Annotated[float, Field(ge=0, le=1)]
Voxels = Annotated[int, Field(ge=1, le=4096)]


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: Name

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it takes from: ``name`` or ``name:port``."""
        found: tuple[str, ...] = getattr(self, "from_", ())
        return found

    @property
    def ports(self) -> tuple[str, ...]:
        """What can be taken from it."""
        return (self.name,)


class _Inner(_Node):
    from_: tuple[Reference, ...] = Field(alias="from", min_length=1)


class _Drawn(_Inner):
    probability: Chance = Field(1.0, description="of being applied; else the sample goes through")

    @field_validator("*")
    @classmethod
    def _low_before_high(cls, value: object) -> object:
        if (
            isinstance(value, tuple)
            and len(value) == 2
            and all(isinstance(end, int | float) for end in value)
        ):
            low, high = value
            if low > high:
                raise ValueError("a range is written from low to high")
        return value


class Source(_Node):
    """The cases of the dataset, of one split; only those that have all of `tags`."""

    kind: Literal["source"]
    split: Split = "train"
    tags: Mapping[str, str] = Field(default_factory=dict)


class Flip(_Drawn):
    """Mirrored along each of the axes.

    Where classes have sides, map them: left becomes right. Letters that are mirrored are none.
    """

    kind: Literal["flip"]
    axes: tuple[Axis, ...] = Field(min_length=1)


class Rotate(_Drawn):
    """Turned about an axis by an angle of the range, in mm space, in place."""

    kind: Literal["rotate"]
    degrees: tuple[float, float]
    about: Axis = "slices"


class Zoom(_Drawn):
    """Larger or smaller about its middle, by a factor of the range, within the same frame."""

    kind: Literal["zoom"]
    factor: tuple[Annotated[float, Field(ge=0.1, le=10)], Annotated[float, Field(ge=0.1, le=10)]]


class Deform(_Drawn):
    """Bent smoothly, in place: an elastic deformation.

    A grid of `points` along each axis is shifted at random, and what lies between follows. `share`
    is the range of how far a point moves at most, as a share of the distance between points: up to
    a quarter nothing of a picture folds over, up to a sixth nothing of a volume.
    """

    kind: Literal["deform"]
    points: int = Field(4, ge=2, le=32)
    share: tuple[Annotated[float, Field(ge=0, lt=0.5)], Annotated[float, Field(ge=0, lt=0.5)]]


class Crop(_Drawn):
    """A part of the image, at a random place.

    `size` in voxels (slices, rows, columns), or `share` of each axis' length, drawn from a range.
    `label` is the probability that the part holds a labelled voxel, where there is one.
    """

    kind: Literal["crop"]
    size: tuple[Voxels, Voxels, Voxels] | None = None
    share: tuple[float, float] | None = None
    label: Chance = 0.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Crop:
        if (self.size is None) == (self.share is None):
            raise ValueError("either size or share has to be given")
        if self.share is not None and not 0 < self.share[0] <= self.share[1] <= 1:
            raise ValueError("share is a range within 0 and 1")
        return self


class Multiply(_Inner):
    """Each sample so many times: what is drawn later is drawn for each."""

    kind: Literal["multiply"]
    times: int = Field(ge=1, le=10_000)


class Classes(_Inner):
    """Other label values: {"2" = 1, "3" = 0}; those that are not named stay as they are."""

    kind: Literal["classes"]
    mapping: Mapping[int, Annotated[int, Field(ge=0, le=255)]] = Field(min_length=1)


class Intensity(_Drawn):
    """Grey values times `scale`, plus `shift` times their spread, to the power of `gamma`."""

    kind: Literal["intensity"]
    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    gamma: tuple[float, float] = (1.0, 1.0)

    @model_validator(mode="after")
    def _above_nothing(self) -> Intensity:
        if self.gamma[0] <= 0:
            raise ValueError("gamma is above 0")
        return self


class Shade(_Drawn):
    """Lighter in places and darker in others, smoothly: what a shape is must not hang on its greys.

    A field that is drawn on a grid of `points` along each axis, as `share` of the image's spread.
    """

    kind: Literal["shade"]
    points: int = Field(4, ge=2, le=32)
    share: tuple[Annotated[float, Field(ge=0, le=10)], Annotated[float, Field(ge=0, le=10)]]


class Blur(_Drawn):
    """Smoothed by a Gaussian whose width in voxels is drawn from the range."""

    kind: Literal["blur"]
    sigma: tuple[Annotated[float, Field(ge=0, le=50)], Annotated[float, Field(ge=0, le=50)]]


class Noise(_Drawn):
    """Gaussian noise, as a share of the image's own spread."""

    kind: Literal["noise"]
    share: tuple[Annotated[float, Field(ge=0, le=10)], Annotated[float, Field(ge=0, le=10)]]


class Markers(_Drawn):
    """Letters painted in, as they are burned into radiographs, each with a box around it.

    `letters` says which class each is; `count` and `height` (in voxels) are drawn from their range.
    `others` is the probability that letters of no class, digits, and letters that are mirrored are
    painted in as well: they get no box.
    """

    kind: Literal["markers"]
    letters: Mapping[Annotated[str, Field(pattern=r"^[A-Z]$")], Annotated[int, Field(ge=1)]] = (
        Field(min_length=1)
    )
    count: tuple[Annotated[int, Field(ge=0, le=20)], Annotated[int, Field(ge=0, le=20)]] = (1, 1)
    height: tuple[Annotated[float, Field(ge=5, le=500)], Annotated[float, Field(ge=5, le=500)]]
    others: Chance = 0.0


class Resample(_Inner):
    """Another size in voxels, or another spacing in mm; labels by the nearest voxel."""

    kind: Literal["resample"]
    size: tuple[Voxels, Voxels, Voxels] | None = None
    spacing_mm: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Resample:
        if (self.size is None) == (self.spacing_mm is None):
            raise ValueError("either size or spacing_mm has to be given")
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm is above 0")
        return self


class Filter(_Inner):
    """Only samples that are good for something; the others end here.

    `classes`: at least one of these labels occurs. `label_share`: the share of labelled voxels lies
    in the range. `tag`: they carry it.
    """

    kind: Literal["filter"]
    classes: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    label_share: tuple[Chance, Chance] = (0.0, 1.0)
    tag: Name | None = None


class SplitNode(_Inner):
    """Samples shared out by patient: ``name:port`` for each share of `into`, which add up to 1."""

    kind: Literal["split"]
    into: Mapping[Name, Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=2)

    @property
    def ports(self) -> tuple[str, ...]:
        """One for each share."""
        return tuple(f"{self.name}:{port}" for port in self.into)

    @model_validator(mode="after")
    def _whole(self) -> SplitNode:
        if abs(sum(self.into.values()) - 1) > 1e-6:
            raise ValueError("the shares add up to 1")
        return self


class Tag(_Inner):
    """A word that a later filter can ask for."""

    kind: Literal["tag"]
    tag: Name


class Sink(_Inner):
    """Where samples come out: `train` and `validation` are what a training takes."""

    kind: Literal["sink"]


Node = Annotated[
    Source
    | Flip
    | Rotate
    | Zoom
    | Deform
    | Crop
    | Multiply
    | Classes
    | Intensity
    | Shade
    | Blur
    | Noise
    | Markers
    | Resample
    | Filter
    | SplitNode
    | Tag
    | Sink,
    Field(discriminator="kind"),
]


class Graph(BaseModel):
    """The whole document; made by :func:`read_graph`, which checks that it hangs together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    seed: int = Field(0, ge=0)
    node: tuple[Node, ...] = Field(min_length=2)

    def by_name(self) -> dict[str, Node]:
        """Return the nodes by their names."""
        return {node.name: node for node in self.node}

    def in_order(self) -> tuple[Node, ...]:
        """Return the nodes so that each comes after those that it takes from."""
        nodes = self.by_name()
        order = TopologicalSorter(
            {node.name: [_node_of(reference) for reference in node.inputs] for node in self.node}
        )
        return tuple(nodes[name] for name in order.static_order())


def read_graph(document: str | Mapping[str, Any] | Path) -> Graph:
    """Read a graph from TOML or JSON: a file, its text, or what it holds.

    Raises
    ------
    InvalidGraph
        When it is no such document; the message names the node and the field.
    """
    content = document if isinstance(document, Mapping) else _parsed(document)
    try:
        graph = Graph.model_validate(content)
    except ValidationError as error:
        raise InvalidGraph("; ".join(_places(error, content))) from None
    _check(graph)
    return graph


def _parsed(document: str | Path) -> Mapping[str, Any]:
    try:
        text = document.read_text(encoding="utf-8") if isinstance(document, Path) else document
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidGraph("the graph's file cannot be read") from error
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidGraph(f"the graph is neither TOML nor JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidGraph("the graph is not a table")
    return found


def half_read(document: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return name, kind and what it takes from of each node of a text that may be no graph.

    What cannot be read is left out: this is for showing people where they went wrong.
    """
    try:
        nodes = _parsed(document).get("node")
    except InvalidGraph:
        return ()
    found = []
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, Mapping) and isinstance(node.get("name"), str):
            taken = node.get("from")
            taken = taken if isinstance(taken, list) else []
            names = tuple(_node_of(one) for one in taken if isinstance(one, str))
            found.append((node["name"], str(node.get("kind", "?")), names))
    return tuple(found)


def _check(graph: Graph) -> None:
    """Refuse names twice, references to nothing, circles, and nodes that lead nowhere.

    Raises
    ------
    InvalidGraph
    """
    names = [node.name for node in graph.node]
    for name in names:
        if names.count(name) > 1:
            raise InvalidGraph(f"node {name}: the name is there twice")
    ports = {port for node in graph.node for port in node.ports}
    taken = {reference for node in graph.node for reference in node.inputs}
    for node in graph.node:
        for reference in node.inputs:
            if reference not in ports:
                raise InvalidGraph(f"node {node.name}: from: there is no {reference}")
            if isinstance(graph.by_name()[_node_of(reference)], Sink):
                raise InvalidGraph(f"node {node.name}: from: {reference} is a sink")
    try:
        graph.in_order()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise InvalidGraph(f"the nodes go in a circle: {circle}") from None
    for port in sorted(ports - taken):
        if not isinstance(graph.by_name()[_node_of(port)], Sink):
            raise InvalidGraph(f"node {_node_of(port)}: nothing takes from {port}")
    if not any(isinstance(node, Sink) for node in graph.node):
        raise InvalidGraph("no sink: nothing comes out")


def _node_of(reference: str) -> str:
    return reference.split(":")[0]


def _places(error: ValidationError, content: Mapping[str, Any]) -> list[str]:
    """Return what is wrong where: the node by its name where it has one, else by its number."""
    found = []
    for one in error.errors()[:8]:
        where = list(one["loc"])
        if len(where) >= 2 and where[0] == "node" and isinstance(where[1], int):
            nodes = content.get("node", [])
            node = nodes[where[1]] if where[1] < len(nodes) else {}
            name = node.get("name") if isinstance(node, Mapping) else None
            kinds = {node.get("kind")} if isinstance(node, Mapping) else set()
            rest = [str(part) for part in where[2:] if part not in kinds]
            where = [f"node {name or where[1] + 1}", *rest]
        found.append(f"{': '.join(map(str, where)) or 'graph'}: {one['msg']}")
    return found
