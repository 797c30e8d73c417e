"""Samples of an augmentation graph, made in a process of their own: the front loads no torch.

The process begins with the first preview and ends with the front; one that dies costs that preview.
"""

from __future__ import annotations

import multiprocessing
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicom.errors import Conflict, NotFound, OutOfMemory

if TYPE_CHECKING:
    from models.learning.previewing import Preview

_KEPT: Final = 32  # pictures, some 300 kB each
_MOST_S: Final = 120


class Previews:
    """Makes previews, and keeps their pictures for the page that shows them."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def make(
        self, dataset: Path, graph: Mapping[str, Any], *, draw: int = 0
    ) -> tuple[str, Preview]:
        """Return a key for the picture, and the preview.

        Raises
        ------
        InvalidGraph, InvalidDataset
        OutOfMemory
            When the process that makes it died.
        Conflict
            When the machine is too busy for it.
        """
        try:
            pool = self._opened()
            pool.submit(_begun).result()  # loading torch is no part of the preview's time
            made = pool.submit(_make, dataset, graph, draw).result(_MOST_S)
        except BrokenProcessPool as error:
            self.close()
            raise OutOfMemory("the preview's process was ended by the system") from error
        except TimeoutError:
            raise Conflict("the preview takes too long; the machine is busy, try again") from None
        key = secrets.token_hex(16)
        with self._lock:
            self._kept[key] = made.png
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return key, made

    def picture(self, key: str) -> bytes:
        """Return a preview's PNG.

        Raises
        ------
        NotFound
            When it is forgotten.
        """
        with self._lock:
            if key not in self._kept:
                raise NotFound("the preview is forgotten; make it again")
            return self._kept[key]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _opened(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
            return self._pool


def _begin() -> None:
    import os

    import torch

    import models.learning.previewing  # noqa: F401 - what the first preview would load

    os.nice(10)  # a reader's work comes first
    torch.set_num_threads(1)


def _begun() -> None:
    """Answer as soon as the process works."""


def _make(dataset: Path, graph: Mapping[str, Any], draw: int) -> Preview:
    from models.learning.previewing import preview

    return preview(dataset, graph, draw=draw)
