"""What the parts share: where data is, how long a part took, a training and what comes of it."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from dicom.errors import Canceled
from models.bundle import Bundle
from models.learning.bundling import Title, write_bundle
from models.learning.cases import DatasetFolder
from models.learning.evaluating import Evaluation, evaluate
from models.learning.graph import Graph, read_graph
from models.learning.graphing import shipped_graphs
from models.learning.planning import Plan
from models.learning.trainer import Epoch, train, trained_so_far
from models.predictor import open_predictor
from models.registry import Registry

DATA: Final = Path(__file__).parents[3] / "shared/data"
SEED: Final = 0
THREADS: Final = 2
"""Of PyTorch: the cores of the machine that the targets speak of."""


@dataclass(slots=True)
class Clock:
    """How long a part took: by the clock, and of the processor."""

    began: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        """By the clock."""
        return time.perf_counter() - self.began

    def said(self, seed: int = SEED) -> str:
        """Return what a row says of its making."""
        cpu = time.process_time() - self.cpu
        return (
            f"seed {seed}, cpu, {torch.get_num_threads()} thread(s), {self.seconds:.0f} s, "
            f"{cpu:.0f} s of them of the processor"
        )


def shipped(name: str) -> Graph:
    """Return an augmentation graph that comes with radloop."""
    return read_graph(shipped_graphs()[name])


def changed(plan: Plan, **fields: Any) -> Plan:  # noqa: ANN401 - a plan's fields
    """Return a plan with other fields, checked as a whole."""
    return Plan.model_validate({**plan.model_dump(mode="json"), **fields})


def learn(
    folder: DatasetFolder,
    plan: Plan,
    work: Path,
    name: str,
    graph: Graph | None = None,
    *,
    within_s: float = math.inf,
) -> Bundle:
    """Train, write the bundle, and return it; a run that is there already is gone on with.

    One that takes longer than `within_s` is ended, and what it has come to by then is the bundle.
    """
    run, began = work / "runs" / name, time.perf_counter()
    try:
        done = train(
            folder,
            plan,
            run,
            cache=work / "prepared",
            graph=graph,
            device=torch.device("cpu"),
            workers=1,
            told=_progress(name, plan),
            canceled=lambda: time.perf_counter() - began > within_s,
        )
    except Canceled:
        done = trained_so_far(run, plan)
    bundles = work / "bundles"
    shutil.rmtree(bundles / f"{name}@0.1.0", ignore_errors=True)
    return write_bundle(bundles, done, folder.dataset, Title(name, "0.1.0"))


def measured(bundle: Bundle, folder: DatasetFolder, **keywords: Any) -> Evaluation:  # noqa: ANN401
    """Return how good a bundle is, on the images' own grid."""
    registry = Registry((bundle.root.parent,))
    predictor = open_predictor(bundle, lambda: registry, device="cpu", threads=THREADS)
    return evaluate(predictor, folder, **keywords)


def _progress(name: str, plan: Plan) -> Callable[[Epoch], None]:
    def told(epoch: Epoch) -> None:
        print(
            f"{name}: step {epoch.step} of {plan.steps}, loss {epoch.loss:.4f}, "
            f"score {epoch.scores.mean:.4f}, {epoch.seconds:.0f} s",
            flush=True,
        )

    return told
