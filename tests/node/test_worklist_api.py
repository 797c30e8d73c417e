"""The worklist over HTTP: who may, who holds what, and what a blind round hides on every way."""

from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from pipelines.store import NewCorrection
from tests.bundles import write_threshold_bundle
from tests.node.front import Front, complete, make_front, receive

STUDY = "2.25.27182818284590452353602874713526"
READER_PASSWORD = "a-reader's-long-password"


@pytest.fixture
def front(tmp_path: Path) -> Front:
    front = make_front(tmp_path)
    for name in ("anna", "carl"):
        front.parts.auth.add_user(name, role="radiologist", password=READER_PASSWORD)
    complete(front.parts, STUDY)
    front.parts.jobs.schedule(STUDY, complete={f"{STUDY}.1": "f"}, as_of={}, job_id=None, new={})
    return front


def login(front: Front, name: str) -> TestClient:
    client = front.client()
    answer = client.post("/login", data={"name": name, "password": READER_PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


def draw(front: Front, author: str) -> str:
    """Store a correction as the desk does; return its id."""
    corrections = front.parts.corrections
    new = NewCorrection(
        id=f"2.25.777.{len(corrections.of_study(STUDY))}",
        series_uid=f"2.25.666.{author}",
        study_id=STUDY,
        series_id=f"{STUDY}.1",
        source="viewer",
        predecessor_id=f"{STUDY}.9.1",
        result_id=f"{STUDY}.9.1",
        bundle="mr_brain@0.1.0",
        author=author,
        title=f"Corrected by {author}",
        segments=[{"number": 1, "label": "Brain", "rgb": [1, 2, 3], "volume_ml": 1.5}],
    )
    corrections.begin(new, first_series_number=9501)
    corrections.stored(new.id, orthanc_id=f"o-{new.id}")
    return new.id


def case(client: TestClient) -> dict:
    return client.get(f"/api/worklist/cases/{STUDY}").json()


def test_a_list_has_its_cases_their_number_and_their_states(front: Front) -> None:
    receive(front.parts, "2.25.1")
    client = login(front, "anna")
    page = client.get("/api/worklist", params={"sort": "oldest"}).json()
    assert [one["study"] for one in page["cases"]] == [STUDY, "2.25.1"]
    assert (page["total"], page["counts"]) == (2, {"ready": 1, "running": 1})
    page = client.get("/api/worklist", params={"state": "ready", "search": "head"}).json()
    assert page["total"] == 1 and page["cases"][0]["description"] == "MR HEAD"
    assert client.get("/api/worklist", params={"state": "odd"}).status_code == 422


def test_two_readers_take_hand_over_and_let_go(front: Front) -> None:
    anna, carl = login(front, "anna"), login(front, "carl")
    path = f"/api/worklist/cases/{STUDY}"
    case(anna)
    assert anna.post(f"{path}/claim").json()["holder"] == "anna"
    refused = carl.post(f"{path}/claim")
    assert refused.status_code == 409 and "anna holds this case" in refused.json()["message"]
    assert len(anna.post("/api/worklist/heartbeat", json={"study": STUDY}).json()) == 1
    assert carl.post("/api/worklist/heartbeat", json={}).json() == []
    assert anna.post(f"{path}/hand-over", json={"to": "rob"}).status_code == 422  # a researcher
    assert anna.post(f"{path}/hand-over", json={"to": "carl"}).json()["holder"] == "carl"
    assert carl.post(f"{path}/release").json()["holder"] is None
    actions = [event.action for event in front.parts.trail.events(limit=20)]
    assert {"case_claimed", "case_handed_over", "case_released"} <= set(actions)


def test_the_next_case_is_claimed_in_one_step_and_says_why(front: Front) -> None:
    anna, carl = login(front, "anna"), login(front, "carl")
    chosen = anna.post("/api/worklist/next", json={"claim": True}).json()
    assert chosen["case"]["holder"] == "anna"
    assert chosen["why"] == "the oldest of priority routine"
    assert carl.post("/api/worklist/next", json={"claim": True}).json() is None
    assert carl.post("/api/worklist/next", json={"strategy": "uncertainty"}).json() is None


def test_a_reason_names_models_as_people_do(front: Front, tmp_path: Path) -> None:
    unsure = {"Brain": {"probability": 0.9, "border_entropy": 0.6}}
    front.parts.jobs.keep_prediction(f"task-{STUDY}", forward_s=1, device="cpu", confidence=unsure)
    write_threshold_bundle(tmp_path / "bundles", "mr_brain")
    chosen = login(front, "anna").post("/api/worklist/next", json={"strategy": "uncertainty"})
    assert chosen.json()["why"] == "Threshold 0.1.0: entropy 0.60 along the border of Brain"


def test_comments_are_sealed_in_the_rows(front: Front, tmp_path: Path) -> None:
    client = login(front, "anna")
    case(client)
    text = "Frau Mustermann asked about this one"
    said = client.post(f"/api/worklist/cases/{STUDY}/comments", json={"text": text})
    assert said.status_code == 201
    told = client.get(f"/api/worklist/cases/{STUDY}/comments").json()
    assert [one["text"] for one in told] == [text]
    rows = b"".join(path.read_bytes() for path in tmp_path.glob("radloop.db*"))
    assert b"Mustermann" not in rows


def test_only_members_know_of_a_workspace(front: Front) -> None:
    anna, carl = login(front, "anna"), login(front, "carl")
    case(anna)
    assert anna.post("/api/workspaces", json={"name": "tumour-board"}).status_code == 201
    put = anna.put("/api/workspaces/tumour-board/cases", json={"cases": [STUDY]})
    assert put.json()["cases"] == 1
    assert anna.get("/api/worklist", params={"workspace": "tumour-board"}).json()["total"] == 1
    assert carl.get("/api/worklist", params={"workspace": "tumour-board"}).status_code == 404
    assert carl.get("/api/workspaces").json() == [] and case(carl)["workspaces"] == []
    members = {"members": ["anna", "carl"]}
    assert carl.put("/api/workspaces/tumour-board/members", json=members).status_code == 404
    assert anna.put("/api/workspaces/tumour-board/members", json=members).status_code == 200
    assert case(carl)["workspaces"] == ["tumour-board"]
    refused = anna.post("/api/workspaces", json={"name": "Frau Mustermann"})
    assert refused.status_code == 422


# --- blind rounds -------------------------------------------------------------------------------


def open_round(front: Front, **wanted) -> dict:
    admin = front.client("admin")
    case(admin)
    body = {"readers": ["anna", "carl"], **wanted}
    answer = admin.post(f"/api/worklist/cases/{STUDY}/rounds", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


# Words that are there for everybody; and deeds, which an administrator sees as such, not what.
SAID_ANYWAY = ("/api/docs", "/api/openapi.json", "/api/assessments/reasons", "/api/audit", "/trail")


def everything_told(front: Front, client: TestClient) -> dict[str, str]:
    """Return what every GET of the API and every page tells that person, by path."""
    told = {}
    values = {"study": STUDY, "case": STUDY, "job": f"job-{STUDY}", "workspace": "none"}
    routes = {
        (str(route.path), method)
        for route in iter_route_contexts(front.app.routes)
        for method in route.methods or ()
    }
    for path, method in sorted(routes):
        if method != "GET" or "events" in path or path.startswith(("/ohif", "/static")):
            continue
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", value)
        if "{" not in path and path not in SAID_ANYWAY:
            told[path] = client.get(path, params={"study": STUDY}).text
    return told


def test_nothing_tells_one_reader_what_the_other_did(front: Front) -> None:
    open_round(front)
    anna, carl = login(front, "anna"), login(front, "carl")
    drawn = draw(front, "anna")
    front.parts.corrections.assess(
        f"{STUDY}.9.1", verdict="rejected", reason="missed", comment=None, author="anna"
    )
    words = {"text": "left kidney is wrong"}
    anna.post(f"/api/worklist/cases/{STUDY}/comments", json=words)
    assert anna.post(f"/api/worklist/cases/{STUDY}/rounds/done").status_code == 200
    assert "missed" in everything_told(front, anna)["/api/assessments"]
    for other in (carl, front.client("admin")):
        told = everything_told(front, other)
        assert len(told) > 40
        for secret in (drawn, "2.25.666", "missed", "kidney", "Corrected by anna"):
            assert [path for path, text in told.items() if secret in text] == [], secret
    assert case(carl)["state"] == "ready" and case(carl)["mine"] == "open"
    refused = carl.post("/api/assessments", json={"result": drawn, "verdict": "accepted"})
    assert refused.status_code == 404


def test_the_veil_lifts_when_all_have_done_and_a_third_settles(front: Front) -> None:
    opened = open_round(front)
    anna, carl, admin = login(front, "anna"), login(front, "carl"), front.client("admin")
    done = f"/api/worklist/cases/{STUDY}/rounds/done"
    assert anna.post(done).status_code == 409  # nothing drawn or said yet
    mine = draw(front, "anna")
    assert anna.post(done).json()["state"] == "open"
    assert anna.post(f"/api/worklist/cases/{STUDY}/claim").status_code == 409
    assert admin.post(done).status_code == 403
    theirs = draw(front, "carl")
    told = carl.post(done).json()
    assert told["state"] == "read"
    assert {one["answer"] for one in told["readings"]} == {mine, theirs}
    assert case(admin)["awaits_adjudication"] and case(admin)["state"] == "corrected"
    settle = f"/api/worklist/rounds/{opened['id']}/settle"
    assert anna.post(settle, json={"reader": "anna"}).status_code == 403
    settled = admin.post(settle, json={"reader": "carl"}).json()
    assert (settled["state"], settled["answer"], settled["settled_by"]) == (
        "settled",
        theirs,
        "admin",
    )
    assert admin.post(settle, json={"reader": "anna"}).status_code == 409


def test_a_named_adjudicator_settles_and_nobody_else(front: Front) -> None:
    front.parts.auth.add_user("eve", role="radiologist", password=READER_PASSWORD)
    opened = open_round(front, adjudicator="eve")
    for name in ("anna", "carl"):
        draw(front, name)
        login(front, name).post(f"/api/worklist/cases/{STUDY}/rounds/done")
    settle = f"/api/worklist/rounds/{opened['id']}/settle"
    assert front.client("admin").post(settle, json={}).status_code == 403
    assert login(front, "eve").post(settle, json={}).json()["answer"] is None


def test_what_both_accept_is_settled_by_that(front: Front) -> None:
    open_round(front)
    for name in ("anna", "carl"):
        client = login(front, name)
        said = {"result": f"{STUDY}.9.1", "verdict": "accepted"}
        assert client.post("/api/assessments", json=said).status_code == 201
        told = client.post(f"/api/worklist/cases/{STUDY}/rounds/done").json()
    assert (told["state"], told["answer"]) == ("settled", f"{STUDY}.9.1")


def test_a_round_has_two_readers_or_more_and_none_settles_it(front: Front) -> None:
    admin = front.client("admin")
    case(admin)
    path = f"/api/worklist/cases/{STUDY}/rounds"
    for body in (
        {"readers": ["anna", "anna"]},
        {"readers": ["anna", "carl"], "adjudicator": "carl"},
    ):
        assert admin.post(path, json=body).status_code == 409
    assert admin.post(path, json={"readers": ["anna", "rob"]}).status_code == 422
    assert admin.post(path, json={"readers": ["anna", "carl"]}).status_code == 201
    assert admin.post(path, json={"readers": ["anna", "carl"]}).status_code == 409


def test_a_reader_ends_nobodys_reading_but_their_own(front: Front) -> None:
    opened = open_round(front, readers=["admin", "anna", "carl"])
    anna, admin = login(front, "anna"), front.client("admin")
    path = f"/api/worklist/rounds/{opened['id']}"
    for client in (anna, admin):  # an administrator who reads is a reader
        assert client.post(f"{path}/cancel").status_code == 403
        assert client.post(f"{path}/withdraw", json={"reader": "carl"}).status_code == 403
    told = anna.post(f"{path}/withdraw", json={"reader": "anna"}).json()
    assert [one["reader"] for one in told["readings"]] == ["admin", "carl"]


def test_who_has_done_is_told_to_none_of_the_other_readers(front: Front) -> None:
    open_round(front)
    draw(front, "anna")
    anna, carl = login(front, "anna"), login(front, "carl")
    anna.post(f"/api/worklist/cases/{STUDY}/rounds/done")

    def done(client: TestClient) -> list[str]:
        (told,) = client.get(f"/api/worklist/cases/{STUDY}/rounds").json()
        return [one["reader"] for one in told["readings"] if one["done_at"]]

    assert (done(anna), done(carl), done(front.client("admin"))) == (["anna"], [], ["anna"])
    assert "(done)" not in carl.get(f"/fragments/worklist/{STUDY}").text


@pytest.mark.parametrize("role", ["researcher", None])
def test_the_worklist_is_for_those_who_read(front: Front, role) -> None:
    client = front.client(role)
    for method, path in (
        ("GET", "/api/worklist"),
        ("POST", "/api/worklist/next"),
        ("GET", f"/api/worklist/cases/{STUDY}/preview"),
        ("GET", "/api/workspaces"),
        ("GET", "/api/worklist/events"),
    ):
        assert client.request(method, path, json={}).status_code in (401, 403), path
