"""Trainings here and as jobs of a real Slurm: called off, killed, requeued, learnt all the same.

One machine plays a cluster of two, and its login node too; over SSH the shell's test learns.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom.errors import (
    Canceled,
    ClusterNotReady,
    ClusterRefused,
    ClusterUnreachable,
    InvalidPlan,
    JobCanceled,
    JobNeverStarted,
    TrainerDied,
    TrainingDiverged,
)
from models.learning.cases import read_dataset
from models.learning.orders import BEST, DONE, LAST, PackOrder, TrainOrder, write_order
from models.learning.packing import pack
from models.learning.planning import Plan
from models.learning.trainer import best_weights, read_curve, train
from pipelines.launching import Attended, Launcher, Local, Login, Place, Slurm, Watch
from pipelines.launching.queue import look, submit
from pipelines.launching.slurm import as_there
from pipelines.learning import cancel, order_training
from pipelines.store import TrainingView
from tests.clusters import TINY, a_cluster, school_of, worker
from tests.learning import blobs, small_plan
from tests.node.front import migrated_database
from tests.slurm import SlurmServer, comes_to, running_slurm

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[SlurmServer]:
    with running_slurm() as server:
        yield server


@pytest.fixture
def slurm(server: SlurmServer, monkeypatch: pytest.MonkeyPatch) -> SlurmServer:
    """Return the server, as the settings of the machine's administrator name it."""
    monkeypatch.setenv("SLURM_CONF", str(server.configuration))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return server


def an_order(tmp_path: Path, *, steps: int, each: int = 25) -> TrainOrder:
    (tmp_path / "bundles").mkdir(exist_ok=True)
    data = tmp_path / "data"
    folder = read_dataset(data) if data.exists() else blobs(data)
    plan = small_plan(steps=steps, steps_an_epoch=each, network=TINY, patch=(16, 16))
    return TrainOrder(
        dataset=folder.root,
        cache=tmp_path / "prepared",
        bundles=tmp_path / "bundles",
        plan=plan,
        name="blobs",
        version="0.1.0",
        device="cpu",
        threads=1,
    )


def packed_already(folder: Path, order: TrainOrder) -> None:
    """Pack here what a child would pack: it is one that the launcher finds done."""
    there = as_there(order, a_cluster(folder))
    wanted = PackOrder(train=there, into=(folder / "packed").absolute())
    write_order(folder / "packing", wanted)
    (folder / "packing" / DONE).write_text(pack(wanted))


def alone(tmp_path: Path, order: TrainOrder, *, epochs: int) -> list[float]:
    """Return the losses of a training that nothing happens to."""
    told: list[float] = []
    with suppress(Canceled):
        train(
            read_dataset(order.dataset),
            order.plan,
            tmp_path / "alone",
            cache=order.cache,
            device=torch.device("cpu"),
            told=lambda epoch: told.append(epoch.loss),
            canceled=lambda: len(told) == epochs,
        )
    return told


def losses(folder: Path) -> list[float]:
    return [epoch.loss for epoch in read_curve(folder)]


QUIET = Watch(lambda: False, lambda used_s: None, lambda stopped, place: None)


# --- one suite for both -------------------------------------------------------------------------


