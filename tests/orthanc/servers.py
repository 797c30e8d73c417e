"""Start what the tests talk to: real Orthancs by node/orthanc.py itself, on free ports."""

import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dicom.archive import Archive
from dicom.dimse import Peer
from node.orthanc import (
    Bell,
    DicomListener,
    KnownPeer,
    OrthancConfig,
    orthanc_command,
    orthanc_environment,
    wait_until_ready,
    write_configuration,
)

SENDER_AET = "TESTSENDER"
CLINICAL_AET = "RADLOOP"


def free_port() -> int:
    """Return a TCP port that nobody listens on, on any interface."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class RunningOrthanc:
    """One Orthanc process that a test started; it can be killed and started again."""

    def __init__(self, config: OrthancConfig) -> None:
        self.config = config
        self.log = config.home / "orthanc.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, configuration: Path | None = None) -> None:
        """Start it; with `configuration`, a test's own changed copy."""
        path = configuration or write_configuration(self.config)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                orthanc_command(path), env=orthanc_environment(), stdout=log, stderr=log
            )
        self._process = process
        wait_until_ready(self.config, alive=lambda: process.poll() is None)

    def kill(self) -> None:
        """Kill -9, as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP lets those hang who talk to it, SIGCONT lets them go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def archive(self, *, colocated: bool = True) -> Archive:
        """Return a client; without `colocated` it must fetch files by HTTP."""
        return Archive(
            self.config.url,
            self.config.user,
            self.config.password,
            storage=self.config.storage if colocated else None,
        )

    @property
    def peer(self) -> Peer:
        """Return this archive as others see it."""
        assert self.config.listener is not None
        listener = self.config.listener
        return Peer("archive", "127.0.0.1", listener.port, listener.aet)


@dataclass(frozen=True)
class OrthancPair:
    """The two archives of a node."""

    clinical: RunningOrthanc
    research: RunningOrthanc


@dataclass
class BellPush:
    """A small HTTP listener that notes who rings."""

    port: int
    token: str
    rings: list[str] = field(default_factory=list)
    rung: threading.Event = field(default_factory=threading.Event)

    @property
    def bell(self) -> Bell:
        return Bell(f"http://127.0.0.1:{self.port}/wake", self.token)


@contextmanager
def listening() -> Iterator[BellPush]:
    """Listen for rings until the block ends."""
    push = BellPush(free_port(), secrets.token_urlsafe(16))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            push.rings.append(f"{self.path} {self.headers['Authorization']}")
            push.rung.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", push.port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield push
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def clinical_config(
    home: Path, *, bell: Bell | None = None, peers: tuple[KnownPeer, ...] = ()
) -> OrthancConfig:
    """Return a clinical archive on free ports that takes images from `SENDER_AET`."""
    sender = KnownPeer(
        Peer("sender", "127.0.0.1", free_port(), SENDER_AET), frozenset({"echo", "store"})
    )
    return OrthancConfig(
        name="clinical",
        home=home,
        http_port=free_port(),
        user="radloop",
        password=secrets.token_urlsafe(24),
        listener=DicomListener(free_port(), CLINICAL_AET, (sender, *peers)),
        bell=bell or Bell(f"http://127.0.0.1:{free_port()}/wake", secrets.token_urlsafe(16)),
    )


def research_config(home: Path) -> OrthancConfig:
    """Return a research archive on a free port."""
    return OrthancConfig(
        name="research",
        home=home,
        http_port=free_port(),
        user="radloop",
        password=secrets.token_urlsafe(24),
    )


@contextmanager
def running(*configs: OrthancConfig) -> Iterator[tuple[RunningOrthanc, ...]]:
    """Start these archives, and end them when the block ends.

    Killed, since an Orthanc takes 3 s to say goodbye, and what these held is thrown away.
    """
    with ExitStack() as stack:
        started = []
        for config in configs:
            orthanc = RunningOrthanc(config)
            stack.callback(orthanc.kill)
            orthanc.start()
            started.append(orthanc)
        yield tuple(started)
