"""Corrections from elsewhere, and what corrections cost, on a real archive."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.draw
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.errors import NotFound, OtherGrid
from dicom.seg import Edited, Origin
from dicom.study import Instance, Series
from dicom.uids import derived_uid
from dicom.volume import Grid, read_grid
from pipelines.corrections import Elsewhere
from pipelines.corrections.aftercare import Aftercare
from pipelines.store import ElsewhereObjects
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, pseudonym, reading_room
from tests.orthanc.test_corrections import ORIGINS, save
from tests.segmentations import bytes_of, encoded, segments_of, uids_of
from tests.series import real_series, write_series
from tests.structures import square, structure_set

pytestmark = pytest.mark.orthanc

BY_HAND = tuple(Origin("MANUAL", "", None, "", "") for _ in range(2))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    config = servers.clinical_config(tmp_path_factory.mktemp("orthanc"))
    with servers.running(config) as (running,):
        yield running


@pytest.fixture
def room(request, tmp_path: Path, orthanc: servers.RunningOrthanc) -> Iterator[Room]:
    name = re.sub(r"\W", " ", request.node.name)
    with reading_room(tmp_path, orthanc, shape_kji=(9, 24, 24), name=name) as room:
        yield room


def care(room: Room) -> Aftercare:
    objects = ElsewhereObjects(room.database)
    return Aftercare(
        room.archive,
        room.studies,
        room.jobs,
        room.corrections,
        objects,
        room.desk,
        pseudonym=pseudonym,
        tolerance_mm=1.0,
    )


def look(room: Room) -> None:
    """Take in what is new, and look at what others drew."""
    room.take_in(quiet_s=0)
    for series in ElsewhereObjects(room.database).unseen():
        care(room).look(series.id)


def mine(room: Room) -> list:
    study = room.images.study_id
    return [one for one in ElsewhereObjects(room.database).objects() if one.study_id == study]


def hand_drawn(
    room: Room, labels_kji: np.ndarray, *names: str, key: str = "slicer", **more
) -> Dataset:
    """Return a SEG as a person's tool writes it, without a word of what it came from."""
    return encoded(
        labels_kji,
        more.pop("grid", room.grid),
        segments_of(*names),
        algorithm=Edited("Doe^John", BY_HAND[: len(names)], None),
        uids=uids_of(len(names), f"{room.study_uid} {key}"),
        **more,
    )


def turn_references(ds: Dataset) -> Dataset:
    """Let every reference of a SEG lead nowhere, as some systems write them."""
    series = ds.ReferencedSeriesSequence[0]
    series.SeriesInstanceUID = "1.2.3"
    for image in series.ReferencedInstanceSequence:
        image.ReferencedSOPInstanceUID = derived_uid("nowhere", image.ReferencedSOPInstanceUID)
    for group in ds.PerFrameFunctionalGroupsSequence:
        for image in group.DerivationImageSequence[0].SourceImageSequence:
            image.ReferencedSOPInstanceUID = derived_uid("nowhere", image.ReferencedSOPInstanceUID)
    return ds


@pytest.mark.parametrize("references", ["right", "broken"])
def test_a_seg_from_elsewhere_corrects_the_result_that_it_is_alike(room, references):
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    labels_kji[4, 4:10, 4:10] = 1
    ds = hand_drawn(room, labels_kji, "liver", "spleen")
    room.archive.store(bytes_of(turn_references(ds) if references == "broken" else ds))
    look(room)
    (seen,) = mine(room)
    assert (seen.state, seen.modality) == ("matched", "SEG")
    row = room.corrections.correction(seen.correction_id)
    assert (row.source, row.predecessor_id, row.bundle) == ("elsewhere", before, "organs@1.2.0")
    assert row.series_id == room.images.id
    assert [s["voxels"] for s in row.segments] == [int((labels_kji == n).sum()) for n in (1, 2)]
    (said,) = room.corrections.assessments(result_id=before)
    assert (said.verdict, said.correction_id) == ("modified", row.id)
    told = repr(row) + repr(seen)
    for secret in (ds.SOPInstanceUID, ds.SeriesInstanceUID, "Doe"):
        assert secret not in told
    look(room)
    assert len(mine(room)) == 1 and len(room.corrections.of_study(row.study_id)) == 1


