"""Groundwork: what is prepared while a sender pauses is what the job would have made."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom.archive import Archive
from dicom.deid import Deidentifier, Identity
from dicom.dimse import store
from dicom.phantom import WrittenHead, write_head_study
from dicom.profile import node_profile
from dicom.volume import read_ahead
from models.process import PredictorProcess
from models.registry import Registry
from pipelines.foresight import Foresight
from pipelines.groundwork import Groundwork
from pipelines.routing import Route, When
from pipelines.store import SeriesView
from tests.bundles import write_threshold_bundle
from tests.orthanc.servers import SENDER_AET, RunningOrthanc

pytestmark = pytest.mark.orthanc

SLICES = 10
PSEUDONYM = "2.25.1"


@pytest.fixture
def head(tmp_path: Path) -> WrittenHead:
    return write_head_study(tmp_path / "head", slices=SLICES, size=32, plane="axial")


@pytest.fixture
def archive(clinical: RunningOrthanc) -> Iterator[Archive]:
    with clinical.archive() as archive:
        yield archive


@pytest.fixture
def engine() -> Deidentifier:
    return Deidentifier(node_profile(), b"k" * 32)


def nobody(_: Identity) -> list[Identity]:
    return []


@pytest.fixture
def groundwork(archive: Archive, engine: Deidentifier, tmp_path: Path) -> Iterator[Groundwork]:
    groundwork = Groundwork(
        archive, engine, tmp_path / "groundwork", profile=node_profile(), others_of=nobody
    )
    yield groundwork
    groundwork.stop()


def send(clinical: RunningOrthanc, head: WrittenHead, part: slice) -> None:
    files = [instance.path for instance in head.series.instances][part]
    store(clinical.peer, files, calling_aet=SENDER_AET)


def view(
    archive: Archive, head: WrittenHead, *, ago_s: float = 1, ours: bool = False
) -> SeriesView:
    (series_id,) = archive.lookup("series", head.series.series_uid)
    return SeriesView(
        id=PSEUDONYM,
        study_id="2.25.2",
        orthanc_id=series_id,
        modality="MR",
        state="receiving",
        instance_count=SLICES,
        changed_at=datetime.now(UTC) - timedelta(seconds=ago_s),
        fingerprint=None,
        ours=ours,
        facts=None,
    )


def originals(archive: Archive, head: WrittenHead, folder: Path) -> list[Path]:
    (series_id,) = archive.lookup("series", head.series.series_uid)
    return [i.path for i in archive.fetch(archive.series(series_id), folder).instances]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "never"
        time.sleep(0.02)


def files_in(folder: Path) -> int:
    return len(list(folder.rglob("*.dcm")))


def test_a_job_gets_what_is_prepared_and_makes_the_rest_itself(
    clinical: RunningOrthanc,
    archive: Archive,
    head: WrittenHead,
    groundwork: Groundwork,
    engine: Deidentifier,
    tmp_path: Path,
) -> None:
    send(clinical, head, slice(0, 6))
    groundwork.look([view(archive, head)])
    wait_for(lambda: files_in(tmp_path / "groundwork") == 6)
    send(clinical, head, slice(6, SLICES))
    paths = originals(archive, head, tmp_path)
    clean = tmp_path / "clean"
    clean.mkdir()
    ready = groundwork.take(PSEUDONYM, paths, clean).files
    assert len(ready) == 6
    assert files_in(tmp_path / "groundwork") == 0
    for path, prepared in ready.items():
        instance, identity = engine.deidentify_file(path, tmp_path / "by the job")
        assert prepared.identity == identity
        assert prepared.instance.path.parent == clean
        assert prepared.instance.path.read_bytes() == instance.path.read_bytes()
        assert prepared.instance.header.path == prepared.instance.path
        assert prepared.instance.header.ds == read_ahead(instance).header.ds
    assert groundwork.take(PSEUDONYM, paths, clean).files == {}


def test_a_sender_that_is_busy_and_our_own_results_are_left_alone(
    clinical: RunningOrthanc,
    archive: Archive,
    head: WrittenHead,
    groundwork: Groundwork,
    tmp_path: Path,
) -> None:
    send(clinical, head, slice(0, SLICES))
    groundwork.look([view(archive, head, ago_s=0), view(archive, head, ours=True)])
    groundwork.stop()  # waits for what was begun
    assert files_in(tmp_path / "groundwork") == 0


def test_what_a_busy_sender_has_sent_is_prepared_once_it_is_worth_a_look(
    clinical: RunningOrthanc,
    archive: Archive,
    head: WrittenHead,
    groundwork: Groundwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.groundwork._FEW", SLICES)
    send(clinical, head, slice(0, SLICES))
    groundwork.look([view(archive, head, ago_s=0)])
    wait_for(lambda: files_in(tmp_path / "groundwork") == SLICES)


def test_what_cannot_be_deidentified_is_left_to_the_job(
    clinical: RunningOrthanc,
    archive: Archive,
    head: WrittenHead,
    groundwork: Groundwork,
    tmp_path: Path,
) -> None:
    send(clinical, head, slice(0, SLICES))
    paths = originals(archive, head, tmp_path)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(bytes(len(whole)))  # of the size that the archive announces
    try:
        groundwork.look([view(archive, head)])
        wait_for(lambda: files_in(tmp_path / "groundwork") == SLICES - 1)
        (tmp_path / "clean").mkdir()
        ready = groundwork.take(PSEUDONYM, paths, tmp_path / "clean").files
        assert set(paths) - set(ready) == {paths[3]}
    finally:
        paths[3].write_bytes(whole)


def test_a_new_process_begins_with_nothing(
    archive: Archive, engine: Deidentifier, tmp_path: Path
) -> None:
    (tmp_path / "groundwork" / PSEUDONYM).mkdir(parents=True)
    (tmp_path / "groundwork" / PSEUDONYM / "left.dcm").write_bytes(b"left")
    Groundwork(
        archive, engine, tmp_path / "groundwork", profile=node_profile(), others_of=nobody
    ).stop()
    assert files_in(tmp_path / "groundwork") == 0


def test_what_no_job_came_for_is_dropped(
    clinical: RunningOrthanc,
    archive: Archive,
    head: WrittenHead,
    groundwork: Groundwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(clinical, head, slice(0, SLICES))
    groundwork.look([view(archive, head)])
    wait_for(lambda: files_in(tmp_path / "groundwork") == SLICES)
    groundwork.sweep()
    assert files_in(tmp_path / "groundwork") == SLICES
    monkeypatch.setattr("pipelines.groundwork._KEPT_S", 0.0)
    groundwork.sweep()
    assert files_in(tmp_path / "groundwork") == 0


@pytest.mark.parametrize(("name", "shown"), [("Another^Ann", True), ("Examiner^Hans", False)])
def test_no_model_is_shown_what_names_somebody_of_the_patients_other_studies(
    clinical: RunningOrthanc,
    archive: Archive,
    head: WrittenHead,
    engine: Deidentifier,
    tmp_path: Path,
    name: str,
    shown: bool,
) -> None:
    for instance in head.series.instances:
        ds = dcmread(instance.path)
        ds.SoftwareVersions = "EXAMINER 3"  # it stays, as long as nobody is called so
        ds.save_as(instance.path)

    def others_of(identity: Identity) -> list[Identity]:
        told = {"00080090": {"vr": "PN", "Value": [{"Alphabetic": name}]}}
        return [replace(identity, study_pseudonym="2.25.9", attributes=told, uids={})]

    write_threshold_bundle(tmp_path / "bundles", "quick")
    registry = Registry([tmp_path / "bundles"])
    route = Route("mr", When(modality=("MR",)), bundle="quick")
    with PredictorProcess(
        [tmp_path / "bundles"], device="cpu", threads=1, timeout_s=120
    ) as predictor:
        groundwork = Groundwork(
            archive,
            engine,
            tmp_path / "groundwork",
            profile=node_profile(),
            others_of=others_of,
            foresight=Foresight(registry, predictor, [route]),
        )
        send(clinical, head, slice(0, SLICES))
        seen = replace(view(archive, head), instance_count=len(head.series.instances))
        groundwork.look([seen])
        groundwork._thread.shutdown()  # after what was begun
        (tmp_path / "clean").mkdir()
        paths = originals(archive, head, tmp_path)
        assert len(groundwork.take(PSEUDONYM, paths, tmp_path / "clean").files) == SLICES
        assert groundwork.foresees(PSEUDONYM) is shown
        groundwork.stop()
