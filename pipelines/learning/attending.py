"""A child at work: started, stopped while something urgent runs, ended when it shall end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog

from dicom.errors import TrainerDied, error_of
from models.learning.orders import (
    DONE,
    FAILED,
    LAST,
    Failure,
    MeasureOrder,
    TrainOrder,
    read_order,
    write_order,
)

log = structlog.get_logger()

Ending = Literal["canceled", "outside_hours", "out_of_time"]
"""Why a child is ended before it is done."""

_LOOK_S: Final = 0.2
_TRIES: Final = 3
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_PREFIXES: Final = ("CUDA", "NVIDIA", "LC_")
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Attended:
    """How a child ended: what it said, or why it was ended; and the seconds that it ran."""

    said: str | None
    ending: Ending | None
    used_s: float


def attend(
    folder: Path,
    order: TrainOrder | MeasureOrder,
    *,
    is_urgent: Callable[[], bool],
    ending: Callable[[float], Ending | None],
    looked: Callable[[bool], None],
    log_file: Path,
) -> Attended:
    """Run the child over a folder until it is done.

    One that dies is started again and goes on from its checkpoint, thrice without getting further.

    Parameters
    ----------
    folder : Path
        Its own; what lies there is gone on with, where it is of the same order.
    is_urgent : callable
        Whether something is waiting that must not: the child is stopped meanwhile, by SIGSTOP.
    ending : callable
        Given the seconds that it ran, says whether and why it shall end.
    looked : callable
        Called at each look, with whether the child is stopped.

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
        why, used_s = _watched(child, is_urgent, ending, looked, used_s)
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
    child: subprocess.Popen[bytes],
    is_urgent: Callable[[], bool],
    ending: Callable[[float], Ending | None],
    looked: Callable[[bool], None],
    used_s: float,
) -> tuple[Ending | None, float]:
    """Look at the child until it ends; return why it was ended, and the seconds used by then."""
    stopped, at = False, time.monotonic()
    try:
        while child.poll() is None:
            now = time.monotonic()
            used_s += 0.0 if stopped else now - at
            at = now
            if stopped is not is_urgent():
                stopped = not stopped
                child.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)
                log.info("trainer_stopped" if stopped else "trainer_goes_on")
            looked(stopped)
            why = ending(used_s)
            if why is not None:
                return why, used_s
            _wait(child, _LOOK_S)
    finally:
        if child.poll() is None:
            child.kill()  # reaches a stopped process, too
            child.wait()
    return None, used_s


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


def _goes_on(folder: Path, order: TrainOrder | MeasureOrder) -> bool:
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
