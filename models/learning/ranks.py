"""Several processes that learn as one: torchrun's ranks, on one machine or on many.

Each rank makes its share of every batch, and all of them take the same step. The loss is that of
the whole batch: Dice over half of a batch is not half of Dice over the batch. So ranks show each
other their answers (:func:`over_all_ranks`), and two of them learn what one would have learnt, but
for the order in which floats are added.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
from torch import distributed

_PATIENCE: Final = timedelta(hours=2)  # the others wait while the first prepares and validates

T = TypeVar("T")
Answers = torch.Tensor | Sequence[torch.Tensor]
"""Logits, shape (batch, channels, ...); several where a network answers on several grids."""


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[torch.device, bool]]:
    """Meet the other ranks where torchrun started this process.

    Yields
    ------
    tuple
        The device of this rank, and whether it is the first.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield device, True
        return
    mine = device
    if device.type == "cuda":
        mine = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(mine)
    backend = "nccl" if mine.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    yield mine, distributed.get_rank() == 0
    # Only after a good end: a rank that fails must end, and not wait here for one that is gone.
    distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """Return this process' rank, of how many."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def agreed(wishes: Sequence[bool], device: torch.device) -> list[bool]:
    """Return which of the wishes any rank has: all ranks get the same answer."""
    if place()[1] == 1:
        return list(wishes)
    heard = torch.tensor(wishes, dtype=torch.int32, device=device)
    distributed.all_reduce(heard, op=distributed.ReduceOp.MAX)
    return [bool(one) for one in heard.tolist()]


def by_the_first(make: Callable[[], T]) -> T:
    """Return what the first rank makes; the others do not make it."""
    rank, ranks = place()
    if ranks == 1:
        return make()
    told: list[tuple[T] | None] = [(make(),) if rank == 0 else None]
    distributed.broadcast_object_list(told, src=0)
    assert told[0] is not None  # the first has made it
    return told[0][0]


def over_all_ranks(
    loss: Callable[[Any, torch.Tensor], torch.Tensor], answers: Answers, targets: torch.Tensor
) -> torch.Tensor:
    """Return the loss over the batch of all ranks; its gradient flows into this rank's share.

    The gradients of all ranks, **added**, are those of the whole batch. DistributedDataParallel
    takes their mean: multiply by the number of ranks before going back.

    Parameters
    ----------
    loss : callable
        Gets answers of the whole batch as the network gave them, perhaps in half precision.
    """
    if place()[1] == 1:
        return loss(answers, targets)
    if isinstance(answers, torch.Tensor):
        return loss(_with_others(answers), _shown(targets))
    return loss([_with_others(one) for one in answers], _shown(targets))


def _with_others(mine: torch.Tensor) -> torch.Tensor:
    """Return all ranks' tensors along the batch; of them only this rank's carries a gradient."""
    rank, _ = place()
    share = len(mine)
    whole = _gathered(mine.detach())
    return torch.cat([whole[: rank * share], mine, whole[(rank + 1) * share :]])


def _shown(targets: torch.Tensor) -> torch.Tensor:
    """Return all ranks' targets; labels of voxels, which are 0 to 255, travel as bytes."""
    if targets.dtype == torch.int64 and targets.ndim > 1:
        return _gathered(targets.to(torch.uint8)).long()
    return _gathered(targets)


def _gathered(mine: torch.Tensor) -> torch.Tensor:
    """Return all ranks' tensors along the batch, as the bytes that they are."""
    _, ranks = place()
    mine = mine.contiguous()
    whole = mine.new_empty((ranks * len(mine), *mine.shape[1:]))
    distributed.all_gather_into_tensor(whole.view(torch.uint8), mine.view(torch.uint8))
    return whole
