"""Where a training can learn: the protocol that this machine and a cluster both keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from models.learning.orders import TrainOrder

Ending = Literal["canceled", "outside_hours", "out_of_time"]
"""Why a child is ended before it is done."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training is, in words of the one who runs it.

    Attributes
    ----------
    where : str
        Empty for this machine.
    doing : str
        What happens there, such as ``sending 40 %`` or Slurm's ``PENDING``.
    job : str
        Slurm's id.
    reason : str
        Why it waits.
    """

    where: str = ""
    doing: str = ""
    job: str = ""
    reason: str = ""

    def __str__(self) -> str:
        words = [self.where, f"job {self.job}" if self.job else "", self.doing]
        said = ", ".join(word for word in words if word)
        return f"{said} ({self.reason})" if self.reason else said


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on.

    Attributes
    ----------
    is_urgent : callable
        Whether something waits that must not: what runs here is stopped meanwhile.
    ending : callable
        Given the seconds that it learnt, says whether and why it shall end.
    looked : callable
        Called at each look, with whether it is stopped, and where it is.
    """

    is_urgent: Callable[[], bool]
    ending: Callable[[float], Ending | None]
    looked: Callable[[bool, Place], None]


@dataclass(frozen=True, slots=True)
class Attended:
    """How a training ended: what it said, or why it was ended; and the seconds that it ran."""

    said: str | None
    ending: Ending | None
    used_s: float


class Launcher(Protocol):
    """Carries a training out, and goes on with one that a restart has cut off."""

    def learn(self, folder: Path, order: TrainOrder, watch: Watch) -> Attended:
        """Learn until it is done, or ended; what lies in the folder is gone on with.

        Raises
        ------
        RadloopError
            What learning refuses, or the place where it happens.
        """
        ...
