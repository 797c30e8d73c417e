"""The child of the learning loop: carries out one order, at the lowest priority."""

from __future__ import annotations

import argparse
import ctypes
import errno
import faulthandler
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Final

from dicom.errors import DiskFull, RadloopError
from models.learning.orders import (
    DONE,
    FAILED,
    Failure,
    MeasureOrder,
    TrainOrder,
    read_order,
    write_whole,
)

LOCK: Final = ".learning.lock"
_NICE: Final = 19
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main() -> None:
    """Carry out the order of a folder; exit code 0 also where a coded error was written down."""
    parser = argparse.ArgumentParser(prog="python -m models.learning", description=main.__doc__)
    parser.add_argument("--owner", type=int, required=True, help="process id of the owner")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the owner's to handle
    faulthandler.enable()
    _end_with(options.owner)
    _step_back()
    folder: Path = options.folder
    try:
        with (folder.parent / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # never two at once on one machine; gone with us
            carry_out(folder)
    except RadloopError as error:
        _say(folder, error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(folder, DiskFull("no room left for what is learnt"))


def _say(folder: Path, error: RadloopError) -> None:
    failure = Failure(code=error.code, message=error.message)
    write_whole(folder / FAILED, failure.model_dump_json())


def carry_out(folder: Path) -> None:
    """Do what a folder's order says, and write `done.json` last.

    Raises
    ------
    RadloopError
        What learning or measuring refuses.
    """
    order = read_order(folder)
    said = _train(folder, order) if isinstance(order, TrainOrder) else _measure(folder, order)
    write_whole(folder / DONE, said)


def _train(folder: Path, order: TrainOrder) -> str:
    """Learn, write the bundle; return its identity."""
    import torch

    from models.building import device_of
    from models.learning.bundling import Title, write_bundle
    from models.learning.cases import read_dataset
    from models.learning.graph import read_graph
    from models.learning.trainer import train

    if order.threads is not None:
        torch.set_num_threads(order.threads)
    data = read_dataset(order.dataset)
    start_from = None
    if order.start_from is not None:
        start_from = torch.load(order.start_from, map_location="cpu", weights_only=True)
    done = train(
        data,
        order.plan,
        folder,
        cache=order.cache,
        graph=None if order.graph is None else read_graph(order.graph),
        device=device_of(order.device),
        start_from=start_from,
        minutes=order.minutes,
        workers=1,
    )
    title = Title(order.name, order.version, description=order.description)
    identity = f"{order.name}@{order.version}"
    if not (order.bundles / identity).exists():  # else written by a try that was ended then
        write_bundle(order.bundles, done, data.dataset, title)
    return identity


def _measure(folder: Path, order: MeasureOrder) -> str:
    """Measure one bundle or two; return all figures as JSON."""
    import torch

    from models.learning.cases import read_dataset
    from models.learning.measuring import measure_both

    if order.threads is not None:
        torch.set_num_threads(order.threads)
    both = measure_both(read_dataset(order.dataset), order, pictures=folder)
    return both.model_dump_json(indent=1)


def _end_with(owner: int) -> None:
    """Let the kernel end this process with the owner's thread that waits for it.

    A process that was stopped cannot look for itself whether its owner is still there; SIGKILL
    reaches it nevertheless.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:
        sys.exit(1)


def _step_back() -> None:
    """Leave processor and memory to everything else on the machine."""
    os.nice(_NICE)
    try:
        Path("/proc/self/oom_score_adj").write_text("800")  # before the predictor
    except OSError:  # a container without /proc: the kernel's own choice stands
        return
