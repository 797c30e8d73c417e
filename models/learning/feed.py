"""Batches for a training: always the same for the same seed, made while the network computes.

Sample n of a training is a function of the seed and n alone. So a training that was killed goes on
with the batch that it had not seen, and more processes share the same batches out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dicom.errors import CannotTrain
from models.learning.augment import Part, Recipe, follow, reach_of
from models.learning.cases import Case
from models.learning.detecting import Rows, centre_maps, cut_rows
from models.learning.planning import Plan
from models.learning.preparing import Prepared
from models.learning.sample import Sample, Spacing
from models.learning.steps import resized

_TRIES = 100


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step learns from.

    Attributes
    ----------
    images : Tensor, float32, shape (batch, channels, x, y[, z])
    targets : Tensor
        Segmentation: int64, shape (batch, 1, x, y[, z]); labels that overlap: float32, one channel
        each; classification: int64, shape (batch,); detection: float32,
        :func:`models.learning.detecting.centre_maps` on the network's axes.
    waited_s : float
        How long the training waited for it.
    """

    images: torch.Tensor
    targets: torch.Tensor
    waited_s: float


class PreparedArrays:
    """Prepared cases in the axes of an augmentation graph: (channels, k, j, i) = (..., z, y, x)."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        spacing = prepared.plan.spacing_mm
        self._spacing = None if spacing is None else tuple(reversed((*spacing, 1.0)[:3]))

    def image(self, case: Case) -> npt.NDArray[np.float32]:
        """Return an image; a view of the file."""
        return _turned(self._prepared.image(case))

    def label(self, case: Case) -> npt.NDArray[np.uint8]:
        """Return labels; several channels where they overlap."""
        labels = _turned(self._prepared.label(case))
        several = self._prepared.plan.task == "multilabel"
        return labels.astype(np.bool_) if several else labels[0]

    def places(self, case: Case) -> npt.NDArray[np.int32]:
        """Return some labelled voxels, (k, j, i)."""
        places = self._prepared.places(case)[:, ::-1]
        if places.shape[1] == 3:
            return places
        return np.concatenate([np.zeros((len(places), 1), np.int32), places], axis=1)

    def boxes(self, case: Case) -> Rows:
        """Return boxes in the graph's axes."""
        rows = self._prepared.boxes(case)
        return rows[:, [0, 3, 2, 1, 6, 5, 4]]

    def spacing(self, case: Case) -> Spacing:
        """Return the network's spacing; of images that say none, ones."""
        if self._spacing is None:
            return case.spacing_kji or (1.0, 1.0, 1.0)
        k, j, i = self._spacing
        return k, j, i


