"""The training loop.

What is learnt follows from dataset, plan and graph: batches are functions of their number
(:mod:`models.learning.feed`), rate and PyTorch's random numbers are functions of the step, and a
checkpoint holds all that is left: weights, their average, the optimiser. A training that was killed
at any moment goes on from its last checkpoint as if nothing had happened. Several processes, on one
machine or on many, learn as one (:mod:`models.learning.ranks`); only the first of them writes.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from dicom.errors import (
    Canceled,
    CannotTrain,
    MissingDevice,
    OutOfMemory,
    Preempted,
    TrainingDiverged,
)
from models.learning.augment import Recipe, unroll
from models.learning.cases import DatasetFolder
from models.learning.feed import Feed
from models.learning.fitting import check_memory
from models.learning.graph import Graph, Sink, Source
from models.learning.networks import build_loss, build_network, set_learning
from models.learning.norms import with_quick_norms
from models.learning.orders import BEST, LAST
from models.learning.pictures import Look
from models.learning.planning import Plan
from models.learning.precision import half_of, single
from models.learning.preparing import Prepared
from models.learning.ranks import Answers, agreed, by_the_first, over_all_ranks, place
from models.learning.run import (
    Epoch,
    State,
    Trained,
    keep_plan,
    read_curve,
    write_checkpoint,
    write_curve,
)
from models.learning.validating import validate
from models.learning.watching import Chronicle
from models.memory import is_lost_device, is_memory_error

_UNTIMED_STEPS: Final = 2  # they warm caches up
_TIMED_STEPS: Final = 8
_SHARE_OF_STEPS: Final = 0.85  # of a training's time; the rest is validation and checkpoints
_LAYOUTS: Final = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Channels side by side in memory: what convolutions are fastest on, the same numbers."""
_GRADIENT: Final = 12.0  # the longest step, nnU-Net's


