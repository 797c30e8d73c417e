"""When the node may learn by itself: quiet hours, and rules by the clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dicom.errors import InvalidSettings

_HOURS: Final = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_FIELDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_SUNDAY: Final = 7
_AHEAD: Final = timedelta(days=8 * 366)  # the 29th of February comes once in eight years at least


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A span of every day, in the machine's own time; empty: the whole day.

    Parameters
    ----------
    text : str
        ``22:00-06:00``, its end not included.
    """

    text: str = ""

    def __post_init__(self) -> None:
        if self.text:
            self._ends()

    def hold(self, now: datetime) -> bool:
        """Return whether `now` lies within."""
        if not self.text:
            return True
        begin, end = self._ends()
        local = now.astimezone()
        minute = local.hour * 60 + local.minute
        return begin <= minute < end if begin <= end else minute >= begin or minute < end

    def _ends(self) -> tuple[int, int]:
        found = _HOURS.fullmatch(self.text)
        if found is None:
            raise InvalidSettings(f"quiet hours are written 22:00-06:00, not {self.text!r}")
        h1, m1, h2, m2 = (int(part) for part in found.groups())
        if max(h1, h2) > 23 or max(m1, m2) > 59 or (h1, m1) == (h2, m2):
            raise InvalidSettings(f"{self.text!r} is no span of a day")
        return h1 * 60 + m1, h2 * 60 + m2


@dataclass(frozen=True, slots=True)
class Clock:
    """Minutes by cron's five fields: minute, hour, day of month, month, day of week (0 and 7: Sun).

    Each is ``*``, numbers, ranges, lists, steps: ``*/15``, ``1-5``, ``0,30``. Where both days are
    given, either will do, as cron has it.
    """

    text: str

    def __post_init__(self) -> None:
        self._fields()

    def due(self, since: datetime, now: datetime) -> bool:
        """Return whether a minute that it names began after `since`, and up to `now`."""
        following = self.after(since)
        return following is not None and following <= now

    def after(self, since: datetime) -> datetime | None:
        """Return the first minute after `since`; None where none ever comes."""
        minutes, hours, days, months, weekdays = self._fields()
        any_day, any_weekday = (len(found) == full for found, full in ((days, 31), (weekdays, 7)))
        at = since.astimezone().replace(second=0, microsecond=0) + timedelta(minutes=1)
        last = at + _AHEAD
        while at < last:
            by_day, by_weekday = at.day in days, at.isoweekday() % _SUNDAY in weekdays
            fits = by_day and by_weekday if any_day or any_weekday else by_day or by_weekday
            if at.month not in months or not fits:
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif at.hour not in hours:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in minutes:
                at += timedelta(minutes=1)
            else:
                return at
        return None

    def _fields(self) -> tuple[frozenset[int], ...]:
        words = self.text.split()
        if len(words) != len(_FIELDS):
            raise InvalidSettings(f"cron has five fields, {self.text!r} has {len(words)}")
        found = [
            self._numbers(word, low, high) for word, (low, high) in zip(words, _FIELDS, strict=True)
        ]
        found[4] = frozenset(day % _SUNDAY for day in found[4])
        return tuple(found)

    def _numbers(self, word: str, low: int, high: int) -> frozenset[int]:
        numbers: set[int] = set()
        for part in word.split(","):
            match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
            if match is None:
                raise InvalidSettings(f"{part!r} of cron {self.text!r} is no number, range or step")
            first, last, step = match.groups()
            begin = low if first is None else int(first)
            end = high if first is None or (last is None and step) else int(last or first)
            if not low <= begin <= end <= high or step == "0":
                raise InvalidSettings(f"{part!r} of cron {self.text!r} lies outside {low}-{high}")
            numbers.update(range(begin, end + 1, int(step or 1)))
        return frozenset(numbers)
