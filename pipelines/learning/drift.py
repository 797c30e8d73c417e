"""Drift: whether a model is shown what it was shown, and answers as it did.

The last results are held against those before them, model by model; the readers' effort and the
grey values also scanner by scanner, and the grey values against the images that were learnt from.
An alarm says what differs; it decides nothing.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from dicom.errors import PeerError
from models.greys import Taught
from pipelines.store import Alarms, AlarmView
from pipelines.store.alarms import AlarmKind
from pipelines.store.observed import Observations, Observed

log = structlog.get_logger()

_BACK: Final = timedelta(days=90)
_RECENT: Final = 20  # results
_FEWEST_BEFORE: Final = 20
_FEWEST_EFFORTS: Final = 5
_SPREADS: Final = 3.0  # of the median's own spread before
_MORE_EFFORT: Final = 1.5
_MORE_EMPTY: Final = 0.2
_ODD: Final = 0.3
_FEWEST_GREYS: Final = 5
_MORE_UNLIKE: Final = 2.0  # times what is usual
_NUMBERS: Final = ("spacing_mm", "slice_count")
_MAD_TO_SD: Final = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was; `scanner` is empty for all of them."""

    kind: AlarmKind
    bundle: str
    message: str
    scanner: str = ""


def find_drift(seen: Iterable[Observed]) -> list[Finding]:
    """Return what differs between the last 20 results of each model and those before.

    Parameters
    ----------
    seen : iterable of Observed
        The oldest first.
    """
    by_model: dict[str, list[Observed]] = defaultdict(list)
    for one in seen:
        by_model[one.bundle].append(one)
    found: list[Finding] = []
    for bundle, results in by_model.items():
        before, recent = results[:-_RECENT], results[-_RECENT:]
        if len(before) < _FEWEST_BEFORE:
            continue
        found += _inputs(bundle, before, recent)
        found += _greys(bundle, before, recent, "")
        found += _empty(bundle, before, recent)
        found += _odd(bundle, before, recent)
        found += _effort(bundle, before, recent, "")
        for scanner in sorted({_scanner(one) for one in recent} - {""}):
            parts = [[one for one in side if _scanner(one) == scanner] for side in (before, recent)]
            found += _effort(bundle, parts[0], parts[1], scanner)
            if not any(one.kind == "greys" for one in found if one.bundle == bundle):
                found += _greys(bundle, parts[0], parts[1], scanner)
    return found


def _inputs(bundle: str, before: Sequence[Observed], recent: Sequence[Observed]) -> list[Finding]:
    found = []
    for name in _NUMBERS:
        was, now = (_numbers(side, name) for side in (before, recent))
        if len(was) < _FEWEST_BEFORE or len(now) < _RECENT // 2:
            continue
        middle, spread = statistics.median(was), _spread(was)
        if abs(statistics.median(now) - middle) > _SPREADS * max(spread, 0.1 * abs(middle)):
            said = f"{name} of the images is {statistics.median(now):g}, and was {middle:g}"
            found.append(Finding("input", bundle, said))
    known = {_scanner(one) for one in before}
    counts = [_scanner(one) for one in recent]
    for scanner in sorted(set(counts) - known - {""}):
        if counts.count(scanner) >= _FEWEST_EFFORTS:
            said = f"{counts.count(scanner)} of {len(recent)} series are from a new scanner"
            found.append(Finding("input", bundle, said, scanner))
    return found


def _greys(
    bundle: str, before: Sequence[Observed], recent: Sequence[Observed], scanner: str
) -> list[Finding]:
    """Hold grey values against the training's where the model says them, else against earlier."""
    now = [one.greys for one in recent if one.greys is not None]
    if len(now) < _FEWEST_GREYS:
        return []
    last = now[-1]
    if last.unlike is not None and last.usual is not None:
        far = statistics.median(one.unlike for one in now if one.unlike is not None)
        if far <= _MORE_UNLIKE * last.usual:
            return []
        said = f"grey values lie {far:.0%} off those it learnt from, and {last.usual:.0%} is usual"
        return [Finding("greys", bundle, said, scanner)]
    was = [one.greys.percentiles for one in before if one.greys is not None]
    if len(was) < _FEWEST_BEFORE:
        return []
    earlier = Taught.of(was)
    far = statistics.median(earlier.unlikeness(one.percentiles) for one in now)
    if far <= _MORE_UNLIKE * earlier.usual:
        return []
    said = f"grey values lie {far:.0%} off those before, and {earlier.usual:.0%} was usual"
    return [Finding("greys", bundle, said, scanner)]


