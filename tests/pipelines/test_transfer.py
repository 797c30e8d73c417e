"""Files to a cluster and back, over SSH too; and how a cluster is described."""

import getpass
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom.errors import ClusterUnreachable, DiskFull, TransferFailed
from models.learning.cases import file_sha256
from models.learning.orders import PackOrder, TrainOrder
from models.learning.packing import PACKED, Packed, PackedFile, pack
from pipelines.launching import Login
from pipelines.launching.script import batch_script
from pipelines.launching.shipment import Shipment
from pipelines.launching.transfer import fetch, send
from tests.clusters import TINY, a_cluster
from tests.learning import blobs, small_plan
from tests.slurm import comes_to, running_login_node

ROOT = Path(__file__).parents[2]


def packed(tmp_path: Path) -> Path:
    """Return what is packed of a small training."""
    order = TrainOrder(
        dataset=blobs(tmp_path / "data").root,
        cache=tmp_path / "prepared",
        bundles=None,
        plan=small_plan(network=TINY, patch=(16, 16)),
        name="blobs",
        version="0.1.0",
    )
    pack(PackOrder(train=order, into=tmp_path / "packed"))
    return tmp_path / "packed"


_SEND = """
from pathlib import Path, PosixPath
from pipelines.launching import Login
from pipelines.launching.shipment import Shipment
from pipelines.launching.transfer import fetch, send
send(Login(**{login!r}), Shipment.open(Path({root!r})), {there!r})
"""


@pytest.fixture(params=["here", "ssh"])
def login(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict]:
    if request.param == "here":
        yield {}
        return
    with running_login_node(tmp_path / "login", Path("/dev/null")) as login:
        yield login


def test_a_transfer_that_was_killed_goes_on_and_a_damaged_file_is_sent_again(login, tmp_path):
    root, there = packed(tmp_path), tmp_path / "there"
    large = root / "arrays" / f"{7:032x}.npy"
    np.save(large, np.random.default_rng(1).random(4_000_000))
    manifest = Packed.model_validate_json((root / PACKED).read_bytes())
    named = PackedFile(size=large.stat().st_size, sha256=file_sha256(large))
    files = {large.relative_to(root).as_posix(): named, **manifest.files}
    (root / PACKED).write_text(Packed(files=files).model_dump_json())

    arriving = there / "arrays" / f"{large.name}.part"
    script = _SEND.format(login=login, root=str(root), there=str(there))
    sender = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, start_new_session=True)
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


class Told(Login):
    """A login node that notes from which byte on a file is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[int] = []

    def run(self, script, *arguments, **pipes):
        if len(arguments) == 2 and "tail" in script:
            self.first.append(int(arguments[1]) - 1)
        return super().run(script, *arguments, **pipes)


@pytest.mark.parametrize(
    ("arrived", "asked"),
    [
        (lambda whole: whole[:7], [7]),  # cut off: the rest alone is sent
        (lambda whole: b"damaged", [7, 0]),  # another seven bytes: all of it once more
        (lambda whole: whole + b"older", [1005, 0]),  # of a checkpoint that was longer
        (lambda whole: b"", [0]),
    ],
)
def test_what_comes_back_was_cut_off_or_damaged_and_is_whole_in_the_end(tmp_path, arrived, asked):
    whole = bytes(range(200)) * 5
    there, here = tmp_path / "there.pt", tmp_path / "last.pt"
    there.write_bytes(whole)
    here.write_bytes(b"the one before")
    here.with_name("last.pt.fetched").write_bytes(arrived(whole))
    node = Told()
    fetch(node, str(there), here)
    assert here.read_bytes() == whole
    assert node.first == asked
    assert not here.with_name("last.pt.fetched").exists()


def test_what_cannot_come_back_leaves_what_was_here(tmp_path):
    here = tmp_path / "last.pt"
    here.write_bytes(b"the one before")
    with pytest.raises(TransferFailed):
        fetch(Login(), str(tmp_path / "gone.pt"), here)
    assert here.read_bytes() == b"the one before"


def test_a_full_folder_there_has_a_code_whatever_language_is_spoken(tmp_path, monkeypatch):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    with pytest.raises(DiskFull), (tmp_path / "file").open("w+b") as file:
        file.write(b"arrays")
        file.flush()
        file.seek(0)
        Login().run("cat >/dev/full", stdin=file)  # the kernel's own refusal
    assert Login().run('printf %s "$LC_ALL"') == "C"


def test_a_login_node_that_is_not_the_known_one_gets_nothing(tmp_path):
    with running_login_node(tmp_path / "login", Path("/dev/null")) as login:
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


def test_the_image_s_recipe_is_of_this_project(tmp_path):
    """What is copied into it exists, and what jobs run in it is what it tried when it was built."""
    text = (ROOT / "docker" / "train.def").read_text()
    sections = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL))
    copied = dict(line.split() for line in sections["files"].splitlines() if line.strip())
    assert all((ROOT / source).exists() for source in copied)
    assert {"dicom", "models", "requirements.lock"} <= set(copied)
    assert f"--requirement {copied['requirements.lock']}" in sections["post"]
    assert "requirements.lock" in (ROOT / "docker" / "Dockerfile").read_text()  # one lock for both

    # What pip has compiled stays: the image cannot be written to, and torch is slow to compile.
    assert not re.search(r"find \S*/radloop ", sections["post"])

    home = Path(copied["models"]).parent
    assert f"PYTHONPATH={home} " in sections["environment"]
    (venv,) = re.findall(r"python3 -m venv (\S+)", sections["post"])
    assert f"PATH={venv}/bin:" in sections["environment"]
    cluster = a_cluster(tmp_path, python="", container="/images/radloop.sif")
    script = batch_script(cluster, name="radloop-x-1", folder="/scratch/x/y", minutes=None)
    (module,) = re.findall(r"radloop\.sif python -m (\S+)", script)
    assert module in sections["test"]
    assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()
