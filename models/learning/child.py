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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom.errors import DiskFull, Preempted, RadloopError
from models.learning.orders import (
    DONE,
    FAILED,
    BundleOrder,
    Failure,
    MeasureOrder,
    Order,
    PackOrder,
    TrainOrder,
    read_order,
    write_whole,
)

if TYPE_CHECKING:  # loaded late: who is killed at once need not have waited for it
    import torch

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
    end_with(options.owner)
    _step_back()
    folder: Path = options.folder
    with _lock_of(folder).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # never two at once on one machine; gone with us
        order = read_order(folder)
        if isinstance(order, TrainOrder) and order.processes > 1:
            os.set_inheritable(lock.fileno(), True)
            _become_torchrun(folder, order)
        carry_out_or_say(folder)


def _lock_of(folder: Path) -> Path:
    """Return what all children of a node hold, one at a time, however deep their folders lie."""
    known = (above / LOCK for above in folder.parents)
    return next((path for path in known if path.is_file()), folder.parent / LOCK)


def carry_out_or_say(folder: Path, interrupted: Callable[[], bool] | None = None) -> None:
    """Do what a folder's order says, or write down the coded error that stands against it."""
    try:
        carry_out(folder, interrupted)
    except Preempted:
        raise  # nothing stands against it: it goes on later
    except RadloopError as error:
        _say(folder, error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(folder, DiskFull("no room left for what is learnt"))


def _say(folder: Path, error: RadloopError) -> None:
    failure = Failure(code=error.code, message=error.message)
    write_whole(folder / FAILED, failure.model_dump_json())


def _become_torchrun(folder: Path, order: TrainOrder) -> None:
    """Become the process that starts the ranks and ends them all when one ends.

    What was set for this process (its end with the owner, its place behind all others) stays. The
    ranks share the cores: torchrun itself would leave one to each, or all of them to all.
    """
    cores = len(os.sched_getaffinity(0))
    threads = order.threads or max(1, cores // order.processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={order.processes}"]
    words += ["-m", "models.learning.rank", str(folder)]
    os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - our own interpreter


def carry_out(folder: Path, interrupted: Callable[[], bool] | None = None) -> None:
    """Do what a folder's order says, and write `done.json` last.

    Raises
    ------
    RadloopError
        What learning or measuring refuses.
    """
    said = _said(folder, read_order(folder), interrupted)
    if said is not None:
        write_whole(folder / DONE, said)


def _said(folder: Path, order: Order, interrupted: Callable[[], bool] | None) -> str | None:
    from models.building import device_of
    from models.learning.ranks import joined

    if isinstance(order, PackOrder):
        return _pack(order)
    if isinstance(order, BundleOrder):
        return _bundle(order)
    if isinstance(order, MeasureOrder):
        return _measure(folder, order)
    with joined(device_of(order.device)) as (device, is_first):
        said = _train(folder, order, device, is_first=is_first, interrupted=interrupted)
    return said if is_first else None


def _pack(order: PackOrder) -> str:
    """Pack; return the hash of what was packed."""
    from models.learning.packing import pack

    return pack(order)


def _bundle(order: BundleOrder) -> str:
    """Write the bundle of a training's best epoch so far; return its identity."""
    from models.learning.bundling import Title, write_bundle
    from models.learning.cases import read_dataset
    from models.learning.trainer import trained_so_far

    identity = f"{order.name}@{order.version}"
    if not (order.bundles / identity).exists():  # else written by a try that was ended then
        done = trained_so_far(order.run, order.plan)
        title = Title(order.name, order.version, description=order.description)
        write_bundle(order.bundles, done, read_dataset(order.dataset).dataset, title)
    return identity


def _train(
    folder: Path,
    order: TrainOrder,
    device: torch.device,
    *,
    is_first: bool,
    interrupted: Callable[[], bool] | None,
) -> str:
    """Learn, write the bundle; return its identity."""
    import torch

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
        device=device,
        start_from=start_from,
        minutes=order.minutes,
        workers=1,
        interrupted=interrupted,
    )
    title = Title(order.name, order.version, description=order.description)
    identity = f"{order.name}@{order.version}"
    bundles = order.bundles
    if (
        is_first and bundles is not None and not (bundles / identity).exists()
    ):  # else written by a try that was ended then
        write_bundle(bundles, done, data.dataset, title)
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


def end_with(owner: int) -> None:
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
