"""What a custodian sees and decides: held back, withdrawals, the trail."""

from pathlib import Path

import pytest

from dicom.errors import BurnedInText, IdentityLeft, InputError
from node.auth import ROLES
from pipelines.custody import Patient
from pipelines.store import FoundIn, HeldContent, Role
from tests.node.front import Front, make_front, schedule

STUDY = "2.25.77"
WHY = "Mrs Miller's scout; I looked at it"


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return make_front(tmp_path)


def hold(front: Front, error: InputError, *, project: str = "node", job: str = "") -> str:
    """Write a study whose job ended with a refusal; return what is held."""
    job = job or schedule(front.parts, STUDY)
    content = HeldContent(STUDY, f"{STUDY}.1", job, project, "fingerprint")
    front.parts.jobs.start(job)
    front.parts.jobs.end_job(job, error)
    return front.parts.custody.held.hold(content, error)


def test_what_is_held_is_told_in_plain_words_and_can_be_filtered(front: Front) -> None:
    held = hold(front, BurnedInText("text is burned into the pixels"))
    client = front.client("custodian")
    (item,) = client.get("/api/held").json()
    assert item["id"] == held
    assert item["fault"]["code"] == "burned_in_text"
    assert item["fault"]["advice"]
    assert "pixels" in item["released_means"]
    page = client.get("/held").text
    assert "Text is burned into the pixels." in page
    assert "Release" in page
    assert client.get("/api/held?state=released").json() == []
    assert client.get("/api/held?code=identity_left").json() == []
    assert "Nothing of that kind" in client.get("/held?code=identity_left").text


@pytest.mark.parametrize("by", ["api", "page"])
def test_a_release_runs_the_job_again_and_keeps_the_reason_sealed(front: Front, by: str) -> None:
    held = hold(front, BurnedInText())
    job = f"job-{STUDY}"
    client = front.client("custodian")
    if by == "api":
        answer = client.post(f"/api/held/{held}/release", json={"reason": WHY})
        assert answer.status_code == 202
        assert answer.json()["state"] == "released"
    else:
        answer = client.post(f"/held/{held}/release", data={"reason": WHY})
        assert answer.status_code == 303
    row = front.parts.jobs.job(job)
    assert (row.state, row.attempt) == ("scheduled", 2)
    content = front.parts.custody.held.one(held).content
    assert front.parts.custody.held.released(content) == {"burned_in_text"}
    other = HeldContent(STUDY, f"{STUDY}.1", job, "node", "other bytes")
    assert front.parts.custody.held.released(other) == frozenset()  # exactly this content
    sealed = front.parts.custody.held.one(held).reason
    assert sealed is not None
    assert b"Miller" not in sealed
    (event,) = [e for e in front.parts.trail.events() if e.action == "held_released"]
    assert (event.actor, event.object) == ("cleo", held)
    assert "Miller" not in event.reason
    assert WHY in client.get("/api/held").json()[0]["reason"]
    again = client.post(f"/api/held/{held}/delete", json={"reason": WHY})
    assert again.status_code == 409


def test_what_the_second_look_found_can_only_be_deleted(front: Front) -> None:
    held = hold(front, IdentityLeft("1 finding(s): name in header"))
    client = front.client("custodian")
    assert client.get("/api/held").json()[0]["released_means"] is None
    assert ">Release</button>" not in client.get("/held").text
    answer = client.post(f"/api/held/{held}/release", json={"reason": WHY})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert front.parts.custody.held.one(held).state == "held"
    answer = client.post(f"/api/held/{held}/delete", json={"reason": WHY})
    assert answer.status_code == 202
    assert front.parts.custody.held.is_deleted(front.parts.custody.held.one(held).content)
    assert front.parts.jobs.job(f"job-{STUDY}").state == "scheduled"  # the rest of the study


def test_the_job_waits_until_all_of_it_is_decided(front: Front) -> None:
    first = hold(front, BurnedInText())
    job = f"job-{STUDY}"
    content = HeldContent(STUDY, f"{STUDY}.2", job, "node", "fingerprint")
    second = front.parts.custody.held.hold(content, IdentityLeft())
    client = front.client("admin")
    client.post(f"/api/held/{first}/release", json={"reason": WHY})
    assert front.parts.jobs.job(job).state == "canceled"
    client.post(f"/api/held/{second}/delete", json={"reason": WHY})
    assert front.parts.jobs.job(job).state == "scheduled"


