"""A whole node for a test: `radloop up` as a site starts it, on free ports, with real archives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from dicom.dimse import Peer, send_folder
from node import wiring
from node.settings import Settings, load_settings
from pipelines.store import Database, Jobs, JobView
from tests.orthanc.servers import free_port

Found = TypeVar("Found")
ADMIN_PASSWORD = "a-test-needs-a-password"


@dataclass
class Node:
    """One running node, seen from outside and through its rows."""

    config: Path
    settings: Settings
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.settings.front.port}"

    @property
    def secrets(self):
        return wiring.open_secrets(self.settings)

    @contextmanager
    def rows(self) -> Iterator[Database]:
        database = Database(wiring.database_url(self.settings))
        try:
            yield database
        finally:
            database.close()

    def archive(self):
        return wiring.clinical_archive(self.settings, self.secrets)

    def research(self):
        return wiring.research_archive(self.settings, self.secrets)

    def client(self, user: str = "admin", password: str = ADMIN_PASSWORD) -> httpx.Client:
        """Return a browser-like client that has logged in."""
        client = httpx.Client(base_url=self.address, trust_env=False, timeout=60)
        answer = client.post(
            "/login", data={"name": user, "password": password}, headers={"Origin": self.address}
        )
        assert answer.status_code == 303, answer.text
        return client

    def send(self, folder: Path, calling_aet: str | None = None) -> None:
        """Send a folder by C-STORE, as a PACS does."""
        peer: Peer = wiring.ourselves(self.settings)
        send_folder(peer, folder, calling_aet=calling_aet or self.settings.dicom.aet)

    def pseudonym(self, study_uid: str) -> str:
        return wiring.study_pseudonym(self.settings, study_uid)

    def jobs_of(self, study_uid: str) -> list[JobView]:
        with self.rows() as database:
            return Jobs(database).jobs_of(self.pseudonym(study_uid))

    def ended_job(self, study_uid: str, *, timeout_s: float = 180, count: int = 1) -> JobView:
        """Wait until the study has `count` jobs and all have ended; return the newest."""

        def ended() -> JobView | None:
            jobs = self.jobs_of(study_uid)
            done = len(jobs) >= count and all(job.ended_at is not None for job in jobs)
            return jobs[0] if done else None

        return until(ended, timeout_s=timeout_s)

    def segmentations(self, study_uid: str) -> list[str]:
        """Return the SOP instances of SEG series that the clinical archive holds of a study."""
        with self.archive() as archive:
            (study,) = archive.lookup("studies", study_uid)
            series = [archive.series(each) for each in archive.study(study).series]
            return [i.sop_instance_uid for s in series if s.modality == "SEG" for i in s.instances]

    def results(self, study_uid: str) -> list[str]:
        """Return the SOP instances that the node made of a study."""
        return [result.id for job in self.jobs_of(study_uid) for result in job.results]

    def child(self, *words: str) -> psutil.Process | None:
        """Return the node's process whose command line has all these words."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return None
        for child in children:
            try:
                line = " ".join(child.cmdline())
            except psutil.Error:
                continue
            if all(word in line for word in words):
                return child
        return None

    def logs(self) -> str:
        """Return all that the node's own processes wrote."""
        folder = self.settings.data / "logs"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))


def until(look: Callable[[], Found | None], *, timeout_s: float) -> Found:
    """Return what `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in {timeout_s} s")


ROUTE = """
[[route]]
name = "head-mr"
bundle = "threshold"
[route.when]
modality = ["MR"]
"""


def write_config(folder: Path, bundles: Path, *, routes: str = ROUTE, more: str = "") -> Path:
    """Write a radloop.toml with free ports."""
    front, dicom, clinical, research, worker = (free_port() for _ in range(5))
    path = folder / "radloop.toml"
    path.write_text(
        f"""
data = "{folder / "data"}"
[front]
port = {front}
[dicom]
port = {dicom}
[orthanc]
clinical_port = {clinical}
research_port = {research}
[worker]
port = {worker}
poll_s = 1.0
[predictor]
threads = 1
[models]
folders = ["{bundles}"]
{routes}
{more}
"""
    )
    return path


@contextmanager
def running_node(
    config: Path, env: Sequence[tuple[str, str]] = (), *, goes_on: bool = False
) -> Iterator[Node]:
    """Start `radloop up`, wait for its one line, and end it.

    With `goes_on` it is stopped as an administrator would, since its data is used again; else it is
    killed with all that it started: two Orthancs take seconds to say goodbye.
    """
    environment = {**os.environ, "RADLOOP_ADMIN_PASSWORD": ADMIN_PASSWORD, **dict(env)}
    command = [sys.executable, "-m", "node", "up", "--config", str(config)]
    errors = config.with_name("up.stderr")
    with errors.open("a") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    node = Node(config, load_settings(config), process)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            node.lines.append(line.rstrip())
            if line.startswith("radloop ready"):
                break
        else:
            raise AssertionError("the node did not start: " + errors.read_text()[-2000:])
        yield node
    finally:
        if goes_on:
            _stop(process)
        else:
            _kill(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        started = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        started = []
    for each in (process, *started):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(started, timeout=20)
