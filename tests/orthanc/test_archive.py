"""The archive client against a real Orthanc."""

import threading
import time
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from dicom.archive import Archive
from dicom.dimse import send_folder, store
from dicom.errors import (
    ArchiveMismatch,
    DiskFull,
    InvalidSettings,
    NotDicom,
    PeerRefused,
    PeerUnreachable,
)
from dicom.phantom import WrittenHead, write_head_study
from dicom.web import WebPeer
from tests.orthanc.servers import (
    SENDER_AET,
    RunningOrthanc,
    clinical_config,
    listening,
    research_config,
    running,
)

pytestmark = pytest.mark.orthanc

SLICES = 12


@pytest.fixture
def head(tmp_path: Path) -> WrittenHead:
    return write_head_study(tmp_path / "head", slices=SLICES, size=32, plane="axial")


def files_of(head: WrittenHead) -> list[Path]:
    return [instance.path for instance in head.series.instances]


def send(orthanc: RunningOrthanc, files: list[Path]) -> None:
    store(orthanc.peer, files, calling_aet=SENDER_AET)


def web_peer(orthanc: RunningOrthanc) -> WebPeer:
    config = orthanc.config
    return WebPeer("web", f"{config.url}/dicom-web", user=config.user, password=config.password)


def test_a_series_is_described_and_fetched_byte_for_byte(
    clinical: RunningOrthanc, head: WrittenHead, tmp_path: Path
):
    send(clinical, files_of(head))
    with clinical.archive() as near, clinical.archive(colocated=False) as far:
        (series_id,) = near.lookup("series", head.series.series_uid)
        series = near.series(series_id)
        assert series.series_uid == head.series.series_uid
        assert series.study_uid == head.study.study_uid
        assert series.modality == "MR"
        study = near.study(series.study_orthanc_id)
        assert study.patient_id == head.person.patient_id
        assert study.series == (series_id,)
        assert head.person.patient_id not in repr(study)
        assert head.series.series_uid not in repr(series)
        assert series.series_uid not in repr(series)

        here = near.fetch(series, tmp_path / "unused")
        there = far.fetch(series, tmp_path / "downloads")
        sent = {instance.sop_instance_uid: instance for instance in head.series.instances}
        assert len(here.instances) == len(there.instances) == SLICES
        for local, loaded in zip(here.instances, there.instances, strict=True):
            original = sent[local.sop_instance_uid]
            assert local.sop_class_uid == loaded.sop_class_uid == original.sop_class_uid
            assert local.path.is_relative_to(clinical.config.storage)
            # The sender's file meta may be rewritten on the way; the two copies may not differ.
            assert local.path.read_bytes() == loaded.path.read_bytes()
            assert dcmread(local.path) == dcmread(original.path)
        assert not (tmp_path / "unused").exists()
        assert near.fingerprint(series) == far.fingerprint(series)
        assert near.holds(series.instances[0].sop_instance_uid)
        assert not near.holds("1.2.3")


def test_a_download_goes_on_where_it_stopped(
    clinical: RunningOrthanc, head: WrittenHead, tmp_path: Path
):
    send(clinical, files_of(head))
    with clinical.archive(colocated=False) as archive:
        (series_id,) = archive.lookup("series", head.series.series_uid)
        series = archive.series(series_id)
        first = archive.fetch(series, tmp_path / "downloads").instances
        first[0].path.write_bytes(b"torn")
        written = {instance.path: instance.path.stat().st_mtime_ns for instance in first[1:]}
        again = archive.fetch(series, tmp_path / "downloads").instances
        assert again[0].path.stat().st_size == series.instances[0].size
        assert all(i.path.stat().st_mtime_ns == written[i.path] for i in again[1:])


def test_a_full_disk_or_a_wrong_storage_folder_is_said(
    clinical: RunningOrthanc, head: WrittenHead, tmp_path: Path
):
    send(clinical, files_of(head))
    config = clinical.config
    with clinical.archive(colocated=False) as far:
        (series_id,) = far.lookup("series", head.series.series_uid)
        series = far.series(series_id)
        full = tmp_path / "downloads"
        full.mkdir()
        # Every write to this device finds no room.
        (full / f"{series.instances[0].file_uuid}.part").symlink_to("/dev/full")
        with pytest.raises(DiskFull):
            far.fetch(series, full)
    elsewhere = tmp_path / "elsewhere"
    with (
        Archive(config.url, config.user, config.password, storage=elsewhere) as archive,
        pytest.raises(InvalidSettings),
    ):
        archive.fetch(series, tmp_path)


