"""A study goes in by C-STORE and comes back as a DICOM SEG: the whole node, nothing replaced."""

from __future__ import annotations

import io
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, SegmentationStorage

from dicom.phantom import write_head_study
from dicom.sr import decode_report
from dicom.volume import read_volume
from pipelines.store import Studies
from tests.segmentations import problems, read_by_dcmqi, read_by_highdicom
from tests.series import DATA, real_series, write_series
from tests.whole.conftest import Receiver
from tests.whole.nodes import Node, until

pytestmark = pytest.mark.orthanc

THRESHOLD = 100.0  # of tests.bundles' bundle
STEPS = ["fetch", "deidentify", "route", "collect", "volume", "predict", "encode", "relink"]
STEPS += ["gate"]


def small_head(folder: Path, **changed: object):
    return write_head_study(folder, slices=24, size=64, **changed)


def test_a_study_comes_back_as_a_segmentation(node: Node, receiver: Receiver, tmp_path: Path):
    written = small_head(tmp_path / "study", seed=11)
    sender = shutil.which("dcmsend")
    assert sender is not None
    settings = node.settings.dicom
    command = [sender, "-aet", settings.aet, "-aec", settings.aet, "127.0.0.1", str(settings.port)]
    subprocess.run([*command, "+sd", str(tmp_path / "study")], check=True, capture_output=True)

    job = node.ended_job(written.study.study_uid)

    assert (job.state, job.error_code) == ("completed", None)
    assert [s.name for s in job.steps][: len(STEPS)] == STEPS
    (sop_instance_uid,) = node.segmentations(written.study.study_uid)
    path = tmp_path / "seg.dcm"
    with node.archive() as archive:
        path.write_bytes(archive.instance_bytes(sop_instance_uid))
    seg, source = dcmread(path), read_volume(written.series)
    original = dcmread(written.series.instances[0].path)

    # It is about the study that was sent, and says whose it is.
    assert seg.SOPClassUID == SegmentationStorage
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate"):
        assert seg[keyword].value == original[keyword].value
    (referred,) = seg.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == written.series.series_uid
    sent = {i.sop_instance_uid for i in written.series.instances}
    referred_instances = referred.ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in referred_instances} <= sent
    assert seg.FrameOfReferenceUID == original.FrameOfReferenceUID
    assert "DeidentificationMethod" not in seg

    # It holds what the model says, voxel for voxel, whoever reads it.
    truth = source.voxels_kji > THRESHOLD
    assert 0 < truth.sum() < truth.size
    assert np.array_equal(read_by_highdicom(path, source, 1) > 0, truth)
    assert np.array_equal(read_by_dcmqi(path, source, tmp_path / "dcmqi")[1], truth)
    assert problems("dciodvfy", path) == []
    files = [i.path for i in written.series.instances]
    assert problems("dcentvfy", path, *files) == []

    # A report beside it says what was measured, of that very segment and of the original study.
    (report_id,) = set(node.results(written.study.study_uid)) - {sop_instance_uid}
    with node.archive() as archive:
        (tmp_path / "sr.dcm").write_bytes(archive.instance_bytes(report_id))
    report = dcmread(tmp_path / "sr.dcm")
    assert problems("dciodvfy", tmp_path / "sr.dcm") == []
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate"):
        assert report[keyword].value == original[keyword].value
    (group,) = decode_report(report)
    assert group.segmentation_uid == sop_instance_uid
    assert group.tracking_uid == seg.SegmentSequence[0].TrackingUID
    voxel_ml = np.prod(source.spacing_kji) / 1000
    assert group.figures[0].value == pytest.approx(truth.sum() * voxel_ml, rel=1e-5)
    assert f"{written.series.series_uid}" in str(report)

    # Who looks for it finds it by what it is called.
    with closing(node.client()) as client:
        shown = client.get(f"/api/studies/{node.pseudonym(written.study.study_uid)}").json()
        assert shown["description"] == original.StudyDescription == "MR head"
        found = client.get("/api/worklist", params={"search": "mr HEAD"}).json()
        assert job.study_id in str(found)

    # The same objects reached the other destination.
    delivered = until(lambda: len(receiver.files()) == 2 and receiver.files(), timeout_s=60)
    assert {dcmread(path).SOPInstanceUID for path in delivered} == {sop_instance_uid, report_id}
    assert {(d.destination, d.state) for d in job.deliveries} == {
        ("archive", "completed"),
        ("pacs", "completed"),
    }


