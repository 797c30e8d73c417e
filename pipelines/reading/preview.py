"""The small picture of a case: the slice that shows most of the AI's result, with its outline.

Made in the node and kept in memory alone. Corrections are never drawn: a picture is everybody's.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy
from PIL import Image
from pydicom import dcmread

from dicom.archive import Archive
from dicom.errors import ArchiveMismatch, InputError, NotFound
from dicom.frames import FrameSource, read_frames
from dicom.part10 import quiet_pydicom
from dicom.volume import Grid
from pipelines.corrections import SourceGrids
from pipelines.corrections.objects import DrawnObject, read_object
from pipelines.store import Studies, Worklist

SIDE_PX: Final = 160
_MOST_KEPT: Final = 2000  # of about 15 kB each
_TINT: Final = 0.35
_DARKEST, _BRIGHTEST = 1.0, 99.5  # percentiles

Picture = npt.NDArray[np.uint8]


class Previews:
    """Small pictures of cases; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    worklist : Worklist
        Says what of a case is shown.
    """

    def __init__(
        self, archive: Archive, studies: Studies, grids: SourceGrids, worklist: Worklist
    ) -> None:
        self._archive = archive
        self._studies = studies
        self._grids = grids
        self._worklist = worklist
        self._kept: OrderedDict[tuple[str, str | None, str | None], bytes] = OrderedDict()
        self._lock = Lock()
        self._making = BoundedSemaphore(1)  # a page asks for fifty at once; readers need the cores

    def png(self, case_id: str) -> bytes:
        """Return the picture of a case, 160 pixels at its longer side.

        Raises
        ------
        NotFound
            When there is no such case, or it has no images.
        InputError
            When its images cannot be read, or are no pictures.
        PeerError
            When the archive does not answer.
        """
        shown = self._worklist.shown(case_id)
        key = (shown.series_id, shown.fingerprint, shown.result_id)
        kept = self._recall(key)
        if kept is None:
            with self._making:
                kept = self._recall(key) or self._make(shown.series_id, shown.result_id)
            with self._lock:
                self._kept[key] = kept
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        return kept

    def _recall(self, key: tuple[str, str | None, str | None]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _make(self, series_id: str, result_id: str | None) -> bytes:
        archived = self._archive.series(self._studies.series(series_id).orthanc_id)
        grids = self._grids.of(archived).grids
        if not grids:
            raise NotFound("the case has no images")
        labels, grid = None, grids[0]
        if result_id is not None:
            with suppress(ArchiveMismatch):  # somebody deleted it: the image is still one
                labels, grid = _labels(self._archive.instance_bytes(result_id), grids)
        k = _slice_of(labels, grid)
        picture = _grey(grid, k)
        if labels is not None:
            picture = _outlined(picture, labels, k)
        return _png(picture, grid)


def _labels(content: bytes, grids: tuple[Grid, ...]) -> tuple[DrawnObject | None, Grid]:
    """Return the segmentation on the grid that it fits; None where it fits none."""
    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
        for grid in grids:
            try:
                drawn = read_object(content, grid, Path(folder))
            except InputError:
                continue
            if any(crop.voxels_kji.size for crop in drawn.masks.crops.values()):
                return drawn, grid
    return None, grids[0]


def _slice_of(labels: DrawnObject | None, grid: Grid) -> int:
    """Return the slice that shows most of a result; without one, the middle."""
    if labels is None:
        return grid.shape_kji[0] // 2
    areas = np.zeros(grid.shape_kji[0])
    for crop in labels.masks.crops.values():
        if crop.voxels_kji.size:
            areas[crop.within()[0]] += np.count_nonzero(crop.voxels_kji, axis=(1, 2))
    return int(areas.argmax())


def _grey(grid: Grid, k: int) -> Picture:
    """Return one slice as people look at it, shape (rows, columns, 3)."""
    source = grid.sources[k]
    frame: npt.NDArray[Any] = read_frames(
        [FrameSource(source.instance.path, (source.frame_number or 1) - 1)], workers=1
    )[0]
    if frame.ndim == 3 and frame.dtype == np.uint8:
        return frame
    values = frame.astype(np.float32)
    if values.ndim == 3:
        values = values.mean(axis=2)
    low, high = np.percentile(values, (_DARKEST, _BRIGHTEST))
    grey = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1)
    with quiet_pydicom():
        header = dcmread(source.instance.path, specific_tags=["PhotometricInterpretation"])
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 1 - grey
    return np.repeat((grey * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _outlined(picture: Picture, labels: DrawnObject, k: int) -> Picture:
    """Return the slice with what was found tinted, and its outline in full colour."""
    painted = picture.astype(np.float32)
    for number, crop in labels.masks.crops.items():
        slices, rows, columns = crop.within()
        if not slices.start <= k < slices.stop:
            continue
        inside_ji = np.zeros(picture.shape[:2], np.bool_)
        inside_ji[rows, columns] = crop.voxels_kji[k - slices.start] != 0
        colour = np.array(labels.things[number - 1].rgb, np.float32)
        painted[inside_ji] = (1 - _TINT) * painted[inside_ji] + _TINT * colour
        width = max(1, max(picture.shape[:2]) // SIDE_PX)  # a pixel of the small picture
        inner_ji = scipy.ndimage.binary_erosion(inside_ji, iterations=width)
        painted[inside_ji & ~inner_ji] = colour
    return painted.astype(np.uint8)


def _png(picture: Picture, grid: Grid) -> bytes:
    """Return the picture at its size, with the pixels as wide and as high as they are."""
    _, row_mm, column_mm = grid.spacing_kji
    height, width = picture.shape[0] * row_mm, picture.shape[1] * column_mm
    scale = SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    out = BytesIO()
    Image.fromarray(picture).resize(size, Image.Resampling.BOX).save(out, "PNG", optimize=True)
    return out.getvalue()
