"""A training that learns at a cluster, on the page and in the API."""

from dataclasses import replace
from pathlib import Path

from tests.learning import blobs
from tests.node.front import make_front

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
