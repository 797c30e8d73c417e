"""Logins, tokens, roles, and writes from other sites."""

import hashlib
import pickle
import time
from datetime import timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from dicom.errors import Conflict, InvalidRequest, TooManyTries, WrongPassword
from node.auth import COOKIE, Auth, Throttle
from pipelines.store import Access
from tests.node.front import (
    ORIGIN,
    PASSWORD,
    QUICK_HASHER,
    USERS,
    Front,
    make_front,
    migrated_database,
    schedule,
)


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return make_front(tmp_path)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(migrated_database(tmp_path / "auth.db"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- the first admin ----------------------------------------------------------------------------


def test_the_first_admin_gets_a_password_that_is_told_once(access: Access) -> None:
    auth = Auth(access, hasher=QUICK_HASHER)
    password = auth.first_admin()
    assert password is not None
    assert auth.check("admin", password, address="10.0.0.1").role == "admin"
    assert auth.first_admin() is None
    assert auth.first_admin("another one, please") is None
    assert len(access.users()) == 1


def test_the_first_admin_takes_the_password_of_the_settings(access: Access) -> None:
    auth = Auth(access, hasher=QUICK_HASHER)
    assert auth.first_admin("from the settings") is None
    auth.check("admin", "from the settings", address="10.0.0.1")


def test_passwords_are_kept_as_argon2id_with_the_parameters_of_rfc_9106(access: Access) -> None:
    auth = Auth(access)
    auth.add_user("rita", role="radiologist", password=PASSWORD)
    user = access.user("rita")
    assert user is not None
    assert user.password_hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert auth.check("rita", PASSWORD, address="10.0.0.1").name == "rita"


def test_a_login_renews_a_hash_of_old_parameters_and_ends_no_other_login(access: Access) -> None:
    weak = Auth(access, hasher=QUICK_HASHER)
    weak.add_user("rita", role="radiologist", password=PASSWORD)
    other = weak.login("rita", PASSWORD, address="10.0.0.1")
    strong = Auth(access, hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    strong.check("rita", PASSWORD, address="10.0.0.1")
    user = access.user("rita")
    assert user is not None
    assert "m=16,t=2" in user.password_hash
    digest = hashlib.sha256(other.encode()).hexdigest()
    assert access.session_user(digest, idle=timedelta(minutes=1)) is not None


@pytest.mark.parametrize("name", ["", "A", "a b", "x" * 65, "rita\n"])
def test_a_user_name_has_plain_characters(access: Access, name: str) -> None:
    with pytest.raises(InvalidRequest):
        Auth(access, hasher=QUICK_HASHER).add_user(name, role="admin", password=PASSWORD)


def test_a_short_password_and_a_taken_name_are_refused(access: Access) -> None:
    auth = Auth(access, hasher=QUICK_HASHER)
    with pytest.raises(InvalidRequest):
        auth.add_user("rita", role="admin", password="elevenchars")
    auth.add_user("rita", role="admin", password=PASSWORD)
    with pytest.raises(Conflict):
        auth.add_user("rita", role="researcher", password=PASSWORD)


# --- guessing -----------------------------------------------------------------------------------


def test_every_wrong_password_doubles_the_wait() -> None:
    clock = Clock()
    throttle = Throttle(free_tries=2, longest_s=5, clock=clock)
    throttle.begin("x")
    throttle.begin("x")
    waits = []
    for _ in range(5):
        with pytest.raises(TooManyTries) as refused:
            throttle.begin("x")
        waits.append(refused.value.wait_s)
        clock.now += refused.value.wait_s
        throttle.begin("x")
    assert waits == [1, 2, 4, 5, 5]
    throttle.begin("y")  # nobody else waits


def test_a_wait_is_forgotten_after_quiet_and_forgiven_by_success() -> None:
    clock = Clock()
    throttle = Throttle(free_tries=1, forget_s=60, clock=clock)
    throttle.begin("x")
    with pytest.raises(TooManyTries):
        throttle.begin("x")
    clock.now = 61
    throttle.begin("x")
    throttle.passed("x", forgive=True)
    throttle.begin("x")


def test_a_throttle_keeps_no_more_than_its_keys() -> None:
    throttle = Throttle(free_tries=1, most_keys=3)
    for key in "abcd":
        throttle.begin(key)
    throttle.begin("a")  # it was the oldest: forgotten
    with pytest.raises(TooManyTries):
        throttle.begin("d")


def test_guessing_is_slowed_down_for_one_place_only(access: Access) -> None:
    auth = Auth(access, hasher=QUICK_HASHER)
    auth.add_user("rita", role="radiologist", password=PASSWORD)
    for _ in range(5):
        with pytest.raises(WrongPassword):
            auth.check("rita", "wrong", address="10.0.0.66")
    with pytest.raises(TooManyTries):
        auth.check("rita", PASSWORD, address="10.0.0.66")
    auth.check("rita", PASSWORD, address="10.0.0.1")


def test_guessing_many_names_from_one_network_is_slowed_down(access: Access) -> None:
    auth = Auth(access, hasher=QUICK_HASHER)
    with pytest.raises(TooManyTries):
        for number in range(60):
            with pytest.raises(WrongPassword):
                auth.check(f"user{number}", "wrong", address=f"2001:db8::{number:x}")
    assert number == 50


def test_an_unknown_name_costs_as_much_hashing_as_a_known_one(access: Access) -> None:
    class Counting(PasswordHasher):
        verified = 0

        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            Counting.verified += 1
            return super().verify(hash, password)

    auth = Auth(access, hasher=Counting(time_cost=1, memory_cost=8, parallelism=1))
    auth.add_user("rita", role="radiologist", password=PASSWORD)
    access.disable_user("rita")
    messages = set()
    for name, password in (("rita", PASSWORD), ("nobody", PASSWORD)):
        with pytest.raises(WrongPassword) as refused:
            auth.check(name, password, address="10.0.0.1")
        messages.add(refused.value.message)
    assert Counting.verified == 2
    assert len(messages) == 1


def test_the_wait_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(TooManyTries.wait(7))).wait_s == 7


# --- sessions -----------------------------------------------------------------------------------


def test_a_login_sets_a_cookie_that_scripts_and_other_sites_cannot_use(front: Front) -> None:
    answer = front.client().post(
        "/login", data={"name": "rita", "password": PASSWORD, "next": "/jobs/x"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/x")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "path=/" in cookie
    assert "secure" not in cookie  # plain HTTP on the loop-back, in this test


def test_behind_https_the_cookie_is_secure_and_browsers_remember_https(tmp_path: Path) -> None:
    front = make_front(tmp_path, public_url="https://ai.hospital.example")
    answer = front.client().post("/login", data={"name": "rita", "password": PASSWORD})
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "max-age" in answer.headers["strict-transport-security"]


def test_the_database_holds_no_secret_that_logs_in(front: Front, tmp_path: Path) -> None:
    client = front.client("radiologist")
    secret = client.cookies[COOKIE]
    token = front.parts.auth.add_token("ci", user="rita", lifetime=None)
    files = [path.read_bytes() for path in tmp_path.glob("radloop.db*")]
    for forbidden in (secret, token, PASSWORD):
        assert all(forbidden.encode() not in content for content in files)


@pytest.mark.parametrize(
    "next_path", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil", ""]
)
def test_a_login_leads_to_our_own_pages_only(front: Front, next_path: str) -> None:
    answer = front.client().post(
        "/login", data={"name": "rita", "password": PASSWORD, "next": next_path}
    )
    assert answer.headers["location"] == "/"


def test_a_wrong_password_is_told_in_plain_words_and_audited(front: Front) -> None:
    client = front.client()
    for name, password in (("rita", "wrong"), ("hunter2-typed-as-name", "x")):
        answer = client.post("/login", data={"name": name, "password": password})
        assert answer.status_code == 401
        assert "User name or password is wrong" in answer.text
        assert COOKIE not in answer.cookies
    trail = front.parts.trail.events()
    assert [(e.actor, e.action, e.outcome, e.reason) for e in trail] == [
        ("", "login", "refused", "wrong_password"),
        ("rita", "login", "refused", "wrong_password"),
    ]


def test_too_many_tries_say_how_long_to_wait(front: Front) -> None:
    client = front.client()
    for _ in range(5):
        client.post("/login", data={"name": "rita", "password": "wrong"})
    answer = client.post("/login", data={"name": "rita", "password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "try again in" in answer.text


def test_a_logout_ends_the_session_on_the_server(front: Front) -> None:
    client = front.client("radiologist")
    secret = client.cookies[COOKIE]
    assert client.post("/logout").status_code == 303
    client.cookies.set(COOKIE, secret)
    assert client.get("/api/me").status_code == 401


def test_a_session_ends_after_its_lifetime_and_after_idleness(tmp_path: Path) -> None:
    for name, lifetime, idle in (("life", 0.5, 600.0), ("idle", 600.0, 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        front = make_front(
            folder, lifetime=timedelta(seconds=lifetime), idle=timedelta(seconds=idle)
        )
        secret = front.parts.auth.login("rita", PASSWORD, address="10.0.0.1")
        client = TestClient(front.app, cookies={COOKIE: secret})
        assert client.get("/api/me").status_code == 200
        time.sleep(0.6)
        assert client.get("/api/me").status_code == 401


def test_a_disabled_user_is_out_at_once(front: Front) -> None:
    client = front.client("radiologist")
    token = front.parts.auth.add_token("ci", user="rita", lifetime=None)
    front.parts.access.disable_user("rita")
    assert client.get("/api/me").status_code == 401
    assert bearer(front, token).get("/api/me").status_code == 401


def test_a_new_password_ends_the_logins(front: Front) -> None:
    client = front.client("radiologist")
    other = front.client("radiologist")
    change = {"present": PASSWORD, "new": "a fresh password"}
    assert client.post("/api/me/password", json={**change, "present": "no"}).status_code == 401
    assert client.post("/api/me/password", json=change).status_code == 204
    assert other.get("/api/me").status_code == 401
    front.parts.auth.check("rita", "a fresh password", address="10.0.0.1")


# --- tokens -------------------------------------------------------------------------------------


def bearer(front: Front, token: str) -> TestClient:
    return TestClient(front.app, headers={"Authorization": f"Bearer {token}"})


def test_a_token_reaches_as_far_as_its_user_and_needs_no_origin(front: Front) -> None:
    job = schedule(front.parts, "2.25.1")
    token = front.parts.auth.add_token("ci", user="rita", lifetime=timedelta(days=1))
    client = bearer(front, token)
    assert client.get("/api/me").json() == {
        "name": "rita",
        "role": "radiologist",
        "by": "token",
    }
    assert client.post(f"/api/jobs/{job}/cancel").status_code == 202
    assert client.get("/api/users").status_code == 403


def test_a_token_ends_by_time_and_by_revoking(front: Front) -> None:
    auth = front.parts.auth
    ended = auth.add_token("old", user="rita", lifetime=timedelta(seconds=-1))
    assert bearer(front, ended).get("/api/me").status_code == 401
    live = auth.add_token("live", user="rita", lifetime=None)
    admin = front.client("admin")
    assert bearer(front, live).get("/api/me").status_code == 200
    assert admin.delete("/api/tokens/live").status_code == 204
    assert bearer(front, live).get("/api/me").status_code == 401
    assert admin.delete("/api/tokens/never").status_code == 404


def test_a_bad_token_is_refused_though_a_good_cookie_is_there(front: Front) -> None:
    client = front.client("admin")
    for header in ("Bearer nonsense", "Basic YTpi", "Bearer"):
        answer = client.get("/api/me", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_is_shown_once_and_its_name_is_unique_while_it_lives(front: Front) -> None:
    admin = front.client("admin")
    body = {"name": "ci", "user": "rob", "days": 30}
    made = admin.post("/api/tokens", json=body)
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert bearer(front, secret).get("/api/me").json()["name"] == "rob"
    listed = admin.get("/api/tokens")
    assert secret not in listed.text and "sha256" not in listed.text
    assert admin.post("/api/tokens", json=body).json()["code"] == "conflict"
    admin.delete("/api/tokens/ci")
    assert admin.post("/api/tokens", json=body).status_code == 201
    assert admin.post("/api/tokens", json={**body, "name": "x", "user": "no"}).status_code == 404


def test_a_token_changes_no_password(front: Front) -> None:
    token = front.parts.auth.add_token("ci", user="rita", lifetime=None)
    change = {"present": PASSWORD, "new": "a fresh password"}
    assert bearer(front, token).post("/api/me/password", json=change).status_code == 403


# --- other sites --------------------------------------------------------------------------------

CROSS_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "http://testserver:8080"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
    {},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_a_write_with_a_cookie_from_another_site_is_refused(
    front: Front, headers: dict[str, str]
) -> None:
    job = schedule(front.parts, "2.25.1")
    client = front.client("admin")
    del client.headers["Origin"]
    for path in (f"/api/jobs/{job}/cancel", f"/jobs/{job}/cancel", "/logout", "/dicom-web/studies"):
        answer = client.post(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), path
    assert not front.parts.jobs.job(job).cancel_requested


def test_a_write_from_the_public_address_is_let_in(tmp_path: Path) -> None:
    front = make_front(tmp_path, public_url="https://ai.hospital.example/")
    job = schedule(front.parts, "2.25.1")
    secret = front.parts.auth.login("rita", PASSWORD, address="10.0.0.1")
    client = TestClient(front.app, cookies={COOKIE: secret})
    headers = {"Origin": "https://ai.hospital.example"}
    assert client.post(f"/api/jobs/{job}/cancel", headers=headers).status_code == 202


def test_another_site_cannot_log_anybody_in(front: Front) -> None:
    answer = front.client().post(
        "/login",
        data={"name": "rita", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert COOKIE not in answer.cookies


def test_users_are_managed_by_the_admin(front: Front) -> None:
    admin = front.client("admin")
    new = {"name": "ruth", "role": "researcher", "password": PASSWORD}
    assert admin.post("/api/users", json=new).status_code == 201
    assert admin.post("/api/users", json=new).status_code == 409
    assert {"name": "ruth", "role": "researcher", "disabled": False} in admin.get(
        "/api/users"
    ).json()
    assert admin.delete("/api/users/ruth").status_code == 204
    with pytest.raises(WrongPassword):
        front.parts.auth.check("ruth", PASSWORD, address="10.0.0.1")
    again = {"password": "another password"}
    assert admin.put("/api/users/ruth/password", json=again).status_code == 204
    assert front.parts.auth.check("ruth", "another password", address="10.0.0.1").name == "ruth"
    assert admin.delete(f"/api/users/{USERS['admin']}").status_code == 409
    assert admin.delete("/api/users/nobody").status_code == 404
    deeds = [event.action for event in reversed(front.parts.trail.events())]
    assert deeds == ["login", "user_added", "user_disabled", "password_changed"]


def test_a_refused_body_is_not_repeated_in_the_answer(front: Front) -> None:
    body = {"name": "ruth", "role": "king", "password": "s3cret-but-typed"}
    answer = front.client("admin").post("/api/users", json=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert "role" in answer.json()["message"]
    assert "s3cret" not in answer.text
