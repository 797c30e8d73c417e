"""Trainings here and as jobs of a real Slurm: called off, killed, requeued, learnt all the same.

One machine plays a cluster of two; the login node is this machine, or a real sshd on it.
"""

import getpass
import os
import signal
import subprocess
import sys
import time
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
    ClusterRefused,
    ClusterUnreachable,
    JobCanceled,
    JobNeverStarted,
    TrainingDiverged,
)
from models.learning.cases import file_sha256, read_dataset
from models.learning.orders import DONE, LAST, PackOrder, TrainOrder, write_order
from models.learning.packing import PACKED, Packed, PackedFile, pack
from models.learning.planning import UNetPlan
from models.learning.trainer import read_curve, train
from pipelines.launching import Attended, Cluster, Launcher, Local, Login, Place, Slurm, Watch
from pipelines.launching.queue import look, submit
from pipelines.launching.script import batch_script
from pipelines.launching.shipment import Shipment
from pipelines.launching.transfer import send
from tests.learning import blobs, small_plan
from tests.slurm import SlurmServer, comes_to, running_login_node, running_slurm

PYTHON = sys.executable
TINY = UNetPlan(channels=(4, 8), strides=(2,), residual_units=0, dropout=0.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def a_cluster(tmp_path: Path, **change: object) -> Cluster:
    wanted = {"folder": str(tmp_path / "there"), "python": PYTHON, "gpus": 0, "cpus": 1}
    return Cluster(**{**wanted, "time": "0:20:00", "poll_s": 0.2, **change})


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
    wanted = PackOrder(train=order, into=(folder / "packed").absolute())
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
    else:  # two ranks, which add in another order
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
            if is_rank and (where.is_relative_to(folder) or str(folder).encode() in words):
                found.append(int(entry.name))
    return found


# --- at the cluster -----------------------------------------------------------------------------

_LAUNCH = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.pipelines.test_launching import *
tmp_path = Path({folder!r})
order = TrainOrder.model_validate_json((tmp_path / "order.json").read_bytes())
cluster = a_cluster(tmp_path, nodes=2)
Slurm(cluster, logs=tmp_path / "logs").bring(tmp_path / "run", order, QUIET)
"""


@pytest.mark.timeout(600)  # many processes that load torch; a busy machine is slow at it
def test_a_job_survives_every_death_and_another_s_scancel_keeps_the_checkpoint(slurm, tmp_path):
    order, folder, there = an_order(tmp_path, steps=5_000), tmp_path / "run", tmp_path / "there"
    packed_already(folder, order)
    (tmp_path / "order.json").write_text(order.model_dump_json())

    def further() -> Callable[[], bool]:
        def mark() -> list[int]:
            return [path.stat().st_mtime_ns for path in there.glob(f"*/run/{LAST}")]

        before = mark()
        return lambda: mark() != before and bool(mark())

    def jobs() -> list[str]:
        return slurm.run("squeue", "-h", "-o", "%A %T").splitlines()

    # Who launches is killed while the job runs, as a node is that loses its power.
    script = _LAUNCH.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    with subprocess.Popen([PYTHON, "-c", script]) as launching:
        try:
            comes_to(further())
        finally:
            launching.kill()
    (first,) = jobs()
    cluster = Slurm(a_cluster(tmp_path, nodes=2), logs=tmp_path / "logs")
    seen: list[str] = []
    watch = replace(QUIET, looked=lambda _, place: seen.append(place.job))
    with ThreadPoolExecutor() as pool:
        learning: Future[Attended] = pool.submit(cluster.bring, folder, order, watch)

        def goes_on_to(happens: Callable[[], bool]) -> None:
            comes_to(lambda: learning.done() or happens())
            if learning.done():
                raise AssertionError(f"it is over: {learning.result()}")

        goes_on_to(lambda: bool(seen))
        assert jobs() == [first]
        assert seen[0] == first.split()[0]  # taken up again by its id

        # A rank is killed: torchrun ends all of them, and another job goes on.
        goes_on_to(further())
        os.kill(learning_below(there)[0], signal.SIGKILL)
        goes_on_to(lambda: seen[-1] != seen[0])
        goes_on_to(further())

        # The machine is wanted for something else: SIGTERM, a checkpoint, and again later.
        goes_on = further()
        slurm.run("scontrol", "requeue", seen[-1])
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
    assert len(curve) >= 4
    assert [epoch.step for epoch in curve] == [25 * n for n in range(1, len(curve) + 1)]
    assert losses(folder)[:4] == pytest.approx(alone(tmp_path, order, epochs=4), abs=0.02)


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


# --- transfers ----------------------------------------------------------------------------------

_SEND = """
from pathlib import Path, PosixPath
from pipelines.launching import Login
from pipelines.launching.shipment import Shipment
from pipelines.launching.transfer import send
send(Login(**{login!r}), Shipment.open(Path({root!r})), {there!r})
"""


@pytest.fixture(params=["here", "ssh"])
def login(request: pytest.FixtureRequest, server: SlurmServer, tmp_path: Path) -> Iterator[dict]:
    if request.param == "here":
        yield {}
        return
    with running_login_node(tmp_path / "login", server.configuration) as login:
        yield login


def test_a_transfer_that_was_killed_goes_on_and_a_damaged_file_is_sent_again(login, tmp_path):
    folder, there = tmp_path / "run", tmp_path / "there"
    packed_already(folder, an_order(tmp_path, steps=5))
    root = folder / "packed"
    large = root / "arrays" / f"{7:032x}.npy"
    np.save(large, np.random.default_rng(1).random(4_000_000))
    manifest = Packed.model_validate_json((root / PACKED).read_bytes())
    named = PackedFile(size=large.stat().st_size, sha256=file_sha256(large))
    files = {large.relative_to(root).as_posix(): named, **manifest.files}
    (root / PACKED).write_text(Packed(files=files).model_dump_json())

    arriving = there / "arrays" / f"{large.name}.part"
    script = _SEND.format(login=login, root=str(root), there=str(there))
    sender = subprocess.Popen(
        [PYTHON, "-c", script], cwd=Path(__file__).parents[2], start_new_session=True
    )
    whole = there / "arrays" / large.name
    comes_to(lambda: whole.exists() or (arriving.exists() and arriving.stat().st_size > 1_000_000))
    os.killpg(sender.pid, signal.SIGKILL)
    sender.wait()
    time.sleep(0.2)  # what was on its way arrives
    begun = arriving.stat().st_size if arriving.exists() else named.size
    with Login(**login) as node:
        shipment = Shipment.open(root)
        sent = send(node, shipment, str(there))
        total = sum(one.size for one in shipment.files.values())
        assert sent.size <= total - begun
        assert send(node, shipment, str(there)).files == 0

        with whole.open("r+b") as file:
            file.write(b"damaged")
        assert send(node, shipment, str(there)).size == named.size
        assert file_sha256(whole) == named.sha256


def test_a_login_node_that_is_not_the_known_one_gets_nothing(server, tmp_path):
    with running_login_node(tmp_path / "login", server.configuration) as login:
        with Login(**login) as node:
            assert node.run("id -un").strip() == getpass.getuser()
            assert node.run('printf %s "$1"', "a 'b' $(id)") == "a 'b' $(id)"
        (tmp_path / "empty").touch()
        with (
            Login(**{**login, "known_hosts": tmp_path / "empty"}) as node,
            pytest.raises(ClusterUnreachable, match="not known"),
        ):
            node.run("true")
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")],
            check=True,
        )
        with (
            Login(**{**login, "key": tmp_path / "other"}) as node,
            pytest.raises(ClusterUnreachable, match="does not accept"),
        ):
            node.run("true")
    with Login(**login) as node, pytest.raises(ClusterUnreachable, match="does not answer"):
        node.run("true")


# --- settings and script ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"python": ""}, "container and python"),
        ({"container": "/x.sif"}, "container and python"),
        ({"folder": "here"}, "folder"),
        ({"folder": "/scratch"}, "two levels"),
        ({"folder": "/scratch/../etc"}, "folder"),
        ({"host": "-oProxyCommand=id"}, "host"),
        ({"partition": "a; id"}, "partition"),
        ({"time": "soon"}, "time"),
        ({"options": ("--wrap=id",)}, "wrap"),
        ({"options": ("-p x",)}, "options"),
        ({"nodes": 0}, "nodes"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_at_the_start(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        a_cluster(tmp_path, **change)


def test_the_batch_script_is_one(tmp_path):
    cluster = a_cluster(
        tmp_path,
        python="",
        container="/images/radloop.sif",
        nodes=2,
        gpus=4,
        partition="gpu",
        options=("--constraint=a100",),
    )
    script = batch_script(cluster, name="radloop-x-1", folder="/scratch/x/y", minutes=20)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for line in ("--time=1:00:00", "--gpus-per-node=4", "--requeue", "--constraint=a100"):
        assert f"#SBATCH {line}\n" in script.replace("0:20:00", "1:00:00")
    assert "apptainer exec --nv --contain" in script
    assert "--nnodes=2 --nproc-per-node=4" in script
