"""How long a STAT task waits for its turn while the node learns: a whole node, a real training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.lessons.common import SEED, Clock
from benchmarks.table import Row
from dicom.phantom import write_head_study
from node import wiring
from node.keys import open_secrets
from pipelines.learning import School, cancel, order_training
from pipelines.store import TrainingView
from tests.bundles import write_threshold_bundle
from tests.learning import blobs, small_plan
from tests.whole.nodes import Node, running_node, until, write_config

WAIT_S: Final = 5.0
STUDIES: Final = 4
ROUTE: Final = """
[[route]]
name = "head-mr"
bundle = "threshold"
priority = "stat"
[route.when]
modality = ["MR"]
"""
TRAINING: Final = "[training]\nthreads = 2\n"
PLAN: Final = {
    **small_plan(steps=1_000_000, steps_an_epoch=50).model_dump(mode="json", exclude={"why"}),
    "batch": 16,
}


def rows(work: Path) -> Iterator[Row]:
    """Yield the longest wait of several STAT tasks, with a training and without one."""
    work.mkdir(parents=True, exist_ok=True)
    write_threshold_bundle(work / "bundles")
    config = write_config(work, work / "bundles", routes=ROUTE, more=TRAINING)
    clock = Clock()
    with running_node(config) as node:
        alone = [_waited(node, work, seed) for seed in range(1, STUDIES + 1)]
        with node.rows() as database:
            school = wiring.school(node.settings, open_secrets(node.settings), database)
            training = _learning(node, school)
            during = [_waited(node, work, seed) for seed in range(101, 101 + STUDIES)]
            still = school.trainings.training(training.id)
            if still.step not in ("learning", "paused"):
                raise SystemExit(f"the training was not at work: it does {still.step}")
            cancel(school, training.id)
    yield Row(
        f"wait: a STAT task's wait for its turn during a training on two threads, the longest of "
        f"{STUDIES} ({clock.said(SEED)})",
        "s",
        round(max(during), 2),
        "no training",
        round(max(alone), 2),
        round(max(during) / max(alone), 2) if max(alone) else None,
        f"<= {WAIT_S:.0f} s",
        max(during) <= WAIT_S,
    )


def _learning(node: Node, school: School) -> TrainingView:
    """Let the node learn, and return once it does."""
    folder = wiring.datasets_folder(node.settings)
    folder.mkdir(parents=True, exist_ok=True)
    made = blobs(folder / "half", side=96)
    made.root.rename(folder / made.dataset.identity)
    asked = order_training(
        school, dataset="blobs", name="blobs", asked_by="bench", changes=PLAN, seed=SEED
    )

    def begun() -> TrainingView | None:
        now = school.trainings.training(asked.id)
        if now.error_code is not None:
            raise SystemExit(f"the training ended: {now.error_message}")
        return now if now.epochs else None

    return until(begun, timeout_s=900)


def _waited(node: Node, work: Path, seed: int) -> float:
    """Send a study; return the seconds between its task's making and its beginning."""
    folder = work / f"head{seed}"
    head = write_head_study(folder, slices=16, size=64, seed=seed)
    node.send(folder)
    job = node.ended_job(head.study.study_uid, timeout_s=900)
    (task,) = job.tasks
    if task.started_at is None or task.error_code is not None:
        raise SystemExit(f"the task ended: {task.error_message}")
    return (task.started_at - task.created_at).total_seconds()
