"""Datasets for others, on real archives: picked, collected with what was drawn, exported."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from pydicom import Dataset, dcmread

from dicom.deid import Deidentifier
from dicom.errors import DiskFull, InputError, InvalidRequest, RadloopError, VaultLocked
from dicom.seg import decode_seg
from dicom.volume import read_grid, read_volume
from pipelines.exporting import check_manifest
from pipelines.keyring import KeyRing
from pipelines.projects import Project
from pipelines.store import NewExport, SeriesFilter
from tests.orthanc import drawing
from tests.orthanc.sharing import (
    LIVER,
    PATIENTS,
    PROJECTS,
    RING,
    STRICT,
    House,
    InTurn,
    sharing_house,
)

pytestmark = pytest.mark.orthanc

LABELLED = SeriesFilter(with_labels=True)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with sharing_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def collected(house: House) -> str:
    """A collection of everything for the project `liver`."""
    collection = house.pick("everything", LIVER)
    house.collecting().run(collection, InTurn())
    assert house.collections.collection(collection).state == "completed"
    return collection


def order(collection: str | None, *formats: str, **changed: object) -> NewExport:
    plain = NewExport(
        "livers", "liver", collection, LABELLED, formats, 0, 0, "", True, "", "", "rob"
    )
    return replace(plain, **changed)


def clean_uid(house: House, uid: str, project: Project = LIVER) -> str:
    """Return a UID as a project's copies have it."""
    ds = dcmread(house.series["a"].instances[0].path)
    ds.StudyInstanceUID = uid
    made, _ = Deidentifier(project.profile, RING.pseudonym_key(project.name)).deidentify(ds)
    return str(made.StudyInstanceUID)


def every_uid(ds: Dataset, keyword: str) -> set[str]:
    return {str(element.value) for element in ds.iterall() if element.keyword == keyword}


# --- picking --------------------------------------------------------------------------------------


def test_a_filter_counts_before_anything_runs(house: House) -> None:
    def figures(**asked: object) -> tuple[int, int, int, int]:
        count = house.picking.count(SeriesFilter(**asked))  # type: ignore[arg-type]
        return count.patients, count.studies, count.series, count.images

    assert figures() == (3, 4, 4, 24)  # contours and segmentations are no images
    assert figures(modality=("ct",), body_part=("LIVER",)) == (2, 3, 3, 18)
    assert figures(modality=("MR",)) == (0, 0, 0, 0)
    assert figures(text="VENOUS maker") == (3, 4, 4, 24)
    assert figures(text="venous arterial") == (0, 0, 0, 0)
    assert figures(text="%") == (0, 0, 0, 0)  # no wildcard
    assert figures(with_labels=True) == (1, 1, 1, 6)
    today = datetime.now(UTC).date()
    assert figures(received_from=today, received_until=today, within_days=1)[2] == 4
    assert figures(received_until=today - timedelta(days=1))[2] == 0
    assert figures(received_from=today + timedelta(days=1))[2] == 0
    for name in {*PATIENTS.values()}:  # nobody is found by name
        assert figures(text=name.split("^")[0]) == (0, 0, 0, 0)


def test_a_filter_that_contradicts_itself_is_refused() -> None:
    today = datetime.now(UTC).date()
    with pytest.raises(InvalidRequest):
        SeriesFilter(received_from=today, received_until=today - timedelta(days=1))
    with pytest.raises(InvalidRequest):
        SeriesFilter(within_days=0)


# --- collecting -----------------------------------------------------------------------------------


def test_what_is_collected_twice_is_stored_once(house: House, collected: str) -> None:
    before = house.research.statistics()
    again = house.pick("again", LIVER)
    house.collecting().run(again, InTurn())
    assert house.research.statistics() == before
    assert before.instances >= 24 + 4
    first, second = (house.collections.members(each) for each in (collected, again))
    assert [one.orthanc_id for one in first] == [one.orthanc_id for one in second]
    assert all(one.state == "stored" for one in second)


