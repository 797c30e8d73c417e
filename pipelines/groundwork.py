"""De-identification of what is still being received, so that the quiet time is not lost.

While a sender pauses, the instances that are there already are de-identified in the background, for
the job that will come. Nothing depends on it: what is not prepared, or could not be, the job does
itself and says why. The files lie beside the jobs' folders; the way back stays in memory until the
job seals it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from dicom.archive import Archive
from dicom.deid import Engine, Identity
from dicom.errors import RadloopError
from dicom.study import Instance
from pipelines.store import SeriesView

log = structlog.get_logger()

_PAUSE = timedelta(seconds=0.15)  # a sender that is busy keeps both cores
_KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """One original file that was de-identified ahead of its job."""

    instance: Instance
    identity: Identity


@dataclass(slots=True)
class _Bed:
    """What is prepared of one series."""

    folder: Path
    begun: float = field(default_factory=time.monotonic)
    done: dict[Path, Prepared] = field(default_factory=dict)
    refused: set[Path] = field(default_factory=set)


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
    """

    def __init__(self, archive: Archive, deidentifier: Engine, folder: Path) -> None:
        self._archive = archive
        self._deidentifier = deidentifier
        self._folder = folder
        self._beds: dict[str, _Bed] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="groundwork")
        self._running: Future[None] | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def look(self, receiving: Iterable[SeriesView]) -> None:
        """Prepare the series whose sender pauses, unless that is under way."""
        if self._running is not None:
            if not self._running.done():
                return
            broke = self._running.exception()
            if broke is not None:
                log.error("groundwork_broke", code=type(broke).__name__)
        horizon = datetime.now(UTC) - _PAUSE
        paused = [one for one in receiving if not one.ours and one.changed_at <= horizon]
        if paused and self._archive.is_in_place:
            self._running = self._thread.submit(self._prepare, paused)

    def take(self, series_id: str, paths: Sequence[Path], folder: Path) -> Mapping[Path, Prepared]:
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
            return {}
        taken = {}
        for path in paths:
            prepared = bed.done.get(path)
            if prepared is None:
                continue
            place = folder / prepared.instance.path.name
            prepared.instance.path.replace(place)
            instance = Instance(
                prepared.instance.sop_instance_uid, prepared.instance.sop_class_uid, place
            )
            taken[path] = Prepared(instance, prepared.identity)
        shutil.rmtree(bed.folder, ignore_errors=True)
        return taken

    def sweep(self) -> None:
        """Drop what no job came for."""
        old = time.monotonic() - _KEPT_S
        with self._lock:
            late = [series_id for series_id, bed in self._beds.items() if bed.begun < old]
            beds = [self._beds.pop(series_id) for series_id in late]
        for bed in beds:
            shutil.rmtree(bed.folder, ignore_errors=True)

    def stop(self) -> None:
        """End the thread after the file that it is at."""
        with self._lock:
            self._beds.clear()
        self._thread.shutdown(cancel_futures=True)

    def _prepare(self, paused: Sequence[SeriesView]) -> None:
        for view in paused:
            try:
                archived = self._archive.series(view.orthanc_id)
                series = self._archive.fetch(archived, self._folder)
            except RadloopError:  # gone again, or the archive restarts: the job will say it
                continue
            self._prepare_series(view.id, [instance.path for instance in series.instances])

    def _prepare_series(self, series_id: str, paths: Sequence[Path]) -> None:
        with self._lock:
            bed = self._beds.setdefault(series_id, _Bed(self._folder / series_id))
        bed.folder.mkdir(parents=True, exist_ok=True)
        began, count = time.monotonic(), 0
        for path in paths:
            if path in bed.done or path in bed.refused:
                continue
            with self._lock:  # for one file: a job that comes waits for that one, and goes on
                if self._beds.get(series_id) is not bed:
                    break
                try:
                    instance, identity = self._deidentifier.deidentify_file(path, bed.folder)
                except RadloopError:
                    bed.refused.add(path)  # the job meets it again, and says why
                    continue
                bed.done[path] = Prepared(instance, identity)
                count += 1
        if count:
            seconds = round(time.monotonic() - began, 3)
            log.info("groundwork_done", series=series_id, count=count, seconds=seconds)