def test_the_research_archive_gets_the_study_without_its_identity(node: Node, tmp_path: Path):
    written = small_head(tmp_path / "study", seed=12)
    node.send(tmp_path / "study")
    node.ended_job(written.study.study_uid)
    with node.research() as research:
        assert not research.lookup("studies", written.study.study_uid)
        (study,) = research.lookup("studies", node.pseudonym(written.study.study_uid))
        (series,) = (research.series(each) for each in research.study(study).series)
        clean = dcmread(io.BytesIO(research.instance_bytes(series.instances[0].sop_instance_uid)))
    assert len(series.instances) == 24
    assert clean.PatientIdentityRemoved == "YES"
    original = dcmread(written.series.instances[0].path)
    text = str(clean)
    for secret in identity_of(original):
        assert secret not in text


def test_the_same_bytes_again_make_no_second_job(node: Node, tmp_path: Path):
    written = small_head(tmp_path / "study", seed=13)
    node.send(tmp_path / "study")
    first = node.ended_job(written.study.study_uid)
    with node.archive() as archive:  # deleted and sent again: the feed tells of new instances
        (study,) = archive.lookup("studies", written.study.study_uid)
        archive.delete("studies", study)
        before = archive.last_change()
    node.send(tmp_path / "study")

    def read_and_quiet() -> bool:
        with node.rows() as database:
            studies = Studies(database)
            return studies.cursor("clinical") >= before + 24 and not studies.receiving()

    until(read_and_quiet, timeout_s=60)
    assert [job.id for job in node.jobs_of(written.study.study_uid)] == [first.id]


def test_late_slices_open_the_series_again(node: Node, tmp_path: Path):
    written = small_head(tmp_path / "study", seed=14)
    late = tmp_path / "late"
    late.mkdir()
    paths = sorted((tmp_path / "study").iterdir())
    for path in paths[-4:]:
        path.rename(late / path.name)
    node.send(tmp_path / "study")
    first = node.ended_job(written.study.study_uid)
    assert first.state == "completed"
    node.send(late)
    second = node.ended_job(written.study.study_uid, count=2)
    assert second.id != first.id
    assert second.state == "completed"
    assert len(node.segmentations(written.study.study_uid)) == 2  # of 20 slices, and of all 24


def test_results_of_the_node_are_not_taken_for_new_studies(node: Node, tmp_path: Path):
    written = small_head(tmp_path / "study", seed=15)
    node.send(tmp_path / "study")
    node.ended_job(written.study.study_uid)

    def seg_is_known() -> bool:
        with node.rows() as database:
            series = Studies(database).series_of(node.pseudonym(written.study.study_uid))
            return any(view.modality == "SEG" and view.ours for view in series)

    until(seg_is_known, timeout_s=30)
    assert len(node.jobs_of(written.study.study_uid)) == 1


def test_an_unknown_sender_is_refused(node: Node, tmp_path: Path):
    small_head(tmp_path / "study", seed=16)
    sender = shutil.which("dcmsend")
    assert sender is not None
    settings = node.settings.dicom
    command = [sender, "-aet", "STRANGER", "-aec", settings.aet, "127.0.0.1", str(settings.port)]
    done = subprocess.run([*command, "+sd", str(tmp_path / "study")], capture_output=True)
    assert done.returncode != 0
    with node.archive() as archive:
        file = next((tmp_path / "study").iterdir())
        assert not archive.holds(dcmread(file, stop_before_pixels=True).SOPInstanceUID)


# --- what bad input gets ------------------------------------------------------------------------


def doubled(k: int, ds: Dataset) -> None:
    if k == 5:
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], ds.ImagePositionPatient[2] + 3.0]


def uneven(k: int, ds: Dataset) -> None:
    if k == 11:
        ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], ds.ImagePositionPatient[2] + 1.0]