def test_a_patient_is_found_in_every_collection_and_export(house: House, collected: str) -> None:
    export = house.exports.begin(order(collected, "dicom", wanted=SeriesFilter(), name="all"))
    house.exporting().run(export.id, InTurn())
    of = {one.series_id: one.patient for one in house.collections.members(collected)}
    patient = of[house.node_series("b")]
    assert patient == of[house.node_series("c")] != of[house.node_series("a")]
    assert patient is not None and patient.startswith("RL-")
    studies = house.sealed.studies_of(patient)
    assert len(studies) == 2
    assert collected in {one.id for one in house.collections.holding(patient)}
    assert export.id in {one.id for one in house.exports.holding(patient)}
    held = house.exports.patients_of(export.id)
    assert {study for study, whose in held.items() if whose == patient} == set(studies)


def test_what_a_project_refuses_is_listed_by_code_and_the_rest_goes_on(house: House) -> None:
    collection = house.pick("no heads", STRICT)
    house.collecting().run(collection, InTurn())
    members = {one.series_id: one for one in house.collections.members(collection)}
    assert members[house.node_series("d")].reason_code == "head_not_defaced"
    view = house.collections.collection(collection)
    assert (view.state, view.stored, view.refused) == ("completed", 3, 1)
    refused = [event for event in house.trail.events(limit=50) if event.action == "collect"]
    assert ("rob", "head_not_defaced") in {(event.actor, event.outcome) for event in refused}


def test_what_a_project_refuses_is_held_and_a_release_collects_it_at_once(house: House) -> None:
    custody = house.custody
    head = house.node_series("d")
    collection = house.pick("heads, looked at", STRICT)
    house.collecting().run(collection, InTurn())
    (held,) = [one for one in custody.held.all(state="held") if one.content.series_id == head]
    assert (held.code, held.content.project) == ("head_not_defaced", "strict")
    assert held.collection == collection
    custody.desk.release(held.id, by="cleo", reason="the face is bandaged")
    view = house.collections.collection(collection)
    assert (view.state, view.attempt, view.refused) == ("scheduled", 2, 0)
    house.collecting().run(collection, InTurn())
    view = house.collections.collection(collection)
    assert (view.state, view.stored, view.refused) == ("completed", 4, 0)
    original = read_volume(house.series["d"]).voxels_kji
    np.testing.assert_array_equal(read_volume(house.copies(collection)[head]).voxels_kji, original)


def test_what_a_custodian_deleted_is_not_collected_for_that_project_again(house: House) -> None:
    custody = house.custody
    other = replace(STRICT, name="stricter")
    house.projects = (*PROJECTS, other)
    for name in ("first", "second"):
        collection = house.pick(name, other, SeriesFilter(body_part=("HEAD",)))
        house.collecting().run(collection, InTurn())
        if name == "first":
            (held,) = custody.held.all(state="held")
            custody.desk.delete(held.id, by="cleo", reason="a face")
            assert house.collections.collection(collection).state == "completed"
    (member,) = house.collections.members(collection)
    assert (member.state, member.reason_code) == ("refused", "dismissed")
    assert custody.held.all(state="held") == []


def test_another_key_ends_the_collection_and_nothing_new_is_stored(house: House) -> None:
    before = house.research.statistics()
    other = KeyRing((bytes(32),))
    collection = house.pick("wrong key", LIVER, SeriesFilter(body_part=("HEAD",)))
    runs = house.collecting(other)
    with pytest.raises(VaultLocked):
        runs.run(collection, InTurn())
    assert house.research.statistics() == before
    assert [one.state for one in house.collections.members(collection)] == ["waiting"]


def test_a_collection_that_is_canceled_keeps_what_it_has_and_goes_on(house: House) -> None:
    collection = house.pick("stopped", LIVER)
    runs = house.collecting()
    assert house.collections.start(collection)
    studies = runs._begin(collection)
    runs._study(collection, studies[0])
    assert house.collections.ask_cancel(collection)
    with pytest.raises(InputError, match="canceled"):
        runs._study(collection, studies[1])
    assert house.collections.collection(collection).stored == 1
    house.collections.end(collection)
    assert house.collections.retry(collection)
    assert len(house.collections.waiting(collection)) == 3
    assert not list((house.folder / "collecting").iterdir())  # no original is left lying


