"""The HTTP API: who reaches what, what it says, and what it streams."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from dicom.errors import (
    Canceled,
    OutOfMemory,
    PeerUnreachable,
    RadloopError,
    TooFewSlices,
    every_error,
)
from node.auth import COOKIE, ROLES, Guard
from node.faults import fault, status_of
from node.log import SAFE_FIELDS
from node.parts import WorkerBell
from pipelines.store import Role
from tests.node.front import (
    PASSWORD,
    USERS,
    Front,
    begin,
    complete,
    fail,
    make_front,
    receive,
    schedule,
)
from tests.node.serving import serving
from tests.orthanc.servers import listening

PROJECT = Path(__file__).parents[2]

PUBLIC = {
    "/login",
    "/api/health",
    "/static",
    "/monailabel/auth/",  # says that a login is needed
    "/monailabel/auth/token",  # is the login of other clients
    "/monailabel/datastore/image",  # once, to whom it was just given (node/monailabel/access.py)
}
"""What answers without a login; nothing else does."""

ALL = frozenset(ROLES)
CLINICAL = frozenset({"admin", "radiologist"})
ADMIN = frozenset({"admin"})
LEARNING = frozenset({"admin", "radiologist", "researcher"})
IMAGES = CLINICAL | {"researcher"}
CUSTODY = frozenset({"admin", "custodian"})
DATASETS = frozenset({"admin", "researcher", "custodian"})

STUDY = "2.25.1001"
JOB = f"job-{STUDY}"
REACH: list[tuple[str, str, frozenset[Role]]] = [
    ("GET", "/", ALL),
    ("GET", "/account", ALL),
    ("GET", "/corrections", CLINICAL),
    ("POST", "/corrections/nothing/match", CLINICAL),
    ("POST", "/corrections/nothing/dismiss", CLINICAL),
    ("GET", f"/jobs/{JOB}", ALL),
    ("GET", f"/fragments/studies/{STUDY}", ALL),
    ("GET", f"/fragments/studies/{STUDY}/work", ALL),
    ("GET", f"/fragments/jobs/{JOB}", ALL),
    ("GET", f"/open/{STUDY}", CLINICAL),
    ("POST", f"/jobs/{JOB}/cancel", CLINICAL),
    ("POST", f"/jobs/{JOB}/retry", CLINICAL),
    ("GET", "/api/me", ALL),
    ("GET", "/api/status", ALL),
    ("GET", "/api/docs", ALL),
    ("GET", "/api/openapi.json", ALL),
    ("GET", "/api/studies", ALL),
    ("GET", f"/api/studies/{STUDY}", ALL),
    ("GET", f"/api/studies/{STUDY}/results", ALL),
    ("GET", "/api/jobs", ALL),
    ("GET", f"/api/jobs/{JOB}", ALL),
    ("POST", f"/api/jobs/{JOB}/cancel", CLINICAL),
    ("POST", f"/api/jobs/{JOB}/retry", CLINICAL),
    ("GET", "/api/bundles", ALL),
    ("GET", "/api/routes", ALL),
    ("GET", f"/api/routes/explain/{STUDY}", ALL),
    ("GET", "/api/users", ADMIN),
    ("POST", "/api/users", ADMIN),
    ("DELETE", "/api/users/nobody", ADMIN),
    ("PUT", "/api/users/nobody/password", ADMIN),
    ("GET", "/api/tokens", ADMIN),
    ("POST", "/api/tokens", ADMIN),
    ("DELETE", "/api/tokens/nothing", ADMIN),
    ("GET", "/api/audit", CUSTODY),
    ("GET", "/collect", DATASETS),
    ("POST", "/collect", DATASETS),
    ("GET", "/collections/nothing", DATASETS),
    ("POST", "/collections/nothing/cancel", DATASETS),
    ("POST", "/collections/nothing/retry", DATASETS),
    ("POST", "/fragments/picked", DATASETS),
    ("GET", "/fragments/collections/nothing", DATASETS),
    ("GET", "/fragments/exports/nothing", DATASETS),
    ("GET", "/exports", DATASETS),
    ("POST", "/exports", DATASETS),
    ("GET", "/exports/nothing", DATASETS),
    ("POST", "/exports/nothing/cancel", DATASETS),
    ("POST", "/exports/nothing/retry", DATASETS),
    ("POST", "/exports/nothing/delete", DATASETS),
    ("GET", "/api/collections/choices", DATASETS),
    ("GET", "/api/collections/count", DATASETS),
    ("GET", "/api/collections", DATASETS),
    ("POST", "/api/collections", DATASETS),
    ("GET", "/api/collections/nothing", DATASETS),
    ("GET", "/api/collections/nothing/series", DATASETS),
    ("POST", "/api/collections/nothing/cancel", DATASETS),
    ("POST", "/api/collections/nothing/retry", DATASETS),
    ("GET", "/api/exports", DATASETS),
    ("GET", "/api/exports/formats", DATASETS),
    ("POST", "/api/exports", DATASETS),
    ("GET", "/api/exports/nothing", DATASETS),
    ("GET", "/api/exports/nothing/files", DATASETS),
    ("GET", "/api/exports/nothing/file", DATASETS),
    ("POST", "/api/exports/nothing/cancel", DATASETS),
    ("POST", "/api/exports/nothing/retry", DATASETS),
    ("DELETE", "/api/exports/nothing", DATASETS),
    ("GET", "/learning", LEARNING),
    ("GET", "/learning/datasets", LEARNING),
    ("GET", "/learning/datasets/nothing", LEARNING),
    ("GET", "/learning/train", LEARNING),
    ("POST", "/learning/train", LEARNING),
    ("GET", "/learning/trainings/nothing", LEARNING),
    ("POST", "/learning/trainings/nothing/cancel", LEARNING),
    ("GET", "/fragments/learning/trainings/nothing", LEARNING),
    ("GET", "/learning/models/nothing", LEARNING),
    ("GET", "/api/learning/datasets", LEARNING),
    ("GET", "/api/learning/datasets/nothing", LEARNING),
    ("GET", "/api/learning/datasets/nothing/difference", LEARNING),
    ("GET", "/api/learning/datasets/nothing/sheet.png", LEARNING),
    ("POST", "/api/learning/plans", LEARNING),
    ("POST", "/api/learning/graphs/preview", LEARNING),
    ("GET", "/api/learning/previews/nothing", LEARNING),
    ("GET", "/api/learning/trainings", LEARNING),
    ("POST", "/api/learning/trainings", LEARNING),
    ("POST", "/api/learning/cascades", LEARNING),
    ("POST", "/api/learning/cascades/plans", LEARNING),
    ("GET", "/api/learning/trainings/nothing", LEARNING),
    ("GET", "/api/learning/trainings/nothing/pictures/nothing", LEARNING),
    ("POST", "/api/learning/trainings/nothing/cancel", LEARNING),
    ("GET", "/api/learning/trainings/nothing/pictures/0001-1", LEARNING),
    ("GET", "/api/learning/trainings/nothing/events", LEARNING),
    ("GET", "/api/learning/models", LEARNING),
    ("GET", "/api/learning/models/nothing/docs/nothing", LEARNING),
    ("GET", "/api/learning/readings", LEARNING),
    ("GET", "/api/learning/freezings", LEARNING),
    ("POST", "/api/learning/freezings", LEARNING),
    ("GET", "/api/learning/freezings/nothing", LEARNING),
    ("POST", "/api/learning/freezings/nothing/cancel", LEARNING),
    ("GET", "/api/learning/alarms", LEARNING),
    ("POST", "/api/learning/alarms/nothing/settle", LEARNING),
    ("GET", "/learning/datasets/new", LEARNING),
    ("POST", "/learning/freezings/nothing/cancel", LEARNING),
    ("POST", "/learning/alarms/nothing/settle", LEARNING),
    ("GET", "/api/learning/models/nothing", LEARNING),
    ("GET", "/learning/models/nothing/card", LEARNING),
    ("POST", "/learning/models/nothing/promote", ADMIN),
    ("POST", "/learning/models/nothing/rollback", ADMIN),
    ("POST", "/learning/models/nothing/withdraw", ADMIN),
    ("POST", "/api/learning/models/nothing/withdraw", ADMIN),
    ("POST", "/api/learning/models/nothing/promote", ADMIN),
    ("POST", "/api/learning/models/nothing/rollback", ADMIN),
    ("GET", "/api/held", CUSTODY),
    ("GET", "/api/held/nothing", CUSTODY),
    ("POST", "/api/held/nothing/release", CUSTODY),
    ("POST", "/api/held/nothing/delete", CUSTODY),
    ("POST", "/api/held/nothing/whose", CUSTODY),
    ("GET", "/api/withdrawals", CUSTODY),
    ("POST", "/api/withdrawals", CUSTODY),
    ("GET", "/api/withdrawals/nothing", CUSTODY),
    ("POST", "/api/withdrawals/nothing/confirm", CUSTODY),
    ("POST", "/api/withdrawals/nothing/retry", CUSTODY),
    ("GET", "/held", CUSTODY),
    ("POST", "/held/nothing/delete", CUSTODY),
    ("GET", "/withdrawals", CUSTODY),
    ("GET", "/withdrawals/nothing", CUSTODY),
    ("GET", "/trail", CUSTODY),
    ("POST", "/api/viewer/study", CLINICAL),
    ("POST", "/api/viewer/labels", CLINICAL),
    ("GET", "/api/worklist", CLINICAL),
    ("POST", "/api/worklist/search", CLINICAL),
    ("POST", "/api/worklist/next", CLINICAL),
    ("POST", "/api/worklist/heartbeat", CLINICAL),
    ("POST", "/api/worklist/studies", CLINICAL),
    ("POST", "/api/worklist/cases", CLINICAL),
    ("GET", "/api/worklist/cases/nothing", CLINICAL),
    ("PATCH", "/api/worklist/cases/nothing", CLINICAL),
    ("POST", "/api/worklist/cases/nothing/claim", CLINICAL),
    ("POST", "/api/worklist/cases/nothing/release", CLINICAL),
    ("POST", "/api/worklist/cases/nothing/hand-over", CLINICAL),
    ("GET", "/api/worklist/cases/nothing/comments", CLINICAL),
    ("POST", "/api/worklist/cases/nothing/comments", CLINICAL),
    ("GET", "/api/worklist/cases/nothing/preview", CLINICAL),
    ("GET", "/api/worklist/cases/nothing/rounds", CLINICAL),
    ("POST", "/api/worklist/cases/nothing/rounds", CLINICAL),
    ("POST", "/api/worklist/cases/nothing/rounds/done", CLINICAL),
    ("POST", "/api/worklist/rounds/nothing/settle", CLINICAL),
    ("POST", "/api/worklist/rounds/nothing/withdraw", CLINICAL),
    ("POST", "/api/worklist/rounds/nothing/cancel", CLINICAL),
    ("GET", "/workspaces", CLINICAL),
    ("POST", "/workspaces", CLINICAL),
    ("GET", "/workspaces/nothing", CLINICAL),
    ("POST", "/workspaces/nothing/end", CLINICAL),
    ("GET", "/api/workspaces", CLINICAL),
    ("POST", "/api/workspaces", CLINICAL),
    ("PUT", "/api/workspaces/nothing/members", CLINICAL),
    ("PUT", "/api/workspaces/nothing/cases", CLINICAL),
    ("POST", "/api/workspaces/nothing/fill", CLINICAL),
    ("DELETE", "/api/workspaces/nothing/cases/nothing", CLINICAL),
    ("DELETE", "/api/workspaces/nothing", CLINICAL),
    ("POST", "/api/viewer/models", CLINICAL),
    ("POST", "/api/viewer/runs", CLINICAL),
    ("POST", "/api/corrections", CLINICAL),
    ("PUT", "/api/drafts", CLINICAL),
    ("POST", "/api/drafts/nothing/open", CLINICAL),
    ("DELETE", "/api/drafts/nothing", CLINICAL),
    ("GET", "/api/effort", CLINICAL),
    ("GET", "/api/effort/saved", CLINICAL),
    ("GET", "/api/elsewhere", CLINICAL),
    ("POST", "/api/elsewhere/nothing/match", CLINICAL),
    ("POST", "/api/elsewhere/nothing/dismiss", CLINICAL),
    ("GET", "/api/assessments", CLINICAL),
    ("POST", "/api/assessments", CLINICAL),
    ("GET", "/api/assessments/reasons", CLINICAL),
    ("GET", "/api/vocabulary", CLINICAL),
    ("GET", "/api/prompts", CLINICAL),
    ("POST", "/api/prompts", CLINICAL),
    ("POST", "/api/prompts/warm", CLINICAL),
    ("GET", "/dicom-web/studies", CLINICAL),
    ("POST", "/dicom-web/studies", CLINICAL),
    ("GET", "/research/dicom-web/studies", IMAGES),
    ("GET", "/ohif/", IMAGES),
]


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return make_front(tmp_path)


# --- who reaches what ---------------------------------------------------------------------------


def unguarded(app: FastAPI) -> set[str]:
    """Return the paths of all routes that anybody may use."""
    found = set()
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or not has_guard(dependant):
            found.add(str(route.path))
    return found


def has_guard(dependant: Dependant) -> bool:
    return isinstance(dependant.call, Guard) or any(map(has_guard, dependant.dependencies))


def test_every_route_has_a_guard_but_those_that_are_named_here(front: Front) -> None:
    assert unguarded(front.app) == PUBLIC


def test_a_route_without_a_guard_is_seen(front: Front) -> None:
    router = APIRouter(prefix="/api")

    @router.get("/forgotten")
    def forgotten() -> str:
        return "open to all"

    front.app.include_router(router)
    assert "/api/forgotten" in unguarded(front.app)


@pytest.mark.parametrize("role", [None, *ROLES])
def test_each_role_reaches_what_it_may_and_no_more(front: Front, role: Role | None) -> None:
    schedule(front.parts, STUDY)
    client = front.client(role)
    for method, path, roles in REACH:
        status = client.request(method, path).status_code
        if role is None:
            assert status == 401, path
        elif role in roles:
            assert status not in (401, 403), path
        else:
            assert status == 403, path


_FIELD = re.compile(r"{(\w+)}")


def test_the_table_of_reach_has_every_api_route(front: Front) -> None:
    asked = {path for _method, path, _roles in REACH}
    for route in iter_route_contexts(front.app.routes):
        path = str(route.path)
        if not path.startswith("/api/") or path.endswith("/events") or path in PUBLIC:
            continue
        if path == "/api/me/password":  # shown in test_auth
            continue
        values = {"study": STUDY, "job": JOB, "name": "nobody"}
        values |= {name: "nothing" for name in _FIELD.findall(path) if name not in values}
        assert {path.format(**values), path.format(**values | {"name": "nothing"})} & asked, path


def test_health_says_only_that_it_answers(front: Front) -> None:
    answer = front.client().get("/api/health")
    assert answer.json() == {"status": "ok", "version": "0.0.test"}


def test_a_person_without_a_login_is_led_to_the_login_page_and_back(front: Front) -> None:
    answer = front.client().get("/?show=failed", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/login?next=%2F%3Fshow%3Dfailed",
    )


# --- studies, jobs ------------------------------------------------------------------------------


def test_studies_come_with_series_jobs_and_no_orthanc_id(front: Front) -> None:
    complete(front.parts, STUDY)
    client = front.client("researcher")
    (study,) = client.get("/api/studies").json()
    assert study["id"] == STUDY
    assert study["series"][0]["instance_count"] == 160
    assert study["series"][0]["facts"]["orientation"] == "sagittal"
    (job,) = study["jobs"]
    assert (job["state"], job["fault"]) == ("completed", None)
    assert [step["name"] for step in job["steps"]] == [
        "fetch",
        "deidentify",
        "route",
        "volume",
        "predict",
        "encode",
    ]
    assert all(step["seconds"] >= 0 for step in job["steps"])
    assert job["tasks"][0]["forward_s"] == 12.3
    assert job["results"][0]["summary"] == {"Brain": 1423.4}
    assert client.get(f"/api/studies/{STUDY}").json() == study
    assert client.get(f"/api/studies/{STUDY}/results").json() == job["results"]
    assert "orthanc" not in client.get("/api/studies").text
    assert client.get("/api/studies/2.25.404").json()["code"] == "not_found"


def test_studies_are_found_by_how_they_stand(front: Front) -> None:
    complete(front.parts, "2.25.1")
    begin(front.parts, "2.25.2")
    fail(front.parts, "2.25.3", OutOfMemory())
    receive(front.parts, "2.25.4")
    fail(front.parts, "2.25.5", Canceled())
    client = front.client("researcher")

    def standing(word: str) -> list[str]:
        return [one["id"] for one in client.get(f"/api/studies?standing={word}").json()]

    assert standing("completed") == ["2.25.1"]
    assert standing("working") == ["2.25.4", "2.25.2"]
    assert standing("failed") == ["2.25.3"]
    status = client.get("/api/status").json()
    assert (status["studies"], status["working"], status["failed"]) == (5, 2, 1)
    assert client.get("/api/studies?standing=odd").status_code == 422
    assert [s["id"] for s in client.get("/api/studies?limit=2&offset=1").json()] == [
        "2.25.4",
        "2.25.3",
    ]


def test_jobs_are_filtered_by_state_and_show_step_and_progress(front: Front) -> None:
    complete(front.parts, "2.25.1")
    running = begin(front.parts, "2.25.2", progress=0.42)
    client = front.client("researcher")
    (job,) = client.get("/api/jobs?state=in_progress").json()
    assert (job["id"], job["step"], job["progress"]) == (running, "predict", 0.42)
    assert len(client.get("/api/jobs").json()) == 2
    assert client.get("/api/jobs?state=failed").status_code == 422
    assert client.get("/api/jobs/nothing").status_code == 404


@pytest.mark.parametrize(
    ("error", "acts"),
    [
        (TooFewSlices("3 slices, 20 are needed"), "person"),
        (PeerUnreachable(), "peer"),
        (OutOfMemory(), "machine"),
    ],
)
def test_a_failed_job_says_what_happened_and_who_acts(
    front: Front, error: RadloopError, acts: str
) -> None:
    job = fail(front.parts, STUDY, error)
    assert front.client("researcher").get(f"/api/jobs/{job}").json()["fault"] == {
        "code": error.code,
        "message": error.message,
        "advice": error.advice,
        "acts": acts,
    }


def test_every_error_has_a_status_of_its_family() -> None:
    for kind in every_error():
        error = kind("something")
        found = {"person": range(400, 500), "peer": (502,), "machine": (503,)}
        assert status_of(error) in found[fault(error).acts], kind


def test_canceling_and_retrying_are_audited_and_wake_the_worker(tmp_path: Path) -> None:
    with listening() as push:
        front = make_front(tmp_path, bell=WorkerBell(push.bell.url, push.token))
        job = schedule(front.parts, STUDY)
        client = front.client("radiologist")
        assert client.post(f"/api/jobs/{job}/cancel").json()["cancel_requested"] is True
        assert push.rings == [f"/wake Bearer {push.token}"]
        front.parts.jobs.end_job(job, Canceled())
        refused = client.post(f"/api/jobs/{job}/cancel")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        again = client.post(f"/api/jobs/{job}/retry")
        assert (again.status_code, again.json()["attempt"]) == (202, 2)
        assert client.post(f"/api/jobs/{job}/retry").status_code == 409
        assert len(push.rings) == 2
    deeds = [(e.actor, e.action, e.object) for e in front.parts.trail.events()]
    assert deeds[:2] == [("rita", "job_retried", job), ("rita", "job_canceled", job)]


def test_a_dead_worker_does_not_stop_a_cancel(front: Front) -> None:
    job = schedule(front.parts, STUDY)
    assert front.client("radiologist").post(f"/api/jobs/{job}/cancel").status_code == 202
    assert front.parts.jobs.job(job).cancel_requested


# --- bundles, routes ----------------------------------------------------------------------------


def test_a_bundle_that_does_not_load_is_listed_with_its_reason(front: Front) -> None:
    listed = front.client("researcher").get("/api/bundles").json()
    (broken,) = listed["broken"]
    assert broken["folder"] == "half_a_bundle"
    assert broken["fault"]["code"] == "invalid_bundle"


def test_routes_explain_themselves(front: Front) -> None:
    schedule(front.parts, STUDY)
    client = front.client("researcher")
    assert [route["name"] for route in client.get("/api/routes").json()] == ["head-mr", "chest-ct"]
    (series,) = client.get(f"/api/routes/explain/{STUDY}").json()
    assert [(r["route"], r["matched"]) for r in series["routes"]] == [
        ("head-mr", True),
        ("chest-ct", False),
    ]
    failed = next(c for c in series["routes"][1]["checks"] if not c["holds"])
    assert failed == {"condition": "modality is CT", "found": "MR", "holds": False}


def test_a_series_that_was_not_deidentified_is_explained_by_no_rule(front: Front) -> None:
    receive(front.parts, STUDY)
    (series,) = front.client("researcher").get(f"/api/routes/explain/{STUDY}").json()
    assert (series["deidentified"], series["routes"]) == (False, [])


# --- streams ------------------------------------------------------------------------------------


@contextmanager
def listener(
    front: Front, url: str, path: str
) -> Iterator[Iterator[tuple[str, dict[str, object]]]]:
    """Open a stream as rita, on a real server; yield its (event, data) pairs."""
    secret = front.parts.auth.login("rita", PASSWORD, address="127.0.0.1")
    with (
        httpx.Client(base_url=url, cookies={COOKIE: secret}, timeout=20) as client,
        client.stream("GET", path) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer)


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, object]]]:
    kind = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_a_job_is_streamed_from_now_to_its_end(front: Front) -> None:
    job = begin(front.parts, STUDY, progress=0.1)
    task = f"task-{STUDY}"
    other = begin(front.parts, "2.25.2")
    with serving(front.app) as url, listener(front, url, f"/api/jobs/{job}/events") as told:
        kind, first = next(told)
        assert (kind, first["id"], first["progress"]) == ("job", job, 0.1)
        front.parts.jobs.report_progress(f"task-{other}", 0.9)
        front.parts.jobs.report_progress(task, 0.6)
        assert next(told)[1]["progress"] == 0.6
        front.parts.jobs.end_task(task, OutOfMemory())
        rest = list(told)  # the stream ends by itself
    assert [kind for kind, _ in rest] == ["job", "end"]
    assert rest[0][1]["state"] == "canceled"
    assert all(data["id"] == job for kind, data in rest if kind == "job")


def test_the_stream_of_a_job_that_has_ended_is_one_event_long(front: Front) -> None:
    job = complete(front.parts, STUDY)
    with serving(front.app) as url, listener(front, url, f"/api/jobs/{job}/events") as told:
        assert [kind for kind, _ in told] == ["job", "end"]


def test_the_stream_of_all_tells_of_studies_that_arrive_and_jobs_that_begin(front: Front) -> None:
    with serving(front.app) as url, listener(front, url, "/api/events") as told:
        receive(front.parts, STUDY, count=7)
        assert next(told) == ("study", {"id": STUDY, "arriving": 7})
        job = begin(front.parts, "2.25.2")
        while (event := next(told))[1]["id"] != job:
            assert event[0] == "study"
        assert event[1]["step"] in (None, "fetch", "deidentify", "route", "volume", "predict")


def test_a_stream_of_an_unknown_job_is_refused(front: Front) -> None:
    assert front.client("radiologist").get("/api/jobs/nothing/events").status_code == 404


def test_a_server_that_stops_ends_its_streams(front: Front) -> None:
    with serving(front.app) as url, listener(front, url, "/api/events") as told:
        receive(front.parts, STUDY)
        next(told)
        front.app.state.feed.close()
        assert list(told) == []


# --- every answer -------------------------------------------------------------------------------


def test_every_answer_carries_the_security_headers(front: Front) -> None:
    client = front.client("radiologist")
    for path in ("/", "/login", "/api/me", "/api/nothing", "/static/live.js"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin"
        assert "'unsafe-inline'" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert client.get("/").headers["cache-control"] == "no-store"


def test_an_unforeseen_error_gives_a_reference_and_no_traceback(front: Front) -> None:
    @front.app.get("/api/broken")
    def broken() -> None:
        raise ZeroDivisionError("DOE^JANE 19480312")

    client = TestClient(front.app, raise_server_exceptions=True)
    with structlog.testing.capture_logs() as logs:
        answer = client.get("/api/broken")
    assert answer.status_code == 500
    assert answer.json()["code"] == "unexpected_error"
    (entry,) = [entry for entry in logs if entry["event"] == "request_failed"]
    assert entry["reference"] in answer.json()["message"]
    assert set(entry) - {"log_level", "exc_info"} <= SAFE_FIELDS  # the log drops none of it
    assert "DOE" not in answer.text and "ZeroDivision" not in answer.text


def test_the_access_log_names_routes_and_no_paths(front: Front) -> None:
    client = front.client("radiologist")
    with structlog.testing.capture_logs() as logs:
        client.post("/api/jobs/job-of-1.2.840.99999/cancel")
        client.get("/dicom-web/studies/1.2.840.99999/metadata")
    requests = [entry for entry in logs if entry["event"] == "request"]
    assert requests[0]["route"] == "/api/jobs/{job}/cancel"
    assert requests[0]["user"] == USERS["radiologist"]
    assert "1.2.840.99999" not in repr(logs)
    assert all(set(entry) - {"log_level"} <= SAFE_FIELDS for entry in requests)


def test_the_front_imports_neither_torch_nor_monai() -> None:
    script = (
        "import sys, node.front, node.app; "
        "print([name for name in ('torch', 'monai', 'dbos') if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_every_route_has_a_line_in_the_docs(front: Front) -> None:
    page = (PROJECT / "docs" / "api.md").read_text()
    for route in iter_route_contexts(front.app.routes):
        path = str(route.path)
        if path.startswith(("/fragments/", "/static")):
            continue
        for method in set(route.methods or ()) & {"GET", "POST", "PUT", "DELETE"}:
            if path.startswith(("/dicom-web", "/research/")) and method in ("PUT", "DELETE"):
                continue  # refused there
            assert f"| {method} | `{path}` |" in page, f"{method} {path}"
