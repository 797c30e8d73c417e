"""A segmentation of the archive as a labels document: what a viewer loads instead of its frames.

Twenty structures on a hundred slices are two thousand frames and 16 MB as a SEG; as labels, 50 kB.
Contours of an RTSTRUCT become voxels by their centres: they are seen and mended likewise.
"""

from __future__ import annotations

import colorsys
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom.archive import Archive
from dicom.errors import ArchiveMismatch, ForeignSegmentation, InvalidLabels, NotFound
from dicom.header import read_header
from dicom.rtstruct import STORAGE as STRUCTURES_STORAGE
from dicom.seg import Masks, decode_seg
from dicom.volume import Grid
from pipelines.corrections.objects import read_object
from pipelines.corrections.source import SourceGrids
from pipelines.labels import DrawnSegment, Head, Referenced, layers_of, write_labels

_KEPT: Final = 32
_NAMES: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID")
_Key = tuple[str, tuple[str, ...]]


class StoredLabels:
    """Segmentations of one archive; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    grids : SourceGrids
        The series that they lie on.
    """

    def __init__(self, archive: Archive, grids: SourceGrids) -> None:
        self._archive = archive
        self._grids = grids
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._lock = Lock()

    def document(self, study_uid: str, series_uid: str, sop_instance_uid: str) -> bytes:
        """Return a segmentation's labels document: numbered, named and coloured as it is stored.

        Parameters
        ----------
        study_uid, series_uid : str
            Of the images that it lies on.
        sop_instance_uid : str
            Its own.

        Raises
        ------
        NotFound
            When the archive does not hold it, or not those images.
        ForeignSegmentation
            When it belongs to another study, or does not lie on those images.
        OverlappingSegments, InvalidLabels
            When one label map of 8 bits does not hold it: its frames say more.
        InputError, PeerError
            When it, or a series, cannot be read.
        """
        found = self._grids.series(study_uid, series_uid)
        key = sop_instance_uid, tuple(one.file_uuid for one in found.archived.instances)
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
        if known is not None and self._archive.holds(sop_instance_uid):
            return known
        if len(found.grids) != 1:
            raise ForeignSegmentation("the series holds several volumes")
        content = self._write(study_uid, sop_instance_uid, found.grids[0])
        with self._lock:
            self._kept[key] = content
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return content

    def _write(self, study_uid: str, sop_instance_uid: str, grid: Grid) -> bytes:
        try:
            content = self._archive.instance_bytes(sop_instance_uid)
        except ArchiveMismatch:
            raise NotFound("the archive holds no such segmentation") from None
        with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
            path = Path(folder, "stored.dcm")
            path.write_bytes(content)
            own_study, own_series, kind = (read_header(path, _NAMES).text(n) for n in _NAMES)
            if own_study != study_uid:
                raise ForeignSegmentation("the segmentation belongs to another study")
            labels: npt.NDArray[np.unsignedinteger] | Masks
            if kind == STRUCTURES_STORAGE:
                labels, segments = _contours(content, grid, Path(folder))
            else:
                labels, segments = _segments(path, grid)
        names, planes = layers_of(labels, grid)
        if any(plane_ji.dtype.itemsize > 1 for plane_ji in planes):
            raise InvalidLabels("more segments than 8 bits tell apart")
        _, rows, columns = grid.shape_kji
        head = Head(
            study_uid=study_uid,
            series_uid=grid.series_uid,
            rows=rows,
            columns=columns,
            bits=8,
            layers=tuple(tuple(layer) for layer in names),
            segments=segments,
            predecessor=Referenced(series_uid=own_series or "", sop_instance_uid=sop_instance_uid),
        )
        return write_labels(head, planes)


def _segments(
    path: Path, grid: Grid
) -> tuple[npt.NDArray[np.unsignedinteger], tuple[DrawnSegment, ...]]:
    decoded = decode_seg(path, grid)
    if decoded.kind == "FRACTIONAL":
        raise InvalidLabels("shares of voxels are no labels")
    return decoded.labels(), tuple(
        DrawnSegment(
            number=segment.number,
            label=segment.label or str(segment.number),
            colour=segment.rgb,
            origin=segment.number,
        )
        for segment in decoded.segments
    )


def _contours(content: bytes, grid: Grid, folder: Path) -> tuple[Masks, tuple[DrawnSegment, ...]]:
    """Return structures as masks; none has an origin: contours number no segments."""
    drawn = read_object(content, grid, folder)
    return drawn.masks, tuple(
        DrawnSegment(
            number=thing.number,
            label=thing.label or str(thing.number),
            colour=_colour(thing.number),
            origin=None,
        )
        for thing in drawn.things
    )


def _colour(number: int) -> tuple[int, int, int]:
    """Return a colour that tells neighbours in a list apart."""
    hue = (number * 0.618034) % 1.0  # the golden ratio: no two that follow are alike
    red, green, blue = colorsys.hls_to_rgb(hue, 0.6, 0.6)
    return round(red * 255), round(green * 255), round(blue * 255)
