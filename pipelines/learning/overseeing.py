"""A training overseen while its child is at work: what people see of it, and when it shall end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dicom.errors import Canceled, OutsideBudget
from models.learning.orders import CURVE
from pipelines.launching import Attended, Ending, Place, Watch
from pipelines.learning.means import Means
from pipelines.learning.school import School
from pipelines.store import EpochView, TrainingStep, TrainingView

_SLACK: Final = 1.5  # of the minutes that were given, before it is ended
_GRACE_S: Final = 300.0  # for loading, the last validation, writing
_TELL_S: Final = 1.0
_DAY: Final = timedelta(days=1)


class Overseer:
    """Who looks on at trainings.

    Parameters
    ----------
    school : School
    means : Means
    is_urgent : callable
        Whether a task waits or runs that a training must not delay.
    """

    def __init__(self, school: School, means: Means, *, is_urgent: Callable[[], bool]) -> None:
        self._school = school
        self._means = means
        self._is_urgent = is_urgent

    def may_begin(self, now: datetime) -> bool:
        """Return whether trainings may begin that nobody asked for at once."""
        return self._means.quiet.hold(now) and not self._is_spent(now)

    def over_learning(self, training: TrainingView, folder: Path) -> Watch:
        """Return who shows its curve, and ends it when hours or minutes are over."""

        def tells() -> None:
            self.keep_curve(training, folder)

        return Watch(
            is_urgent=self._is_urgent,
            ending=lambda used_s: self._ending(training, used_s),
            looked=self._looked(training, does="learning", tells=tells),
        )

    def over_measuring(self, training: TrainingView) -> Watch:
        """Return who ends a measurement that a person calls off."""
        return Watch(
            is_urgent=self._is_urgent,
            ending=lambda _used_s: self._called_off(training),
            looked=self._looked(training, does="measuring"),
        )

    def over_bundling(self, training: TrainingView) -> Watch:
        """Return who ends what takes seconds: only a person can."""
        return Watch(
            is_urgent=self._is_urgent,
            ending=lambda _used_s: self._called_off(training),
            looked=lambda _stopped, _place: None,
        )

    def keep_curve(self, training: TrainingView, folder: Path) -> None:
        """Copy the epochs that the child has written into rows."""
        epochs = read_epochs(folder)
        steps = int(training.plan["steps"])
        progress = min(1.0, epochs[-1].step / steps) if epochs else 0.0
        self._school.trainings.keep_epochs(training.id, epochs, progress=progress)
        if self._means.tracker is not None:
            self._means.tracker.note(training, epochs)

    def _looked(
        self,
        training: TrainingView,
        *,
        does: TrainingStep,
        tells: Callable[[], None] | None = None,
    ) -> Callable[[bool, Place], None]:
        """Return who lets place and pauses be seen, and tells of the rest now and then."""
        told_at = datetime.min.replace(tzinfo=UTC)
        paused, seen = False, training.place

        def looked(stopped: bool, place: Place) -> None:
            nonlocal told_at, paused, seen
            now = datetime.now(UTC)
            if str(place) != seen:
                seen = str(place)
                self._school.trainings.stands(training.id, seen)
            if stopped is not paused:
                paused = stopped
                self._school.trainings.doing(training.id, "paused" if stopped else does)
            if tells is not None and now - told_at >= timedelta(seconds=_TELL_S):
                told_at = now
                tells()

        return looked

    def _ending(self, training: TrainingView, used_s: float) -> Ending | None:
        if self._called_off(training):
            return "canceled"
        now = datetime.now(UTC)
        may = training.at_once or (self._means.quiet.hold(now) and not self._is_spent(now, used_s))
        if not may:
            return "outside_hours"
        if training.minutes is not None:
            most_s = training.minutes * 60 * _SLACK + _GRACE_S
            if training.used_s + used_s > most_s:
                return "out_of_time"
        return None

    def _called_off(self, training: TrainingView) -> Ending | None:
        """Return whether a person called it off; what takes seconds is not ended for the time."""
        return "canceled" if self._school.trainings.is_cancel_requested(training.id) else None

    def _is_spent(self, now: datetime, used_s: float = 0.0) -> bool:
        """Return whether the day's minutes are used up, with the seconds that are not noted yet."""
        if not self._means.minutes_a_day:
            return False
        used_s += self._school.trainings.used_since(now - _DAY)
        return used_s >= self._means.minutes_a_day * 60


def read_epochs(folder: Path) -> tuple[EpochView, ...]:
    """Return the epochs that a training child has written; none where it has not got that far."""
    try:
        lines = (folder / CURVE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    found = (json.loads(line) for line in lines)
    return tuple(
        EpochView(
            number=one["number"],
            step=one["step"],
            loss=one["loss"],
            score=0.0 if math.isnan(one["scores"]["mean"]) else one["scores"]["mean"],
            classes=one["scores"]["classes"],
            rate=one["rate"],
            seconds=one["seconds"],
            waited_s=one["waited_s"],
        )
        for one in found
    )


def refuse_ended(attended: Attended) -> None:
    """Go on only where a child has come to its end.

    Raises
    ------
    Canceled, OutsideBudget
    """
    if attended.ending == "canceled":
        raise Canceled("canceled by a person")
    if attended.ending is not None:
        raise OutsideBudget("the training took half as long again as it was given, and was ended")
