"""What people do to jobs: cancel, retry, hurry; and the same node on PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom.phantom import write_head_study
from tests.bundles import write_threshold_bundle
from tests.pipelines.postgres import create_database, running_postgres
from tests.series import write_series
from tests.whole.nodes import ROUTE, Node, running_node, until, write_config

pytestmark = [pytest.mark.orthanc, pytest.mark.timeout(900)]

SLOW = """
[[route]]
name = "slow"
bundle = "slow"
[route.when]
max_slices = 30
modality = ["MR"]
[[route]]
name = "urgent"
bundle = "threshold"
priority = "stat"
[route.when]
min_slices = 31
modality = ["MR"]
[[route]]
name = "broken"
bundle = "not_installed"
[route.when]
modality = ["CT"]
[[route]]
name = "whole"
bundle = "threshold"
[route.when]
modality = ["CT"]
min_slices = 2
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Node]:
    config = write_config(tmp_path_factory.mktemp("control"), bundles, routes=SLOW)
    with running_node(config) as running:
        yield running


def send(node: Node, folder: Path, seed: int, *, slices: int) -> str:
    written = write_head_study(folder, seed=seed, slices=slices, size=48)
    node.send(folder)
    return written.study.study_uid


def is_enqueued(node: Node, study_uid: str) -> bool:
    """Whether the engine has the study's task; its row is written some time before."""
    jobs = node.jobs_of(study_uid)
    if not jobs or not jobs[0].tasks:
        return False
    workflow = f"{jobs[0].tasks[0].id}.{jobs[0].attempt}"
    engine = f"file:{node.settings.data / 'engine.db'}?mode=ro"
    with closing(sqlite3.connect(engine, uri=True)) as rows:
        query = "SELECT 1 FROM workflow_status WHERE workflow_uuid = ?"
        return bool(rows.execute(query, (workflow,)).fetchone())


def test_stat_goes_first_and_cancel_stops_at_once(node: Node, tmp_path: Path):
    routine = [send(node, tmp_path / f"r{n}", 200 + n, slices=24) for n in range(3)]

    def one_runs() -> bool:
        jobs = [job for uid in routine for job in node.jobs_of(uid)]
        return len(jobs) == 3 and any(
            task.state == "in_progress" for job in jobs for task in job.tasks
        )

    until(one_runs, timeout_s=120)
    urgent = send(node, tmp_path / "stat", 210, slices=40)
    until(lambda: is_enqueued(node, urgent), timeout_s=60)

    # The running one is canceled through the API; STAT overtakes the two that wait.
    with closing(node.client()) as client:
        client.headers["Origin"] = node.address
        open_jobs = [job for uid in routine for job in node.jobs_of(uid) if not job.ended_at]
        running = next(j for j in open_jobs if any(t.state == "in_progress" for t in j.tasks))
        waiting_ids = {job.id for job in open_jobs if job.id != running.id}
        assert waiting_ids
        assert client.post(f"/api/jobs/{running.id}/cancel").is_success
        job = node.ended_job(urgent, timeout_s=300)
        assert job.state == "completed"
        waiting = [j for uid in routine for j in node.jobs_of(uid) if j.id in waiting_ids]
        started = [t.started_at for w in waiting for t in w.tasks if t.started_at is not None]
        (stat_task,) = job.tasks
        assert stat_task.started_at is not None
        assert all(stat_task.started_at <= moment for moment in started)

        for each in waiting:
            assert client.post(f"/api/jobs/{each.id}/cancel").is_success
        for uid in routine:
            ended = node.ended_job(uid, timeout_s=60)
            if ended.id in {running.id, *waiting_ids}:
                assert (ended.state, ended.error_code) == ("canceled", "canceled")
        assert node.segmentations(urgent)

        # Retry begins anew; then it is canceled again, so that the test ends.
        assert client.post(f"/api/jobs/{running.id}/retry").is_success
        again = until(
            lambda: next(
                (
                    job
                    for uid in routine
                    for job in node.jobs_of(uid)
                    if job.id == running.id and job.state == "in_progress"
                ),
                None,
            ),
            timeout_s=60,
        )
        assert again.attempt == 2
        assert client.post(f"/api/jobs/{running.id}/cancel").is_success
        until(
            lambda: all(job.ended_at for uid in routine for job in node.jobs_of(uid)), timeout_s=60
        )


def test_a_bundle_that_is_not_there_fails_its_own_task_and_no_other(node: Node, tmp_path: Path):
    series = write_series(tmp_path / "series", modality="CT", name="no bundle")
    node.send(tmp_path / "series")
    study_uid = dcmread(series.instances[0].path).StudyInstanceUID
    job = node.ended_job(study_uid)
    assert (job.state, job.error_code) == ("canceled", "unknown_bundle")
    tasks = {task.route: task for task in job.tasks}
    assert (tasks["broken"].state, tasks["broken"].error_code) == ("canceled", "unknown_bundle")
    assert tasks["whole"].state == "completed"
    assert len(node.segmentations(study_uid)) == 1


@pytest.mark.postgres
def test_a_withdrawn_model_fails_what_names_it_until_another_is_promoted(
    node: Node, tmp_path: Path
):
    learning = "/api/learning/models"
    with closing(node.client()) as client:
        client.headers["Origin"] = node.address
        why = {"why": "misses lesions"}
        gone = client.post(f"{learning}/threshold@0.1.0/withdraw", json=why)
        assert gone.status_code == 200, gone.text
        study_uid = send(node, tmp_path / "head", 220, slices=40)
        job = node.ended_job(study_uid)
        assert (job.state, job.error_code) == ("canceled", "withdrawn_bundle")
        assert not node.segmentations(study_uid)

        imported = node.settings.data / "bundles"
        write_threshold_bundle(imported, "threshold@0.2.0", "0.2.0")
        promoted = client.post(f"{learning}/threshold@0.2.0/promote", json={"why": "finds them"})
        assert promoted.status_code == 200, promoted.text
        assert client.post(f"/api/jobs/{job.id}/retry").is_success
        until(lambda: node.jobs_of(study_uid)[0].state == "completed", timeout_s=120)
    (task,) = node.jobs_of(study_uid)[0].tasks
    assert task.bundle == "threshold@0.2.0"  # which version made this contour?
    assert len(node.segmentations(study_uid)) == 1


def test_the_same_on_postgresql_by_url_alone(tmp_path: Path, bundles: Path):
    with running_postgres() as server:
        url = create_database(server, "whole")
        config = write_config(tmp_path, bundles, routes=ROUTE, more=f'[database]\nurl = "{url}"\n')
        with running_node(config, goes_on=True) as node:
            written = write_head_study(tmp_path / "study", seed=300, slices=20, size=64)
            node.send(tmp_path / "study")
            job = node.ended_job(written.study.study_uid)
            assert (job.state, job.error_code) == ("completed", None)
            worker = node.child("node", "worker")
            assert worker is not None
            worker.kill()
            second = write_head_study(tmp_path / "second", seed=301, slices=20, size=64)
            node.send(tmp_path / "second")
            assert node.ended_job(second.study.study_uid).state == "completed"
            assert len(node.segmentations(second.study.study_uid)) == 1
        assert not (node.settings.data / "radloop.db").exists()
