"""Batches: one model on many images, each a job of the worker like any other."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dicom.errors import Conflict, InputError, PeerError
from node.auth import Caller
from node.parts import FrontParts
from node.running import ask_run


@dataclass(slots=True)
class Batch:
    """One batch: the jobs that it became, and how many images the model is not for."""

    id: str
    model: str
    started: float
    jobs: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    is_asking: bool = True
    stopped: bool = False
    ended: float | None = None

    def told(self, parts: FrontParts) -> dict[str, Any]:
        """Return how it stands, in MONAI Label's words."""
        states = Counter(parts.jobs.job(job).state for job in self.jobs)
        running = self.is_asking or states["scheduled"] + states["in_progress"] > 0
        if not running and self.ended is None:
            self.ended = time.time()
        status = "CANCELED" if self.stopped else "RUNNING" if running else "DONE"
        return {
            "id": self.id,
            "status": status,
            "start_ts": _stamp(self.started),
            "end_ts": _stamp(self.ended) if self.ended is not None else None,
            "details": [
                f"{len(self.jobs)} images: {states['completed']} done, "
                f"{states['canceled']} failed, {sum(self.refused.values())} the model is not for"
            ],
            "result": {"jobs": list(self.jobs), "refused": dict(self.refused)},
        }


class Batches:
    """The batches of this process, the newest last; one at a time."""

    def __init__(self) -> None:
        self._all: list[Batch] = []
        self._lock = threading.Lock()

    def last(self) -> Batch | None:
        """Return the newest; None where there was none."""
        return self._all[-1] if self._all else None

    def all(self) -> Sequence[Batch]:
        """Return those since the start of this process."""
        return tuple(self._all)

    def start(self, parts: FrontParts, caller: Caller, model: str, images: Sequence[str]) -> Batch:
        """Ask for a model on these images, in the background.

        Raises
        ------
        Conflict
            When one is being asked for.
        """
        with self._lock:
            last = self.last()
            if last is not None and last.is_asking and not last.stopped:
                raise Conflict("a batch is under way; stop it, or wait")
            batch = Batch(str(uuid.uuid4()), model, time.time())
            self._all = [*self._all[-19:], batch]
        threading.Thread(
            target=_ask, args=(parts, caller, batch, tuple(images)), daemon=True
        ).start()
        return batch

    def stop(self, parts: FrontParts) -> Batch | None:
        """Stop the newest: nothing more is asked for, and what waits is canceled."""
        batch = self.last()
        if batch is not None:
            batch.stopped = True
            for job in batch.jobs:
                parts.jobs.ask_cancel(job)
        return batch


def _ask(parts: FrontParts, caller: Caller, batch: Batch, images: Sequence[str]) -> None:
    try:
        for image in images:
            if batch.stopped:
                return
            try:
                archived = parts.clinical.series(parts.studies.series(image).orthanc_id)
                job = ask_run(
                    parts,
                    caller,
                    archived.study_uid,
                    archived.series_uid,
                    bundle=batch.model,
                    region=None,
                )
            except (InputError, PeerError) as error:
                batch.refused[error.code] += 1
                continue
            batch.jobs.append(job)
            parts.bell.ring()
    finally:
        batch.is_asking = False


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
