"""Corrections on a real archive: voxel-exact each time, with their history, once or not at all."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import dcmread

from dicom.errors import (
    ForeignSegmentation,
    InvalidLabels,
    NotFound,
    NotTakenIn,
    OtherGrid,
    PeerUnreachable,
)
from dicom.seg import Form, decode_seg
from pipelines.records import DraftRow
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, overlapping, reading_room
from tests.segmentations import ALGORITHM, problems

pytestmark = pytest.mark.orthanc


def save(room: Room, labels, segments, *, before=None, author="rita", **fields):
    content = room.document(labels, segments=segments, before=before, **fields)
    return room.desk.save(content, author=author)


ORIGINS = [{"origin": 1, "label": "liver"}, {"origin": 2, "label": "spleen"}]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    config = servers.clinical_config(tmp_path_factory.mktemp("orthanc"))
    with servers.running(config) as (running,):
        yield running


@pytest.fixture
def room(request, tmp_path: Path, orthanc: servers.RunningOrthanc) -> Iterator[Room]:
    with reading_room(tmp_path, orthanc, name=re.sub(r"\W", " ", request.node.name)) as room:
        yield room


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_ten_saves_in_a_row_are_voxel_exact(tmp_path, orthanc, kind):
    with reading_room(tmp_path, orthanc, form=Form(kind), name=f"ten {kind}") as room:
        labels_kji = blobs(room.grid, count=2)
        before = room.result(labels_kji, "liver", "spleen", form=Form(kind))
        tracked = [o.tracking_uid for o in decode_seg(room.seg(before, tmp_path)).origins]
        random = np.random.default_rng(8)
        for _ in range(10):
            labels_kji = labels_kji.copy()
            k, j, i = (int(random.integers(0, size)) for size in room.grid.shape_kji)
            labels_kji[k, max(0, j - 3) : j + 3, i] = random.integers(0, 3)
            room.desk = room.desk.__class__(  # a node that was started again
                room.archive,
                room.studies,
                room.corrections,
                room.drafts,
                room.desk._drawer,
                form=Form(kind),
            )
            saved = save(room, labels_kji, ORIGINS, before=before)
            first, second = room.masks(saved.id, tmp_path)
            assert np.array_equal(first, labels_kji == 1)
            assert np.array_equal(second, labels_kji == 2)
            ds = dcmread(room.seg(saved.id, tmp_path))
            (series,) = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
            assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before
            before = saved.id
        assert [o.tracking_uid for o in decode_seg(room.seg(before, tmp_path)).origins] == tracked
        assert room.corrections.correction(before).result_id is not None
        assert len(room.corrections.of_study(saved.study_id)) == 10


def test_a_correction_keeps_what_it_came_from(room, tmp_path):
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    was = decode_seg(room.seg(before, tmp_path))
    labels_kji[4, 10, :] = 1  # the spleen is left alone
    labels_kji[0, 0, :5] = 3
    drawn = [
        *ORIGINS,
        {"label": "cyst", "type": {"value": "367643001", "scheme": "SCT", "meaning": "Cyst"}},
    ]
    saved = save(room, labels_kji, drawn, before=before)
    path = room.seg(saved.id, tmp_path)
    assert problems("dciodvfy", path) == []
    now = decode_seg(path, room.grid)
    assert [s.type for s in now.segments[:2]] == [s.type for s in was.segments]
    assert [o.algorithm_type for o in now.origins] == ["SEMIAUTOMATIC", "AUTOMATIC", "MANUAL"]
    assert now.origins[0].algorithm == now.origins[1].algorithm == ALGORITHM
    assert now.origins[2].algorithm is None
    assert [o.tracking_uid for o in now.origins[:2]] == [o.tracking_uid for o in was.origins]
    assert [o.tracking_id for o in now.origins[:2]] == [o.tracking_id for o in was.origins]
    assert now.segments[2].type.value == "367643001"
    ds = dcmread(path)
    assert ds.SeriesDescription == "Corrected by rita: organs 1.2.0"
    assert (ds.ContentCreatorName, ds.ContentLabel) == ("rita", "CORRECTION")
    assert ds.PatientID == dcmread(room.series.instances[0].path).PatientID
    assert (saved.bundle, saved.effort.active_s, saved.effort.strokes) == ("organs@1.2.0", 42.5, 7)
    assert [(s["changed"], s["voxels"]) for s in saved.segments] == [
        (True, int((labels_kji == 1).sum())),
        (False, int((labels_kji == 2).sum())),
        (True, 5),
    ]
    (said,) = room.corrections.assessments(result_id=before)
    assert (said.verdict, said.correction_id, said.author) == ("modified", saved.id, "rita")


def test_segments_that_overlap_stay_whole(tmp_path, orthanc):
    with reading_room(tmp_path, orthanc, form=Form("labelmap"), name="overlap") as room:
        masks = overlapping(room.grid)
        before = None
        for _ in range(2):
            origins = [{"origin": n} if before else {} for n in (1, 2, 3)]
            saved = save(room, masks, origins, before=before)
            for number, mask in enumerate(room.masks(saved.id, tmp_path), 1):
                assert np.array_equal(mask, masks.whole(number))
            before = saved.id


def test_what_is_drawn_from_scratch_has_no_predecessor(room, tmp_path):
    labels_kji = blobs(room.grid, count=1)
    saved = save(room, labels_kji, [{}])
    ds = dcmread(room.seg(saved.id, tmp_path))
    assert (ds.SeriesDescription, ds.ContentLabel) == ("Drawn by rita", "DRAWN")
    assert "PredecessorDocumentsSequence" not in ds
    assert room.corrections.assessments(study_id=saved.study_id) == []


def test_a_segment_without_a_voxel_stays_described(room, tmp_path):
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    labels_kji[labels_kji == 2] = 0
    saved = save(room, labels_kji, ORIGINS, before=before)
    assert [s.label for s in decode_seg(room.seg(saved.id, tmp_path)).segments] == [
        "liver",
        "spleen",
    ]


def test_the_same_save_twice_is_one_object(room):
    labels_kji = blobs(room.grid)
    content = room.document(labels_kji, segments=[{}, {}, {}])
    first = room.desk.save(content, author="rita")
    second = room.desk.save(content, author="rita")
    assert first.id == second.id and not second.stale
    assert room.desk.save(content, author="rob").id != first.id
    assert room.drafts.of_study(room.desk._drawer.name(room.study_uid), user="rita") == []


def test_of_two_on_one_result_both_are_kept_and_the_second_is_told(room):
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    labels_kji[0, 0, 0] = 1
    first = save(room, labels_kji, ORIGINS, before=before)
    labels_kji[0, 0, 1] = 1
    second = save(room, labels_kji, ORIGINS, before=before, author="rob")
    assert (first.stale, second.stale) == (False, True)
    assert room.archive.holds(first.id) and room.archive.holds(second.id)


def test_our_corrections_are_no_news_to_the_intake(room):
    saved = room.desk.save(room.document(blobs(room.grid), segments=[{}, {}, {}]), author="rita")
    room.take_in()
    (ours,) = [one for one in room.studies.series_of(saved.study_id) if one.modality == "SEG"]
    assert ours.ours and ours.state == "complete"


def test_what_does_not_fit_the_series_is_refused_and_kept_nowhere(room, tmp_path, orthanc):
    labels_kji = blobs(room.grid)
    with pytest.raises(OtherGrid, match="21 x 24"):
        save(room, labels_kji, [{}, {}, {}], rows=21)
    with reading_room(tmp_path, orthanc, name="same size") as other:
        fields = {"StudyInstanceUID": other.study_uid, "SeriesInstanceUID": other.series.series_uid}
        with pytest.raises(ForeignSegmentation):
            other.desk.save(
                room.document(labels_kji, segments=[{}, {}, {}], **fields), author="rita"
            )
        assert other.drafts.of_study(other.desk._drawer.name(other.study_uid), user="rita") == []
    with pytest.raises(NotFound):
        save(room, labels_kji, [{}, {}, {}], SeriesInstanceUID="1.9")
    with pytest.raises(InvalidLabels):
        save(room, labels_kji, [{}])


def test_before_the_study_is_taken_in_the_work_is_a_draft(tmp_path, orthanc):
    with reading_room(tmp_path, orthanc, name="early") as room:
        with room.database.write() as session:
            for table in ("series", "study"):
                session.execute(sa.text(f"DELETE FROM {table}"))
        content = room.document(blobs(room.grid), segments=[{}, {}, {}])
        with pytest.raises(NotTakenIn):
            room.desk.save(content, author="rita")
        (draft,) = room.desk.drafts_of(room.study_uid, user="rita")
        assert room.desk.open_draft(draft.id, user="rita") == content
        with pytest.raises(NotFound):
            room.desk.open_draft(draft.id, user="rob")


def test_while_the_archive_is_away_nothing_is_lost(tmp_path):
    config = servers.clinical_config(tmp_path / "orthanc")
    with servers.running(config) as (orthanc,), reading_room(tmp_path, orthanc) as room:
        content = room.document(blobs(room.grid), segments=[{}, {}, {}])
        orthanc.kill()
        with pytest.raises(PeerUnreachable):
            room.desk.save(content, author="rita")
        orthanc.start()
        (draft,) = room.desk.drafts_of(room.study_uid, user="rita")
        saved = room.desk.save(room.desk.open_draft(draft.id, user="rita"), author="rita")
        assert room.archive.holds(saved.id)
        assert room.desk.drafts_of(room.study_uid, user="rita") == []


@pytest.mark.parametrize("killed", ["before it is stored", "after it is stored"])
def test_a_save_whose_process_was_killed_is_finished_once(room, monkeypatch, killed):
    class Killed(BaseException):
        """What no handler of ours stops, as little as SIGKILL."""

    content = room.document(blobs(room.grid), segments=[{}, {}, {}])

    def die(*_arguments, **_more):
        raise Killed

    target = (
        (room.archive, "store") if killed == "before it is stored" else (room.corrections, "stored")
    )
    with monkeypatch.context() as patched:
        patched.setattr(*target, die)
        with pytest.raises(Killed):
            room.desk.save(content, author="rita")
    assert room.desk.finish() == 0  # it may still be at work
    room.take_in()
    with room.database.write() as session:
        session.execute(
            sa.update(DraftRow).values(saving_since=datetime.now(UTC) - timedelta(minutes=5))
        )
    assert room.desk.finish() == 1
    study = room.studies.series_in_archive(
        room.archive.lookup("series", room.series.series_uid)[0]
    ).study_id
    (saved,) = room.corrections.of_study(study)
    assert room.archive.holds(saved.id)
    room.take_in()
    segs = [one for one in room.studies.series_of(study) if one.modality == "SEG"]
    assert [one.ours for one in segs] == [True]
    assert room.desk.drafts_of(room.study_uid, user="rita") == [] and room.desk.finish() == 0
