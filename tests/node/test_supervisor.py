"""The supervisor with small real programs."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dicom.errors import MissingProgram, PortTaken, ProgramFailed
from node.supervisor import ChildSpec, LogFiles, Patience, Supervisor, check_ports

ENV = {"PATH": os.environ["PATH"]}

# A child that writes `NAME.up` with its process id, and a grandchild's to `NAME.grandchild`.
CHILD = textwrap.dedent(
    """
    import os, pathlib, signal, subprocess, sys, time
    name, stubborn = sys.argv[1], sys.argv[2] == "stubborn"
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen(["sleep", "600"])
    pathlib.Path(name + ".grandchild").write_text(str(grandchild.pid))
    print("hello from", name, flush=True)
    pathlib.Path(name + ".up.new").write_text(str(os.getpid()))
    os.replace(name + ".up.new", name + ".up")
    time.sleep(600)
    """
)

# A whole node: two children, events as lines of JSON on standard output.
NODE = textwrap.dedent(
    """
    import json, pathlib, sys
    from node.supervisor import ChildSpec, LogFiles, Patience, Supervisor
    folder, child, *names = sys.argv[1:]

    class Log:
        def info(self, event, **facts):
            print(json.dumps({"event": event, **facts}), flush=True)
        warning = info

    specs = [
        ChildSpec(
            name.split(":")[0],
            (sys.executable, child, f"{folder}/{name.split(':')[0]}", name.split(":")[1]),
            {"PATH": "/usr/bin:/bin"},
            ready=pathlib.Path(f"{folder}/{name.split(':')[0]}.up").exists,
            tier=tier,
            grace_s=0.5,
        )
        for tier, name in enumerate(names)
    ]
    logs = LogFiles(pathlib.Path(folder) / "logs")
    patience = Patience(first_s=0.05, longest_s=0.2)
    Supervisor(specs, logs, Log(), patience=patience).run(lambda: Log().info("ready"))
    """
)


class Node:
    """The supervisor in a process of its own, as `radloop up` runs it."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        child = folder / "child.py"
        child.write_text(CHILD)
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODE, str(folder), str(child), *names],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.events: list[dict[str, object]] = []

    def wait_for(self, event: str, **facts: object) -> dict[str, object]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            seen = json.loads(line)
            self.events.append(seen)
            if seen["event"] == event and facts.items() <= seen.items():
                return seen
        raise AssertionError(f"ended without {event}: {self.events}")

    def read_rest(self) -> list[str]:
        assert self.process.stdout is not None
        rest = [json.loads(line) for line in self.process.stdout]
        self.events += rest
        return [f"{event['event']} {event.get('child', '')}".strip() for event in rest]

    def pid(self, name: str, kind: str = "up") -> int:
        return int((self.folder / f"{name}.{kind}").read_text())

    def all_pids(self) -> list[int]:
        return [int(path.read_text()) for path in self.folder.glob("*.*") if path.suffix in KINDS]


KINDS = (".up", ".grandchild")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def start_node(*names: str) -> Node:
        nodes.append(Node(tmp_path, *names))
        return nodes[-1]

    yield start_node
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait(10)
        for pid in node.all_pids():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(pids: list[int]) -> bool:
    """Return whether all of them end within a while."""
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_what_dies_is_started_again_and_its_remains_are_cleared(start: Callable[..., Node]):
    node = start("archive:polite", "worker:polite")
    node.wait_for("ready")
    archive, first, grandchild = (
        node.pid("archive"),
        node.pid("worker"),
        node.pid("worker", "grandchild"),
    )
    (node.folder / "worker.up").unlink()
    os.kill(first, signal.SIGKILL)
    assert node.wait_for("child_ended")["status"] == -signal.SIGKILL
    node.wait_for("child_ready", child="worker")
    assert node.pid("worker") != first
    assert gone([first, grandchild])
    assert alive(archive)


def test_a_signal_stops_all_in_order(start: Callable[..., Node]):
    node = start("archive:polite", "worker:polite")
    node.wait_for("ready")
    pids = node.all_pids()
    assert len(pids) == 4
    node.process.send_signal(signal.SIGTERM)
    assert node.read_rest() == ["child_stopped worker", "child_stopped archive"]
    assert node.process.wait(10) == 0
    assert gone(pids)