def train(
    folder: DatasetFolder,
    plan: Plan,
    run: Path,
    *,
    cache: Path,
    graph: Graph | None = None,
    device: torch.device | None = None,
    start_from: Mapping[str, torch.Tensor] | None = None,
    minutes: float | None = None,
    workers: int = 2,
    told: Callable[[Epoch], None] | None = None,
    canceled: Callable[[], bool] | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Trained:
    """Train, or go on with a training that was interrupted.

    Parameters
    ----------
    folder : DatasetFolder
        Its test split is not touched.
    plan : Plan
    run : Path
        The training's own folder: checkpoints, curve, plan. What lies there is gone on with.
    cache : Path
        Where prepared cases are kept; shared between trainings.
    graph : Graph or None
        What is made of each case; None takes cases as they are. Its sink `train` is learnt from.
    device : device or None
        None: a GPU where there is one.
    start_from : mapping or None
        Weights to begin with, instead of drawn ones.
    minutes : float or None
        About how long it may take: after some steps their number is fixed by how long they took.
    workers : int
        Threads that make batches.
    told : callable or None
        Told each epoch.
    canceled : callable or None
        Asked at each step; given to all ranks or to none, like the next.
    interrupted : callable or None
        Asked at each step whether this machine is wanted for something else: a checkpoint is
        written there and then.

    Raises
    ------
    CannotTrain
        When there is nothing to learn from, or the run is one of another plan.
    InvalidPlan
        When a step needs more memory than the device has.
    TrainingDiverged
        When the loss is not a number any more; the last good checkpoint stays.
    OutOfMemory
    MissingDevice
        When the GPU was lost; a new process goes on from the last checkpoint.
    DiskFull
        When there is no room for a checkpoint; the one before it stays.
    Canceled
        When it is no longer wanted; it can be gone on with.
    Preempted
        When it was interrupted, and has written its checkpoint.

    Notes
    -----
    Checkpoints do not know how many ranks wrote them: one process goes on with what four began,
    as long as they share the batch out evenly. With the same number it goes on exactly; with
    another, sums are added in another order, and dropout draws other units.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_memory(plan, device, ranks=place()[1])
    by_the_first(lambda: keep_plan(run, plan, folder))
    training = _Training(folder, plan, run, cache, graph, device, start_from, workers)
    try:
        return training.to_the_end(minutes, told, canceled, interrupted)
    except RuntimeError as error:
        if is_memory_error(error):
            raise OutOfMemory("a step of the training needs more memory than there is") from error
        if is_lost_device(error):
            raise MissingDevice("the GPU was lost while the training used it") from error
        raise


class _Training:
    """Everything that a step touches."""

    def __init__(
        self,
        folder: DatasetFolder,
        plan: Plan,
        run: Path,
        cache: Path,
        graph: Graph | None,
        device: torch.device,
        start_from: Mapping[str, torch.Tensor] | None,
        workers: int,
    ) -> None:
        self.plan, self.run, self.device = plan, run, device
        self.rank, self.ranks = place()
        self.prepared = Prepared(folder, plan, cache)
        self.recipes = _recipes(folder, graph)
        self.cases = folder.dataset.of("validation")
        torch.manual_seed(plan.seed)
        network = build_network(plan)
        if start_from is not None:
            _begin_with(network, start_from)
        self.layout = _layout(network, plan.dimensions, device)
        self.network = with_quick_norms(network).to(device)
        set_learning(self.network, plan)  # before ranks agree on what is learnt
        self.network.to(memory_format=self.layout)  # type: ignore[call-overload]  # the stub has none
        self.average = with_quick_norms(build_network(plan)).requires_grad_(requires_grad=False)
        self.average.load_state_dict(network.state_dict())
        # laid out as the network is: it is followed after every step
        self.average.to(device).to(memory_format=self.layout)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=plan.rate, weight_decay=plan.decay, fused=True
        )
        self.half = half_of(device) if plan.precision == "mixed" else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half is torch.float16)
        self.loss = build_loss(plan)
        self.feed = Feed(
            self.recipes, self.prepared, plan, rank=self.rank, ranks=self.ranks, workers=workers
        )
        self.state = State(steps=plan.steps)
        self.timed: list[float] = []
        self._restore()
        self.chronicle = Chronicle(run, folder.dataset)
        self.model = self.network
        if self.ranks > 1:  # gradients lie where they are added up, and are not copied there
            self.model = DistributedDataParallel(self.network, gradient_as_bucket_view=True)

    def to_the_end(
        self,
        minutes: float | None,
        told: Callable[[Epoch], None] | None,
        canceled: Callable[[], bool] | None,
        interrupted: Callable[[], bool] | None,
    ) -> Trained:
        """Go on until the last step, or until it gets no better."""
        state, plan = self.state, self.plan
        with closing(self.feed.batches(state.step * plan.accumulate)) as batches:
            while state.step < state.steps and not self._has_stalled():
                began = time.perf_counter() - state.spent_s
                for _ in self._steps_of_epoch():
                    self._look_up(canceled, interrupted, began)
                    at = time.perf_counter()
                    loss, idle = self._step(batches)
                    state.losses.append(loss)
                    state.waited_s += idle
                    if minutes is not None and not state.is_timed:
                        self._fix_number_of_steps(time.perf_counter() - at, minutes)
                self._end_epoch(began, told)
        return Trained(self.run, plan, tuple(state.epochs), state.best_epoch)

    def _look_up(
        self,
        canceled: Callable[[], bool] | None,
        interrupted: Callable[[], bool] | None,
        began: float,
    ) -> None:
        """See whether it shall end here; all ranks end at the same step."""
        if canceled is None and interrupted is None:
            return
        wishes = [asked is not None and asked() for asked in (canceled, interrupted)]
        is_canceled, is_interrupted = agreed(wishes, self.device)
        if is_canceled:
            raise Canceled
        if is_interrupted:
            self.state.spent_s = time.perf_counter() - began
            if self.rank == 0:
                self._keep(is_best=False)
            raise Preempted(f"interrupted before step {self.state.step + 1}")

    def _step(self, batches: Iterator[Any]) -> tuple[float, float]:
        """Learn from one batch, or from several that count as one; return loss and waiting."""
        state, plan = self.state, self.plan
        set_learning(self.network, plan)
        for group in self.optimiser.param_groups:
            group["lr"] = _rate(plan, state.step, state.steps)
        draws = np.random.SeedSequence([plan.seed, state.step, self.rank])
        torch.manual_seed(int(draws.generate_state(1)[0]))  # dropout, also after an interruption
        total, waited = 0.0, 0.0
        for part in range(plan.accumulate):
            batch = next(batches)
            images = batch.images.to(self.device, non_blocking=True, memory_format=self.layout)
            targets = batch.targets.to(self.device, non_blocking=True)
            with self._apart(until=part == plan.accumulate - 1):
                with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                    answers = self.model(images)
                loss = over_all_ranks(self._loss_of, answers, targets) / plan.accumulate
                torch.autograd.backward(self.scaler.scale(loss * self.ranks))
            total += float(loss.detach())
            waited += batch.waited_s
        if not math.isfinite(total):
            raise TrainingDiverged(f"the loss is not a number at step {state.step + 1}")
        self.scaler.unscale_(self.optimiser)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        state.step += 1
        self._follow_with_average()
        return total, waited

    def _loss_of(self, answers: Answers, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss; it adds up over all voxels, and half precision has not the digits."""
        logits: Any = single(answers)  # several, where the loss is one of several
        return self.loss(logits, targets)

    def _apart(self, *, until: bool) -> AbstractContextManager[None]:
        """Let ranks keep their gradients to themselves, until the last of several batches."""
        if isinstance(self.model, DistributedDataParallel) and not until:
            return cast(AbstractContextManager[None], self.model.no_sync())
        return nullcontext()

    def _steps_of_epoch(self) -> Iterator[int]:
        """Yield the epoch's steps, from 0; its end moves with the number of steps."""
        begun = self.state.step - len(self.state.losses)
        while self.state.step < min(begun + self.plan.steps_an_epoch, self.state.steps):
            yield self.state.step - begun

    def _follow_with_average(self) -> None:
        share = min(self.plan.average, (1 + self.state.step) / (10 + self.state.step))
        if not self.plan.average:
            share = 0.0
        with torch.no_grad():
            ours, theirs = self.average.state_dict(), self.network.state_dict()
            for name, value in ours.items():
                if value.is_floating_point():
                    value.lerp_(theirs[name], 1 - share)
                else:
                    value.copy_(theirs[name])

    def _end_epoch(
        self,
        began: float,
        told: Callable[[Epoch], None] | None,
    ) -> None:
        state = self.state
        looks: list[Look] = []
        scores = by_the_first(
            lambda: validate(
                self.average, self.prepared, self.cases, self.plan, self.device, looks=looks
            )
        )
        epoch = Epoch(
            number=len(state.epochs) + 1,
            step=state.step,
            loss=statistics.fmean(state.losses),
            scores=scores,
            rate=_rate(self.plan, state.step - 1, state.steps),
            seconds=time.perf_counter() - began,
            waited_s=state.waited_s,
        )
        state.epochs.append(epoch)
        state.losses, state.spent_s, state.waited_s = [], 0.0, 0.0
        is_best = scores.mean > state.best or not self.cases  # without cases to choose on, the last
        if is_best:
            state.best_epoch = epoch.number
            state.best = scores.mean if self.cases else state.best
        if self.rank == 0:
            self._keep(is_best=is_best)
            self.chronicle.note(epoch.number, step=epoch.step, figures=epoch.figures, looks=looks)
        if told is not None and self.rank == 0:
            told(epoch)

    def _has_stalled(self) -> bool:
        since = len(self.state.epochs) - self.state.best_epoch
        return bool(self.plan.patience) and since >= self.plan.patience

    def _fix_number_of_steps(self, seconds: float, minutes: float) -> None:
        """Fix how many steps fit, once a few were timed; it is kept with the checkpoint."""
        self.timed.append(seconds)
        if len(self.timed) < _UNTIMED_STEPS + _TIMED_STEPS:
            return
        median = statistics.median(self.timed[_UNTIMED_STEPS:])
        fitting = round(minutes * 60 * _SHARE_OF_STEPS / median)
        self.state.steps = by_the_first(lambda: max(fitting, self.state.step + 1))
        self.state.is_timed = True

    # --- checkpoints ------------------------------------------------------------------------------

    def _keep(self, *, is_best: bool) -> None:
        """Write the checkpoint whole or not at all; the curve is made from it."""
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "state": self.state.as_content(),
        }
        if is_best:
            write_checkpoint(self.run / BEST, {"average": content["average"]})
        write_checkpoint(self.run / LAST, content)
        write_curve(self.run, self.state.epochs)

    def _restore(self) -> None:
        path = self.run / LAST
        if not path.is_file():
            return
        content = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.scaler.load_state_dict(content["scaler"])
        self.state = State.of(content["state"])


