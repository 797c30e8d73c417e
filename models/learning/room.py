"""How much memory the device has that a training is planned for."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom.errors import MissingDevice

_DRIVERS: Final = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # Linux; Linux within Windows
_SHARE_OF_GPU: Final = 0.8  # the rest is the driver's, and PyTorch's own
_MOST_ON_GPU: Final = 10 << 30  # more context than nnU-Net's usual 8 GB seldom pays
_SHARE_OF_MACHINE: Final = 0.25
_MOST_ON_PROCESSOR: Final = 2 << 30  # a larger patch would only be slower


@dataclass(frozen=True, slots=True)
class Room:
    """What a step of a training may take, and of what.

    Attributes
    ----------
    memory_bytes : int
    where : str
        In words.
    is_gpu : bool
        Whether more at once is quicker, too.
    """

    memory_bytes: int = _MOST_ON_PROCESSOR
    where: str = "a processor"
    is_gpu: bool = False


def room_on(wish: str = "auto") -> Room:
    """Return the room on the device that 'auto', 'cpu', 'cuda' or 'cuda:1' means.

    Of a GPU that is not here, as of one at a cluster, nothing is known: a processor's it is then.
    """
    gpu = None if wish == "cpu" else _gpu_bytes(wish)
    if gpu is not None:
        return Room(min(_MOST_ON_GPU, int(gpu * _SHARE_OF_GPU)), "the GPU", is_gpu=True)
    whole = machine_bytes() or 4 * _MOST_ON_PROCESSOR
    return Room(min(_MOST_ON_PROCESSOR, int(whole * _SHARE_OF_MACHINE)))


def machine_bytes() -> int | None:
    """Return the memory that this machine, and this container, has in all; None: not told."""
    whole: list[int] = []
    with suppress(OSError, ValueError):
        whole.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # control groups, version 2; "max" is no limit
        whole.append(int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return min(whole, default=None)


def _gpu_bytes(wish: str) -> int | None:
    """Return the memory of a GPU of this machine; None where it is not here."""
    if not any(path.exists() for path in _DRIVERS):
        return None  # the front plans, too: without a GPU it needs no PyTorch for that
    import torch

    from models.building import device_of

    try:
        device = device_of(wish)
    except MissingDevice:
        return None  # who asks for the training is told
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)
