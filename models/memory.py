"""Lack of memory, told as such: torch and MONAI report it in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