class Feed:
    """The batches of a training.

    Parameters
    ----------
    recipes : sequence of Recipe
        Of the graph's sink `train`.
    prepared : Prepared
    plan : Plan
    rank, ranks : int
        This process, of so many: each makes its share of a batch.
    workers : int
        Threads that make samples ahead.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        prepared: Prepared,
        plan: Plan,
        *,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 2,
    ) -> None:
        if not recipes:
            raise CannotTrain("nothing comes out of the graph's sink `train`")
        if plan.batch % ranks:
            raise CannotTrain(f"a batch of {plan.batch} cannot be shared by {ranks} processes")
        self._recipes = recipes
        self._arrays = PreparedArrays(prepared)
        self._plan = plan
        self._rank, self._ranks = rank, ranks
        self._workers = workers
        side = plan.patch if plan.dimensions == 3 else (*plan.patch, 1)
        self._size = (side[2], side[1], side[0])

    def batches(self, first: int) -> Generator[Batch]:
        """Yield batches for ever, beginning with number `first`; close the iterator to end."""
        mine = range(self._rank, self._plan.batch, self._ranks)
        threads = torch.get_num_threads()  # the network's; a maker of samples needs none beside it
        with ThreadPoolExecutor(self._workers, "feed", torch.set_num_threads, (1,)) as pool:
            ahead: deque[list[Future[Sample]]] = deque()
            try:
                for number in count(first):
                    while len(ahead) < 2 + self._workers // 2:
                        at = (number + len(ahead)) * self._plan.batch
                        ahead.append([pool.submit(self.sample, at + n) for n in mine])
                    began = time.perf_counter()
                    samples = [waiting.result() for waiting in ahead.popleft()]
                    waited = time.perf_counter() - began
                    images = torch.stack([_tensor(sample.image, self._plan) for sample in samples])
                    targets = torch.stack([self._target(sample) for sample in samples])
                    yield Batch(images, targets, waited)
            finally:
                for waiting in (one for batch in ahead for one in batch):
                    waiting.cancel()
                torch.set_num_threads(threads)  # also of threads that begin after this

    def sample(self, n: int) -> Sample:
        """Return sample n of the training.

        Raises
        ------
        CannotTrain
            When the graph's filters let nothing through.
        """
        turn, at = divmod(n, len(self._recipes))
        order = np.random.default_rng([self._plan.seed, turn]).permutation(len(self._recipes))
        for again in range(_TRIES):
            recipe = self._recipes[int(order[(at + again) % len(order)])]
            sample = self._patch(recipe, n + again * 1_000_003)
            if sample is not None:
                return sample
        raise CannotTrain(f"the graph's filters ended {_TRIES} samples one after the other")

    def _patch(self, recipe: Recipe, epoch: int) -> Sample | None:
        """Return a recipe's sample, of the plan's size; only the part of the case that it needs."""
        seed = self._plan.seed
        if self._plan.task == "classification":  # prepared to the patch's size
            sample = follow(recipe, self._arrays, seed=seed, epoch=epoch)
            return None if sample is None else resized(sample, self._size)  # it may be a part
        draw = np.random.default_rng([seed, epoch, 1])
        need = reach_of(recipe, self._size)
        if need is None:
            whole = follow(recipe, self._arrays, seed=seed, epoch=epoch)
            if whole is None:
                return None
            centred = np.argwhere(whole.labelled()) if draw.random() < self._plan.labelled else None
            return _cut(whole, self._placed(whole.shape_kji, self._size, centred, draw))
        places = None
        if (recipe.case.label_sha256 or recipe.case.boxes) and draw.random() < self._plan.labelled:
            places = self._arrays.places(recipe.case)
        shape = self._arrays.image(recipe.case).shape[1:]
        part = self._placed((shape[0], shape[1], shape[2]), self._size, places, draw)
        wide = _widened(part, need)
        sample = follow(recipe, self._arrays, seed=seed, epoch=epoch, part=wide)
        if sample is None:
            return None
        return _cut(sample, _middle(sample.shape_kji, self._size))

    def _placed(
        self,
        shape: tuple[int, int, int],
        size: tuple[int, int, int],
        places: npt.NDArray[np.integer] | None,
        draw: np.random.Generator,
    ) -> Part:
        """Return a part of that size: at random, or such that it holds one of the places."""
        first = []
        place = places[draw.integers(len(places))] if places is not None and len(places) else None
        for axis, (there, wanted) in enumerate(zip(shape, size, strict=True)):
            low, high = min(0, there - wanted), max(0, there - wanted)
            if there < wanted:  # smaller than a patch: in its middle, as when predicting
                first.append(-((wanted - there) // 2))
                continue
            if place is not None:
                low = max(low, int(place[axis]) - wanted + 1)
                high = min(high, int(place[axis]))
            first.append(int(draw.integers(low, high + 1)))
        k, j, i = first
        return Part((k, j, i), size)

    def _target(self, sample: Sample) -> torch.Tensor:
        if self._plan.task == "classification":
            return torch.tensor(sample.case.finding or 0)
        if self._plan.task == "detection":
            maps = centre_maps(sample.boxes, sample.shape_kji, self._plan.classes)
            sides = range(self._plan.classes + 1, len(maps))
            axes = self._plan.dimensions
            low, high = ([*reversed(sides[at : at + 3])][:axes] for at in (0, 3))
            return _tensor(maps[[*range(self._plan.classes + 1), *low, *high]], self._plan)
        assert sample.label is not None  # cases without a label are not learnt from
        if self._plan.task == "multilabel":
            return _tensor(sample.label, self._plan).float()
        return _tensor(sample.label[None], self._plan).long()


def _turned(array: npt.NDArray[np.generic]) -> npt.NDArray[Any]:
    """Return (c, x, y[, z]) as (c, z, y, x), a view; of two axes, one slice."""
    axes = array[..., None] if array.ndim == 3 else array
    return axes.transpose(0, 3, 2, 1)


def _tensor(array_ckji: npt.NDArray[np.generic], plan: Plan) -> torch.Tensor:
    """Return (c, k, j, i) as the network has it: (c, x, y[, z])."""
    turned = np.array(array_ckji.transpose(0, 3, 2, 1), order="C")  # a copy: it can be written to
    return torch.from_numpy(turned[..., 0] if plan.dimensions == 2 else turned)


def _cut(sample: Sample, part: Part) -> Sample:
    label = None if sample.label is None else part.of(sample.label)
    boxes = cut_rows(sample.boxes, part.first, part.size)
    return Sample(part.of(sample.image), label, sample.spacing_kji, sample.case, boxes)


def _widened(part: Part, size: tuple[int, int, int]) -> Part:
    k, j, i = (a - (n - m) // 2 for a, m, n in zip(part.first, part.size, size, strict=True))
    return Part((k, j, i), size)


def _middle(shape: tuple[int, int, int], size: tuple[int, int, int]) -> Part:
    k, j, i = ((n - m) // 2 for n, m in zip(shape, size, strict=True))
    return Part((k, j, i), size)
