"""Predictions made while the quiet time still runs: an answer that its job may find ready.

A series counts as complete after a second of quiet, and in that second nothing is certain yet. What
is de-identified by then is shown to the models that the routes would choose, so that the end of the
quiet time only has to confirm what was done. A slice that comes late makes the answer worthless: it
is dropped, and the job predicts anew. Nothing of it is written down, nothing is delivered from
here, and nothing depends on it.

What a task waits for goes first: an answer that none waits for yet gives way to it, and is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from dicom.errors import Canceled, RadloopError
from dicom.gate import check_voxels
from dicom.measure import Measured
from dicom.study import Series, Study
from dicom.volume import describe_series
from models.bundle import Bundle
from models.greys import greys_of, read_taught
from models.prediction import Prediction
from models.process import PredictorProcess
from models.registry import Registry
from models.sources import Case, read_case
from pipelines.results import look_at
from pipelines.routing import Route, match_routes

log = structlog.get_logger()

_KEPT = 3
"""Series whose answers are held in memory: a byte a voxel, or more where segments overlap."""

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Foreseen:
    """What a model answered, on the archive's slices, what was measured of that, and of the image.

    `greys` is what :mod:`models.greys` says of the first input.
    """

    prediction: Prediction
    measured: tuple[Measured, ...]
    greys: Mapping[str, Any]

    @classmethod
    def of(cls, prediction: Prediction, bundle: Bundle, case: Case, series: Series) -> Foreseen:
        """Measure an answer on the images that the model was given; these are not kept.

        Raises
        ------
        WrongGeometry
            When a left structure lies on the right.
        """
        measured = look_at(bundle, prediction.answer, case.volume, series)
        answer = case.on_source(prediction.answer)
        return cls(replace(prediction, answer=answer), measured, _greys(bundle, case))


def _greys(bundle: Bundle, case: Case) -> Mapping[str, Any]:
    """Return the first input's grey values in short, and how unlike those that it learnt from."""
    percentiles = greys_of(case.images[bundle.inputs[0].name].voxels)
    found: dict[str, Any] = {"percentiles": list(percentiles)}
    taught = read_taught(bundle.root / "docs")
    if taught is not None:
        found["unlike"] = round(taught.unlikeness(percentiles), 4)
        found["usual"] = round(taught.usual, 4)
    return found


@dataclass(slots=True, eq=False)
class _Ahead:
    """One series on its way through the models, ahead of its job.

    Attributes
    ----------
    originals : frozenset of Path
        Files of the archive that it was made of: the archive names each version of a file anew.
    claimed : Event
        Its job has come, for exactly these files.
    awaited : Event
        Its task has come, and waits.
    dropped : Event
        Nobody wants it any more.
    ended : Event
        Nothing more will be found.
    """

    series: Series
    originals: frozenset[Path]
    forget: Callable[[], None]
    claimed: threading.Event = field(default_factory=threading.Event)
    awaited: threading.Event = field(default_factory=threading.Event)
    dropped: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    found: dict[str, Foreseen] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    is_free: bool = False

    def free(self) -> None:
        """Say, once, that the files are not read any more."""
        if not self.is_free:
            self.is_free = True
            self.forget()