def test_another_machines_seg_corrects_nothing(room):
    labels_kji = blobs(room.grid, count=2)
    room.result(labels_kji, "liver", "spleen")
    other = encoded(
        labels_kji, room.grid, segments_of("liver", "spleen"), uids=uids_of(2, room.study_uid)
    )
    room.archive.store(bytes_of(other))
    look(room)
    (seen,) = mine(room)
    assert room.corrections.correction(seen.correction_id).predecessor_id is None
    assert room.corrections.assessments(study_id=seen.study_id) == []


@pytest.mark.parametrize("refer", [True, False])
def test_contours_from_elsewhere_become_voxels(room, refer):
    drawn = {"Muster Max GTV": [(k, square(3.5, 12.5)) for k in (2, 3, 4)]}
    room.archive.store(bytes_of(structure_set(room.grid, drawn, refer=refer)))
    look(room)
    (seen,) = mine(room)
    row = room.corrections.correction(seen.correction_id)
    (segment,) = row.segments
    assert (seen.modality, segment["voxels"]) == ("RTSTRUCT", 3 * 81)
    assert "Muster" not in repr(row)  # names of structures are anybody's free text


def series_in(folder: Path) -> Series:
    headers = [(path, dcmread(path, stop_before_pixels=True)) for path in sorted(folder.iterdir())]
    instances = (Instance(ds.SOPInstanceUID, ds.SOPClassUID, path) for path, ds in headers)
    return Series(headers[0][1].SeriesInstanceUID, headers[0][1].Modality, tuple(instances))


def voxels_within(contours: Dataset, grid: Grid) -> int:
    """Count the voxels whose centres lie within the contours of a region, by scikit-image."""
    (region,) = contours.ROIContourSequence
    mask_kji = np.zeros(grid.shape_kji, np.bool_)
    for contour in region.ContourSequence:
        places = np.array(contour.ContourData, float).reshape(-1, 3)
        k, j, i = np.linalg.solve(grid.affine_lps, np.c_[places, np.ones(len(places))].T)[:3]
        mask_kji[round(k.mean())][skimage.draw.polygon(j, i, grid.shape_kji[1:])] ^= True
    return int(mask_kji.sum())


def test_real_contours_whose_images_are_nowhere_are_matched(tmp_path, orthanc):
    """A sarcoma on CT and on MR, each with a structure set whose images are in no series."""
    real_series("ct/sts/STS_025.tar.gz", tmp_path)
    ct, mr = (series_in(tmp_path / "STS_025" / name / "image") for name in ("CT", "MR_T1"))
    drawn = {
        series.series_uid: dcmread(tmp_path / "STS_025" / name / "mask" / "RS.dcm")
        for series, name in ((ct, "CT"), (mr, "MR_T1"))
    }
    images = {one.sop_instance_uid for series in (ct, mr) for one in series.instances}
    for ds in drawn.values():
        contours = ds.ROIContourSequence[0].ContourSequence
        named = {c.ContourImageSequence[0].ReferencedSOPInstanceUID for c in contours}
        assert named and not named & images
    # The same again, which does not even name its series: CT and MR have the same planes.
    nowhere = dcmread(tmp_path / "STS_025" / "CT" / "mask" / "RS.dcm")
    nowhere.SOPInstanceUID = nowhere.file_meta.MediaStorageSOPInstanceUID = derived_uid("nowhere")
    nowhere.SeriesInstanceUID = derived_uid("nowhere", "series")
    (frame,) = nowhere.ReferencedFrameOfReferenceSequence
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    with reading_room(tmp_path, orthanc, series=ct, name="sarcoma") as room:
        for one in mr.instances:
            room.archive.store(one.path)
        for ds in (*drawn.values(), nowhere):
            room.archive.store(bytes_of(ds))
        look(room)
        grids = {"CT": room.grid, "MR": read_grid(mr)}
        contoured = {"CT": drawn[ct.series_uid], "MR": drawn[mr.series_uid]}
        matched = [one for one in mine(room) if one.state == "matched"]
        rows = [room.corrections.correction(one.correction_id) for one in matched]
        found = {room.studies.series(row.series_id).modality: row for row in rows}
        assert len(rows) == 2
        for modality, row in found.items():
            (segment,) = row.segments
            count = voxels_within(contoured[modality], grids[modality])
            assert segment["voxels"] == pytest.approx(count, rel=0.02)
        (waits,) = (one for one in mine(room) if one.state == "waiting")
        assert "2 series" in waits.reason
        row = of(room).match(waits.id, room.study_uid, ct.series_uid, by="rita")
        assert row.segments[0]["voxels"] == found["CT"].segments[0]["voxels"]


