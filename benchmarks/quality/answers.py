"""An answer key: objects of many kinds, and what has to be done to each of their attributes.

Written from PS3.15 Annex E and what a radiologist would miss, without a look at our profile. Each
object says which values have to go, to be moved, to be replaced the same way everywhere, and which
have to stay; scored like the MIDI-B challenge, as right actions of due ones by category.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, config
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

Category = Literal["header", "dates", "uids", "private", "text", "pixels"]
Want = Literal[
    "gone",
    "replaced",
    "same",
    "moved",
    "pseudonym",
    "without",
    "with",
    "old",
    "bytes",
    "masked",
    "outside",
]
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """One action that is due.

    Attributes
    ----------
    category : str
        In which column it counts.
    place : tuple of int
        Tag, then item and tag in turn.
    want : str
        What shall have become of the value.
    value : str
        What stood there, or the words that shall go or stay.
    """

    category: Category
    place: Place
    want: Want
    value: str = ""


@dataclass(slots=True)
class Case:
    """One object and its answers."""

    path: Path
    patient: str
    sop_class: str
    due: list[Due] = field(default_factory=list)
    leaks: list[bytes] = field(default_factory=list)
    pixels: bytes = b""
    letters: npt.NDArray[np.bool_] | None = None  # where burned-in text stands, (rows, columns)


class Key:
    """Makes one object, and writes its answers down while it does."""

    def __init__(self, case: Case, ds: Dataset) -> None:
        self.case = case
        self.ds = ds

    def put(
        self, place: Place, vr: str, value: object, category: Category, want: Want, words: str = ""
    ) -> None:
        """Set a value, and note what shall become of it."""
        here = self.ds
        for tag, item in zip(place[:-1:2], place[1::2], strict=True):
            if tag not in here:
                here[tag] = DataElement(tag, "SQ", Sequence())
            while len(here[tag].value) <= item:
                here[tag].value.append(Dataset())
            here = here[tag].value[item]
        here[place[-1]] = DataElement(place[-1], vr, value, validation_mode=config.IGNORE)
        said = "\\".join(map(str, value)) if isinstance(value, list) else str(value)
        self.case.due.append(Due(category, place, want, words or said))
        if want in ("gone", "replaced", "pseudonym") and vr not in ("DA", "TM", "CS") and said:
            for part in said.replace("=", "^").split("^"):
                if len(part) >= 6:
                    charset = "utf-8" if self._is_unicode else "latin-1"
                    self.case.leaks.append(part.encode(charset, "replace"))

    @property
    def _is_unicode(self) -> bool:
        return str(self.ds.get("SpecificCharacterSet")) == "ISO_IR 192"

    def same(self, keyword: str, value: object) -> None:
        """Set a value that shall stay."""
        setattr(self.ds, keyword, value)
        said = str(self.ds[keyword].value)
        self.case.due.append(Due("header", (int(self.ds[keyword].tag),), "same", said))

    def gone(self, place: int | Place, vr: str, value: str) -> None:
        """Set a value that shall go."""
        self.put((place,) if isinstance(place, int) else place, vr, value, "header", "gone")

    def moved(self, place: int | Place, vr: str, value: str) -> None:
        """Set a date that shall be moved."""
        self.put((place,) if isinstance(place, int) else place, vr, value, "dates", "moved")

    def uid(self, place: int | Place, value: str) -> None:
        """Set a UID that shall be replaced, the same one everywhere."""
        self.put((place,) if isinstance(place, int) else place, "UI", value, "uids", "pseudonym")

    def text(self, place: int | Place, vr: str, value: str, bad: str, good: str = "") -> None:
        """Set a text with words that shall go and words that shall stay."""
        path = (place,) if isinstance(place, int) else place
        self.put(path, vr, value, "text", "without", bad)
        if good:
            self.case.due.append(Due("text", path, "with", good))


def found_at(ds: Dataset, place: Place) -> DataElement | None:
    """Return the element at a place, None where there is none."""
    here = ds
    for tag, item in zip(place[:-1:2], place[1::2], strict=True):
        if tag not in here or here[tag].VR != "SQ" or len(here[tag].value) <= item:
            return None
        here = here[tag].value[item]
    return here[Tag(place[-1])] if place[-1] in here else None
