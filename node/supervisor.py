"""Start the node's processes, start again what dies, and stop all of them together.

The children are separate programs (two Orthancs, front, worker), so that none takes another down.
Each has a process group of its own: Ctrl-C reaches the supervisor alone, which then stops them in
order; and what a dead child leaves in its group is ended before it is started again.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from dicom.errors import MissingProgram, PortTaken, ProgramFailed

POLL_S = 0.1
TETHER = Path(__file__).with_name("tether.py")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Log(Protocol):
    """What is told to whoever keeps the log: one event's name, facts as fields."""

    def info(self, event: str, **facts: object) -> object:
        """Note an event."""

    def warning(self, event: str, **facts: object) -> object:
        """Note an event that someone should look at."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One program to keep running.

    Parameters
    ----------
    name : str
        Names its log file and appears in events.
    argv : tuple of str
        Program and arguments; the program by its path, or to be found on our `PATH`.
    env : mapping
        The whole environment; nothing is inherited.
    ready : callable
        Returns True once the program does its work; asked again and again until then, so it must
        answer within a second or two.
    ports : tuple of int
        TCP ports that it will listen on.
    tier : int
        At the end higher tiers are stopped first, those of one tier together.
    stop_signal : Signals
        Asks it to end.
    grace_s : float
        Seconds from that until it is killed.
    start_timeout_s : float
        Seconds until it has to be ready; a slower one is killed and tried again.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    ready: Callable[[], bool]
    ports: tuple[int, ...] = ()
    tier: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    start_timeout_s: float = 180.0  # a process that reads its libraries on a busy machine


@dataclass(frozen=True, slots=True)
class Patience:
    """How a child that dies is started again.

    The n-th death in a row is followed by a pause of ``first_s * 2**(n-1)``, `longest_s` at most;
    `stable_s` of running ends the row. A child that dies `start_tries` times before it was ready
    even once will not come up by itself: the whole start fails then.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    stable_s: float = 60.0
    start_tries: int = 3

    def pause_s(self, deaths: int) -> float:
        """Return the seconds to wait after that many deaths in a row."""
        return float(min(self.longest_s, self.first_s * 2 ** min(deaths - 1, 30)))


@dataclass(frozen=True, slots=True)
class LogFiles:
    """Where the children's output goes: ``NAME.log``, when large moved to ``NAME.log.1`` and on."""

    folder: Path
    limit_bytes: int = 10_000_000
    kept: int = 3

    def path(self, name: str) -> Path:
        """Return the file that a child writes now."""
        return self.folder / f"{name}.log"

    def open(self, name: str) -> int:
        """Return a descriptor that appends to a child's file, readable by its owner only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def rotate(self, name: str) -> None:
        """Move a file that has grown too large aside, while the child goes on writing to it."""
        path = self.path(name)
        if not path.exists() or path.stat().st_size <= self.limit_bytes:
            return
        older = [path.with_name(f"{path.name}.{n}") for n in range(1, self.kept + 1)]
        for source, target in zip(reversed(older[:-1]), reversed(older[1:]), strict=True):
            if source.exists():
                source.replace(target)
        # The child holds the file open to append: copied and cut, it writes on at the new end.
        shutil.copy(path, older[0])
        os.truncate(path, 0)


def check_ports(children: Sequence[ChildSpec]) -> None:
    """Return when every port that the children want is free.

    Raises
    ------
    PortTaken
        When another program listens on one, two children want the same, or this user may not
        open it.
    """
    owners: dict[int, str] = {}
    for child in children:
        for port in child.ports:
            if port in owners:
                raise PortTaken(f"{child.name} and {owners[port]} want the same port {port}")
            owners[port] = child.name
            _check_port(port, child.name)


def _check_port(port: int, name: str) -> None:
    with socket.socket() as probe:
        # As servers do: a connection of the last run that lingers is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"port {port} ({name}) is used by another program") from None
            if error.errno == errno.EACCES:
                raise PortTaken(f"port {port} ({name}) may not be opened by this user") from None
            raise


class _Child:
    """One program now: running, or dead and waiting for its next start."""

    def __init__(self, spec: ChildSpec, logs: LogFiles) -> None:
        self.spec = spec
        self.deaths = 0  # in a row
        self.ready = False  # since its last start
        self.was_ready = False  # ever
        self.started_at = 0.0
        self.start_at = 0.0  # when dead: not before
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started_at

    def start(self) -> None:
        program = shutil.which(self.spec.argv[0])
        if program is None:
            raise MissingProgram(f"the program of {self.spec.name} is not installed")
        tether = (sys.executable, "-I", "-S", str(TETHER), str(os.getpid()))
        output = self._logs.open(self.spec.name)
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own programs)
                (*tether, program, *self.spec.argv[1:]),
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        finally:
            os.close(output)
        self.started_at = time.monotonic()
        self.ready = False

    def ended(self) -> bool:
        """Return whether the program ended, without forgetting its process id."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def signal(self, how: signal.Signals) -> None:
        os.kill(self.pid, how)

    def clear(self) -> int:
        """Kill what is left of the child and its group; return how it ended (as Popen says)."""
        assert self._process is not None
        # Not reaped yet, the child keeps its process id, so this group can be no one else's.
        os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self._process = None
        return status


