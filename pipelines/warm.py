"""Images that a reader works on, kept in memory: a click must not wait for three hundred files."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from dicom.archive import Archive, ArchivedSeries
from dicom.errors import ForeignSegmentation, MixedSizes, NoGeometry, NotFound, SeveralVolumes
from dicom.study import Series
from dicom.volume import (
    Grid,
    Picture,
    SliceSource,
    Volume,
    read_grids,
    read_pictures,
    read_volume,
)
from pipelines.labels import SliceName, slices_of

_LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


@dataclass(frozen=True, slots=True, eq=False)
class WarmImage:
    """The grey values of a series, and which slice is which image.

    Attributes
    ----------
    voxels_kji : ndarray, shape (slices, rows, columns)
        As :func:`dicom.volume.read_volume`; colours as their brightness.
    grid : Grid
        Its `sources` name the slices. Of pictures, which have no place in a patient, its affine is
        that of the picture's own plane, in mm where they say how large a pixel is, else in pixels.
    unit : str
        Of the values, empty where they have none.
    is_whole_series : bool
        Whether the series holds no other volume.
    """

    voxels_kji: npt.NDArray[np.generic]
    grid: Grid
    unit: str
    is_whole_series: bool


class WarmImages:
    """The images of the clinical archive that were asked for last; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        Where series are read from.
    most_bytes : int
        What is kept; the one that was longest not asked for goes first. One image alone may be
        larger.

    Notes
    -----
    An image is read again when its series has changed in the archive.
    """

    def __init__(self, archive: Archive, *, most_bytes: int) -> None:
        self._archive = archive
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[_Content, SliceSource], WarmImage] = OrderedDict()
        self._reading: dict[str, Lock] = {}
        self._lock = Lock()

    def image(self, study_uid: str, series_uid: str, named: Sequence[SliceName] = ()) -> WarmImage:
        """Return the image of a series, read once while it stays as it is.

        Parameters
        ----------
        study_uid, series_uid : str
            As the archive has them.
        named : sequence of SliceName
            Of a series that holds several volumes (echoes, phases): slices of the one that is
            meant.

        Raises
        ------
        NotFound
            When the archive does not hold that series in that study.
        SeveralVolumes
            When no slice says which volume is meant.
        ForeignSegmentation
            When the named slices are not of one volume of the series.
        InputError
            As :func:`dicom.volume.read_volume`.
        PeerError
            When the archive does not give it.
        """
        archived = self._archived(study_uid, series_uid)
        content = _Content(archived.orthanc_id, tuple(one.file_uuid for one in archived.instances))
        with self._lock:
            reading = self._reading.setdefault(content.series, Lock())
        with reading:  # who asks for the same one meanwhile gets it from memory
            found = self._recall(content, named)
            if found is None:
                found = self._read(archived, named)
                self._keep(content, found)
        return found

    def _archived(self, study_uid: str, series_uid: str) -> ArchivedSeries:
        for orthanc_id in self._archive.lookup("series", series_uid):
            archived = self._archive.series(orthanc_id)
            if archived.study_uid == study_uid:
                return archived
        raise NotFound("the archive holds no such series in that study")

    def _recall(self, content: _Content, named: Sequence[SliceName]) -> WarmImage | None:
        with self._lock:
            for key, image in self._kept.items():
                if key[0] == content and (image.is_whole_series or _holds(image.grid, named)):
                    self._kept.move_to_end(key)
                    return image
        return None

    def _keep(self, content: _Content, image: WarmImage) -> None:
        with self._lock:
            for held, first in list(self._kept):
                if held.series == content.series and held != content:
                    del self._kept[held, first]
            self._kept[content, image.grid.sources[0]] = image
            while len(self._kept) > 1 and self._bytes() > self._most_bytes:
                self._kept.popitem(last=False)

    def _bytes(self) -> int:
        return sum(image.voxels_kji.nbytes for image in self._kept.values())

    def _read(self, archived: ArchivedSeries, named: Sequence[SliceName]) -> WarmImage:
        with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
            series = self._archive.fetch(archived, Path(folder))
            try:
                return _placed(read_volume(series), whole=True)
            except SeveralVolumes:
                if not named:
                    raise
                return _placed(read_volume(series, name=_part_of(series, named)), whole=False)
            except NoGeometry:
                return _pictured(series, read_pictures(series))


@dataclass(frozen=True, slots=True)
class _Content:
    """A series as it is in the archive at one time."""

    series: str
    files: tuple[str, ...]


def _placed(volume: Volume, *, whole: bool) -> WarmImage:
    return WarmImage(volume.voxels_kji, volume.source, volume.unit, whole)


def _part_of(series: Series, named: Sequence[SliceName]) -> str:
    """Return the name of the volume that holds those slices."""
    for part in read_grids(series):
        if _holds(part.grid, named):
            return part.name
    raise ForeignSegmentation("the slices are not of one volume of the series")


def _holds(grid: Grid, named: Sequence[SliceName]) -> bool:
    return bool(named) and None not in slices_of(named, grid)


def _pictured(series: Series, pictures: Sequence[Picture]) -> WarmImage:
    """Return pictures one after the other; they have no place, but slices and sizes."""
    sizes = {picture.shape_fji[1:] for picture in pictures}
    if len(sizes) > 1:
        raise MixedSizes("the pictures of the series have different sizes")
    voxels_kji = np.concatenate([_brightness(picture) for picture in pictures])
    sources = tuple(source for picture in pictures for source in picture.sources)
    slices, rows, columns = voxels_kji.shape
    affine = pictures[0].affine_image
    grid = Grid((slices, rows, columns), affine, sources, series.series_uid, "", series.modality)
    return WarmImage(voxels_kji, grid, unit="", is_whole_series=True)


def _brightness(picture: Picture) -> npt.NDArray[np.generic]:
    if not picture.is_colour:
        return picture.pixels_fji
    bright: npt.NDArray[np.float32] = picture.pixels_fji @ np.array(_LUMA, np.float32)
    return bright