class Foresight:
    """Runs the models that the routes would choose, one series after the other, on its own thread.

    Parameters
    ----------
    registry : Registry
        Where bundles are.
    predictor : PredictorProcess
        The one that jobs use.
    routes : sequence of Route
        Those that jobs use.
    """

    def __init__(
        self, registry: Registry, predictor: PredictorProcess, routes: Sequence[Route]
    ) -> None:
        self._registry = registry
        self._predictor = predictor
        self._routes = routes
        self._ahead: dict[str, _Ahead] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="foresight")

    def begin(self, series: Series, originals: Iterable[Path], forget: Callable[[], None]) -> None:
        """Take up a series that seems to be whole.

        Parameters
        ----------
        series : Series
            De-identified, under its pseudonym.
        originals : iterable of Path
            The archive's files that it was made of.
        forget : callable
            Called once the files of `series` are not read any more.
        """
        if self._predictor.waiting:  # jobs are in line: there is nothing to win
            forget()
            return
        ahead = _Ahead(series, frozenset(originals), forget)
        self.drop(series.series_uid)
        with self._lock:
            by_worth = sorted(self._ahead, key=lambda uid: self._ahead[uid].claimed.is_set())
            self._ahead[series.series_uid] = ahead
        for series_uid in by_worth[: max(len(by_worth) + 1 - _KEPT, 0)]:
            self.drop(series_uid)  # its job does the work itself
        self._thread.submit(self._run, ahead).add_done_callback(_say_what_broke)

    def still_so(self, series_uid: str, count: int) -> None:
        """Drop what is made of another number of files than the archive holds of a series now."""
        ahead = self._ahead.get(series_uid)
        if ahead is not None and len(ahead.originals) != count and not ahead.claimed.is_set():
            self.drop(series_uid)

    def claim(self, series_uid: str, originals: Sequence[Path]) -> None:
        """Keep what was made of exactly these files, for the job that has come; drop all else."""
        ahead = self._ahead.get(series_uid)
        if ahead is None:
            return
        if ahead.originals == frozenset(originals):
            ahead.claimed.set()
        else:
            self.drop(series_uid)

    def is_claimed(self, series_uid: str) -> bool:
        """Return whether a job has come for what is made of a series."""
        ahead = self._ahead.get(series_uid)
        return ahead is not None and ahead.claimed.is_set()

    def take(
        self, series_uid: str, bundle: Bundle, *, canceled: Callable[[], bool]
    ) -> Foreseen | None:
        """Return what a model answered to a claimed series, once it has; None when it did not.

        Parameters
        ----------
        canceled : callable
            Asked while the model is at work; True ends that.
        """
        ahead = self._ahead.get(series_uid)
        if ahead is None or not ahead.claimed.is_set():
            return None
        ahead.awaited.set()
        while bundle.identity not in ahead.found and not ahead.ended.wait(_LOOK_S):
            if canceled():
                self.drop(series_uid)
                return None
        found = ahead.found.pop(bundle.identity, None)
        if ahead.ended.is_set() and not ahead.found:
            self.drop(series_uid)
        if found is None or found.prediction.bundle_sha256 != bundle.sha256:
            return None
        return found

    def drop(self, series_uid: str) -> None:
        """Let go of a series, and of the model that is at work on it."""
        with self._lock:
            ahead = self._ahead.pop(series_uid, None)
        if ahead is not None:
            ahead.dropped.set()

    def sweep(self, *, kept_s: float) -> None:
        """Drop what is older than that: its job came to another end."""
        old = time.monotonic() - kept_s
        for series_uid in [uid for uid, ahead in list(self._ahead.items()) if ahead.begun < old]:
            self.drop(series_uid)

    def stop(self) -> None:
        """Drop everything; the thread ends after the window that a model is at."""
        for series_uid in list(self._ahead):
            self.drop(series_uid)
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- on its thread --------------------------------------------------------------------------

    def _run(self, ahead: _Ahead) -> None:
        began = time.monotonic()
        try:
            read = self._read(ahead)
            again = any(case.volume is None for _, case in read)  # pictures are, when measured
            while read:
                bundle, case = read.pop(0)
                checked = ahead.free if not read and not again else _nothing
                ahead.found[bundle.identity] = self._foreseen(ahead, bundle, case, checked)
            seconds = round(time.monotonic() - began, 3)
            count = len(ahead.found)
            log.info("foresight_done", series=ahead.series.series_uid, count=count, seconds=seconds)
        except RadloopError as error:  # the job meets it again and says it; or nobody wants it
            log.info("foresight_left", series=ahead.series.series_uid, code=error.code)
        finally:
            ahead.free()
            ahead.ended.set()

    def _read(self, ahead: _Ahead) -> list[tuple[Bundle, Case]]:
        read = []
        for bundle in self._wanted(ahead):
            if self._is_unwanted(ahead):
                raise Canceled
            read.append((bundle, read_case(bundle, Study("", (ahead.series,)), ahead.series)))
        return read

    def _wanted(self, ahead: _Ahead) -> list[Bundle]:
        """Return the models that look at this series alone; others need the whole study."""
        facts = describe_series(ahead.series)
        routes = match_routes(facts, self._routes)
        names = dict.fromkeys(route.bundle for route in routes if route.bundle)
        bundles = [self._registry.get(name) for name in names]
        return [bundle for bundle in bundles if len(bundle.inputs) == 1]

    def _is_unwanted(self, ahead: _Ahead) -> bool:
        """Return whether a series is dropped, or has to give way to what a task waits for."""
        if ahead.dropped.is_set() or ahead.awaited.is_set():
            return ahead.dropped.is_set()
        return self._predictor.waiting > 0 or any(
            other.awaited.is_set() and not other.ended.is_set()
            for other in list(self._ahead.values())
        )

    def _foreseen(
        self, ahead: _Ahead, bundle: Bundle, case: Case, checked: Callable[[], None]
    ) -> Foreseen:
        """Return what a model answers; `checked` is called once its files are not read for it."""

        def unwanted() -> bool:
            return self._is_unwanted(ahead)

        if unwanted():
            raise Canceled
        with ThreadPoolExecutor(1, thread_name_prefix="foresight-check") as beside:
            check = beside.submit(_check, case, checked)  # while the model's process is at work
            prediction = self._predictor.predict_images(
                bundle.identity, case.images, canceled=unwanted
            )
            check.result()
        return Foreseen.of(prediction, bundle, case, ahead.series)


def _check(case: Case, checked: Callable[[], None]) -> None:
    if case.volume is not None:
        check_voxels(case.volume)
    checked()


def _nothing() -> None:
    pass


def _say_what_broke(done: Future[None]) -> None:
    """Log a mistake of ours; the job meets it again, and is marked."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("foresight_broke", code=type(error).__name__)