class Supervisor:
    """Keep some programs running until a signal says stop.

    Parameters
    ----------
    children : sequence of ChildSpec
        Started together, in this order.
    logs : LogFiles
        Where their output goes.
    log : Log
        Told of `child_started`, `child_ready`, `child_ended`, `child_slow`, `child_stopped`,
        `child_killed`; facts: `child`, `pid`, `status`, `seconds`, `pause_s`, `log_file`.
    patience : Patience
        When to start again.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        logs: LogFiles,
        log: Log,
        *,
        patience: Patience | None = None,
    ) -> None:
        self._children = [_Child(spec, logs) for spec in children]
        self._logs = logs
        self._log = log
        self._patience = patience or Patience()
        self._stops = 0

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Run until SIGTERM, SIGINT or SIGHUP; a second one kills instead of waiting.

        To be called in the main thread.

        Parameters
        ----------
        on_ready : callable
            Called once, when every child is ready for the first time.

        Raises
        ------
        PortTaken
            Before anything is started.
        MissingProgram
            When a program is not there; what was started is stopped.
        ProgramFailed
            When a child cannot come up; the others are stopped.
        """
        check_ports([child.spec for child in self._children])
        waiting = True
        with self._listening_for_signals():
            try:
                while self._stops == 0:
                    for child in self._children:
                        self._tend(child)
                    if waiting and all(child.ready for child in self._children):
                        waiting = False
                        on_ready()
                    time.sleep(POLL_S)
            finally:
                self._stop_all()

    def stop(self) -> None:
        """Ask :meth:`run` to stop everything and return; may be called from any thread."""
        self._stops += 1

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if not child.running:
            if now >= child.start_at:
                child.start()
                self._log.info("child_started", child=child.spec.name, pid=child.pid)
        elif child.ended():
            self._bury(child)
        elif not child.ready:
            self._ask(child)
        elif child.deaths and child.age_s > self._patience.stable_s:
            child.deaths = 0
        self._logs.rotate(child.spec.name)

    def _ask(self, child: _Child) -> None:
        if child.spec.ready():
            child.ready = child.was_ready = True
            self._log.info("child_ready", child=child.spec.name, seconds=round(child.age_s, 1))
        elif child.age_s > child.spec.start_timeout_s:
            self._log.warning("child_slow", child=child.spec.name, seconds=round(child.age_s, 1))
            child.signal(signal.SIGKILL)

    def _bury(self, child: _Child) -> None:
        name = child.spec.name
        status = child.clear()
        child.ready = False
        child.deaths += 1
        if not child.was_ready and child.deaths >= self._patience.start_tries:
            raise ProgramFailed(
                f"{name} ended {child.deaths} times before it was ready (status {status}); "
                f"see {self._logs.path(name).name}"
            )
        pause_s = self._patience.pause_s(child.deaths)
        child.start_at = time.monotonic() + pause_s
        self._log.warning(
            "child_ended",
            child=name,
            status=status,
            pause_s=pause_s,
            log_file=self._logs.path(name).name,
        )

    def _stop_all(self) -> None:
        running = [child for child in self._children if child.running]
        for tier in sorted({child.spec.tier for child in running}, reverse=True):
            self._stop([child for child in running if child.spec.tier == tier])

    def _stop(self, children: Sequence[_Child]) -> None:
        for child in children:
            child.signal(child.spec.stop_signal)
        asked_at = time.monotonic()
        waiting = list(children)
        while waiting:
            for child in tuple(waiting):
                late = self._stops > 1 or time.monotonic() - asked_at > child.spec.grace_s
                ended = child.ended()
                if ended or late:
                    event = "child_stopped" if ended else "child_killed"
                    self._log.info(event, child=child.spec.name, status=child.clear())
                    waiting.remove(child)
            time.sleep(POLL_S / 5)

    @contextmanager
    def _listening_for_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.stop()

        before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
