"""Lack of memory, told as such: torch and MONAI report it in several ways; and what is free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from dicom.errors import OutOfMemory


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn each way in which torch and MONAI report lack of memory into :class:`OutOfMemory`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory("the prediction needs more memory than is free") from error


def is_memory_error(error: BaseException) -> bool:
    """Return whether `error`, or what it was raised from, is lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError | torch.OutOfMemoryError):
            return True
        # torch's allocator on the CPU has no class of its own
        if isinstance(cause, RuntimeError) and "DefaultCPUAllocator" in str(cause):
            return True
        cause = cause.__cause__
    return False


def is_lost_device(error: RuntimeError) -> bool:
    """Return whether a GPU, or its driver, has gone away under us.

    CUDA's errors stick to the process: only a new one can use the GPU, or another, again.
    """
    said = str(error)
    return said.startswith("CUDA error") and "device-side assert" not in said  # that is our bug


def held_bytes() -> int:
    """Return what this process holds of the machine's memory; 0 where that is not told."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_bytes() -> int | None:
    """Return what may still be taken, of the machine and of this container; None: not told."""
    free: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free += [int(each.split()[1]) * 1024 for each in lines if each.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # control groups, version 2; "max" is no limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text("ascii"))
        free.append(limit - int((group / "memory.current").read_text("ascii")))
    return min(free, default=None)