def _empty(bundle: str, before: Sequence[Observed], recent: Sequence[Observed]) -> list[Finding]:
    was, now = (
        sum(not any(one.amounts.values()) for one in side) / len(side) for side in (before, recent)
    )
    if now <= was + _MORE_EMPTY:
        return []
    return [Finding("empty", bundle, f"{now:.0%} of the results are empty, and {was:.0%} were")]


def _odd(bundle: str, before: Sequence[Observed], recent: Sequence[Observed]) -> Iterator[Finding]:
    """Say which amounts lie outside of nearly all that were found before."""
    for label in sorted({name for one in recent for name in one.amounts}):
        was = sorted(one.amounts[label] for one in before if label in one.amounts)
        now = [one.amounts[label] for one in recent if label in one.amounts]
        if len(was) < _FEWEST_BEFORE or not now:
            continue
        low, high = was[len(was) // 50], was[-1 - len(was) // 50]
        odd = sum(not low <= value <= high for value in now) / len(now)
        if odd > _ODD:
            said = f"{odd:.0%} of the last results give {label} amounts that it hardly ever gave"
            yield Finding("odd", bundle, said)


def _effort(
    bundle: str, before: Sequence[Observed], recent: Sequence[Observed], scanner: str
) -> list[Finding]:
    was, now = (
        [one.added_path_mm for one in side if one.added_path_mm is not None]
        for side in (before, recent)
    )
    if min(len(was), len(now)) < _FEWEST_EFFORTS:
        return []
    old, new = statistics.median(was), statistics.median(now)
    if new <= _MORE_EFFORT * old or not new:
        return []
    said = f"readers draw {new:.0f} mm anew in a correction, and drew {old:.0f} mm"
    return [Finding("effort", bundle, said, scanner)]


def _numbers(side: Sequence[Observed], name: str) -> list[float]:
    values = (one.facts.get(name) for one in side)
    return [float(value) for value in values if value is not None]


def _spread(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return _MAD_TO_SD * statistics.median(abs(value - middle) for value in values)


def _scanner(one: Observed) -> str:
    return str(one.facts.get("manufacturer") or "")


class Lookout:
    """Looks for drift, raises alarms, and sees that people are told.

    Parameters
    ----------
    ways : mapping of str to callable
        How people are told of an alarm; each way once.
    """

    def __init__(
        self,
        observations: Observations,
        alarms: Alarms,
        ways: Mapping[str, Callable[[AlarmView], None]] | None = None,
    ) -> None:
        self._observations = observations
        self._alarms = alarms
        self._ways = ways or {}

    def look(self, now: datetime | None = None) -> list[AlarmView]:
        """Raise an alarm for whatever differs and is not open already; return the new ones."""
        since = (now or datetime.now(UTC)) - _BACK
        found = find_drift(self._observations.since(since))
        raised = [
            self._alarms.raise_alarm(
                one.kind, bundle=one.bundle, scanner=one.scanner, message=one.message
            )
            for one in found
        ]
        return [one for one in raised if one is not None]

    def tell(self) -> int:
        """Tell people of what they were not told of yet; return how many alarms all were told.

        A way that does not work holds no other up, and is tried again at the next call.
        """
        told, broken = 0, set()
        for alarm in self._alarms.untold():
            for name, tell in self._ways.items():
                if name in broken or name in alarm.told_by:
                    continue
                try:
                    tell(alarm)
                except PeerError as error:
                    log.warning("alarm_not_told", code=error.code, name=name)
                    broken.add(name)
                else:
                    self._alarms.told_by(alarm.id, name)
            if not broken - set(alarm.told_by):
                self._alarms.told(alarm.id)
                told += 1
        return told
