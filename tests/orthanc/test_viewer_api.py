"""What the viewer's panel asks the front, on a real archive."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from dicom.seg import Form, Masks
from models.bundle import read_bundle
from models.registry import Registry
from node.app import create_app
from pipelines.labels import MEDIA_TYPE, Head, read_labels
from pipelines.learning import sign, standing_of, withdraw
from tests.bundles import write_threshold_bundle
from tests.node.front import Front, make_front
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, reading_room
from tests.orthanc.test_corrections import ORIGINS
from tests.orthanc.test_elsewhere import care, look
from tests.segmentations import bytes_of, encoded, segments_of, uids_of
from tests.structures import square, structure_set

pytestmark = pytest.mark.orthanc

LABELS = {"Content-Type": MEDIA_TYPE}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    config = servers.clinical_config(tmp_path_factory.mktemp("orthanc"))
    with servers.running(config) as (running,):
        yield running


@pytest.fixture
def room(request, tmp_path: Path, orthanc: servers.RunningOrthanc) -> Iterator[Room]:
    with reading_room(
        tmp_path, orthanc, modality="MR", name=re.sub(r"\W", " ", request.node.name)
    ) as room:
        yield room


@pytest.fixture
def front(room: Room, tmp_path: Path) -> Front:
    write_threshold_bundle(tmp_path / "bundles")
    return make_front(tmp_path, clinical=room.archive, database=room.database)


def seen(client: TestClient, room: Room) -> dict:
    answer = client.post("/api/viewer/study", json={"StudyInstanceUID": room.study_uid})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_result_is_seen_corrected_and_seen_again(front, room, tmp_path):
    rita = front.client("radiologist")
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    (result,) = seen(rita, room)["results"]
    assert (result["id"], result["kind"], result["state"]) == (before, "ai", "ready")
    assert (result["bundle"], result["version"]) == ("organs", "1.2.0")
    assert result["image_SeriesInstanceUID"] == room.series.series_uid
    assert [s["label"] for s in result["segments"]] == ["liver", "spleen"]
    labels_kji[0] = 1
    answer = rita.post(
        "/api/corrections",
        content=room.document(labels_kji, segments=ORIGINS, before=before),
        headers=LABELS,
    )
    assert answer.status_code == 201, answer.text
    saved = answer.json()
    assert saved["SeriesDescription"] == "Corrected by rita: organs 1.2.0"
    assert (saved["stale"], saved["message"]) == (False, None)
    assert np.array_equal(room.masks(saved["SOPInstanceUID"], tmp_path)[0], labels_kji == 1)
    correction, result = seen(rita, room)["results"]
    assert (correction["id"], correction["kind"]) == (saved["id"], "correction")
    assert (correction["predecessor"], correction["author"]) == (before, "rita")
    assert (correction["state"], result["state"]) == ("ready", "modified")
    assert correction["segments"][0]["volume_ml"] > result["segments"][0]["volume_ml"] * 0
    actions = [event.action for event in front.parts.trail.events()]
    assert "correction_saved" in actions
    admin = front.client("admin")
    second = admin.post(
        "/api/corrections",
        content=room.document(labels_kji, segments=ORIGINS, before=before),
        headers=LABELS,
    ).json()
    assert second["stale"] and "rita" in second["message"]


def test_a_draft_is_offered_again_to_its_author_alone(front, room):
    rita = front.client("radiologist")
    content = room.document(blobs(room.grid, count=1), segments=[{"label": "cyst"}])
    kept = rita.put("/api/drafts", content=content, headers=LABELS)
    assert kept.status_code == 200, kept.text
    (draft,) = seen(rita, room)["drafts"]
    assert (draft["id"], draft["segments"]) == (kept.json()["id"], ["cyst"])
    assert draft["SeriesInstanceUID"] == room.series.series_uid
    again = rita.put("/api/drafts", content=content, headers=LABELS).json()
    assert again["id"] == draft["id"]
    opened = rita.post(f"/api/drafts/{draft['id']}/open")
    assert opened.content == content and opened.headers["content-type"] == MEDIA_TYPE
    admin = front.client("admin")
    assert seen(admin, room)["drafts"] == []
    assert admin.post(f"/api/drafts/{draft['id']}/open").status_code == 404
    assert admin.delete(f"/api/drafts/{draft['id']}").status_code == 204
    assert len(seen(rita, room)["drafts"]) == 1
    assert rita.delete(f"/api/drafts/{draft['id']}").status_code == 204
    assert seen(rita, room)["drafts"] == []


def test_a_draft_holds_nothing_that_its_rows_tell(front, room):
    rita = front.client("radiologist")
    content = room.document(blobs(room.grid, count=1), segments=[{}], comment="Frau Muster")
    rita.put("/api/drafts", content=content, headers=LABELS)
    with room.database.read() as session:
        rows = session.connection().exec_driver_sql("SELECT * FROM draft").all()
    told = repr(rows)
    for secret in (room.study_uid, room.series.series_uid, "Muster", "segment 1"):
        assert secret not in told


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/viewer/study"),
        ("POST", "/api/corrections"),
        ("PUT", "/api/drafts"),
        ("POST", "/api/drafts/1/open"),
        ("DELETE", "/api/drafts/1"),
    ],
)
def test_who_may_not_see_patients_gets_nowhere(front, method, path):
    assert front.client("researcher").request(method, path, json={}).status_code == 403
    assert front.client().request(method, path, json={}).status_code == 401
    rita = front.client("radiologist")
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert rita.request(method, path, json={}, headers=elsewhere).status_code == 403


def test_a_wrong_document_is_refused_in_plain_words(front, room):
    rita = front.client("radiologist")
    labels_kji = blobs(room.grid)
    content = room.document(labels_kji, segments=[{}, {}, {}], rows=21)
    answer = rita.post("/api/corrections", content=content, headers=LABELS)
    assert (answer.status_code, answer.json()["code"]) == (400, "other_grid")
    answer = rita.post("/api/corrections", content=b"nonsense", headers=LABELS)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_labels")
    answer = rita.post("/api/corrections", json={})
    assert answer.status_code == 422
    unknown = rita.post("/api/viewer/study", json={"StudyInstanceUID": "1.2.3"})
    assert unknown.json()["study"] is None


def test_the_last_word_on_a_result_is_its_state(front, room):
    rita = front.client("radiologist")
    before = room.result(blobs(room.grid, count=2), "liver", "spleen")
    for verdict, reason in (("accepted", None), ("rejected", "wrong_side")):
        new = {"result": before, "verdict": verdict, "reason": reason, "comment": "Frau Muster"}
        answer = rita.post("/api/assessments", json=new)
        assert answer.status_code == 201, answer.text
        assert seen(rita, room)["results"][0]["state"] == verdict
    study = seen(rita, room)["study"]
    said = rita.get("/api/assessments", params={"study": study}).json()
    assert [one["verdict"] for one in said] == ["rejected", "accepted"]
    assert said[0]["comment"] == "Frau Muster"
    with room.database.read() as session:
        rows = session.connection().exec_driver_sql("SELECT * FROM assessment").all()
    assert "Muster" not in repr(rows)
    known = {code["value"] for code in rita.get("/api/assessments/reasons").json()}
    assert "wrong_side" in known


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"verdict": "rejected"}, 422),
        ({"verdict": "accepted", "reason": "weather"}, 422),
        ({"verdict": "liked"}, 422),
        ({"result": "1.2.3"}, 404),
    ],
)
def test_a_verdict_without_sense_is_refused(front, room, change, status):
    before = room.result(blobs(room.grid, count=2), "liver", "spleen")
    new = {"result": before, "verdict": "accepted", **change}
    assert front.client("radiologist").post("/api/assessments", json=new).status_code == status


def test_words_are_found(front):
    found = front.client("radiologist").get("/api/vocabulary", params={"q": "liv"}).json()
    assert (found[0]["label"], found[0]["type"]["value"]) == ("Liver", "10200004")
    assert found[0]["colour"] == [190, 92, 72]


def test_effort_is_shown_for_each_model_and_reader(front, room):
    rita = front.client("radiologist")
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    for k in (0, 1):
        labels_kji[k, 0, :4] = 1
        content = room.document(labels_kji, segments=ORIGINS, before=before)
        assert rita.post("/api/corrections", content=content, headers=LABELS).status_code == 201
    scratch = room.document(labels_kji, segments=[{}, {}])
    front.client("admin").post("/api/corrections", content=scratch, headers=LABELS)
    for row in room.corrections.unmeasured():
        care(room).measure(row)
    drawn, corrected = rita.get("/api/effort").json()
    assert (drawn["bundle"], drawn["reader"], drawn["corrections"]) == (None, "admin", 1)
    assert (corrected["bundle"], corrected["reader"]) == ("organs@1.2.0", "rita")
    assert corrected["active_s"] == {"count": 2, "median": 42.5, "least": 42.5, "most": 42.5}
    assert (corrected["changed_voxels"]["least"], corrected["changed_voxels"]["most"]) == (4, 8)
    assert (corrected["surface_dice"]["count"], corrected["tolerance_mm"]) == (2, 1.0)
    assert rita.get("/api/effort", params={"bundle": "another@1"}).json() == []


def test_what_waits_is_listed_and_settled(front, room):
    rita = front.client("radiologist")
    drawn = {"GTV": [(3, square(3.5, 12.5))]}
    lost = structure_set(room.grid, drawn, refer=False, frame_of_reference_uid="1.2.9")
    room.archive.store(bytes_of(lost))
    look(room)
    study = seen(rita, room)["study"]
    waiting = [
        one
        for one in rita.get("/api/elsewhere", params={"state": "waiting"}).json()
        if one["study"] == study
    ]
    assert [one["fault"]["code"] for one in waiting] == ["no_match"]
    names = {"StudyInstanceUID": room.study_uid, "SeriesInstanceUID": room.series.series_uid}
    path = f"/api/elsewhere/{waiting[0]['id']}"
    settled = rita.post(f"{path}/match", json=names).json()
    assert (settled["state"], settled["settled_by"]) == ("matched", "rita")
    (result,) = [one for one in seen(rita, room)["results"] if one["kind"] == "elsewhere"]
    assert result["SOPInstanceUID"] == lost.SOPInstanceUID
    assert result["SeriesInstanceUID"] == lost.SeriesInstanceUID
    new = {"result": result["id"], "verdict": "accepted"}
    assert rita.post("/api/assessments", json=new).status_code == 201
    assert seen(rita, room)["results"][0]["state"] == "accepted"
    assert rita.post(f"{path}/dismiss").status_code == 204


def test_a_withdrawn_model_is_offered_to_nobody(front, room, tmp_path):
    school = front.parts.school
    standing = standing_of(school.versions, school.signer)
    registry = Registry((tmp_path / "bundles",), standing=standing)
    parts = replace(front.parts, registry=registry)
    rita = Front(create_app(parts), parts).client("radiologist")
    names = {"StudyInstanceUID": room.study_uid, "SeriesInstanceUID": room.series.series_uid}
    bundle = registry.get("threshold")
    worse = write_threshold_bundle(tmp_path / "bundles", "threshold@0.2.0", version="0.2.0")
    sign(school, bundle, by="anna")
    school.versions.make_current(bundle.identity, by="anna", why="the first")
    sign(school, read_bundle(worse), by="anna")
    registry.get("threshold@0.2.0")  # it was not there when the registry looked
    fits = rita.post("/api/viewer/models", json=names).json()["fits"]
    assert [(one["bundle"], one["is_current"]) for one in fits] == [
        (bundle.identity, True),
        ("threshold@0.2.0", False),
    ]
    withdraw(school, bundle.identity, by="anna", why="misses lesions")
    models = rita.post("/api/viewer/models", json=names).json()
    (other,) = [one for one in models["others"] if one["bundle"] == bundle.identity]
    assert other["code"] == "withdrawn_bundle"
    assert [one["bundle"] for one in models["fits"]] == ["threshold@0.2.0"]
    refused = rita.post("/api/viewer/runs", json={**names, "bundle": bundle.identity})
    assert refused.json()["code"] == "withdrawn_bundle"


def test_a_run_that_is_asked_for_is_one_job(front, room):
    rita = front.client("radiologist")
    room.take_in(quiet_s=0)
    names = {"StudyInstanceUID": room.study_uid, "SeriesInstanceUID": room.series.series_uid}
    fits = rita.post("/api/viewer/models", json=names).json()
    assert [one["bundle"] for one in fits["fits"]] == ["threshold@0.1.0"]
    assert "half_a_bundle" in {one["bundle"] for one in fits["others"]}
    asked = {**names, "bundle": "threshold"}
    job = rita.post("/api/viewer/runs", json=asked)
    assert job.status_code == 202, job.text
    assert rita.post("/api/viewer/runs", json=asked).json() == job.json()
    part = {**asked, "region": {"from": [1, 2, 3], "to": [9, 9, 5]}}
    other = rita.post("/api/viewer/runs", json=part).json()["job"]
    assert other != job.json()["job"]
    run = front.parts.asked.run_of(other)
    assert (run.region, run.asked_by) == (((3, 2, 1), (5, 9, 9)), "rita")
    assert {one["job"] for one in seen(rita, room)["runs"]} >= {other, job.json()["job"]}
    nothing = {**asked, "bundle": "nothing"}
    assert rita.post("/api/viewer/runs", json=nothing).json()["code"] == "unknown_bundle"
    upside_down = {**asked, "region": {"from": [5, 5, 5], "to": [1, 1, 1]}}
    assert rita.post("/api/viewer/runs", json=upside_down).json()["code"] == "invalid_request"


def test_the_page_shows_what_it_cost_and_what_waits(front, room):
    rita = front.client("radiologist")
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    labels_kji[0, 0, :4] = 1
    content = room.document(labels_kji, segments=ORIGINS, before=before)
    rita.post("/api/corrections", content=content, headers=LABELS)
    for row in room.corrections.unmeasured():
        care(room).measure(row)
    lost = structure_set(
        room.grid, {"GTV": [(3, square(3.5, 12.5))]}, refer=False, frame_of_reference_uid="1.2.9"
    )
    room.archive.store(bytes_of(lost))
    look(room)
    page = rita.get("/corrections", headers={"Accept": "text/html"})
    assert page.status_code == 200
    for told in ("organs 1.2.0", "rita", "at 1.0 mm", "RTSTRUCT", "Take it so"):
        assert told in page.text
    assert room.study_uid not in page.text and room.series.series_uid not in page.text
    (waiting,) = [
        one
        for one in rita.get("/api/elsewhere", params={"state": "waiting"}).json()
        if one["study"] == room.images.study_id
    ]
    done = rita.post(f"/corrections/{waiting['id']}/match", data={"series": room.images.id})
    assert (done.status_code, done.headers["location"]) == (303, "/corrections")
    assert waiting["id"] not in rita.get("/corrections").text
    assert front.client("researcher").get("/corrections").status_code == 403


def test_a_stored_segmentation_is_given_as_labels_voxel_for_voxel(front, room):
    rita = front.client("radiologist")
    labels_kji = blobs(room.grid, count=2)
    labels_kji[-1] = 0
    before = room.result(labels_kji, "liver", "spleen")
    name = {
        "StudyInstanceUID": room.study_uid,
        "SeriesInstanceUID": room.series.series_uid,
        "SOPInstanceUID": before,
    }
    for _ in range(2):  # read, and remembered
        answer = rita.post("/api/viewer/labels", json=name)
        assert answer.status_code == 200, answer.text
        document = read_labels(answer.content, Head)
        assert [(s.number, s.label) for s in document.head.segments] == [
            (1, "liver"),
            (2, "spleen"),
        ]
        assert all(s.colour for s in document.head.segments)
        assert np.array_equal(document.on(room.grid), labels_kji)
    gone = rita.post("/api/viewer/labels", json={**name, "SOPInstanceUID": "2.25.1"})
    assert gone.status_code == 404
    assert front.client("researcher").post("/api/viewer/labels", json=name).status_code == 403


def test_contours_are_given_as_labels_and_what_is_made_of_them_is_saved(front, room):
    rita = front.client("radiologist")
    drawn = structure_set(
        room.grid, {"GTV": [(3, square(3.5, 8.5))], "CTV": [(3, square(2.5, 9.5))]}
    )
    room.archive.store(bytes_of(drawn))
    look(room)
    name = {
        "StudyInstanceUID": room.study_uid,
        "SeriesInstanceUID": room.series.series_uid,
        "SOPInstanceUID": drawn.SOPInstanceUID,
    }
    answer = rita.post("/api/viewer/labels", json=name)
    assert answer.status_code == 200, answer.text
    document = read_labels(answer.content, Head)
    assert [(s.label, s.origin) for s in document.head.segments] == [("GTV", None), ("CTV", None)]
    masks = document.on(room.grid)  # several layers: one lies within the other
    assert isinstance(masks, Masks)
    assert [int(masks.crops[n].voxels_kji.sum()) for n in (1, 2)] == [5 * 5, 7 * 7]
    own = [{"label": "GTV"}, {"label": "CTV"}]
    content = room.document(masks, segments=own, before=drawn.SOPInstanceUID)
    saved = rita.post("/api/corrections", content=content, headers=LABELS)
    assert saved.status_code == 201, saved.text
    (listed,) = [one for one in seen(rita, room)["results"] if one["id"] == saved.json()["id"]]
    assert listed["predecessor"] == drawn.SOPInstanceUID


def test_what_a_label_map_cannot_hold_is_left_to_the_viewer(front, room):
    shape = room.grid.shape_kji
    masks_kji = np.zeros((2, *shape), np.bool_)
    masks_kji[:, 0, 2:9, 2:9] = True
    seg = encoded(
        Masks.of(masks_kji),
        room.grid,
        segments_of("liver", "spleen"),
        uids=uids_of(2, room.study_uid),
        form=Form("binary"),
    )
    room.archive.store(bytes_of(seg))
    answer = front.client("radiologist").post(
        "/api/viewer/labels",
        json={
            "StudyInstanceUID": room.study_uid,
            "SeriesInstanceUID": room.series.series_uid,
            "SOPInstanceUID": seg.SOPInstanceUID,
        },
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "overlapping_segments")