def test_who_does_not_listen_is_killed_after_the_grace(start: Callable[..., Node]):
    node = start("worker:stubborn")
    node.wait_for("ready")
    pids = node.all_pids()
    node.process.send_signal(signal.SIGINT)
    assert node.read_rest() == ["child_killed worker"]
    assert node.process.wait(10) == 0
    assert gone(pids)


def test_nobody_outlives_a_killed_supervisor(start: Callable[..., Node]):
    node = start("archive:polite", "worker:stubborn")
    node.wait_for("ready")
    pids = [node.pid("archive"), node.pid("worker")]
    node.process.kill()
    assert gone(pids)


def test_output_goes_to_a_private_file_per_child(start: Callable[..., Node]):
    node = start("archive:polite", "worker:polite")
    node.wait_for("ready")
    for name in ("archive", "worker"):
        path = node.folder / "logs" / f"{name}.log"
        assert f"{name}\n" in path.read_text()
        assert path.stat().st_mode & 0o077 == 0


def test_a_large_log_moves_aside_while_it_is_written(tmp_path: Path):
    logs = LogFiles(tmp_path, limit_bytes=10, kept=2)
    output = logs.open("worker")
    try:
        for text in (b"first, long enough", b"second, long enough", b"third, long enough"):
            os.write(output, text)
            logs.rotate("worker")
        os.write(output, b"last")
        logs.rotate("worker")
    finally:
        os.close(output)
    assert (tmp_path / "worker.log").read_bytes() == b"last"
    assert (tmp_path / "worker.log.1").read_bytes() == b"third, long enough"
    assert (tmp_path / "worker.log.2").read_bytes() == b"second, long enough"
    assert len(list(tmp_path.iterdir())) == 3


class Silence:
    def info(self, event: str, **facts: object) -> None:
        pass

    def warning(self, event: str, **facts: object) -> None:
        pass


def spec(*argv: str, ports: tuple[int, ...] = (), name: str = "worker") -> ChildSpec:
    return ChildSpec(name, argv, ENV, ready=lambda: False, ports=ports)


def test_what_never_comes_up_ends_the_start(tmp_path: Path):
    supervisor = Supervisor(
        [spec("sh", "-c", "echo broken; exit 3"), spec("sleep", "600", name="other")],
        LogFiles(tmp_path),
        Silence(),
        patience=Patience(first_s=0.01, start_tries=2),
    )
    before = signal.getsignal(signal.SIGTERM)
    others = set(psutil.Process().children())  # of tests before: multiprocessing keeps a tracker
    with pytest.raises(ProgramFailed, match=r"worker ended 2 times .*status 3.*worker\.log"):
        supervisor.run()
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / "worker.log").read_text() == "broken\n" * 2
    assert not set(psutil.Process().children()) - others


def test_a_slow_start_is_tried_again(tmp_path: Path):
    slow = ChildSpec("worker", ("sleep", "600"), ENV, ready=lambda: False, start_timeout_s=0.2)
    patience = Patience(first_s=0.01, start_tries=2)
    with pytest.raises(ProgramFailed, match="2 times"):
        Supervisor([slow], LogFiles(tmp_path), Silence(), patience=patience).run()


def test_a_program_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(MissingProgram, match="worker"):
        Supervisor([spec("/no/such/program")], LogFiles(tmp_path), Silence()).run()


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        supervisor = Supervisor(
            [spec("touch", str(tmp_path / "started"), ports=(port,))], LogFiles(tmp_path), Silence()
        )
        with pytest.raises(PortTaken, match=str(port)):
            supervisor.run()
    assert not (tmp_path / "started").exists()
    check_ports([spec("true", ports=(port,))])


def test_two_children_cannot_share_a_port():
    with pytest.raises(PortTaken, match="front and worker"):
        check_ports(
            [
                spec("true", ports=(50999,), name="worker"),
                spec("true", ports=(50999,), name="front"),
            ]
        )


def test_pauses_grow_up_to_a_limit():
    patience = Patience(first_s=1, longest_s=10)
    assert [patience.pause_s(deaths) for deaths in (1, 2, 3, 4, 5, 1000)] == [1, 2, 4, 8, 10, 10]
