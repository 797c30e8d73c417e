"""Rules of learning: which corrections become a dataset, and when the node learns by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dicom.errors import InvalidSettings
from pipelines.learning.hours import Clock
from pipelines.learning.promoting import Policy, Way
from pipelines.store import Verdict

Fusion = Literal["majority", "staple"]
"""How several readings of one series become one label."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Which corrections, and results that were accepted, become cases; all that is given must hold.

    Attributes
    ----------
    verdicts : tuple of str
        `modified`: what people drew; `accepted`: results of models that people found right.
    models : tuple of str
        The correction began with a result of one of these bundles, any version. Empty: any, also
        what was drawn from scratch.
    description : str
        A regular expression found in the cleaned SeriesDescription.
    modalities : tuple of str
        Of the images.
    since : datetime or None
        Stored since then.
    readers : tuple of str
        Drawn by one of them; empty: by anybody.
    workspaces : tuple of str
        The series was taken by one of these routes; empty: by any.
    studies, series : tuple of str
        Pseudonyms of what was picked by hand; empty: all.
    classes : mapping of str to str
        A segment's label to the class that it counts as; `-` leaves it out. Empty: as they are.
    fusion : str
        Of double readings.
    """

    verdicts: tuple[Verdict, ...] = ("accepted", "modified")
    models: tuple[str, ...] = ()
    description: str = ""
    modalities: tuple[str, ...] = ()
    since: datetime | None = None
    readers: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)
    fusion: Fusion = "staple"

    def __post_init__(self) -> None:
        try:
            re.compile(self.description)
        except re.error as error:
            raise InvalidSettings(
                f"{self.description!r} is no regular expression: {error}"
            ) from error
        if not self.verdicts or "rejected" in self.verdicts:
            raise InvalidSettings("cases are made of what was accepted or modified")

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Picked:
        """Return the rule that :meth:`as_json` wrote."""
        since = kept["since"]
        return cls(
            verdicts=tuple(kept["verdicts"]),
            models=tuple(kept["models"]),
            description=kept["description"],
            modalities=tuple(kept["modalities"]),
            since=None if since is None else datetime.fromisoformat(since),
            readers=tuple(kept["readers"]),
            workspaces=tuple(kept["workspaces"]),
            studies=tuple(kept["studies"]),
            series=tuple(kept.get("series", ())),
            classes=dict(kept["classes"]),
            fusion=kept["fusion"],
        )

    def as_json(self) -> Mapping[str, object]:
        """Return the rule as it is kept with the dataset."""
        return {
            "verdicts": list(self.verdicts),
            "models": list(self.models),
            "description": self.description,
            "modalities": list(self.modalities),
            "since": None if self.since is None else self.since.isoformat(),
            "readers": list(self.readers),
            "workspaces": list(self.workspaces),
            "studies": list(self.studies),
            "series": list(self.series),
            "classes": dict(self.classes),
            "fusion": self.fusion,
        }


@dataclass(frozen=True, slots=True)
class LearningRule:
    """When the node makes a dataset of corrections and learns from it; a `[[learning]]` table.

    Attributes
    ----------
    name : str
        How people and pages call it; the dataset is called so too.
    bundle : str
        The model that shall become better: new versions are made under its name.
    cron : str
        Minutes by cron's five fields, in the machine's own time.
    after : int
        Or as soon as so many corrections came in since the last time; 0: never by that.
    fewest : int
        Patients that a dataset has at least before anything is learnt.
    minutes : float
        About how long it may learn.
    steps : int
        How many steps it learns instead, however long they take; 0: as many as `minutes` hold.
    augment : str
        Name of a shipped augmentation graph, or a file; empty: none.
    from_current : bool
        Begin with the current version's weights, where that was made here.
    promote : str
        Who lets a better version become current: `policy`, `one` or `two` people.
    margin : float
        Of the policy: no subgroup's mean Dice may fall by more.
    fewest_patients : int
        Of the policy: so many are tested at least.
    verdicts : tuple of str
        `modified`: what people drew; `accepted`: results that they found right.
    description : str
        A regular expression found in the cleaned SeriesDescription.
    readers : tuple of str
        Drawn by one of them; empty: by anybody.
    classes : mapping of str to str
        A segment's label to the class that it counts as; `-` leaves it out.
    fusion : str
        Of double readings: `majority` or `staple`.
    """

    name: str
    bundle: str
    cron: str = ""
    after: int = 0
    fewest: int = 5
    minutes: float = 60.0
    steps: int = 0
    augment: str = ""
    from_current: bool = False
    promote: Way = "one"
    margin: float = 0.02
    fewest_patients: int = 5
    verdicts: tuple[Verdict, ...] = ("accepted", "modified")
    description: str = ""
    readers: tuple[str, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)
    fusion: Fusion = "staple"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", self.name):
            raise InvalidSettings(
                f"a rule of learning has small letters, digits, _ and -, not {self.name!r}"
            )
        if self.cron:
            Clock(self.cron)
        if not self.cron and self.after < 1:
            raise InvalidSettings(f"learning {self.name!r} says neither cron nor after: never")
        if self.minutes <= 0 or self.steps < 0 or self.margin < 0 or self.fewest < 1:
            raise InvalidSettings(f"learning {self.name!r} has a number that cannot be")
        _ = self.picked

    @property
    def picked(self) -> Picked:
        """Which corrections it learns from."""
        return Picked(
            verdicts=self.verdicts,
            models=(self.bundle,),
            description=self.description,
            readers=self.readers,
            classes=self.classes,
            fusion=self.fusion,
        )

    @property
    def changes(self) -> Mapping[str, int]:
        """Fields of the plan that it fixes."""
        if not self.steps:
            return {}
        return {"steps": self.steps, "steps_an_epoch": max(1, self.steps // 20)}

    @property
    def policy(self) -> Policy:
        """When its versions become current."""
        return Policy(self.promote, self.margin, self.fewest_patients)
