"""Guessing is slowed down, by who is guessed and from where."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from dicom.errors import TooManyTries


class Throttle:
    """Slows guessing down: after some free tries each further one doubles the wait.

    Parameters
    ----------
    free_tries : int
        Tries before the first wait.
    longest_s : float
        The longest wait.
    forget_s : float
        A key that was quiet that long starts afresh.
    most_keys : int
        Keys kept in memory; the one that was quiet longest goes first.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        *,
        free_tries: int,
        longest_s: float = 300,
        forget_s: float = 3600,
        most_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free_tries = free_tries
        self._longest_s = longest_s
        self._forget_s = forget_s
        self._most_keys = most_keys
        self._clock = clock
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, time of the last
        self._lock = threading.Lock()

    def begin(self, key: str) -> None:
        """Count a try before its password is looked at, so that tries side by side all count.

        Raises
        ------
        TooManyTries
            While the wait is not over; that try does not count.
        """
        with self._lock:
            now = self._clock()
            count, last = self._tries.get(key, (0, now))
            if now - last > self._forget_s:
                count = 0
            if count >= self._free_tries:
                wait = min(2.0 ** (count - self._free_tries), self._longest_s) - (now - last)
                if wait > 0:
                    raise TooManyTries.wait(math.ceil(wait))
            self._tries[key] = (count + 1, now)
            self._tries.move_to_end(key)
            while len(self._tries) > self._most_keys:
                self._tries.popitem(last=False)

    def passed(self, key: str, *, forgive: bool) -> None:
        """Take the last try back; with `forgive` all of them."""
        with self._lock:
            count, last = self._tries.get(key, (0, 0.0))
            if forgive or count <= 1:
                self._tries.pop(key, None)
            else:
                self._tries[key] = (count - 1, last)


def network_of(address: str) -> str:
    """Return the address, or the /64 of an IPv6 one: a host has all of those."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
