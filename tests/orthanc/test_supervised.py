"""Orthanc under the supervisor, as `radloop up` runs it."""

import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node.orthanc import (
    answers,
    orthanc_command,
    orthanc_environment,
    write_configuration,
)
from node.supervisor import ChildSpec, LogFiles, Patience, Supervisor
from tests.orthanc.servers import clinical_config

pytestmark = pytest.mark.orthanc


@dataclass
class Events:
    """Collects what the supervisor says and lets a thread wait for it."""

    seen: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def info(self, event: str, **facts: object) -> None:
        with self.news:
            self.seen.append((event, facts))
            self.news.notify_all()

    warning = info

    def wait(self, event: str, times: int = 1) -> dict[str, object]:
        with self.news:
            assert self.news.wait_for(lambda: self.names().count(event) >= times, timeout=30)
            return [facts for name, facts in self.seen if name == event][times - 1]

    def names(self) -> list[str]:
        return [name for name, _ in self.seen]


def test_a_killed_orthanc_comes_back_and_stops_on_request(tmp_path: Path):
    config = clinical_config(tmp_path / "orthanc-clinical")
    assert config.listener is not None
    spec = ChildSpec(
        "orthanc-clinical",
        orthanc_command(write_configuration(config)),
        orthanc_environment(),
        ready=lambda: answers(config),
        ports=(config.http_port, config.listener.port),
    )
    events = Events()
    logs = LogFiles(tmp_path / "logs")
    supervisor = Supervisor([spec], logs, events, patience=Patience(first_s=0.05))

    def scenario() -> None:
        try:
            events.wait("child_ready")
            os.kill(int(str(events.wait("child_started")["pid"])), signal.SIGKILL)
            events.wait("child_ready", times=2)
            assert answers(config)
        finally:
            supervisor.stop()

    thread = threading.Thread(target=scenario)
    thread.start()
    supervisor.run()
    thread.join(30)
    assert events.names() == [
        *("child_started", "child_ready", "child_ended"),
        *("child_started", "child_ready", "child_stopped"),
    ]
    assert not answers(config)
    assert "Orthanc has stopped" in logs.path("orthanc-clinical").read_text()
