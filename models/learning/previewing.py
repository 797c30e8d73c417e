"""What an augmentation graph makes of a few cases, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.learning.augment import Recipe, follow, unroll
from models.learning.cases import read_dataset
from models.learning.graph import Sink, read_graph
from models.learning.pictures import Pixels, as_png, colours_of, pictured, sheet

_SIDE: Final = 150
_COLUMNS: Final = 6
_TRIES: Final = 4  # samples looked at for each that is shown, where filters end some


@dataclass(frozen=True, slots=True)
class Preview:
    """Samples that a graph makes.

    Attributes
    ----------
    png : bytes
        They side by side, labels drawn in.
    shown : tuple of str
        What each is, in the order of the picture: case and nodes passed.
    counts : mapping of str to int
        Samples that come out of each sink, before filters that look at labels.
    """

    png: bytes
    shown: tuple[str, ...]
    counts: Mapping[str, int]


def preview(
    dataset: Path,
    document: Mapping[str, Any],
    *,
    sink: str = "train",
    count: int = 12,
    draw: int = 0,
) -> Preview:
    """Return some samples of a sink, spread over all that come out.

    Parameters
    ----------
    dataset : Path
        Its folder.
    document : mapping
        The graph.
    draw : int
        Another one draws anew.

    Raises
    ------
    InvalidGraph, InvalidDataset
    """
    folder, graph = read_dataset(dataset), read_graph(document)
    recipes = unroll(graph, folder)
    chosen = sink if sink in recipes else next(iter(recipes))
    colours = colours_of(folder.dataset)
    pictures: list[Pixels] = []
    shown: list[str] = []
    for recipe in _spread(recipes[chosen], count * _TRIES):
        if len(pictures) == count:
            break
        sample = follow(recipe, folder, seed=graph.seed, epoch=draw)
        if sample is None:
            continue
        pictures.append(pictured(sample.image, sample.label, sample.boxes, colours, side=_SIDE))
        passed = " > ".join(step.name for step in recipe.steps)
        shown.append(f"{recipe.case.id}: {passed or 'as it is'}")
    blank = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    return Preview(
        png=as_png(sheet(pictures or [blank], columns=_COLUMNS)),
        shown=tuple(shown),
        counts={
            node.name: len(recipes[node.name]) for node in graph.node if isinstance(node, Sink)
        },
    )


def _spread(recipes: tuple[Recipe, ...], count: int) -> list[Recipe]:
    """Return so many of them, evenly spread; then the others that lie between."""
    if len(recipes) <= count:
        return list(recipes)
    return [recipes[round(at)] for at in np.linspace(0, len(recipes) - 1, count)]
