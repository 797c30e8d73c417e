"""Carrying a graph out: which samples come of which case, and the arrays of each.

First the graph is unrolled without a voxel being read: every sample that will come out is a
:class:`Recipe`, a case and the nodes that it passes. Then each recipe is followed by itself, with
draws from its own seed, so that samples can be made in any order, by any process, and again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms.intensity.array import GaussianSmooth
from monai.transforms.spatial.array import Affine, Resize

from dicom.errors import InvalidGraph
from models.learning.cases import Case, DatasetFolder
from models.learning.detecting import Rows, cut_rows, mirrored_rows, scaled_rows, turned_rows
from models.learning.graph import (
    AXES,
    Blur,
    Classes,
    Crop,
    Filter,
    Flip,
    Graph,
    Intensity,
    Markers,
    Multiply,
    Node,
    Noise,
    Resample,
    Rotate,
    Sink,
    Source,
    SplitNode,
    Tag,
)
from models.learning.markers import paint_markers

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[Any]
Spacing = tuple[float, float, float]

_MOST_RECIPES = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image with its labels, on its way through a graph.

    Attributes
    ----------
    image : ndarray, float32, shape (channels, slices, rows, columns)
    label : ndarray or None
        Shape (slices, rows, columns), uint8; or (labels, slices, rows, columns), bool.
    spacing_kji : tuple of float
        mm; ones where the case does not say it.
    case : Case
        What it was made of.
    boxes : ndarray, shape (boxes, 7)
        Of a detection: class, low edges (k, j, i), high edges; voxel n reaches from n to n + 1.
    """

    image: Image
    label: Labels | None
    spacing_kji: Spacing
    case: Case
    boxes: Rows = field(default_factory=lambda: np.zeros((0, 7)))

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.image.shape[1:]
        return slices, rows, columns

    def labelled(self) -> npt.NDArray[np.bool_]:
        """Return the voxels that have a label, shape (slices, rows, columns)."""
        if self.label is None:
            return self._boxed()
        found: npt.NDArray[np.bool_] = self.label != 0
        return np.asarray(found.any(axis=0)) if found.ndim == 4 else found

    def _boxed(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(self.shape_kji, np.bool_)
        for row in self.boxes:
            k, j, i = (slice(int(a), math.ceil(b)) for a, b in zip(row[1:4], row[4:7], strict=True))
            found[k, j, i] = True
        return found


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
            sample = _STEPS[type(node)](node, sample, draw)
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


# --- steps ----------------------------------------------------------------------------------------


def _flip(node: Flip, sample: Sample, draw: np.random.Generator) -> Sample:
    axes = tuple(AXES.index(axis) - 3 for axis in node.axes)
    return replace(
        sample,
        image=np.flip(sample.image, axes),
        label=None if sample.label is None else np.flip(sample.label, axes),
        boxes=mirrored_rows(sample.boxes, [axis + 3 for axis in axes], sample.shape_kji),
    )


def _rotate(node: Rotate, sample: Sample, draw: np.random.Generator) -> Sample:
    angle = np.deg2rad(draw.uniform(*node.degrees))
    turning = [axis for axis in range(3) if axis != AXES.index(node.about)]
    if any(sample.shape_kji[axis] == 1 for axis in turning):
        return sample  # a single slice has no other side
    turn = np.eye(4)
    one, other = turning
    turn[one, one] = turn[other, other] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    to_mm = np.diag([*sample.spacing_kji, 1.0])
    matrix = np.linalg.inv(to_mm) @ turn @ to_mm
    return _warped(sample, matrix)


def _warped(sample: Sample, matrix: npt.NDArray[np.float64]) -> Sample:
    flat = sample.shape_kji[0] == 1
    kept = np.ix_([1, 2, 3], [1, 2, 3]) if flat else np.ix_(range(4), range(4))

    def moved(array: npt.NDArray[Any], mode: str, edge: str) -> npt.NDArray[Any]:
        channels = _tensor(array[:, 0] if flat else array)
        warp = Affine(affine=matrix[kept], mode=mode, padding_mode=edge, image_only=True)
        found: npt.NDArray[Any] = np.asarray(warp(channels))
        return found[:, None] if flat else found

    image = moved(sample.image, "bilinear", "border").astype(np.float32)
    return replace(
        sample,
        image=image,
        label=_as_label(sample.label, lambda label: moved(label, "nearest", "zeros")),
        boxes=turned_rows(sample.boxes, matrix[:3, :3], sample.shape_kji),
    )


def _crop(node: Crop, sample: Sample, draw: np.random.Generator) -> Sample:
    shape = sample.shape_kji
    if node.size is not None:
        size = [min(wanted, there) for wanted, there in zip(node.size, shape, strict=True)]
    else:
        assert node.share is not None  # one of both is given
        share = draw.uniform(*node.share)
        size = [max(1, round(there * share)) if there > 1 else 1 for there in shape]
    low = [0, 0, 0]
    high = [there - wanted for there, wanted in zip(shape, size, strict=True)]
    if draw.random() < node.label:
        places = np.argwhere(sample.labelled())
        if places.size:
            place = places[draw.integers(len(places))]
            low = [max(0, int(at) - wanted + 1) for at, wanted in zip(place, size, strict=True)]
            high = [min(most, int(at)) for at, most in zip(place, high, strict=True)]
    first = [int(draw.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]
    k, j, i = (slice(a, a + wanted) for a, wanted in zip(first, size, strict=True))
    label = sample.label
    return replace(
        sample,
        image=sample.image[..., k, j, i],
        label=None if label is None else label[..., k, j, i],
        boxes=cut_rows(sample.boxes, first, size),
    )


def _classes(node: Classes, sample: Sample, draw: np.random.Generator) -> Sample:
    if len(sample.boxes):
        numbers = [node.mapping.get(int(number), int(number)) for number in sample.boxes[:, 0]]
        rows = np.concatenate([np.array(numbers)[:, None], sample.boxes[:, 1:]], axis=1)
        return replace(sample, boxes=rows[rows[:, 0] > 0])
    if sample.label is None:
        return sample
    if sample.label.ndim == 4:
        moved = np.zeros_like(sample.label)
        for at, mask in enumerate(sample.label):
            number = node.mapping.get(at + 1, at + 1)
            if 1 <= number <= len(moved):
                moved[number - 1] |= mask
        return replace(sample, label=moved)
    table = np.arange(256, dtype=np.uint8)
    for number, becomes in node.mapping.items():
        table[number] = becomes
    return replace(sample, label=table[sample.label])


def _intensity(node: Intensity, sample: Sample, draw: np.random.Generator) -> Sample:
    image = sample.image
    scale, shift = draw.uniform(*node.scale), draw.uniform(*node.shift)
    gamma = draw.uniform(*node.gamma)
    image = image * np.float32(scale) + np.float32(shift * float(image.std()))
    if gamma != 1.0:
        low, high = float(image.min()), float(image.max())
        if high > low:  # of a constant image every power is the same
            image = ((image - low) / (high - low)) ** np.float32(gamma) * (high - low) + low
    return replace(sample, image=image.astype(np.float32))


def _blur(node: Blur, sample: Sample, draw: np.random.Generator) -> Sample:
    sigma = draw.uniform(*node.sigma)
    flat = sample.shape_kji[0] == 1
    channels = _tensor(sample.image[:, 0] if flat else sample.image)
    smoothed = np.asarray(GaussianSmooth(sigma=sigma)(channels), np.float32)
    return replace(sample, image=smoothed[:, None] if flat else smoothed)


def _noise(node: Noise, sample: Sample, draw: np.random.Generator) -> Sample:
    spread = draw.uniform(*node.share) * float(sample.image.std())
    noise = draw.standard_normal(sample.image.shape, np.float32) * np.float32(spread)
    return replace(sample, image=sample.image + noise)


def _markers(node: Markers, sample: Sample, draw: np.random.Generator) -> Sample:
    image, rows = paint_markers(
        np.array(sample.image, np.float32),
        draw,
        letters=node.letters,
        count=node.count,
        height=node.height,
        others=node.others,
    )
    return replace(sample, image=image, boxes=np.concatenate([sample.boxes, rows]))


def resized(sample: Sample, size: tuple[int, int, int]) -> Sample:
    """Return a sample of another size in voxels, of the same place."""
    if sample.shape_kji == size:
        return sample
    draw = np.random.default_rng(0)  # nothing is drawn
    return _resample(Resample(name="size", kind="resample", from_=("it",), size=size), sample, draw)


def _resample(node: Resample, sample: Sample, draw: np.random.Generator) -> Sample:
    shape = sample.shape_kji
    if node.size is not None:
        size = node.size
    else:
        assert node.spacing_mm is not None  # one of both is given
        k, j, i = (
            max(1, round(there * step / wanted))
            for there, step, wanted in zip(shape, sample.spacing_kji, node.spacing_mm, strict=True)
        )
        size = (k, j, i)
    spacing = tuple(
        step * there / wanted
        for step, there, wanted in zip(sample.spacing_kji, shape, size, strict=True)
    )
    k_mm, j_mm, i_mm = spacing
    to_linear = Resize(size, mode="trilinear", align_corners=False, anti_aliasing=False)
    to_nearest = Resize(size, mode="nearest-exact")
    return replace(
        sample,
        image=np.asarray(to_linear(_tensor(sample.image)), np.float32),
        label=_as_label(sample.label, lambda label: np.asarray(to_nearest(_tensor(label)))),
        spacing_kji=(k_mm, j_mm, i_mm),
        boxes=scaled_rows(sample.boxes, np.array(size) / np.array(shape)),
    )


def _tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array))  # a copy: PyTorch takes what can be written to


def _as_label(
    label: Labels | None, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
) -> Labels | None:
    """Return a changed label map in its own type and shape; `change` takes channels first."""
    if label is None:
        return None
    channels = (label if label.ndim == 4 else label[None]).astype(np.float32)
    changed: Labels = np.rint(change(channels)).astype(label.dtype)
    return changed if label.ndim == 4 else changed[0]


_STEPS: Mapping[type, Callable[[Any, Sample, np.random.Generator], Sample]] = {
    Flip: _flip,
    Rotate: _rotate,
    Crop: _crop,
    Classes: _classes,
    Intensity: _intensity,
    Blur: _blur,
    Noise: _noise,
    Markers: _markers,
    Resample: _resample,
}


def samples(
    recipes: Iterable[Recipe], arrays: Arrays, *, seed: int, epoch: int = 0
) -> Iterable[Sample]:
    """Yield the sample of each recipe that is not filtered out."""
    for recipe in recipes:
        sample = follow(recipe, arrays, seed=seed, epoch=epoch)
        if sample is not None:
            yield sample
