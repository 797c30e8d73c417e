"""Carrying a graph out: which samples come of which case, and the arrays of each.

First the graph is unrolled without a voxel being read: every sample that will come out is a
:class:`Recipe`, a case and the nodes that it passes. Then each recipe is followed by itself, with
draws from its own seed, so that samples can be made in any order, by any process, and again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidGraph
from models.learning.cases import Case, DatasetFolder
from models.learning.detecting import Rows, cut_rows
from models.learning.graph import (
    AXES,
    Blur,
    Classes,
    Filter,
    Flip,
    Graph,
    Intensity,
    Markers,
    Multiply,
    Node,
    Noise,
    Rotate,
    Sink,
    Source,
    SplitNode,
    Tag,
)
from models.learning.sample import Labels, Sample, Spacing
from models.learning.steps import STEPS

_MOST_RECIPES = 1_000_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """A sample that will come out: its case, the nodes that it passes, and which copy it is."""

    case: Case
    steps: tuple[Node, ...]
    copies: tuple[int, ...] = ()
    tags: frozenset[str] = field(default_factory=frozenset)


def unroll(graph: Graph, folder: DatasetFolder) -> dict[str, tuple[Recipe, ...]]:
    """Return the recipes of each sink.

    Their number is that of the samples, except where a `filter` looks at labels: that is known only
    when the labels are.

    Raises
    ------
    InvalidGraph
        When more samples would come out than any training can use.
    """
    flows: dict[str, list[Recipe]] = {}
    for node in graph.in_order():
        given = [recipe for reference in node.inputs for recipe in flows[reference]]
        count = len(given) * (node.times if isinstance(node, Multiply) else 1)
        if count > _MOST_RECIPES:
            raise InvalidGraph(f"node {node.name}: makes {count} samples")
        flows.update(_through(node, given, graph, folder))
    return {node.name: tuple(flows[node.name]) for node in graph.node if isinstance(node, Sink)}


class Arrays(Protocol):
    """Where samples come from: a dataset's own arrays, or those that a network is prepared for."""

    def image(self, case: Case) -> npt.NDArray[Any]:
        """Return an image, shape (channels, slices, rows, columns)."""
        ...

    def label(self, case: Case) -> npt.NDArray[Any]:
        """Return labels, shape (slices, rows, columns) or (labels, slices, rows, columns)."""
        ...

    def spacing(self, case: Case) -> Spacing:
        """Return the distance between voxels (k, j, i), mm; ones where it is not known."""
        ...

    def boxes(self, case: Case) -> Rows:
        """Return boxes, shape (boxes, 7), as :class:`Sample` has them."""
        ...


def follow(
    recipe: Recipe,
    arrays: Arrays,
    *,
    seed: int,
    epoch: int = 0,
    part: Part | None = None,
) -> Sample | None:
    """Return the sample that a recipe makes; None where a filter ends it.

    Parameters
    ----------
    seed, epoch : int
        The same ones draw the same; another epoch draws anew.
    part : Part or None
        Begin with this part of the case; the whole of it otherwise.
    """
    case = recipe.case
    image, label = arrays.image(case), arrays.label(case) if case.label_sha256 else None
    if part is not None:
        image, label = part.of(image), None if label is None else part.of(label)
    # Flips and crops are views: of a mapped case only what is left in the end is read.
    boxes = arrays.boxes(case)
    if part is not None:
        boxes = cut_rows(boxes, part.first, part.size)
    sample = Sample(np.asarray(image, np.float32), label, arrays.spacing(case), case, boxes)
    for at, node in enumerate(recipe.steps):
        draw = _draws(seed, epoch, recipe, at)
        if isinstance(node, Filter):
            if not _passes(node, sample):
                return None
        elif draw.random() < getattr(node, "probability", 1.0):
            sample = STEPS[type(node)](node, sample, draw)
    return sample