def test_what_fits_nothing_waits_for_a_person(room, tmp_path):
    finer = read_grid(
        write_series(tmp_path / "finer", shape_kji=(9, 48, 48), spacing_kji=(3.0, 0.7, 0.6))
    )
    labels_kji = np.zeros(finer.shape_kji, np.uint8)
    labels_kji[3, 5:9, 5:9] = 1
    ds = hand_drawn(room, labels_kji, "liver", grid=finer)
    ds.StudyInstanceUID = room.study_uid
    ds.FrameOfReferenceUID = room.grid.frame_of_reference_uid
    room.archive.store(bytes_of(ds))
    look(room)
    (seen,) = mine(room)
    assert (seen.state, seen.reason_code) == ("waiting", "no_match")
    elsewhere = of(room)
    with pytest.raises(OtherGrid):
        elsewhere.match(seen.id, room.study_uid, room.series.series_uid, by="rita")
    elsewhere.dismiss(seen.id, by="rita")
    assert [(one.state, one.settled_by) for one in mine(room)] == [("dismissed", "rita")]
    with pytest.raises(NotFound):
        elsewhere.dismiss("nothing", by="rita")


def test_what_fits_two_series_waits_and_a_person_says_which(room, tmp_path):
    twin = derived_uid("twin", room.series.series_uid)
    for instance in room.series.instances:
        ds = dcmread(instance.path)
        ds.SeriesInstanceUID = twin
        ds.SOPInstanceUID = derived_uid("twin", ds.SOPInstanceUID)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        room.archive.store(bytes_of(ds))
    drawn = {"GTV": [(3, square(3.5, 12.5))]}
    room.archive.store(bytes_of(structure_set(room.grid, drawn, refer=False)))
    look(room)
    (seen,) = mine(room)
    assert (seen.state, seen.reason_code) == ("waiting", "no_match")
    assert "2 series" in seen.reason
    row = of(room).match(seen.id, room.study_uid, twin, by="rita")
    assert room.studies.series(row.series_id).id == pseudonym(twin)
    assert [(one.state, one.settled_by) for one in mine(room)] == [("matched", "rita")]


def of(room: Room) -> Elsewhere:
    return Elsewhere(
        room.archive,
        room.studies,
        room.jobs,
        room.corrections,
        ElsewhereObjects(room.database),
        room.desk.grids,
        room.desk.verdicts,
    )


# --- effort -------------------------------------------------------------------------------------


def test_a_corrections_effort_is_measured_against_the_model(room):
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    first = save(room, labels_kji, ORIGINS, before=before)
    labels_kji = labels_kji.copy()
    free = np.argwhere(labels_kji == 0)[:7]
    labels_kji[tuple(free.T)] = 2
    second = save(room, labels_kji, ORIGINS, before=first.id)
    for one in (first, second):
        care(room).measure(one.id)
    untouched = room.corrections.correction(first.id).difference
    assert (untouched.changed_voxels, untouched.surface_dice) == (0, 1.0)
    found = room.corrections.correction(second.id)
    assert found.difference.changed_voxels == 7  # against the model, not the correction before
    assert found.difference.tolerance_mm == 1.0
    assert 0 < found.difference.surface_dice < 1.0
    liver, spleen = found.difference.segments
    assert (liver["changed_voxels"], spleen["changed_voxels"]) == (0, 7)
    assert room.corrections.unmeasured() == []


def test_what_was_drawn_from_scratch_is_compared_with_nothing(room):
    saved = save(room, blobs(room.grid, count=1), [{}])
    care(room).measure(saved.id)
    row = room.corrections.correction(saved.id)
    assert row.measured_at is not None and row.difference is None
