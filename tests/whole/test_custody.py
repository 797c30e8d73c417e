"""Custody on a whole node: held back, released, deleted; a patient withdrawn from research."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from dicom.phantom import WrittenHead, write_head_study
from pipelines.store import Held, Trail, Withdrawals
from tests.whole.nodes import Node, running_node, until, write_config

pytestmark = pytest.mark.orthanc

WHY = "asked for by letter"
ROUTES = """
[[project]]
name = "heads"
heads = "keep"

[[project]]
name = "bodies"

[[route]]
name = "head-mr"
bundle = "threshold"
project = "heads"
[route.when]
modality = ["MR"]

[[route]]
name = "bodies"
project = "bodies"
[route.when]
modality = ["MR"]
min_slices = 14
"""


LAME = '''"""A node whose de-identification has lost one rule."""

from dataclasses import dataclass

import node.engines as engines
from dicom.deid import Deidentifier
from dicom.profile import Action, Profile, Verdict


@dataclass(frozen=True)
class Lame(Profile):
    def verdict(self, tag, vr, **where):
        right = Profile.verdict(self, tag, vr, **where)
        if tag != 0x00403001:  # Confidentiality Constraint on Patient Data Description
            return right
        return Verdict(Action.KEEP, right.otherwise, right.vr or vr, "switched off")


def lame(profile, key, **options):
    return Deidentifier(Lame(profile.options, profile.allowed), key, **options)


engines.Deidentifier = lame
'''


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("custody")
    (folder / "faulty").mkdir()
    (folder / "faulty" / "sitecustomize.py").write_text(LAME)
    path = os.pathsep.join(filter(None, (str(folder / "faulty"), os.environ.get("PYTHONPATH", ""))))
    config = write_config(folder, bundles, routes=ROUTES)
    with running_node(config, env=[("PYTHONPATH", path)]) as running:
        yield running


@pytest.fixture(scope="module")
def client(node: Node) -> Iterator[httpx.Client]:
    with closing(node.client()) as client:
        client.headers["Origin"] = node.address
        yield client


def study(folder: Path, seed: int, *, slices: int = 12, visit: int = 0) -> WrittenHead:
    return write_head_study(folder, seed=seed, slices=slices, size=32, plane="axial", visit=visit)


def changed(head: WrittenHead, **attributes: str) -> None:
    for instance in head.series.instances:
        ds = dcmread(instance.path)
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
        ds.save_as(instance.path)


def write_burned_in(head: WrittenHead, folder: Path) -> None:
    """Add a series to the study that says that text is burned into it."""
    ds: Dataset = dcmread(head.series.instances[0].path)
    ds.SeriesInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Modality, ds.BurnedInAnnotation = "OT", "YES"
    ds.save_as(folder / "burned.dcm", enforce_file_format=True)


def held_of(client: httpx.Client, node: Node, head: WrittenHead) -> list[dict[str, str]]:
    pseudonym = node.pseudonym(head.study.study_uid)
    return [one for one in client.get("/api/held").json() if one["study"] == pseudonym]


def test_what_is_refused_waits_for_a_person_and_goes_on_when_released(node, client, tmp_path):
    head = study(tmp_path / "in", 301)
    changed(head, BurnedInAnnotation="YES")
    node.send(tmp_path / "in")
    job = node.ended_job(head.study.study_uid)
    assert (job.state, job.error_code) == ("canceled", "burned_in_text")
    assert job.tasks == ()
    (held,) = held_of(client, node, head)
    assert held["fault"]["code"] == "burned_in_text"
    answer = client.post(f"/api/held/{held['id']}/release", json={"reason": WHY})
    assert answer.status_code == 202, answer.text
    job = until(lambda: (j := node.jobs_of(head.study.study_uid)[0]).ended_at and j, timeout_s=120)
    assert (job.state, job.attempt, job.error_code) == ("completed", 2, None)
    assert len(node.segmentations(head.study.study_uid)) == 1


def test_a_deleted_series_does_not_hold_the_rest_of_its_study_back(node, client, tmp_path):
    head = study(tmp_path / "in", 302)
    write_burned_in(head, tmp_path / "in")
    node.send(tmp_path / "in")
    assert node.ended_job(head.study.study_uid).error_code == "burned_in_text"
    (held,) = held_of(client, node, head)
    answer = client.post(f"/api/held/{held['id']}/delete", json={"reason": WHY})
    assert answer.status_code == 202, answer.text
    job = until(lambda: (j := node.jobs_of(head.study.study_uid)[0]).ended_at and j, timeout_s=120)
    assert job.state == "completed"
    assert [part.reason_code for part in job.series if part.series_id == held["series"]] == [
        "dismissed"
    ]
    with node.archive() as archive:  # the original is whole
        (orthanc_id,) = archive.lookup("studies", head.study.study_uid)
        there = [archive.series(one).modality for one in archive.study(orthanc_id).series]
    assert "OT" in there


def test_what_a_project_refuses_is_held_for_it_and_collected_when_released(node, client, tmp_path):
    head = study(tmp_path / "in", 303, slices=14)
    node.send(tmp_path / "in")
    assert node.ended_job(head.study.study_uid).state == "completed"  # nobody's result waits
    (held,) = held_of(client, node, head)
    assert (held["project"], held["fault"]["code"]) == ("bodies", "head_not_defaced")
    with node.rows() as database:
        before = count_of_patients(node)
        answer = client.post(f"/api/held/{held['id']}/release", json={"reason": WHY})
        assert answer.status_code == 202, answer.text
        until(lambda: count_of_patients(node) > before, timeout_s=120)
        assert Held(database).one(held["id"]).state == "released"
    until(lambda: node.jobs_of(head.study.study_uid)[0].ended_at, timeout_s=60)
    assert len(node.segmentations(head.study.study_uid)) == 1  # and the model did not run twice


def count_of_patients(node: Node) -> int:
    with node.research() as research:
        return research.statistics().patients


def withdraw(node: Node, patient_id: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "node", "withdraw", "--config", str(node.config)),
            *("--reason", WHY, *options),
        ],
        input=patient_id + "\n",
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        timeout=120,
        check=False,
    )


def test_a_patient_withdraws_and_never_comes_back(node, client, tmp_path):
    head = study(tmp_path / "in", 304)
    ds = dcmread(head.series.instances[0].path)
    changed(head, IssuerOfPatientID="")
    node.send(tmp_path / "in")
    assert node.ended_job(head.study.study_uid).state == "completed"
    before = count_of_patients(node)
    first = withdraw(node, ds.PatientID)
    assert first.returncode == 0, first.stderr
    assert "study in the research archive" in first.stdout
    assert count_of_patients(node) == before  # only told
    done = withdraw(node, ds.PatientID, "--yes")
    assert done.returncode == 0, done.stderr
    assert "removed" in done.stdout
    assert count_of_patients(node) == before - 1
    again = withdraw(node, ds.PatientID, "--yes")  # and once more: nothing is left
    assert "nothing holds the patient" in again.stdout
    with node.archive() as archive:
        assert archive.lookup("studies", head.study.study_uid)  # care goes on

    # a later visit is read by the model, and goes into no project
    later = study(tmp_path / "later", 304, visit=1)
    changed(later, PatientID=ds.PatientID, IssuerOfPatientID="")
    node.send(tmp_path / "later")
    job = node.ended_job(later.study.study_uid)
    assert job.state == "completed", job.error_message
    assert count_of_patients(node) == before - 1
    assert held_of(client, node, later) == []
    with node.rows() as database:
        events = Trail(database, node.secrets.audit_key).events(limit=50)
        assert ("collect", "patient_withdrawn") in {(e.action, e.outcome) for e in events}
        assert all(one.request is None for one in Withdrawals(database).all())
        text = "\n".join(f"{e.object} {e.reason}" for e in events)
    assert ds.PatientID not in text
    assert ds.PatientID not in node.logs()
    assert str(ds.PatientName).split("^")[0] not in node.logs()


def test_a_rule_that_fails_lets_no_model_see_the_study(node, client, tmp_path):
    head = study(tmp_path / "in", 305)
    changed(head, ConfidentialityConstraintOnPatientDataDescription="Known to Dr. Feverfew")
    node.send(tmp_path / "in")
    job = node.ended_job(head.study.study_uid)
    assert (job.state, job.error_code) == ("canceled", "identity_left")
    assert job.tasks == ()  # no model was asked
    assert node.segmentations(head.study.study_uid) == []
    (held,) = held_of(client, node, head)
    assert (held["fault"]["code"], held["project"]) == ("identity_left", "node")
    assert held["released_means"] is None
    until(lambda: not list((node.settings.data / "work" / job.id).rglob("*.dcm")), timeout_s=30)
    foreseen = [line for line in node.logs().splitlines() if "foresight_done" in line]
    assert not any(held["series"] in line for line in foreseen)
    assert "Feverfew" not in node.logs() + (job.error_message or "")
