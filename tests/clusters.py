"""What trainings at the cluster of tests/slurm.py share, without torch.

``python -m tests.clusters FOLDER`` is a worker that learns there, until somebody kills it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from models.learning.planning import UNetPlan
from pipelines.launching import Cluster, Slurm
from pipelines.learning import Lessons, Means, School
from pipelines.store import Database
from tests.learning import school_in
from tests.working import working

TINY = UNetPlan(channels=(4, 8), strides=(2,), residual_units=0, dropout=0.0)


def a_cluster(folder: Path, /, **change: object) -> Cluster:
    wanted = {"folder": str(folder / "there"), "python": sys.executable, "gpus": 0, "cpus": 1}
    return Cluster(**{**wanted, "time": "0:20:00", "poll_s": 0.2, **change})


def school_of(folder: Path, database: Database) -> School:
    """Return the school of a node that learns at the cluster."""
    return replace(school_in(folder, database), launchers=("slurm",))


@contextmanager
def worker(folder: Path) -> Iterator[tuple[School, Lessons]]:
    """Be the part of a worker that learns."""
    database = Database(f"sqlite:///{folder / 'radloop.db'}")
    school, logs = school_of(folder, database), folder / "logs"
    slurm = Slurm(a_cluster(folder), logs=logs)
    means = Means(logs=logs, device="cpu", threads=1, elsewhere={"slurm": slurm})
    lessons = Lessons(school, means, is_urgent=lambda: False)
    try:
        with working(lessons, folder, "learning"):
            yield school, lessons
    finally:
        database.close()


if __name__ == "__main__":
    with worker(Path(sys.argv[1])) as (_, lessons):
        while True:
            lessons.hand_over()
            time.sleep(0.05)