def test_a_decision_needs_a_reason(front: Front) -> None:
    held = hold(front, BurnedInText())
    client = front.client("custodian")
    answer = client.post(f"/held/{held}/release", data={"reason": "  "})
    assert answer.status_code == 422
    assert "Say why" in answer.text
    assert front.parts.custody.held.one(held).state == "held"


def test_a_refusal_that_comes_back_after_a_release_is_held_again(front: Front) -> None:
    held = hold(front, BurnedInText())
    front.client("custodian").post(f"/api/held/{held}/release", json={"reason": WHY})
    content = front.parts.custody.held.one(held).content
    assert front.parts.custody.held.hold(content, BurnedInText()) == held
    assert front.parts.custody.held.one(held).state == "held"


def test_whose_it_is_stands_on_the_trail_before_it_is_told(front: Front) -> None:
    held = hold(front, BurnedInText())
    client = front.client("custodian")
    answer = client.post(f"/held/{held}/whose", data={"reason": WHY})
    assert answer.status_code == 502  # the archive of these tests is down
    assert "did not answer" in answer.text
    assert [e.object for e in front.parts.trail.events() if e.action == "identity_looked"] == [
        STUDY
    ]


@pytest.mark.parametrize("role", [role for role in ROLES if role not in ("admin", "custodian")])
def test_nobody_else_sees_or_decides(front: Front, role: Role) -> None:
    held = hold(front, BurnedInText())
    client = front.client(role)
    assert client.post(f"/held/{held}/release", data={"reason": WHY}).status_code == 403
    assert front.parts.custody.held.one(held).state == "held"
    assert 'href="/held"' not in client.get("/").text
    assert 'href="/held"' in front.client("custodian").get("/").text


# --- withdrawals ----------------------------------------------------------------------------------


def test_who_withdraws_is_kept_sealed_and_erased_when_found(front: Front) -> None:
    client = front.client("custodian")
    answer = client.post("/withdrawals", data={"patient_id": "4711-PAT", "reason": WHY})
    assert answer.status_code == 303
    assert "4711" not in answer.headers["location"]
    (row,) = front.parts.custody.withdrawals.all()
    assert row.request is not None
    assert b"4711" not in row.request
    assert front.parts.custody.withdrawing.patient_of(row).patient_id == "4711-PAT"
    early = client.post(f"/api/withdrawals/{row.id}/confirm")
    assert early.status_code == 409
    found = [FoundIn("model", "heads@2", why="It has learnt from the patient.")]
    front.parts.custody.withdrawals.resolve(row.id, {"node": "RL-A", "p": "RL-B"}, "RL-A", found)
    assert front.parts.custody.withdrawals.one(row.id).request is None
    assert not front.parts.custody.withdrawals.is_withdrawn(["RL-A"])
    page = client.get(f"/withdrawals/{row.id}").text
    assert "heads@2" in page
    assert client.post(f"/withdrawals/{row.id}/confirm").status_code == 303
    assert front.parts.custody.withdrawals.patients() == {"RL-A", "RL-B"}
    assert front.parts.custody.withdrawals.is_withdrawn(["RL-B"])
    actions = [event.action for event in front.parts.trail.events()]
    assert actions[:2] == ["withdrawal_confirmed", "withdrawal_asked"]


@pytest.mark.parametrize("form", [{}, {"patient_id": "1", "study": "2.25.1"}])
def test_a_withdrawal_says_who_is_meant(front: Front, form: dict[str, str]) -> None:
    answer = front.client("custodian").post("/withdrawals", data={**form, "reason": WHY})
    assert answer.status_code == 422
    assert "Say who is meant" in answer.text
    assert front.parts.custody.withdrawals.all() == []


def test_a_patient_does_not_print_itself() -> None:
    assert "4711" not in repr(Patient("4711"))


def test_the_trail_can_be_searched(front: Front) -> None:
    client = front.client("custodian")
    client.post("/withdrawals", data={"patient_id": "1", "reason": WHY})
    assert "withdrawal asked" in client.get("/trail?find=cleo").text
    assert "Nothing like that" in client.get("/trail?find=nobody-of-that-name").text
