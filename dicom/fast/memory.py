"""What was decided before: bounded, whatever passes, and shared by threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import Enum
from threading import Lock
from typing import Final, Generic, NamedTuple, TypeVar

from dicom.deid import Place, Subject
from dicom.profile import Verdict

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Latest(Generic[Key, Value]):
    """The values that were asked for last.

    Parameters
    ----------
    most : int
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Key) -> Value | None:
        """Return the value of a key, or None."""
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key; `make` is called where there is none, perhaps by two threads.

        Of two values that are made at once, both get the first.
        """
        value = self.find(key)
        if value is not None:
            return value
        made = make()
        with self._lock:
            value = self._kept.setdefault(key, made)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value


Remembered = tuple[bytes, tuple[tuple[str, str], ...]]
"""An element as it is written (nothing when it goes); pseudonym and original of each UID in it."""

_VALUES_OF_A_TAG: Final = 8
_OVERHEAD: Final = 200  # bytes that two objects and an entry take besides their content
_ROOM: Final = 4 << 20  # a CT header has 20 kB
_PLACES: Final = 256


class Row(Enum):
    """What becomes of an attribute whatever its value."""

    GONE = "left out"
    COPY = "copied"


class Judged(NamedTuple):
    """The rule that looks at an attribute's value; its VR, and where in the element that begins."""

    verdict: Verdict
    vr: str
    start: int


Rows = dict[bytes, Row | Judged]
"""By the beginning of an element, its tag and VR: what becomes of it, or the rule that looks at its
value."""


class Decisions(dict[bytes, Remembered]):
    """Elements that were decided on at one place, by their bytes.

    An element that differs from instance to instance (a position, an instance UID) is not worth
    keeping: after a few values of it, no more are kept.

    Parameters
    ----------
    place : Place
        Where they stand.
    rows : dict
        What the rules say there: the same for every subject.
    memory : Memory
        With whose room they are kept.
    """

    def __init__(self, place: Place, rows: Rows, memory: Memory) -> None:
        super().__init__()
        self.place = place
        self.rows = rows
        self._memory = memory
        self._values: dict[int, int] = {}

    def remember(self, tag: int, element: bytes, remembered: Remembered) -> None:
        """Keep a decision where it is likely to be asked for again, and there is room."""
        values = self._values.get(tag, 0)
        if values < _VALUES_OF_A_TAG:
            size = len(element) + len(remembered[0]) + _OVERHEAD
            if size <= self._memory.room:
                self._memory.room -= size
                self._values[tag] = values + 1
                self[bytes(element)] = remembered  # a sequence without the items that were read


class Memory:
    """What was decided about the elements of one subject's objects of one kind.

    Parameters
    ----------
    subject : Subject
        Whose they are.
    iod : str
        What they are.
    rows : Callable
        Returns what the rules say, by parent and private creator.
    """

    def __init__(self, subject: Subject, iod: str, rows: Callable[[int, str], Rows]) -> None:
        self.room = _ROOM
        self._subject = subject
        self._iod = iod
        self._rows = rows
        self._places: dict[tuple[int, bool, str], Decisions] = {}

    def at(self, parent: int, public_code: bool, creator: str = "") -> Decisions:
        """Return what was decided at a place: see :class:`dicom.deid.Place`."""
        key = parent, public_code, creator
        known = self._places.get(key)
        if known is None:
            place = Place(self._subject, self._iod, parent, public_code, creator)
            known = Decisions(place, self._rows(parent, creator), self)
            if len(self._places) < _PLACES:
                known = self._places.setdefault(key, known)
        return known
