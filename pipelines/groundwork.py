"""De-identification of what is still being received, so that the quiet time is not lost.

While a series comes in, the instances that are there already are de-identified in the background,
for the job that will come: with rests while its sender is busy, without when it pauses. A series
that seems whole is looked at a second time, and then shown to its models
(:mod:`pipelines.foresight`). Nothing depends on it:
what is not prepared, or could not be, the job does itself and says why. The files lie beside the
jobs' folders; the way back stays in memory until the job seals it.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from dicom.archive import Archive
from dicom.deid import Engine, Identity
from dicom.errors import RadloopError
from dicom.profile import Profile
from dicom.study import Series
from dicom.volume import ReadInstance, read_ahead
from models.bundle import Bundle
from pipelines.foresight import Foreseen, Foresight
from pipelines.looking import SeriesLook, study_tokens
from pipelines.store import SeriesView

log = structlog.get_logger()

_PAUSE = timedelta(seconds=0.1)
_REST = 0.7  # seconds of rest to each of work while the sender is busy: it and the archive go first
_FEW = 16  # new instances of a busy sender that are not worth a look yet
_KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One original file that was de-identified ahead of its job."""

    instance: ReadInstance
    identity: Identity


@dataclass(frozen=True, slots=True)
class Taken:
    """What a job gets of a series.

    Attributes
    ----------
    files : mapping of Path to Prepared
        By their originals.
    look : SeriesLook
        The second look at them, as far as it went.
    """

    files: Mapping[Path, Prepared]
    look: SeriesLook


@dataclass(slots=True)
class _Bed:
    """What is prepared of one series."""

    folder: Path
    look: SeriesLook
    begun: float = field(default_factory=time.monotonic)
    done: dict[Path, Prepared] = field(default_factory=dict)
    refused: set[Path] = field(default_factory=set)
    seen: frozenset[Path] = frozenset()  # what the models were shown
    tries: int = 0  # how often it seemed whole
    readers: int = 0
    taken: bool = False


