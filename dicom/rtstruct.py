"""RT Structure Sets (PS3.3 A.19): contours that another system drew, as voxels of an image.

A contour is a polygon in the patient, in mm. A voxel belongs to it when its centre lies within;
where polygons of one structure lie in each other, the inner one is a hole (exclusive or). Contours
are taken to the slices that they lie on: what lies between slices, or across them, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from dicom.codes import Code
from dicom.errors import InvalidSegmentation, NotDicom, OtherGrid
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.seg import Crop, Masks
from dicom.volume import Grid

Floats = npt.NDArray[np.float64]

STORAGE: Final = "1.2.840.10008.5.1.4.1.1.481.3"
_CLOSED: Final = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_OFF_SLICE: Final = 0.35
"""How far a contour may lie from its slice, in steps: planning systems round positions."""
_MOST_POINTS: Final = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """One region of interest: its name, its codes where it has any, and its closed contours.

    Attributes
    ----------
    number : int
        ROINumber.
    code : Code or None
        RT ROI Identification Code.
    contours_lps : tuple of ndarray, shape (points, 3)
        LPS, mm; each closed by its first point.
    by_hand : bool
        Whether ROIGenerationAlgorithm says that a person drew or edited it, or does not say.
    """

    number: int
    name: str
    code: Code | None
    contours_lps: tuple[Floats, ...]
    by_hand: bool


@dataclass(frozen=True, slots=True, eq=False)
class StructureSet:
    """An RT Structure Set.

    Attributes
    ----------
    series_uids, instance_uids : frozenset of str
        What it says that it was drawn on; systems get these wrong more often than positions.
    frame_of_reference_uids : frozenset of str
    """

    structures: tuple[Structure, ...]
    series_uids: frozenset[str]
    instance_uids: frozenset[str]
    frame_of_reference_uids: frozenset[str]


def read_structures(source: Path | Dataset) -> StructureSet:
    """Read an RT Structure Set.

    Raises
    ------
    NotDicom
        When the file cannot be read.
    InvalidSegmentation
        When it is no RT Structure Set, or its contours are no polygons.
    """
    try:
        with quiet_pydicom():
            ds = source if isinstance(source, Dataset) else dcmread(source)
            return _read(ds)
    except PARSER_ERRORS as error:
        if isinstance(error, InvalidSegmentation):
            raise
        raise NotDicom("the structure set cannot be read") from None


def rasterise(structures: StructureSet, grid: Grid) -> Masks:
    """Return each structure's voxels, numbered from 1 in their order.

    Parameters
    ----------
    grid : Grid
        Of the image, in the frame of reference of the contours.

    Raises
    ------
    OtherGrid
        When a contour lies outside the image, between two slices, or across them.
    """
    inverse: Floats = np.linalg.inv(grid.affine_lps).astype(np.float64)
    crops = {
        number: _rasterised(structure, grid.shape_kji, inverse)
        for number, structure in enumerate(structures.structures, 1)
    }
    if not crops:
        raise InvalidSegmentation("the structure set holds no closed contour")
    return Masks(grid.shape_kji, crops)


# --- reading ------------------------------------------------------------------------------------


def _read(ds: Dataset) -> StructureSet:
    if ds.get("SOPClassUID") != STORAGE:
        raise InvalidSegmentation("the object is no RT Structure Set")
    codes = {
        int(item.ReferencedROINumber): item
        for item in ds.get("RTROIObservationsSequence") or ()
        if "ReferencedROINumber" in item
    }
    contours = {
        int(item.ReferencedROINumber): tuple(_polygons(item))
        for item in ds.get("ROIContourSequence") or ()
        if "ReferencedROINumber" in item
    }
    if sum(len(each) for polygons in contours.values() for each in polygons) > _MOST_POINTS:
        raise InvalidSegmentation("more points of contours than any structure set has")
    structures = []
    for item in ds.get("StructureSetROISequence") or ():
        number = int(item.ROINumber)
        polygons = contours.get(number, ())
        if polygons:
            structures.append(
                Structure(
                    number=number,
                    name=str(item.get("ROIName") or f"ROI {number}"),
                    code=_code(codes.get(number)),
                    contours_lps=polygons,
                    by_hand=item.get("ROIGenerationAlgorithm") != "AUTOMATIC",
                )
            )
    return StructureSet(tuple(structures), *_references(ds))


def _polygons(item: Dataset) -> Iterator[Floats]:
    for contour in item.get("ContourSequence") or ():
        if contour.get("ContourGeometricType") not in _CLOSED:
            continue
        numbers = np.asarray(contour.get("ContourData") or (), np.float64)
        if numbers.ndim != 1 or numbers.size % 3 or not np.isfinite(numbers).all():
            raise InvalidSegmentation("a contour is no list of places")
        if numbers.size >= 9:  # fewer than three points enclose nothing
            yield numbers.reshape(-1, 3)


def _code(observation: Dataset | None) -> Code | None:
    items = (observation or Dataset()).get("RTROIIdentificationCodeSequence") or ()
    try:
        return Code.from_dataset(items[0]) if items else None
    except ValueError:
        return None


def _references(ds: Dataset) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    series, instances, frames = set(), set(), set()
    for frame in ds.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(str(frame.get("FrameOfReferenceUID") or ""))
        for study in frame.get("RTReferencedStudySequence") or ():
            for one in study.get("RTReferencedSeriesSequence") or ():
                series.add(str(one.get("SeriesInstanceUID") or ""))
                for image in one.get("ContourImageSequence") or ():
                    instances.add(str(image.get("ReferencedSOPInstanceUID") or ""))
    for roi in ds.get("StructureSetROISequence") or ():
        frames.add(str(roi.get("ReferencedFrameOfReferenceUID") or ""))
    return frozenset(series - {""}), frozenset(instances - {""}), frozenset(frames - {""})


# --- polygons to voxels -------------------------------------------------------------------------


def _rasterised(structure: Structure, shape_kji: tuple[int, int, int], inverse: Floats) -> Crop:
    """Return the voxels whose centres lie within an odd number of a structure's polygons.

    Of each edge, the columns where it crosses the rows' centre lines are noted; whoever walks
    along a row changes sides at each of them. An edge owns its upper end and not its lower one, so
    that a corner is crossed once.
    """
    slices, rows, columns = shape_kji
    noted: dict[int, list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]] = {}
    for polygon_lps in structure.contours_lps:
        k, places = _on_slice(polygon_lps, inverse, slices)
        noted.setdefault(k, []).append(_crossings(places, rows, columns))
    if not noted:
        return Crop((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
    first, last = min(noted), max(noted)
    sides = np.zeros((last - first + 1, rows, columns + 1), np.uint8)
    for k, crossings in noted.items():
        for row, column in crossings:
            np.add.at(sides[k - first], (row, column), 1)
    inside = (np.cumsum(sides, axis=2, dtype=np.uint32)[:, :, :columns] & 1).astype(np.bool_)
    tight = Masks.of([inside]).crops[1]
    k, j, i = tight.corner_kji
    return Crop((k + first, j, i) if tight.voxels_kji.size else (0, 0, 0), tight.voxels_kji)


def _on_slice(polygon_lps: Floats, inverse: Floats, slices: int) -> tuple[int, Floats]:
    """Return the slice that a polygon lies on, and its points there (row, column)."""
    places = polygon_lps @ inverse[:3, :3].T + inverse[:3, 3]
    k = round(float(np.median(places[:, 0])))
    off = float(np.abs(places[:, 0] - k).max())
    if off > _OFF_SLICE and slices > 1:
        raise OtherGrid(f"a contour lies {off:.2f} steps off the slices of the series")
    if not 0 <= k < slices:
        raise OtherGrid("a contour lies outside the series")
    return k, places[:, 1:]


def _crossings(
    places: Floats, rows: int, columns: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where a polygon crosses the rows: the row, and the first column behind it."""
    starts, ends = places, np.roll(places, -1, axis=0)
    down = starts[:, 0] <= ends[:, 0]
    top = np.where(down[:, None], starts, ends)
    bottom = np.where(down[:, None], ends, starts)
    first = np.ceil(top[:, 0]).astype(np.intp)
    last = np.ceil(bottom[:, 0]).astype(np.intp)  # not crossed: the next edge owns it
    counts = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (row - top[edge, 0]) / (bottom[edge, 0] - top[edge, 0])
    column = np.ceil(top[edge, 1] + share * (bottom[edge, 1] - top[edge, 1])).astype(np.intp)
    inside = (row >= 0) & (row < rows)
    return row[inside], np.clip(column[inside], 0, columns)