# --- what was drawn -------------------------------------------------------------------------------


def test_what_was_drawn_goes_with_its_images_voxel_for_voxel(
    house: House, collected: str, tmp_path: Path
) -> None:
    members = {one.series_id: one for one in house.collections.members(collected)}
    mine = members[house.node_series("a")]
    assert (mine.left_out, len(mine.labels)) == ((), 4)
    images = house.copies(collected)[mine.series_id]
    grid = read_grid(images)
    np.testing.assert_array_equal(
        read_volume(images).voxels_kji, read_volume(house.series["a"]).voxels_kji
    )
    stored = {}
    for orthanc_id in mine.labels:
        path = tmp_path / f"{orthanc_id}.dcm"
        path.write_bytes(house.research.file_of(orthanc_id))
        stored[str(dcmread(path).SOPInstanceUID)] = path
    assert set(stored) == {clean_uid(house, uid) for uid in house.drawn.values()}
    here = {instance.sop_instance_uid for instance in images.instances}
    for word in ("result", "correction"):
        path = stored[clean_uid(house, house.drawn[word])]
        original = house.room.seg(house.drawn[word], tmp_path)
        before, after = decode_seg(original, house.room.grid), decode_seg(path, grid)
        np.testing.assert_array_equal(after.labels(), before.labels())
        ds = dcmread(path)
        assert ds.FrameOfReferenceUID == grid.frame_of_reference_uid
        assert [str(item.SeriesInstanceUID) for item in ds.ReferencedSeriesSequence] == [
            images.series_uid
        ]
        frames = [*ds.SharedFunctionalGroupsSequence, *ds.PerFrameFunctionalGroupsSequence]
        shown = set[str]().union(*(every_uid(i, "ReferencedSOPInstanceUID") for i in frames))
        assert shown and shown <= here
        raw = path.read_bytes()
        assert b"rita" not in raw and b"Novak" not in raw
    correction = dcmread(stored[clean_uid(house, house.drawn["correction"])])
    (before,) = correction.PredecessorDocumentsSequence
    named = every_uid(before, "ReferencedSOPInstanceUID")
    assert named == {clean_uid(house, house.drawn["result"])}


def test_reports_and_contours_refer_to_the_copies(
    house: House, collected: str, tmp_path: Path
) -> None:
    members = {one.series_id: one for one in house.collections.members(collected)}
    mine = members[house.node_series("a")]
    found = {}
    for orthanc_id in mine.labels:
        path = tmp_path / f"{orthanc_id}.dcm"
        path.write_bytes(house.research.file_of(orthanc_id))
        ds = dcmread(path)
        found[str(ds.Modality)] = ds
    images = house.copies(collected)[mine.series_id]
    here = {instance.sop_instance_uid for instance in images.instances}
    seg = clean_uid(house, house.drawn["result"])
    assert seg in every_uid(found["SR"], "ReferencedSOPInstanceUID")
    contours = found["RTSTRUCT"]
    assert images.series_uid in every_uid(contours, "SeriesInstanceUID")
    slices = every_uid(contours, "ReferencedSOPInstanceUID") & here
    assert len(slices) == 1
    frame = read_grid(images).frame_of_reference_uid
    assert every_uid(contours, "FrameOfReferenceUID") == {frame}
    assert len(contours.ROIContourSequence[0].ContourSequence[0].ContourData) == 12


# --- exporting ------------------------------------------------------------------------------------


