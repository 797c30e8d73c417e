"""What was decided before: bounded, whatever passes, and shared by threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from dicom.deid import Place

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
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

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

_VALUES_OF_A_TAG = 8
_OVERHEAD = 200  # bytes that two objects and an entry take besides their content


class Room:
    """How many bytes may still be remembered, by all who share it."""

    def __init__(self, count: int) -> None:
        self.left = count


class Decisions(dict[bytes, Remembered]):
    """Elements that were decided on at one place, by their bytes.

    An element that differs from instance to instance (a position, an instance UID) is not worth
    keeping: after a few values of it, no more are kept.
    """

    def __init__(self, place: Place, room: Room) -> None:
        super().__init__()
        self.place = place
        self._room = room
        self._values: dict[int, int] = {}

    def remember(self, tag: int, element: bytes, remembered: Remembered) -> None:
        """Keep a decision where it is likely to be asked for again, and there is room."""
        values = self._values.get(tag, 0)
        size = len(element) + len(remembered[0]) + _OVERHEAD
        if values < _VALUES_OF_A_TAG and size <= self._room.left:
            self._room.left -= size
            self._values[tag] = values + 1
            self[element] = remembered
