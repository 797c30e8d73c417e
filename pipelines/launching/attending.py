"""A child at work: started, stopped while something urgent runs, ended when it shall end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from dicom.errors import TrainerDied, error_of
from models.learning.orders import (
    DONE,
    FAILED,
    LAST,
    Failure,
    Order,
    TrainOrder,
    read_order,
    write_order,
)
from pipelines.launching.launcher import Attended, Ending, Place, Watch

log = structlog.get_logger()

_LOOK_S: Final = 0.2
_TRIES: Final = 3
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_PREFIXES: Final = ("CUDA", "NVIDIA", "LC_")
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Local:
    """Learning on this machine.

    Attributes
    ----------
    log_file : Path
        Gets what the child prints.
    """

    log_file: Path

    def learn(self, folder: Path, order: TrainOrder, watch: Watch) -> Attended:
        """Learn here; see :class:`pipelines.launching.launcher.Launcher`."""
        return attend(folder, order, watch, log_file=self.log_file)


def attend(folder: Path, order: Order, watch: Watch, *, log_file: Path) -> Attended:
    """Run the child over a folder until it is done.

    One that dies is started again and goes on from its checkpoint, thrice without getting further.

    Parameters
    ----------
    folder : Path
        Its own; what lies there is gone on with, where it is of the same order.
    watch : Watch
        While something is urgent the child is stopped, by SIGSTOP.

    Raises
    ------
    TrainerDied
        When it was ended from outside again and again.
    RadloopError
        What the child refused.
    """
    if not _goes_on(folder, order):
        write_order(folder, order)
    used_s, died, mark = 0.0, 0, _mark(folder)
    while not (folder / DONE).exists():
        (folder / FAILED).unlink(missing_ok=True)
        child = _started(folder, log_file)
        why, used_s = _watched(child, watch, used_s)
        if why is not None:
            return Attended(None, why, used_s)
        if (folder / FAILED).exists():
            failure = Failure.model_validate_json((folder / FAILED).read_bytes())
            raise error_of(failure.code, failure.message)
        if child.returncode != 0:
            log.warning("trainer_died", returncode=child.returncode)
            died = died + 1 if _mark(folder) == mark else 1
            mark = _mark(folder)
            if died >= _TRIES:
                raise TrainerDied(f"the process ended {died} times without getting any further")
    return Attended((folder / DONE).read_text(encoding="utf-8"), None, used_s)


def _watched(
    child: subprocess.Popen[bytes], watch: Watch, used_s: float
) -> tuple[Ending | None, float]:
    """Look at the child until it ends; return why it was ended, and the seconds used by then."""
    stopped, at = False, time.monotonic()
    try:
        while child.poll() is None:
            now = time.monotonic()
            used_s += 0.0 if stopped else now - at
            at = now
            if stopped is not watch.is_urgent():
                stopped = not stopped
                _signal_all(child.pid, signal.SIGSTOP if stopped else signal.SIGCONT)
                log.info("trainer_stopped" if stopped else "trainer_goes_on")
            watch.looked(stopped, Place())
            why = watch.ending(used_s)
            if why is not None:
                return why, used_s
            _wait(child, _LOOK_S)
    finally:
        if child.poll() is None:
            child.kill()  # reaches a stopped process, too
            child.wait()
    return None, used_s


def _signal_all(pid: int, number: signal.Signals) -> None:
    """Signal a process and the ranks that it has started."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended meanwhile
            for child in task.read_text(encoding="ascii").split():
                _signal_all(int(child), number)
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _started(folder: Path, log_file: Path) -> subprocess.Popen[bytes]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_PREFIXES)
    }
    kept |= {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "models.learning", "--owner", str(os.getpid()), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=kept,
            cwd=_ROOT,
        )


def _goes_on(folder: Path, order: Order) -> bool:
    """Return whether the folder holds that very order."""
    try:
        return read_order(folder) == order
    except (FileNotFoundError, ValueError):
        return False


def _mark(folder: Path) -> int:
    """Return what changes whenever the child has got further."""
    try:
        return (folder / LAST).stat().st_mtime_ns
    except FileNotFoundError:
        return 0