class Groundwork:
    """Prepares the series that pause, one after the other, on a thread of its own.

    Parameters
    ----------
    archive : Archive
        The clinical archive; nothing is prepared where its files have to be downloaded.
    deidentifier : Engine
        The same that jobs use.
    folder : Path
        On the file system of the jobs' folders; what an earlier process left there goes.
    profile : Profile
        By which the deidentifier works.
    others_of : callable
        What the vault has of the same patient's other studies: that is searched for too.
    foresight : Foresight or None
        What is shown each series that seems whole, and in which the second look found nothing.
    """

    def __init__(
        self,
        archive: Archive,
        deidentifier: Engine,
        folder: Path,
        *,
        profile: Profile,
        others_of: Callable[[Identity], Sequence[Identity]],
        foresight: Foresight | None = None,
    ) -> None:
        self._profile = profile
        self._others_of = others_of
        self._foresight = foresight
        self._busy: frozenset[str] = frozenset()  # series whose sender does not pause
        self._archive = archive
        self._deidentifier = deidentifier
        self._folder = folder
        self._beds: dict[str, _Bed] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="groundwork")
        self._running: Future[None] | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def look(self, receiving: Iterable[SeriesView]) -> None:
        """Prepare the series that are received, unless that is under way."""
        views = [one for one in receiving if not one.ours]
        horizon = datetime.now(UTC) - _PAUSE
        self._busy = frozenset(view.id for view in views if view.changed_at > horizon)
        if self._foresight is not None:
            for view in views:
                self._foresight.still_so(view.id, view.instance_count)
        if self._running is not None:
            if not self._running.done():
                return
            broke = self._running.exception()
            if broke is not None:
                log.error("groundwork_broke", code=type(broke).__name__)
        if views and self._archive.is_in_place:
            paused = [
                view for view in views if view.id not in self._busy and not self._is_shown(view)
            ]
            busy = [view for view in views if view.id in self._busy and self._has_new(view)]
            if paused or busy:
                self._running = self._thread.submit(self._prepare, paused, busy)

    def _is_shown(self, view: SeriesView) -> bool:
        """Return whether all of a series is prepared, and its models have been asked."""
        bed = self._beds.get(view.id)
        return bed is not None and len(bed.seen) == view.instance_count

    def _has_new(self, view: SeriesView) -> bool:
        bed = self._beds.get(view.id)
        return view.instance_count - (len(bed.done) if bed is not None else 0) >= _FEW

    def take(self, series_id: str, paths: Sequence[Path], folder: Path) -> Taken:
        """Give a job what is prepared of its files, moved into its own folder.

        Parameters
        ----------
        series_id : str
            The series' pseudonym.
        paths : sequence of Path
            The originals that the job is about.
        folder : Path
            Where the de-identified files go.
        """
        with self._lock:
            bed = self._beds.pop(series_id, None)
        if bed is None:
            return Taken({}, SeriesLook(self._profile))
        if self._foresight is not None:
            self._foresight.claim(series_id, paths)
        taken = {}
        for path in paths:
            prepared = bed.done.get(path)
            if prepared is None:
                continue
            place = folder / prepared.instance.path.name
            _lay(prepared.instance.path, place)
            taken[path] = Prepared(prepared.instance.at(place), prepared.identity)
        self._let_go(bed)
        return Taken(taken, bed.look)

    def _let_go(self, bed: _Bed, *, read: bool = False) -> None:
        """Drop the files of a series that its job has taken, and nobody reads any more."""
        with self._lock:
            if read:
                bed.readers -= 1
            else:
                bed.taken = True
            if not bed.taken or bed.readers:
                return
        shutil.rmtree(bed.folder, ignore_errors=True)

    def foresees(self, series_id: str) -> bool:
        """Return whether a model has been at work on the series that a job took."""
        return self._foresight is not None and self._foresight.is_claimed(series_id)

    def foreseen(
        self, series_id: str, bundle: Bundle, *, canceled: Callable[[], bool]
    ) -> Foreseen | None:
        """Return what a model answered ahead of the job, as :meth:`Foresight.take` has it."""
        if self._foresight is None:
            return None
        return self._foresight.take(series_id, bundle, canceled=canceled)

    def sweep(self) -> None:
        """Drop what no job came for."""
        old = time.monotonic() - _KEPT_S
        with self._lock:
            late = [series_id for series_id, bed in self._beds.items() if bed.begun < old]
            beds = [self._beds.pop(series_id) for series_id in late]
        for bed in beds:
            self._let_go(bed)
        if self._foresight is not None:
            self._foresight.sweep(kept_s=_KEPT_S)

    def stop(self) -> None:
        """End the thread after the file that it is at, and what looks ahead."""
        if self._foresight is not None:
            self._foresight.stop()
        with self._lock:
            self._beds.clear()
        self._thread.shutdown(cancel_futures=True)

    def _prepare(self, paused: Sequence[SeriesView], busy: Sequence[SeriesView]) -> None:
        for view in (*paused, *busy):
            try:
                archived = self._archive.series(view.orthanc_id)
                series = self._archive.fetch(archived, self._folder)
            except RadloopError:  # gone again, or the archive restarts: the job will say it
                continue
            paths = [instance.path for instance in series.instances]
            bed = self._prepare_series(view.id, paths)
            if view in paused and len(paths) == view.instance_count:
                self._foresee(view, bed, paths)

    def _prepare_series(self, series_id: str, paths: Sequence[Path]) -> _Bed:
        with self._lock:
            bed = self._beds.setdefault(
                series_id, _Bed(self._folder / series_id, SeriesLook(self._profile))
            )
        bed.folder.mkdir(parents=True, exist_ok=True)
        began, count = time.monotonic(), 0
        for path in paths:
            if path in bed.done or path in bed.refused:
                continue
            begun = time.monotonic()
            with self._lock:  # for one file: a job that comes waits for that one, and goes on
                if self._beds.get(series_id) is not bed:
                    break
                try:
                    instance, identity = self._deidentifier.deidentify_file(path, bed.folder)
                    bed.look.look_ahead(path, instance.path)
                    bed.done[path] = Prepared(read_ahead(instance), identity)
                except RadloopError:
                    bed.refused.add(path)  # the job meets it again, and says why
                    continue
                count += 1
            if series_id in self._busy:
                time.sleep(_REST * (time.monotonic() - begun))
        if count:
            seconds = round(time.monotonic() - began, 3)
            log.info("groundwork_done", series=series_id, count=count, seconds=seconds)
        return bed

    def _foresee(self, view: SeriesView, bed: _Bed, paths: Sequence[Path]) -> None:
        """Show a series that seems whole to its models; after an error, each time twice as late."""
        waited = datetime.now(UTC) - view.changed_at
        with self._lock:
            here = self._beds.get(view.id) is bed and all(path in bed.done for path in paths)
            if self._foresight is None or not here or frozenset(paths) == bed.seen:
                return
            if waited < _PAUSE * 2**bed.tries:
                return
            bed.seen = frozenset(paths)
            bed.tries += 1
            if not self._is_clean(bed, paths):
                return
            bed.readers += 1
        instances = tuple(bed.done[path].instance for path in paths)
        series = Series(view.id, view.modality, instances)
        self._foresight.begin(series, paths, lambda: self._let_go(bed, read=True))

    def _is_clean(self, bed: _Bed, paths: Sequence[Path]) -> bool:
        """Look a second time: no model sees a file with something of its patient."""
        made = {path: bed.done[path].instance.path for path in paths}
        try:
            others = self._others_of(Identity.of(bed.done[path].identity for path in paths))
            bed.look.look(made, study_tokens([bed.look], others) | bed.look.tokens)
        except RadloopError:  # the job finds it again, and holds the study back
            return False
        return True


def _lay(path: Path, place: Path) -> None:
    """Put a file in its job's folder; where it is, a model may still be reading it."""
    place.unlink(missing_ok=True)  # of a step that was interrupted
    try:
        os.link(path, place)
    except OSError:  # a file system that knows no links
        shutil.copyfile(path, place)
