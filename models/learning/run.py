"""What a training leaves in its folder: the plan, the curve, checkpoints that are whole.

::

    RUN/plan.json     what was to be learnt, from which dataset
    RUN/curve.jsonl   a line an epoch
    RUN/last.pt       all that it takes to go on
    RUN/best.pt       the averaged weights of the best epoch
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from dicom.errors import AnotherTraining, DiskFull
from models.learning.cases import DatasetFolder
from models.learning.orders import CURVE
from models.learning.planning import Plan
from models.learning.validating import Scores

PLAN: Final = "plan.json"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch came to; a line of the run's curve.

    Attributes
    ----------
    number, step : int
        From 1; steps of the optimiser so far.
    loss : float
        Mean over the epoch's steps.
    scores : Scores
        Of the averaged weights on the validation split.
    rate : float
        Learning rate at its end.
    seconds, waited_s : float
        That it took; of these, waiting for batches.
    """

    number: int
    step: int
    loss: float
    scores: Scores
    rate: float
    seconds: float
    waited_s: float

    @property
    def figures(self) -> dict[str, float]:
        """What is drawn as curves."""
        classes = {f"score/{number}": score for number, score in self.scores.classes.items()}
        score = {} if math.isnan(self.scores.mean) else {"score": self.scores.mean}
        return {"loss": self.loss, **score, "rate": self.rate, **classes}


@dataclass(slots=True)
class State:
    """What goes on, apart from the modules themselves."""

    step: int = 0
    steps: int = 0
    is_timed: bool = False
    best: float = -math.inf
    best_epoch: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of the epoch that is not over
    spent_s: float = 0.0  # on it, before this process took it up
    waited_s: float = 0.0

    def as_content(self) -> dict[str, Any]:
        """Return it as a checkpoint keeps it."""
        return {**asdict(self), "epochs": [asdict(epoch) for epoch in self.epochs]}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> State:
        """Return what a checkpoint has kept."""
        return cls(**{**content, "epochs": [_epoch(one) for one in content["epochs"]]})


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: where the best weights are, and the curve that led there."""

    run: Path
    plan: Plan
    epochs: tuple[Epoch, ...]
    best_epoch: int

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept."""
        return self.epochs[self.best_epoch - 1]


def keep_plan(run: Path, plan: Plan, folder: DatasetFolder) -> None:
    """Write plan and dataset down; refuse to go on with another one's run.

    Raises
    ------
    AnotherTraining
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / PLAN
    content = {"plan": plan.model_dump(mode="json"), "dataset": folder.dataset.sha256}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise AnotherTraining(
            f"{run.name} was begun with another plan or dataset, and has not ended"
        )
    beside = run / f"{PLAN}.part"
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def write_curve(run: Path, epochs: Iterable[Epoch]) -> None:
    """Write the curve, whole."""
    lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
    beside = run / f"{CURVE}.part"
    beside.write_text(lines, encoding="utf-8")
    beside.replace(run / CURVE)


def read_curve(run: Path) -> tuple[Epoch, ...]:
    """Return the epochs of a run so far; none where it has not got that far."""
    try:
        lines = (run / CURVE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    found = (json.loads(line) for line in lines)
    return tuple(_epoch(one) for one in found)


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    DiskFull
        The half of it is gone: a word about it finds room.
    """
    beside = path.with_suffix(".part")
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull("no room left for the checkpoint; the one before it is kept") from error


def _epoch(content: Mapping[str, Any]) -> Epoch:
    return Epoch(**{**content, "scores": Scores(**content["scores"])})
