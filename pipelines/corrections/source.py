"""The series that is drawn on: where its voxels lie, read once while it stays as it is."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from dicom.archive import Archive, ArchivedSeries
from dicom.errors import ForeignSegmentation, NoGeometry, NotFound
from dicom.seg.lattice import grid_of
from dicom.study import Series
from dicom.volume import Grid, Mending, read_grids, read_pictures

_KEPT = 8
_MENDED = frozenset({Mending.TILT, Mending.STRAYS})
"""What leaves every slice where it is: labels lie on the slices as the archive has them."""


@dataclass(frozen=True, slots=True, eq=False)
class SourceSeries:
    """A series of the archive, and the grids of its volumes (echoes, phases; mostly one)."""

    archived: ArchivedSeries
    grids: tuple[Grid, ...]

    def grid_with(self, instances: Iterable[str]) -> Grid:
        """Return the grid on which these instances lie; without any, the first.

        Raises
        ------
        ForeignSegmentation
            When they lie on none, or on several.
        """
        wanted = set(instances)
        for grid in self.grids:
            if wanted <= {instance.sop_instance_uid for instance in grid.instances}:
                return grid
        raise ForeignSegmentation(f"{len(wanted)} slices that are not of one volume of the series")


class SourceGrids:
    """The grids of series that were asked for last; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._kept: OrderedDict[tuple[str, ...], _Kept] = OrderedDict()
        self._lock = Lock()

    def series(self, study_uid: str, series_uid: str) -> SourceSeries:
        """Return a series by its original UIDs.

        Raises
        ------
        NotFound
            When the archive does not hold that series in that study.
        InputError
            When it makes no volume and is no picture; see :func:`dicom.volume.read_grids`.
        PeerError
            When the archive does not answer.
        """
        for orthanc_id in self._archive.lookup("series", series_uid):
            archived = self._archive.series(orthanc_id)
            if archived.study_uid == study_uid:
                return self.of(archived)
        raise NotFound("the archive holds no such series in that study")

    def of(self, archived: ArchivedSeries) -> SourceSeries:
        """Return a series with its grids.

        Raises
        ------
        InputError, PeerError
        """
        key = (archived.orthanc_id, *(instance.file_uuid for instance in archived.instances))
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return SourceSeries(archived, kept.grids)
        # Held as long as the grid: a SEG's header is made from the first of the files.
        folder = tempfile.TemporaryDirectory(prefix="radloop-")
        grids = _grids(self._archive.fetch(archived, Path(folder.name)))
        with self._lock:
            self._kept[key] = _Kept(grids, folder)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return SourceSeries(archived, grids)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Grids, and the folder of their files where those are not read in place."""

    grids: tuple[Grid, ...]
    folder: tempfile.TemporaryDirectory[str]


def _grids(series: Series) -> tuple[Grid, ...]:
    """Return the grids of a series; a picture without a place in a patient has one slice."""
    try:
        return tuple(named.grid for named in read_grids(series, mend=_MENDED))
    except NoGeometry:
        return tuple(grid_of(picture) for picture in read_pictures(series))