def test_a_dataset_is_loaded_by_those_whom_it_is_for(
    house: House, collected: str, tmp_path: Path
) -> None:
    export = house.exports.begin(order(collected, "dicom", "nnunet", "decathlon"))
    house.exporting().run(export.id, InTurn())
    done = house.exports.export(export.id)
    assert (done.state, done.done, done.total, done.is_there) == ("completed", 1, 1, True)
    assert done.card is not None and done.card["with_labels"] == 1
    archive = zipfile.ZipFile(house.files.target(done))
    archive.extractall(tmp_path)
    home = tmp_path / "livers"
    assert check_manifest(home) == []
    labels = nibabel.load(home / "Dataset001_livers/labelsTr/livers_0001.nii.gz")
    correction = decode_seg(house.room.seg(house.drawn["correction"], tmp_path), house.room.grid)
    np.testing.assert_array_equal(np.asarray(labels.dataobj).T, correction.labels())
    (item,) = load_decathlon_datalist(home / "Task01_livers/dataset.json", True, "training")
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(item["image"]).dataobj).T,
        read_volume(house.series["a"]).voxels_kji,
    )
    directory = dcmread(home / "dicom" / "DICOMDIR")
    kinds = [str(record.DirectoryRecordType) for record in directory.DirectoryRecordSequence]
    assert kinds.count("IMAGE") == 6 + 2  # a segmentation is an image too (PS3.3 F.4)
    classes = {
        str(record.ReferencedSOPClassUIDInFile)
        for record in directory.DirectoryRecordSequence
        if "ReferencedSOPClassUIDInFile" in record
    }
    assert len(classes) == 4  # images, segmentations, the report, the contours
    assert not list(house.files.home(export.id).glob(".*"))


def test_one_leak_refuses_the_whole_export_and_leaves_nothing(house: House, collected: str) -> None:
    """A name comes into the archive by another way; the export must see it."""
    member = next(
        one
        for one in house.collections.members(collected)
        if one.series_id == house.node_series("b")
    )
    assert member.orthanc_id
    victim = house.research.series(member.orthanc_id).instances[0]
    ds = dcmread(house.copies(collected)[member.series_id].instances[0].path)
    victim_bytes = house.research.file_of(victim.orthanc_id)
    ds.ImageComments = "called QUIST by phone"
    house.research.delete("instances", victim.orthanc_id)
    house.research.store(drawing.bytes_of(ds))
    try:
        wanted = order(collected, "dicom", name="leaky", wanted=SeriesFilter())
        export = house.exports.begin(wanted)
        runs = house.exporting()
        with pytest.raises(RadloopError) as refused:
            runs.run(export.id, InTurn())
        runs.specs()[0].failed(export.id, refused.value)
        view = house.exports.export(export.id)
        assert (view.state, view.error_code, view.is_there) == ("canceled", "identity_left", False)
        assert "QUIST" not in (view.error_message or "").upper()
        left = [path.name for path in house.files.home(export.id).iterdir()]
        assert left in ([], [".sources"])
    finally:
        house.research.delete("instances", victim.orthanc_id)
        house.research.store(victim_bytes)


def test_without_the_key_nothing_leaves(house: House, collected: str) -> None:
    export = house.exports.begin(order(collected, "dicom", name="keyless"))
    with pytest.raises(VaultLocked):
        house.exporting(KeyRing((bytes(32),))).run(export.id, InTurn())
    assert not house.files.home(export.id).exists()


def test_a_full_disk_is_told_and_the_export_goes_on_when_there_is_room(
    house: House, collected: str
) -> None:
    export = house.exports.begin(order(collected, "nnunet", name="big"))
    home = house.files.home(export.id)
    home.mkdir(parents=True)
    full = home / ".big.zip.zip.part"  # where the zip is written before it has its name
    full.symlink_to("/dev/full")  # the kernel's own `no space left`
    runs = house.exporting()
    with pytest.raises(DiskFull):
        runs.run(export.id, InTurn())
    view = house.exports.export(export.id)
    assert not view.is_there and not house.files.target(view).exists()
    full.unlink()
    runs._write(export.id)
    assert house.exports.export(export.id).is_there
    assert zipfile.ZipFile(house.files.target(view)).testzip() is None


def test_an_export_stopped_before_its_row_was_written_is_not_made_again(
    house: House, collected: str
) -> None:
    export = house.exports.begin(order(collected, "dicom", name="twice"))
    runs = house.exporting()
    runs.run(export.id, InTurn())
    first = house.exports.export(export.id)
    made = house.files.target(first).stat().st_mtime_ns
    runs._write(export.id)  # the step runs again after a crash
    assert house.files.target(first).stat().st_mtime_ns == made
    assert house.exports.export(export.id).manifest_sha256 == first.manifest_sha256
