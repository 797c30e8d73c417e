"""Whether a plan can be carried out on a device at all: said before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom.errors import InvalidPlan
from models.learning.planning import Plan, trace_plan
from models.learning.room import machine_bytes

if TYPE_CHECKING:
    import torch


def check_memory(plan: Plan, device: torch.device, *, ranks: int = 1) -> None:
    """Refuse a plan whose step needs more memory than the device has, were all of it free.

    A system that runs out of memory kills a process without a word; this is the word.

    Parameters
    ----------
    plan : Plan
    device : device
    ranks : int
        How many share the batch.

    Raises
    ------
    InvalidPlan
    """
    has = machine_bytes() if device.type == "cpu" else _bytes_of(device)
    needs = least_bytes(plan) // ranks
    if has is not None and needs > has:
        sides = " x ".join(map(str, plan.patch))
        raise InvalidPlan(
            f"patch: a step with {plan.batch} of {sides} voxels needs more than "
            f"{needs / 2**30:.1f} GiB, and {device} has {has / 2**30:.1f} GiB: take a smaller "
            "patch or batch, or fewer channels"
        )


def least_bytes(plan: Plan) -> int:
    """Return the least memory that a step can do with: half precision keeps half of the maps."""
    return trace_plan(plan).step_bytes // (2 if plan.precision == "mixed" else 1)


def _bytes_of(device: torch.device) -> int | None:
    """Return the memory of a GPU; None of another kind of device."""
    import torch  # late: the front plans, too, and has no use for it

    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)
