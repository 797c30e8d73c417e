"""What trainings may use: devices, hours, minutes a day, other machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicom.errors import InvalidSettings
from pipelines.launching import Launcher, Local
from pipelines.learning.hours import QuietHours
from pipelines.learning.tracking import Tracker
from pipelines.store import LauncherName


@dataclass(frozen=True, slots=True)
class Means:
    """What a training may use.

    Attributes
    ----------
    quiet : QuietHours
        Trainings that nobody asked for at once run then alone.
    minutes_a_day : float
        Within 24 hours, of trainings that rules ask for, or that people put off to quiet hours; 0:
        as many as they take.
    device : str
        Where it learns.
    threads : int or None
        CPU threads of the child; None for as many as torch chooses.
    processes : int
        That learn side by side on this machine, on a GPU each.
    logs : Path
        The folder of the child's output.
    elsewhere : mapping
        What learns on other machines, by its name.
    tracker : Tracker or None
        Gets the curves, too.
    """

    logs: Path
    quiet: QuietHours = field(default_factory=QuietHours)
    minutes_a_day: float = 0.0
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    elsewhere: Mapping[LauncherName, Launcher] = field(default_factory=dict)
    tracker: Tracker | None = None

    @property
    def log_file(self) -> Path:
        """Gets what children print."""
        return self.logs / "trainer.log"

    def device_for(self, wanted: str) -> str:
        """Return where a training learns that asks for a device, or for ``auto``."""
        return wanted if wanted != "auto" else self.device

    def launcher(self, name: LauncherName) -> Launcher:
        """Return what carries trainings out that shall learn there.

        Raises
        ------
        InvalidSettings
            When the settings no longer name such a place.
        """
        if name == "local":
            return Local(self.log_file)
        try:
            return self.elsewhere[name]
        except KeyError:
            raise InvalidSettings(
                f"the training shall learn on {name}, and [training.{name}] is not set"
            ) from None