def test_what_vanished_meanwhile_is_a_mismatch(
    clinical: RunningOrthanc, head: WrittenHead, tmp_path: Path
):
    send(clinical, files_of(head))
    with clinical.archive() as near, clinical.archive(colocated=False) as far:
        (series_id,) = near.lookup("series", head.series.series_uid)
        series = near.series(series_id)
        near.delete("instances", series.instances[3].orthanc_id)
        near.delete("instances", series.instances[3].orthanc_id)  # gone already: no error
        for archive in (near, far):
            with pytest.raises(ArchiveMismatch):
                archive.fetch(series, tmp_path / "downloads")
            with pytest.raises(ArchiveMismatch):
                archive.fingerprint(series)
        near.delete("series", series_id)
        with pytest.raises(ArchiveMismatch):
            near.series(series_id)
        assert near.series_of([series.instances[0].orthanc_id]) == ()


def test_a_resend_changes_neither_feed_nor_fingerprint(clinical: RunningOrthanc, head: WrittenHead):
    send(clinical, files_of(head)[:-1])
    with clinical.archive() as archive:
        (series_id,) = archive.lookup("series", head.series.series_uid)
        partial = archive.fingerprint(archive.series(series_id))
        send(clinical, files_of(head))
        whole = archive.fingerprint(archive.series(series_id))
        assert whole != partial
        arrived = new_instances(archive.changes(0).changes)
        send(clinical, files_of(head))
        assert archive.fingerprint(archive.series(series_id)) == whole
        assert new_instances(archive.changes(0).changes) == arrived
        assert len(arrived) == SLICES


def new_instances(changes) -> list[str]:
    return [change.resource_id for change in changes if change.kind == "NewInstance"]


def test_the_feed_goes_on_after_a_kill(clinical: RunningOrthanc, head: WrittenHead):
    files = files_of(head)
    send(clinical, files[:5])
    with clinical.archive() as archive:
        page = archive.changes(0, limit=3)
        assert len(page.changes) == 3
        assert not page.done
        cursor = page.last
        seen = new_instances(page.changes)
        clinical.kill()
        with pytest.raises(PeerUnreachable):
            archive.changes(cursor)
        clinical.start()
        send(clinical, files[5:])
        while True:
            page = archive.changes(cursor, limit=4)
            assert all(change.seq > cursor for change in page.changes)
            seen += new_instances(page.changes)
            cursor = page.last
            if page.done:
                break
        assert len(seen) == len(set(seen)) == SLICES
        assert cursor == archive.last_change()
        assert archive.series_of(seen) == archive.lookup("series", head.series.series_uid)


def test_many_instances_are_few_rings(tmp_path: Path):
    with (
        listening() as push,
        running(clinical_config(tmp_path / "clinical", bell=push.bell)) as (clinical,),
    ):
        assert push.rung.wait(10)  # Orthanc has started
        push.rung.clear()
        push.rings.clear()
        head = write_head_study(tmp_path / "head", slices=100, size=16, plane="axial")
        began = time.monotonic()
        send(clinical, files_of(head))
        assert push.rung.wait(10)
        # The bell rings ten times a second at most, however long a busy machine takes.
        assert 1 <= len(push.rings) <= min(100, 10 * (time.monotonic() - began) + 2)
        assert set(push.rings) == {f"/wake Bearer {push.token}"}
        assert push.token not in clinical.log.read_text()


def test_a_silent_or_dead_listener_does_no_harm(clinical: RunningOrthanc, head: WrittenHead):
    # Nobody listens at the fixture's bell.
    send(clinical, files_of(head))
    with clinical.archive() as archive:
        assert archive.statistics().instances == SLICES
    log = clinical.log.read_text()
    assert log.count("nobody answers the bell") == 1
    assert head.person.patient_id not in log
    assert head.study.study_uid not in log


