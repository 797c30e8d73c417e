"""A training that learns at a cluster: on the page, in the API and in the shell."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicom.errors import InvalidRequest
from tests.learning import blobs
from tests.node.front import make_front
from tests.shell import radloop
from tests.slurm import running_login_node, running_slurm

SPLITS = ("train",) * 4 + ("validation",) * 2 + ("test",) * 2
ASKED = {"dataset": "blobs@1", "name": "blobs"}


def test_without_a_cluster_there_is_no_choice(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    blobs(tmp_path / "datasets" / "blobs@1", patients=SPLITS)
    client = front.client("researcher")
    assert "on the cluster" not in client.post("/learning/train", data={"dataset": "blobs@1"}).text
    refused = client.post("/api/learning/trainings", json={**ASKED, "launcher": "slurm"})
    assert refused.status_code == 422
    assert "[training.slurm]" in refused.text
    assert client.post("/api/learning/trainings", json=ASKED).json()["launcher"] == "local"


def test_the_page_says_where_a_training_is(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    blobs(tmp_path / "datasets" / "blobs@1", patients=SPLITS)
    school = replace(front.parts.school, launchers=("slurm", "local"))
    object.__setattr__(front.parts, "school", school)
    client = front.client("researcher")
    assert "on the cluster" in client.post("/learning/train", data={"dataset": "blobs@1"}).text
    made = client.post("/api/learning/trainings", json=ASKED).json()
    assert made["launcher"] == "slurm"  # where the settings say
    page = f"/learning/trainings/{made['id']}"
    assert "On the cluster: not sent yet" in client.get(page).text
    school.trainings.doing(made["id"], "learning")
    school.trainings.stands(made["id"], "login.example, job 4711, pending (Priority)")
    assert "On the cluster: login.example, job 4711, pending (Priority)" in client.get(page).text
    here = client.post(
        "/api/learning/trainings", json={**ASKED, "name": "here", "launcher": "local"}
    )
    assert "On the cluster" not in client.get(f"/learning/trainings/{here.json()['id']}").text


@pytest.fixture
def login_node(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Return where a real sshd lets us into a real Slurm."""
    with (
        running_slurm() as server,
        running_login_node(tmp_path / "login", server.configuration) as node,
    ):
        yield node


@pytest.mark.timeout(600)  # processes that load torch; a busy machine is slow at it
def test_the_shell_learns_at_a_cluster_reached_by_ssh_and_check_says_what_it_lacks(
    login_node: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("SLURM_CONF", raising=False)  # its login node alone knows the cluster
    blobs(tmp_path / "data" / "datasets" / "blobs@1", patients=SPLITS)
    login = {key: value if key == "port" else str(value) for key, value in login_node.items()}

    def written(**change: object) -> None:
        cluster = {"folder": str(tmp_path / "there"), "python": sys.executable} | login | change
        cluster = {"gpus": 0, "cpus": 1, "poll_s": 0.2, "time": "0:20:00", **cluster}
        lines = [f"{key} = {json.dumps(value)}" for key, value in cluster.items()]
        text = f'data = "{tmp_path / "data"}"\n[training.slurm]\n' + "\n".join(lines)
        (tmp_path / "radloop.toml").write_text(text)

    written()
    small = ('network={"kind":"unet","channels":[4,8],"strides":[2],"residual_units":0}',)
    small = (*small, "patch=[16,16]", "batch=2", "steps=10", "steps_an_epoch=5")
    asked = [word for change in small for word in ("--set", change)]
    done = radloop(
        "train", "--dataset", "blobs", "--launcher", "slurm", "--threads", "1", *asked, cwd=tmp_path
    )
    assert done.exit_code == 0, (done.output, done.exception)
    assert "127.0.0.1, packing here" in done.output
    assert re.search(r"127\.0\.0\.1, job \d+, running", done.output)
    assert len(re.findall(r"^epoch +[12] ", done.output, re.MULTILINE)) == 2
    assert "blobs@0.1.0  epoch" in done.output
    assert "blobs@0.1.0" in radloop("models", "list", cwd=tmp_path).output
    assert not list((tmp_path / "there").iterdir())
    again = radloop("train", "--dataset", "blobs", "--launcher", "elsewhere", cwd=tmp_path)
    assert isinstance(again.exception, InvalidRequest)

    assert "✓ cluster that learns" in radloop("check", cwd=tmp_path).output
    for change, code in (
        ({"partition": "nowhere"}, "cluster_refused"),
        ({"python": "/nowhere/python"}, "cluster_not_ready"),
        ({"port": 9}, "cluster_unreachable"),
    ):
        written(**change)
        said = radloop("check", cwd=tmp_path)
        assert said.exit_code == 1
        assert f"({code})" in said.output
        if code != "cluster_unreachable":
            assert "[training.slurm]" in said.output  # where to mend it