def mixed(k: int, ds: Dataset) -> None:
    if k == 11:
        ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def tilted(k: int, ds: Dataset) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, y + 0.4 * k, z]


def no_pixels(k: int, ds: Dataset) -> None:
    if k == 3:
        ds.stored = ds.stored[:10]


BROKEN = {
    "missing_slice": {"left_out": [5]},
    "doubled_slice": {"edit": doubled},
    "uneven_spacing": {"edit": uneven},
    "mixed_orientations": {"edit": mixed},
    "gantry_tilt": {"edit": tilted},
    "unreadable_pixels": {"edit": no_pixels},
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_series_that_makes_no_volume_gets_a_reason_and_stays(
    node: Node, tmp_path: Path, code: str
):
    study_uid = ""

    def own_study(k: int, ds: Dataset) -> None:
        nonlocal study_uid
        edit = BROKEN[code].get("edit")
        if edit is not None:
            edit(k, ds)
        ds.StudyInstanceUID = study_uid = ds.StudyInstanceUID + f".{len(code)}"
        ds.PatientID = f"ID-{code}"

    options = {**BROKEN[code], "edit": own_study}
    series = write_series(tmp_path / "series", name=code, **options)
    node.send(tmp_path / "series")
    job = node.ended_job(study_uid)
    assert (job.state, job.error_code) == ("canceled", code)
    assert job.error_message
    with node.archive() as archive:
        assert all(archive.holds(i.sop_instance_uid) for i in series.instances)
    assert node.segmentations(study_uid) == []


@pytest.mark.parametrize("body_part", ["ABDOMEN", "CHEST"], ids=["wrong side", "wrong place"])
def test_what_the_gate_refuses_is_stored_nowhere(
    node: Node, receiver: Receiver, tmp_path: Path, body_part: str
):
    """A model that calls the left kidney right; an output type that lies a slice too high."""

    def trunk(k: int, ds: Dataset) -> None:
        ds.BodyPartExamined = body_part
        ds.PatientID = f"ID-{body_part}"
        j, i = np.indices((30, 34))
        ds.stored = np.where(((j - 15) / 12) ** 2 + ((i - 17) / 14) ** 2 < 1, 100, 0)
        if 3 <= k < 9:
            ds.stored[14:18, 22:26] = 900  # on the left: columns run towards it

    received = len(receiver.files())
    series = write_series(
        tmp_path / "s", modality="PT", name=body_part, spacing_kji=(5, 10, 10), edit=trunk
    )
    study_uid = dcmread(series.instances[0].path).StudyInstanceUID
    node.send(tmp_path / "s")
    job = node.ended_job(study_uid)
    assert (job.state, job.error_code) == ("canceled", "wrong_geometry")
    assert (job.results, job.deliveries) == ((), ())
    failed = {"ABDOMEN": "predict", "CHEST": "gate"}[body_part]
    assert [(s.name, s.error_code) for s in job.steps][-1] == (failed, "wrong_geometry")
    with node.archive() as archive:
        (study,) = archive.lookup("studies", study_uid)
        (only,) = archive.study(study).series
        assert archive.series(only).modality == "PT"
    assert len(receiver.files()) == received


@pytest.mark.parametrize("modality", ["RTSTRUCT", "SR"])
def test_a_study_of_documents_says_so(node: Node, tmp_path: Path, modality: str):
    folder = DATA / "dicom-corpus" / {"RTSTRUCT": "rt-utils_MIT", "SR": "dcmqi_BSD3"}[modality]
    found = sorted(folder.rglob("*.dcm")) if folder.is_dir() else []
    documents = [p for p in found if dcmread(p, stop_before_pixels=True).Modality == modality]
    if not documents:
        pytest.skip(f"needs the {modality} samples in ../shared/data/dicom-corpus")
    (tmp_path / "study").mkdir()
    shutil.copy(documents[0], tmp_path / "study" / "a.dcm")
    node.send(tmp_path / "study")
    job = node.ended_job(dcmread(documents[0]).StudyInstanceUID)
    assert (job.state, job.error_code) == ("canceled", "not_an_image")


def test_a_series_that_no_rule_wants_is_left_alone(node: Node, tmp_path: Path):
    series = write_series(tmp_path / "series", modality="PT", name="no rule")
    ds = dcmread(series.instances[0].path)
    node.send(tmp_path / "series")
    job = node.ended_job(ds.StudyInstanceUID)
    assert job.state == "completed"
    assert [part.reason_code for part in job.series] == ["no_route"]


def test_a_destination_that_is_down_costs_the_archive_nothing(
    node: Node, receiver: Receiver, tmp_path: Path
):
    receiver.stop()
    before = len(receiver.files())
    written = small_head(tmp_path / "study", seed=17)
    node.send(tmp_path / "study")
    stored = until(
        lambda: (
            node.jobs_of(written.study.study_uid)
            and node.jobs_of(written.study.study_uid)[0].deliveries
        ),
        timeout_s=120,
    )
    assert stored
    until(lambda: node.segmentations(written.study.study_uid), timeout_s=60)

    def noted() -> bool:
        (job,) = node.jobs_of(written.study.study_uid)
        return any(d.error_code == "peer_unreachable" for d in job.deliveries)

    until(noted, timeout_s=60)
    receiver.start()
    job = node.ended_job(written.study.study_uid, timeout_s=180)
    assert job.state == "completed"
    assert len(receiver.files()) == before + 2  # the segmentation and its report


# --- real data ----------------------------------------------------------------------------------


def test_a_real_head_comes_back(node: Node, tmp_path: Path):
    series = real_series("mr/sag_anon_t1_dicom/dicom.tar.xz", tmp_path / "real")
    node.send(tmp_path / "real")
    ds = dcmread(series.instances[0].path, stop_before_pixels=True)
    job = node.ended_job(ds.StudyInstanceUID, timeout_s=240)
    assert (job.state, job.error_code) == ("completed", None)
    (sop_instance_uid,) = node.segmentations(ds.StudyInstanceUID)
    path = tmp_path / "seg.dcm"
    with node.archive() as archive:
        path.write_bytes(archive.instance_bytes(sop_instance_uid))
    source = read_volume(series)
    assert np.array_equal(read_by_highdicom(path, source, 1) > 0, source.voxels_kji > THRESHOLD)
    assert problems("dciodvfy", path) == []


# --- who can see this ---------------------------------------------------------------------------


def identity_of(ds: Dataset) -> set[str]:
    """Return the texts of an original that no log, row or file name may hold."""
    keywords = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate")
    texts = {str(ds[keyword].value) for keyword in keywords if keyword in ds}
    texts |= set(str(ds.PatientName).replace("^", " ").split())
    return {text for text in texts if len(text) > 3}


def test_no_identity_in_logs_rows_or_file_names(node: Node, tmp_path: Path):
    written = small_head(tmp_path / "study", seed=18)
    node.send(tmp_path / "study")
    node.ended_job(written.study.study_uid)
    with closing(node.client()) as client:
        assert client.get("/").status_code == 200
        client.get("/dicom-web/studies", params={"PatientName": "*"})
    original = dcmread(written.series.instances[0].path)
    secrets = identity_of(original) | {
        str(original.StudyInstanceUID),
        str(original.SeriesInstanceUID),
        str(original.SOPInstanceUID),
        str(original.FrameOfReferenceUID),
    }
    data = node.settings.data
    own = [p for p in data.rglob("*") if p.is_file() and "orthanc-" not in str(p.parent)]
    assert any(p.name == "worker.log" for p in own)
    assert any(p.name == "radloop.db" for p in own)
    for path in own:
        content = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, f"{secret!r} in {path.name}"
            assert secret not in str(path.relative_to(data))


def test_a_ct_is_routed_by_its_modality(node: Node, tmp_path: Path):
    series = write_series(tmp_path / "series", modality="CT", name="a whole ct")
    ds = dcmread(series.instances[0].path)
    assert ds.SOPClassUID == CTImageStorage
    node.send(tmp_path / "series")
    job = node.ended_job(ds.StudyInstanceUID)
    assert job.state == "completed"
    assert [task.route for task in job.tasks] == ["ct"]
