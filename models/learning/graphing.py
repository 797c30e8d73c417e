"""Changes to an augmentation graph, and its text, for those who do not write TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from dicom.errors import InvalidGraph
from models.learning.graph import Graph, Sink, Source, read_graph
from models.learning.recipe import get_recipe, recipe_names

_BEGINNINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "flip": {"axes": ["columns"], "probability": 0.5},
    "rotate": {"degrees": [-15.0, 15.0]},
    "zoom": {"factor": [0.8, 1.25]},
    "deform": {"share": [0.0, 0.3]},
    "crop": {"share": [0.6, 0.9]},
    "multiply": {"times": 2},
    "classes": {"mapping": {"1": 1}},
    "intensity": {"scale": [0.9, 1.1]},
    "shade": {"share": [0.0, 1.0]},
    "blur": {"sigma": [0.0, 1.0]},
    "noise": {"share": [0.0, 0.1]},
    "markers": {"letters": {"L": 1, "R": 2}, "height": [9.0, 40.0]},
    "resample": {"size": [1, 128, 128]},
    "filter": {"label_share": [0.0, 1.0]},
    "split": {"into": {"one": 0.5, "other": 0.5}},
    "tag": {"tag": "chosen"},
}
KINDS: Final = tuple(_BEGINNINGS)
"""What can be put between a source and a sink."""


def shipped_graphs() -> dict[str, str]:
    """Return the graphs that come with radloop, as text, by name; those of recipes, too."""
    folder = files("models.learning") / "graphs"
    names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".toml"))
    found = {
        name.removesuffix(".toml"): (folder / name).read_text(encoding="utf-8") for name in names
    }
    for name in recipe_names():
        graph = get_recipe(name).graph
        if graph is not None:
            found[name] = write_graph(graph)
    return found


def with_node(graph: Graph, kind: str, after: str) -> Graph:
    """Return the graph with a node more, between one and all that took from it.

    What took from there takes from every port of the new node: of a split, from all its shares, so
    that nothing is lost until somebody puts a node behind one of them.

    Parameters
    ----------
    after : str
        A node; or a port of one, such as ``split1:one``.

    Raises
    ------
    InvalidGraph
        When there is no such kind, or nothing to take from.
    """
    if kind not in _BEGINNINGS:
        raise InvalidGraph(f"there is no kind {kind} of node to put there")
    content = graph.model_dump(mode="json", by_alias=True)
    taken = {node["name"] for node in content["node"]}
    name = next(each for each in (f"{kind}{n}" for n in range(1, 999)) if each not in taken)
    made = {"name": name, "kind": kind, "from": [after], **_BEGINNINGS[kind]}
    ports = [f"{name}:{port}" for port in made.get("into", ())] or [name]
    for node in content["node"]:
        taken_from = node.get("from", [])
        if after in taken_from:
            at = taken_from.index(after)
            node["from"] = [*taken_from[:at], *ports, *taken_from[at + 1 :]]
    return read_graph({**content, "node": [*content["node"], made]})


def without_node(graph: Graph, name: str) -> Graph:
    """Return the graph with a node less: what took from it takes from what it took from.

    Raises
    ------
    InvalidGraph
        When there is none, or it is a source or sink that others need.
    """
    content = graph.model_dump(mode="json", by_alias=True)
    gone = graph.by_name().get(name)
    if gone is None:
        raise InvalidGraph(f"node {name}: there is none of that name")
    if isinstance(gone, Source | Sink):
        raise InvalidGraph(f"node {name}: samples begin or end here; change the text to remove it")
    kept = [node for node in content["node"] if node["name"] != name]
    for node in kept:
        taken: list[str] = []
        for each in node.get("from", []):
            taken += gone.inputs if each.split(":")[0] == name else [each]
        if taken:
            node["from"] = list(dict.fromkeys(taken))
    return read_graph({**content, "node": kept})


def write_graph(graph: Graph) -> str:
    """Return a graph as TOML, as people edit it."""
    lines = [f"title = {_value(graph.title)}"] if graph.title else []
    lines += [f"seed = {graph.seed}"]
    content = graph.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for node in content["node"]:
        fields = {"name": node["name"], "kind": node["kind"], **node}
        lines += ["", "[[node]]", *(f"{key} = {_value(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:  # noqa: ANN401 - any value of a node
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(str(key))} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return json.dumps(value)
