"""Drift: what a model is shown, answers and costs its readers is held against what was before."""

from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from node.settings import TrainingSettings
from node.telling import teller
from pipelines.learning import Lookout, find_drift
from pipelines.store import Alarms, Database
from pipelines.store.observed import Observations, Observed

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


def test_effort_is_also_told_by_scanner():
    rare = {"facts": {"manufacturer": "Rare"}, "added_path_mm": 50.0}
    before = [*seen(40), *seen(6, 40, **rare)]
    found = find_drift([*before, *seen(14, 46), *seen(6, 60, **{**rare, "added_path_mm": 300.0})])
    assert [(one.kind, one.scanner) for one in found] == [("effort", "Rare")]


def test_an_alarm_is_raised_once_and_told_once_to_a_webhook(tmp_path: Path):
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(503 if len(heard) == 1 else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    database = Database(f"sqlite:///{tmp_path / 'radloop.db'}")
    database.migrate()
    alarms = Alarms(database)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    lookout = Lookout(Observations(database), alarms, teller(TrainingSettings(webhook=address)))
    try:
        assert alarms.raise_alarm("effort", bundle="liver@1.0.0", message="readers draw more")
        assert alarms.raise_alarm("effort", bundle="liver@1.0.0", message="again") is None
        assert lookout.tell() == 0  # the other side is out of order: it is tried again
        assert lookout.tell() == 1
        assert lookout.tell() == 0
        assert len(heard) == 2 and b"readers draw more" in heard[1]
        assert lookout.look() == []
    finally:
        server.shutdown()
        server.server_close()
        database.close()
