"""Dates and times as DICOM writes them (PS3.5 6.2), moved by whole days."""

from __future__ import annotations

import re
from datetime import date, timedelta

_DA = re.compile(r"(\d{4})(\d{2})(\d{2})", re.A)
_TM = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?", re.A)
_DT = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?([+-]\d{4})?", re.A)


def shifted(value: str, vr: str, shift: timedelta) -> str | None:
    """Return a DA, TM or DT value moved by whole days; None when it is malformed.

    A time of day stays: without its date it tells nothing that the shift could hide.
    """
    if not value:
        return ""
    if vr == "TM":
        return value if _TM.fullmatch(value) else None
    found = (_DA if vr == "DA" else _DT).fullmatch(value)
    if found is None:
        return None
    day = value[:8]
    try:
        moved = date(int(day[:4]), int(day[4:6]), int(day[6:])) + shift
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}{value[8:]}"