def trained_so_far(run: Path, plan: Plan) -> Trained:
    """Return what a training that was ended has come to: its epochs, and the best of them.

    Raises
    ------
    CannotTrain
        When no epoch has ended yet.
    """
    epochs = read_curve(run)
    if not epochs:
        raise CannotTrain("no epoch of the training has ended yet")
    scored = [epoch for epoch in epochs if not math.isnan(epoch.scores.mean)]
    best = max(scored, key=lambda epoch: epoch.scores.mean) if scored else epochs[-1]
    return Trained(run, plan, epochs, best.number)


def best_weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the averaged weights of a run's best epoch.

    Raises
    ------
    CannotTrain
        When no epoch has ended yet.
    """
    path = run / BEST
    if not path.is_file():
        raise CannotTrain("no epoch of the training has ended yet")
    found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)[
        "average"
    ]
    return found


def _rate(plan: Plan, step: int, steps: int) -> float:
    """Return the learning rate: rising for a while, then half a cosine down to a hundredth."""
    rising = max(1, round(plan.warm_up * steps))
    if step < rising:
        return plan.rate * (step + 1) / rising
    share = (step - rising) / max(1, steps - rising)
    return plan.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def _layout(network: torch.nn.Module, dimensions: int, device: torch.device) -> torch.memory_format:
    """Return how maps lie in memory: the channels of a voxel side by side, where that is quicker.

    On a processor it is not where norms are of groups: PyTorch goes back through them much slower.
    """
    if device.type == "cpu" and any(isinstance(m, torch.nn.GroupNorm) for m in network.modules()):
        return torch.contiguous_format
    return _LAYOUTS[dimensions]


def _recipes(folder: DatasetFolder, graph: Graph | None) -> tuple[Recipe, ...]:
    """Return what is learnt from; never a case of the test split."""
    if graph is None:
        return tuple(Recipe(case, ()) for case in folder.dataset.of("train"))
    for node in graph.node:
        if isinstance(node, Source) and node.split == "test":
            raise CannotTrain(f"node {node.name}: the test split is never learnt from")
    if not any(isinstance(node, Sink) and node.name == "train" for node in graph.node):
        raise CannotTrain("the graph has no sink `train`")
    recipes = unroll(graph, folder)["train"]
    if any(recipe.case.split != "train" for recipe in recipes):
        raise CannotTrain("the graph's sink `train` takes from another split than `train`")
    return recipes


def _begin_with(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError:
        raise CannotTrain("the weights to begin with are those of another network") from None