def test_storing_twice_is_one_instance(clinical: RunningOrthanc, head: WrittenHead):
    path = files_of(head)[0]
    with clinical.archive() as archive:
        first = archive.store(path)
        assert archive.store(path.read_bytes()) == first
        web = web_peer(clinical)
        web.store([dcmread(path)])
        web.store([dcmread(path)])
        (series,) = web.search_series(head.study.study_uid)
        assert series.instances == 1
        assert archive.statistics().instances == 1
        with pytest.raises(NotDicom):
            archive.store(b"not a file")


def test_an_instance_is_never_overwritten(clinical: RunningOrthanc, head: WrittenHead):
    path = files_of(head)[0]
    with clinical.archive(colocated=False) as archive:
        archive.store(path)
        altered = dcmread(path)
        altered.SeriesDescription = "altered"
        web_peer(clinical).store([altered])
        (series_id,) = archive.lookup("series", head.series.series_uid)
        kept = archive.fetch(archive.series(series_id), path.parent / "kept").instances[0]
        assert dcmread(kept.path).SeriesDescription != "altered"


def test_dicomweb_gives_back_what_it_was_given(tmp_path: Path, head: WrittenHead):
    with running(research_config(tmp_path / "research")) as (research,):
        web = web_peer(research)
        sent = [dcmread(path) for path in files_of(head)]
        for ds in sent:
            ds.preamble = None  # as of a dataset that was made in memory
        web.store(sent)
        found = web.search_instances(head.study.study_uid, head.series.series_uid)
        assert {one.sop_instance_uid for one in found} == {ds.SOPInstanceUID for ds in sent}
        assert web.search_series(modality="CT") == ()
        back = {
            ds.SOPInstanceUID: ds
            for ds in web.retrieve_series(head.study.study_uid, head.series.series_uid)
        }
        assert all(back[ds.SOPInstanceUID] == ds for ds in sent)


def test_dicomweb_refusals_carry_no_uid(tmp_path: Path, head: WrittenHead, free_port: int):
    with running(research_config(tmp_path / "research")) as (research,):
        web = WebPeer("web", f"{research.config.url}/dicom-web", user="radloop", password="wrong")
        with pytest.raises(PeerRefused, match="HTTP 401") as refused:
            web.search_series(head.study.study_uid)
        broken = dcmread(files_of(head)[0])
        broken.PatientID = None
        del broken.StudyInstanceUID
        with pytest.raises(PeerRefused):
            web_peer(research).store([broken])
    with pytest.raises(PeerUnreachable) as unreachable:
        WebPeer("web", f"http://127.0.0.1:{free_port}").search_series(head.study.study_uid)
    for caught in (refused, unreachable):
        assert head.study.study_uid not in str(caught.value)


def test_one_client_serves_many_threads(clinical: RunningOrthanc, head: WrittenHead):
    send(clinical, files_of(head))
    with clinical.archive(colocated=False) as archive:
        (series_id,) = archive.lookup("series", head.series.series_uid)
        expected = archive.fingerprint(archive.series(series_id))
        seen: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: seen.append(archive.fingerprint(archive.series(series_id)))
            )
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert seen == [expected] * 6


def test_pixels_are_not_compressed_on_the_way(clinical: RunningOrthanc, head: WrittenHead):
    send(clinical, files_of(head))
    config = clinical.config
    with clinical.archive() as archive:
        (orthanc_id,) = archive.lookup("instances", head.series.instances[0].sop_instance_uid)
    answer = httpx.get(
        f"{config.url}/instances/{orthanc_id}/file",
        auth=(config.user, config.password),
        headers={"Accept-Encoding": "gzip"},
    )
    assert "Content-Encoding" not in answer.headers


def test_c_store_takes_a_labelmap_segmentation(clinical: RunningOrthanc, head: WrittenHead):
    seg = dcmread(files_of(head)[0])
    seg.SOPClassUID = seg.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    seg.Modality = "SEG"
    folder = files_of(head)[0].parent / "seg"
    folder.mkdir()
    seg.save_as(folder / "labelmap.dcm")
    send_folder(clinical.peer, folder, calling_aet=SENDER_AET)
    with clinical.archive() as archive:
        assert archive.holds("2.25.77")
