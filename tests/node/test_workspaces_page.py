"""Workspaces on their pages: made, filled, shared, left and ended by people with a browser."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.node.front import Front, complete, make_front
from tests.node.test_worklist_api import READER_PASSWORD, login

STUDIES = ("2.25.71", "2.25.72")


@pytest.fixture
def front(tmp_path: Path) -> Front:
    front = make_front(tmp_path)
    for name in ("anna", "carl"):
        front.parts.auth.add_user(name, role="radiologist", password=READER_PASSWORD)
    for study in STUDIES:
        complete(front.parts, study)
    return front


def send(client: TestClient, path: str, **form: object) -> str:
    """Send a form; return the page that it leads to."""
    answer = client.post(f"/workspaces{path}", data=form, follow_redirects=True)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_workspace_is_made_filled_shared_left_and_ended(front: Front) -> None:
    anna, carl = login(front, "anna"), login(front, "carl")
    assert "Your first workspace" in anna.get("/workspaces").text
    page = send(anna, "", name=" Tumour  Board ")  # what people type becomes a name
    assert "<h1>tumour-board</h1>" in page and "Nothing in it yet" in page
    assert carl.get("/workspaces/tumour-board").status_code == 404
    page = send(anna, "/tumour-board/fill", state="ready", modality="MR")
    assert all(study in page for study in STUDIES) and "Read its 2 cases" in page
    send(anna, "/tumour-board/members", members=["carl"])
    carl.post(f"/api/worklist/cases/{STUDIES[0]}/comments", json={"text": "look at the vein"})
    page = anna.get("/workspaces/tumour-board").text
    assert "look at the vein" in page and "2 cases" in page
    page = send(carl, "/tumour-board/take", case=STUDIES[0])
    assert "Read its 1 case<" in page and "look at the vein" not in page
    assert "/workspaces/tumour-board" not in send(anna, "/tumour-board/leave")
    assert anna.get("/workspaces/tumour-board").status_code == 404
    alone = carl.post("/workspaces/tumour-board/leave")
    assert alone.status_code == 422 and "end it instead" in alone.text
    assert "/workspaces/tumour-board" not in send(carl, "/tumour-board/end")
    assert carl.get("/api/worklist").json()["total"] == 2  # its cases stay
    deeds = {event.action for event in front.parts.trail.events(limit=40)}
    assert "workspace_changed" in deeds


def test_what_is_wrong_is_said_beside_the_form_and_keeps_what_was_typed(front: Front) -> None:
    anna = login(front, "anna")
    refused = anna.post("/workspaces", data={"name": "a/b", "members": ["carl"]})
    assert refused.status_code == 422 and "such as tumour-board" in refused.text
    assert 'value="a/b"' in refused.text and 'value="carl" checked' in refused.text
    send(anna, "", name="board")
    taken = anna.post("/workspaces", data={"name": "board"})
    assert taken.status_code == 422 and "already" in taken.text
    none = anna.post("/workspaces/board/fill", data={"state": "failed"})
    assert none.status_code == 422 and "No case is like that now" in none.text
    odd = anna.post("/workspaces/board/fill", data={"state": "odd"})
    assert odd.status_code == 422 and "from the lists" in odd.text
    nobody = anna.post("/workspaces/board/members", data={"members": ["rob"]})
    assert nobody.status_code == 422 and "no such user" in nobody.text.lower()


def test_comments_of_a_blind_round_are_not_on_the_page(front: Front) -> None:
    anna, carl, admin = login(front, "anna"), login(front, "carl"), front.client("admin")
    anna.get("/worklist")
    send(anna, "", name="board", members=["carl"])
    send(anna, "/board/fill")
    path = f"/api/worklist/cases/{STUDIES[0]}"
    readers = {"readers": ["anna", "carl"]}
    assert admin.post(f"{path}/rounds", json=readers).status_code == 201
    anna.post(f"{path}/comments", json={"text": "the vein is wrong"})
    assert "the vein is wrong" in anna.get("/workspaces/board").text
    assert "the vein" not in carl.get("/workspaces/board").text