@dataclass(frozen=True, slots=True)
class Part:
    """A box of a case, (k, j, i); it may reach beyond the image, which is 0 there.

    Attributes
    ----------
    first, size : tuple of int
        The first voxel, and how many along each axis.
    """

    first: tuple[int, int, int]
    size: tuple[int, int, int]

    def of(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the box of an array whose last three axes are (k, j, i)."""
        pairs = list(zip(self.first, self.size, array.shape[-3:], strict=True))
        k, j, i = (slice(max(0, a), max(0, min(n, a + size))) for a, size, n in pairs)
        found = np.asarray(array[..., k, j, i])
        around = [(max(0, -a), max(0, a + size - n)) for a, size, n in pairs]
        if not any(sum(each) for each in around):
            return found
        return np.pad(found, [(0, 0)] * (array.ndim - 3) + around)


def reach_of(recipe: Recipe, size: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Return the size that a part needs so that its middle `size` comes out as of the whole case.

    Returns
    -------
    tuple of int or None
        None where a step looks at the whole image (crop, resample, filter).
    """
    need = list(size)
    for node in recipe.steps:
        if isinstance(node, Rotate):
            turning = [axis for axis in range(3) if AXES[axis] != node.about and size[axis] > 1]
            longest = math.ceil(math.hypot(*(size[axis] for axis in turning)))
            need = [max(n, longest) if axis in turning else n for axis, n in enumerate(need)]
        elif isinstance(node, Blur):
            pad = 2 * math.ceil(4 * node.sigma[1])
            need = [n + pad if n > 1 else n for n in need]
        elif not isinstance(node, Flip | Classes | Intensity | Noise | Markers):
            return None
    k, j, i = need
    return k, j, i


def _through(
    node: Node, given: list[Recipe], graph: Graph, folder: DatasetFolder
) -> dict[str, list[Recipe]]:
    if isinstance(node, Source):
        cases = [
            case
            for case in folder.dataset.of(node.split)
            if all(case.tags.get(key) == value for key, value in node.tags.items())
        ]
        return {node.name: [Recipe(case, ()) for case in cases]}
    if isinstance(node, Multiply):
        return {
            node.name: [
                replace(recipe, copies=(*recipe.copies, copy))
                for recipe in given
                for copy in range(node.times)
            ]
        }
    if isinstance(node, SplitNode):
        return {
            f"{node.name}:{port}": [one for one in given if _port_of(node, graph, one) == port]
            for port in node.into
        }
    if isinstance(node, Tag):
        return {node.name: [replace(one, tags=one.tags | {node.tag}) for one in given]}
    if isinstance(node, Sink):
        return {node.name: given}
    if isinstance(node, Filter) and node.tag is not None:
        given = [recipe for recipe in given if node.tag in recipe.tags]
    return {node.name: [replace(one, steps=(*one.steps, node)) for one in given]}


def _port_of(node: SplitNode, graph: Graph, recipe: Recipe) -> str:
    """Return where a patient goes: by a hash, so that another patient more moves nobody."""
    key = f"{graph.seed}/{node.name}/{recipe.case.patient}".encode()
    at = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
    edge = 0.0
    for port, share in node.into.items():
        edge += share
        if at < edge:
            return port
    return port


def _draws(seed: int, epoch: int, recipe: Recipe, at: int) -> np.random.Generator:
    # By the path, not by an order of work: processes and pages draw the same.
    path = "/".join(node.name for node in recipe.steps[: at + 1])
    key = f"{seed}/{epoch}/{recipe.case.id}/{recipe.copies}/{path}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:16], "big"))


def _passes(node: Filter, sample: Sample) -> bool:
    if node.classes:
        held = _classes_in(sample.label) | {int(number) for number in sample.boxes[:, 0]}
        if not held & set(node.classes):
            return False
    low, high = node.label_share
    if (low, high) == (0.0, 1.0):
        return True
    return bool(low <= sample.labelled().mean() <= high)


def _classes_in(label: Labels | None) -> set[int]:
    if label is None:
        return set()
    if label.ndim == 4:
        return {1 + int(at) for at in np.flatnonzero(label.any(axis=(1, 2, 3)))}
    return set(np.unique(label).tolist()) - {0}


def samples(
    recipes: Iterable[Recipe], arrays: Arrays, *, seed: int, epoch: int = 0
) -> Iterable[Sample]:
    """Yield the sample of each recipe that is not filtered out."""
    for recipe in recipes:
        sample = follow(recipe, arrays, seed=seed, epoch=epoch)
        if sample is not None:
            yield sample