@pytest.fixture(params=["local", "slurm"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Launcher:
    if request.param == "local":
        return Local(tmp_path / "logs" / "trainer.log")
    request.getfixturevalue("slurm")
    return Slurm(a_cluster(tmp_path), logs=tmp_path / "logs")


@pytest.mark.timeout(600)  # many processes that load torch; a busy machine is slow at it
def test_a_training_is_called_off_and_goes_on(launcher: Launcher, tmp_path: Path):
    order, folder = an_order(tmp_path, steps=100, each=10), tmp_path / "run"
    if isinstance(launcher, Slurm):
        packed_already(folder, order)
    else:
        order = order.model_copy(update={"processes": 2})
    once = replace(QUIET, ending=lambda _: "canceled" if losses(folder) else None)
    ended = launcher.learn(folder, order, once)
    assert (ended.said, ended.ending) == (None, "canceled")
    assert (folder / LAST).is_file()
    assert 0 < len(losses(folder)) < 10
    comes_to(lambda: not learning_below(tmp_path))
    if isinstance(launcher, Slurm):
        assert not list((tmp_path / "there").iterdir())  # nothing of it stays at the cluster
        packed_already(folder, order)
    else:
        order = order.model_copy(update={"processes": 1})  # goes on with what two have begun

    seen: list[Place] = []
    done = launcher.learn(folder, order, replace(QUIET, looked=lambda _, place: seen.append(place)))
    assert done.said == "blobs@0.1.0"
    assert (order.bundles / "blobs@0.1.0" / "models" / "model.pt").is_file()
    assert list((folder / "looks").glob("0010-*.png"))
    whole = alone(tmp_path, order, epochs=10)
    if isinstance(launcher, Slurm):
        assert losses(folder) == pytest.approx(whole, abs=1e-5)
        assert any(place.job and place.doing == "running" for place in seen)
        assert not list((tmp_path / "there").iterdir())
    else:  # two ranks began, which add in another order
        assert len(losses(folder)) == 10
        assert losses(folder)[:3] == pytest.approx(whole[:3], abs=0.02)


def learning_below(folder: Path) -> list[int]:
    """Return the processes that learn in a folder, or below it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            where = (entry / "cwd").resolve()
            is_rank = b"-m\0models.learning.rank\0" in words and b"torch.distributed" not in words
            is_rank = is_rank and not words.startswith(b"srun")  # who starts it
            if is_rank and (where.is_relative_to(folder) or str(folder).encode() in words):
                found.append(int(entry.name))
    return found


# --- at the cluster -----------------------------------------------------------------------------


@pytest.mark.timeout(600)  # many processes that load torch; a busy machine is slow at it
def test_a_new_worker_finds_the_job_and_a_slice_of_time_that_ends_costs_nothing(slurm, tmp_path):
    made = blobs(tmp_path / "datasets" / "blobs@1")
    database = migrated_database(tmp_path / "radloop.db")
    small = small_plan(steps=120, steps_an_epoch=20, network=TINY, patch=(16, 16))
    training = order_training(
        school_of(tmp_path, database),
        dataset="blobs@1",
        name="blobs",
        asked_by="anna",
        changes=small.model_dump(mode="json", exclude={"why"}),
    )
    database.close()
    there, folder = tmp_path / "there", tmp_path / "runs" / training.id

    def jobs(form: str = "%A %T") -> list[str]:
        return slurm.run("squeue", "-h", "-t", "all", "-n", f"{name}", "-o", form).splitlines()

    first = [sys.executable, "-m", "tests.clusters", str(tmp_path)]
    with subprocess.Popen(first, cwd=ROOT) as killed:
        try:
            comes_to(lambda: list(there.glob(f"*/run/{LAST}")))
            (rank,) = learning_below(there)
            os.kill(rank, signal.SIGSTOP)  # it waits with the rest until both are looked at
        finally:
            killed.kill()  # with its engine, as in a node that loses its power
    (root,) = there.iterdir()
    name = f"{root.name}-1"
    begun = len(read_curve(root / "run"))
    ((job, state),) = (line.split() for line in jobs())
    assert state == "RUNNING"

    with worker(tmp_path) as (school, lessons):

        def goes_on_to(happens: Callable[[TrainingView], bool]) -> None:
            def looked() -> bool:
                lessons.hand_over()
                now = school.trainings.training(training.id)
                assert now.error_code is None, now.error_message
                return happens(now)

            comes_to(looked)

        goes_on_to(lambda now: f"job {job}, running" in now.place)
        # What Slurm sends shortly before the slice is over (--signal=B:USR1@120).
        slurm.run("scancel", "--batch", "--signal=USR1", job)
        os.kill(rank, signal.SIGCONT)
        goes_on_to(lambda now: "Restarts=1" in slurm.run("scontrol", "show", "job", job))
        goes_on_to(lambda now: (folder / BEST).is_file())
        goes_on_to(lambda now: not list(there.iterdir()))
        cancel(school, training.id)  # the bundle and its figures are other tests'
        comes_to(lambda: school.trainings.training(training.id).ended_at)
    assert jobs("%A") == [job]  # no second one was ever submitted
    alone = train(
        made,
        Plan.model_validate(dict(training.plan)),
        tmp_path / "alone",
        cache=tmp_path / "prepared",
        device=torch.device("cpu"),
    )
    assert 0 < begun < len(alone.epochs) == 6
    assert losses(folder) == losses(alone.run)
    ours, whole = best_weights(folder), best_weights(alone.run)
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


@pytest.mark.timeout(600)  # many processes that load torch; a busy machine is slow at it
def test_ranks_survive_every_death_and_another_s_scancel_keeps_the_checkpoint(slurm, tmp_path):
    order, folder, there = an_order(tmp_path, steps=5_000), tmp_path / "run", tmp_path / "there"
    packed_already(folder, order)

    def further() -> Callable[[], bool]:
        def mark() -> list[int]:
            return [path.stat().st_mtime_ns for path in there.glob(f"*/run/{LAST}")]

        before = mark()
        return lambda: mark() != before and bool(mark())

    def jobs() -> list[str]:
        return slurm.run("squeue", "-h", "-o", "%A %T").splitlines()

    cluster = Slurm(a_cluster(tmp_path, nodes=2), logs=tmp_path / "logs")
    seen: list[str] = []
    watch = replace(QUIET, looked=lambda _, place: seen.append(place.job))
    with ThreadPoolExecutor() as pool:
        learning: Future[Attended] = pool.submit(cluster.bring, folder, order, watch)

        def goes_on_to(happens: Callable[[], bool]) -> None:
            comes_to(lambda: learning.done() or happens())
            if learning.done():
                raise AssertionError(f"it is over: {learning.result()}")

        # A rank is killed: torchrun ends all of them, and another job goes on.
        goes_on_to(further())
        first = seen[-1]
        assert jobs() == [f"{first} RUNNING"]
        os.kill(learning_below(there)[0], signal.SIGKILL)
        goes_on_to(lambda: seen[-1] not in ("", first))
        goes_on_to(further())

        # Slurm pre-empts it, since both machines are wanted by what may: SIGTERM, again later.
        goes_on = further()
        urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null")
        slurm.run("sbatch", *urgent, "--wrap=exit")
        goes_on_to(lambda: "Restarts=1" in slurm.run("scontrol", "show", "job", seen[-1]))
        goes_on_to(lambda: jobs() == [f"{seen[-1]} RUNNING"])
        goes_on_to(goes_on)
        goes_on_to(further())

        # Somebody at the cluster ends it.
        slurm.run("scancel", seen[-1])
        with pytest.raises(JobCanceled):
            learning.result(60)
    assert (folder / LAST).is_file()
    assert not list(there.iterdir())

    # Nothing was lost, and nothing learnt twice. Two ranks add in another order than one.
    curve = read_curve(folder)
    assert len(curve) >= 3
    assert [epoch.step for epoch in curve] == [25 * n for n in range(1, len(curve) + 1)]
    assert losses(folder)[:3] == pytest.approx(alone(tmp_path, order, epochs=3), abs=0.02)


def test_what_a_training_refuses_there_is_said_here(slurm, tmp_path):
    order, folder = an_order(tmp_path, steps=50), tmp_path / "run"
    for path in (order.dataset / "cases").glob("*/image.npy"):
        np.save(path, np.full_like(np.load(path), np.nan))
    packed_already(folder, order)
    with pytest.raises(TrainingDiverged):
        Slurm(a_cluster(tmp_path), logs=tmp_path / "logs").bring(folder, order, QUIET)


def test_a_job_that_never_starts_is_given_up_with_slurm_s_reason(slurm, tmp_path):
    order, folder = an_order(tmp_path, steps=5), tmp_path / "run"
    packed_already(folder, order)
    cluster = a_cluster(tmp_path, partition="closed", start_hours=1 / 3600)
    with pytest.raises(JobNeverStarted, match="Partition"):
        Slurm(cluster, logs=tmp_path / "logs").bring(folder, order, QUIET)
    assert not slurm.run("squeue", "-h", "-t", "PENDING")
    packed_already(folder, order)
    with pytest.raises(ClusterRefused, match="nvalid partition"):
        wrong = a_cluster(tmp_path, partition="nowhere")
        Slurm(wrong, logs=tmp_path / "logs").bring(folder, order, QUIET)


def test_jobs_that_end_at_once_are_not_submitted_for_ever(slurm, tmp_path):
    order, folder = an_order(tmp_path, steps=5), tmp_path / "run"
    packed_already(folder, order)
    broken = a_cluster(tmp_path, python="/bin/false")  # as a container that a machine lacks
    with pytest.raises(TrainerDied, match="3 jobs"):
        Slurm(broken, logs=tmp_path / "logs").bring(folder, order, QUIET)
    assert (tmp_path / "logs" / "cluster.log").is_file()
    with pytest.raises(InvalidPlan, match="batch: 4"):
        wide = a_cluster(tmp_path, processes=3)
        Slurm(wide, logs=tmp_path / "logs").bring(folder, order, QUIET)


def test_a_process_that_is_killed_again_and_again_is_given_up(tmp_path):
    order, folder = an_order(tmp_path, steps=5), tmp_path / "run"

    def killed(_stopped: bool, _place: Place) -> None:
        for pid in children_at(folder):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(TrainerDied, match="3 times"):
        Local(tmp_path / "log").learn(folder, order, replace(QUIET, looked=killed))


def children_at(folder: Path) -> list[int]:
    """Return our own children that work on a folder."""
    found = []
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            with suppress(OSError):
                if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({}, None, ""),
        ({"python": "/nowhere/python"}, ClusterNotReady, "python is not there"),
        ({"python": "/bin/false"}, ClusterNotReady, "no radloop"),
        ({"python": "", "container": "/nowhere/radloop.sif"}, ClusterNotReady, "container"),
        ({"folder": "/proc/radloop/there"}, ClusterNotReady, "folder"),
        ({"partition": "nowhere"}, ClusterRefused, "nvalid partition"),
        ({"nodes": 99}, ClusterRefused, "not available"),
        ({"host": "127.0.0.1", "port": 9}, ClusterUnreachable, "does not answer"),
    ],
)
def test_what_a_cluster_lacks_is_said_before_anything_is_sent(slurm, tmp_path, change, error, said):
    there = Slurm(a_cluster(tmp_path, **change), logs=tmp_path)
    if error is None:
        there.check()
    else:
        with pytest.raises(error, match=said):
            there.check()
    assert not slurm.run("squeue", "-h", "-n", "radloop-check")


def test_a_login_node_without_slurm_is_named(slurm, tmp_path, monkeypatch):
    there = Slurm(a_cluster(tmp_path), logs=tmp_path)
    nobody = (
        "ClusterName=x\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=9\nMessageTimeout=1\n"
    )
    (tmp_path / "slurm.conf").write_text(nobody)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(ClusterNotReady, match="does not answer"):
        there.check()
    (tmp_path / "bin").mkdir()
    for name in ("sh", "id", "env"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ClusterNotReady, match="no sbatch"):
        there.check()


def test_a_job_is_submitted_once(slurm, tmp_path):
    script = "#!/bin/bash\n#SBATCH --job-name=radloop-once-1 --output=log.txt\nexec sleep 60\n"
    (tmp_path / "job.sh").write_text(script)
    login, folder = Login(), str(tmp_path)
    job = submit(login, folder, name="radloop-once-1", number=1)
    assert submit(login, folder, name="radloop-once-1", number=1) == job
    (tmp_path / "job-1").unlink()  # killed between Slurm's answer and its being written down
    assert submit(login, folder, name="radloop-once-1", number=1) == job
    assert slurm.run("squeue", "-h", "-n", "radloop-once-1", "-o", "%A") == f"{job}\n"
    slurm.run("scancel", job)
    comes_to(lambda: look(login, job).is_over)
    assert look(login, "999999").state == "GONE"
