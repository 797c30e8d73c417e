"""Right actions of due ones, by category; and what leaked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, get_args

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from scipy import ndimage

from benchmarks.quality.answers import Case, Category, Due, found_at

CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
_MARGIN: Final = 16  # pixels around letters that a box may take with it
_FEW: Final = 0.02
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


@dataclass(slots=True)
class Score:
    """What one tool did.

    Attributes
    ----------
    due, right : Counter
        Actions by category.
    wrong : Counter
        Categories with the wish and the place that were missed, for those who mend it.
    leaks : int
        Files in whose bytes a name, number, UID or birth date of the original stands.
    absent : int
        Files that the tool did not write.
    """

    due: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    leaks: int = 0
    leaked: Counter[str] = field(default_factory=Counter)
    absent: int = 0
    files: int = 0

    def percent(self, category: str = "") -> float:
        """Return right actions in per cent, of one category or of all."""
        due = self.due[category] if category else self.due.total()
        right = self.right[category] if category else self.right.total()
        return 100.0 * right / due if due else 100.0


class Scorer:
    """Compares outputs with the answer key; knows what was replaced by what so far."""

    def __init__(self) -> None:
        self.score = Score()
        self._uids: dict[str, str] = {}
        self._shifts: dict[str, int] = {}

    def add(self, case: Case, output: Path | None) -> None:
        """Score one file; None for one that was not written."""
        self.score.files += 1
        ds = _read(output)
        if ds is None or output is None:
            self.score.absent += 1
            for due in case.due:
                self.score.due[due.category] += 1
            return
        for due in case.due:
            self.score.due[due.category] += 1
            if self._is_right(due, case, found_at(ds, due.place)):
                self.score.right[due.category] += 1
            else:
                self.score.wrong[f"{due.category} {due.want} {_told(due)}"] += 1
        content = output.read_bytes()
        begin = len(content) - len(case.pixels)
        found = {leak for leak in case.leaks if leak in content[:begin]}
        if found:
            self.score.leaks += 1
            self.score.leaked.update(leak.decode("latin-1") for leak in found)

    def _is_right(self, due: Due, case: Case, element: DataElement | None) -> bool:
        said = _text(element)
        match due.want:
            case "same":
                return said == due.value
            case "bytes":
                return element is not None and bytes(element.value) == case.pixels
            case "masked" | "outside":
                return _is_painted(due.want, case, element)
            case "gone":
                return said != due.value
            case "replaced":
                return said not in ("", due.value)
            case "old":
                return not said or (said[3:] == "Y" and int(said[:3]) <= 90) or said[3:] != "Y"
            case "without":
                return not any(word in said for word in due.value.split("^"))
            case "with":
                return due.value in said
            case "pseudonym":
                return self._is_pseudonym(due.value, said)
            case "moved":
                return self._is_moved(due.value, said, case.patient)
        raise AssertionError(due.want)

    def _is_pseudonym(self, original: str, said: str) -> bool:
        if said == original or not _UID.fullmatch(said) or len(said) > 64:
            return False
        return self._uids.setdefault(original, said) == said

    def _is_moved(self, original: str, said: str, patient: str) -> bool:
        """Every date of a patient by the same number of days; a removed one tells nothing."""
        if not said:
            return True
        try:
            days = _day(said) - _day(original)
        except ValueError:
            return False
        return days != 0 and self._shifts.setdefault(patient, days) == days


def score(cases: Iterable[Case], outputs: Mapping[Path, Path]) -> Score:
    """Return what a tool did, from its outputs by source."""
    scorer = Scorer()
    for case in cases:
        scorer.add(case, outputs.get(case.path))
    return scorer.score


def _read(path: Path | None) -> Dataset | None:
    if path is None or not path.is_file():
        return None
    try:
        return dcmread(path)
    except Exception:  # noqa: BLE001 - a peer's output that nobody can read is no output
        return None


def _text(element: DataElement | None) -> str:
    if element is None or element.value is None:
        return ""
    return str(element.value)


def _is_painted(want: str, case: Case, element: DataElement | None) -> bool:
    """Return whether the letters are gone, or all that is far from them stayed as it was."""
    letters = case.letters
    if letters is None or element is None or len(element.value) != len(case.pixels):
        return False
    values = len(case.pixels) // letters.size
    before = np.frombuffer(case.pixels, np.uint8).reshape(*letters.shape, values)
    after = np.frombuffer(element.value, np.uint8).reshape(*letters.shape, values)
    same = (before == after).all(axis=2)
    if want == "masked":
        return bool(same[letters].mean() < _FEW)
    near = ndimage.binary_dilation(letters, np.ones((3, 3)), iterations=_MARGIN)
    return bool(same[~near].all())


def _told(due: Due) -> str:
    return "/".join(f"{part:08X}" if part > 0xFFFF else str(part) for part in due.place)


def _day(text: str) -> int:
    return date(int(text[:4]), int(text[4:6]), int(text[6:8])).toordinal()
