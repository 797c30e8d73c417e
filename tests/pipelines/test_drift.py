"""Drift: what a model is shown, answers and costs its readers is held against what was before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from threading import Thread

import pytest

from node.settings import TrainingSettings
from node.telling import teller
from pipelines.learning import Lookout, find_drift
from pipelines.store import Alarms
from pipelines.store.observed import Observations, Observed, ShownGreys
from tests.node.front import migrated_database

START = datetime(2026, 11, 1, tzinfo=UTC)


def seen(count: int, first: int = 0, **change: object) -> list[Observed]:
    """Return what an ordinary model did, in an ordinary week."""
    facts = {"manufacturer": "ACME", "spacing_mm": 1.0, "slice_count": 100}
    ordinary = {"bundle": "liver@1.0.0", "facts": facts, "amounts": {"Liver": 1500.0}}
    found = []
    for number in range(first, first + count):
        about = {**ordinary, "added_path_mm": 100.0 + number % 7, **change}
        amounts = {k: v + 10 * (number % 5) for k, v in about["amounts"].items() if v}
        about["amounts"] = amounts or about["amounts"]
        about["facts"] = {**facts, **about["facts"]}
        found.append(Observed(at=START + timedelta(hours=number), **about))
    return found


def test_an_ordinary_month_raises_no_alarm():
    assert find_drift(seen(60)) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("input", {"facts": {"spacing_mm": 5.0}}),
        ("input", {"facts": {"manufacturer": "Another"}}),
        ("empty", {"amounts": {"Liver": 0.0}}),
        ("odd", {"amounts": {"Liver": 9000.0}}),
        ("effort", {"added_path_mm": 400.0}),
    ],
)
def test_each_kind_of_drift_is_found(kind: str, change: dict):
    kinds = {one.kind for one in find_drift([*seen(40), *seen(20, 40, **change)])}
    assert kind in kinds


TAUGHT = ShownGreys((0, 1, 2, 3, 4, 5, 6), unlike=0.1, usual=0.1)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (TAUGHT, replace(TAUGHT, unlike=0.5)),
        (replace(TAUGHT, unlike=None), ShownGreys((0, 2, 4, 6, 8, 10, 12))),
    ],
    ids=["than what was learnt from", "than before"],
)
def test_other_grey_values_are_found(before: ShownGreys, now: ShownGreys):
    assert find_drift(seen(60, greys=before)) == []
    (found,) = find_drift([*seen(40, greys=before), *seen(20, 40, greys=now)])
    assert (found.kind, found.scanner) == ("greys", "")
    few = [*seen(40, greys=before), *seen(14, 40, greys=before)]
    rare = {"facts": {"manufacturer": "Rare"}}
    few += [*seen(6, 54, greys=now, **rare)]
    kinds = {(one.kind, one.scanner) for one in find_drift(few)}
    if now.unlike is not None:  # else that scanner has no earlier images to be held against
        assert ("greys", "Rare") in kinds


def test_effort_is_also_told_by_scanner():
    rare = {"facts": {"manufacturer": "Rare"}, "added_path_mm": 50.0}
    before = [*seen(40), *seen(6, 40, **rare)]
    found = find_drift([*before, *seen(14, 46), *seen(6, 60, **{**rare, "added_path_mm": 300.0})])
    assert [(one.kind, one.scanner) for one in found] == [("effort", "Rare")]


class Hook(BaseHTTPRequestHandler):
    """A webhook that is out of order at first."""

    heard: list[bytes]

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(503 if len(self.heard) == 1 else 204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


class Post(StreamRequestHandler):
    """As much of an SMTP server (RFC 5321) as takes a mail."""

    mails: list[tuple[list[str], EmailMessage]]

    def handle(self) -> None:
        people: list[str] = []
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "RCPT":
                people.append(line.partition("<")[2].rstrip(">"))
            if verb == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                message = message_from_bytes(b"".join(lines), policy=policy.default)
                self.mails.append((people, message))
            self._say("221 bye" if verb == "QUIT" else "250 good")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def listening(server: TCPServer) -> Iterator[int]:
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_an_alarm_is_raised_once_and_told_once_by_webhook_and_by_mail(tmp_path: Path):
    Hook.heard, Post.mails = [], []
    database = migrated_database(tmp_path / "radloop.db")
    alarms = Alarms(database)
    with (
        listening(HTTPServer(("127.0.0.1", 0), Hook)) as hook,
        listening(TCPServer(("127.0.0.1", 0), Post)) as post,
    ):
        settings = TrainingSettings(
            webhook=f"http://127.0.0.1:{hook}/",
            mail_server=f"127.0.0.1:{post}",
            mail_from="radloop@hospital.example",
            mail_to=("anna@hospital.example", "bela@hospital.example"),
        )
        lookout = Lookout(Observations(database), alarms, teller(settings))
        draw = {"bundle": "liver@1.0.0", "scanner": "ACME"}
        assert alarms.raise_alarm("effort", message="readers draw more", **draw)
        assert alarms.raise_alarm("effort", message="again", **draw) is None
        assert lookout.tell() == 0  # the webhook is out of order: it is tried again
        assert lookout.tell() == 1
        assert lookout.tell() == 0
    assert len(Hook.heard) == 2 and b"readers draw more" in Hook.heard[1]
    ((people, mail),) = Post.mails  # once, though the webhook failed
    assert people == ["anna@hospital.example", "bela@hospital.example"]
    assert mail["Subject"] == "radloop: liver@1.0.0, effort"
    assert "readers draw more" in mail.get_content() and "ACME" in mail.get_content()
    assert lookout.look() == []
    assert alarms.settle(alarms.all()[0].id, by="anna").settled_by == "anna"
    assert alarms.raise_alarm("effort", message="once more", **draw)  # the first one is settled
    assert lookout.tell() == 0  # nobody answers any more
    database.close()
