"""The geometry gate: a result leaves only if it lies in the patient where the model put it.

A segmentation that is flipped, shifted by a slice or on the wrong side harms a patient. So what is
about to be stored is looked at once more, by code that shares nothing with the readers and writers
that made it: pydicom's own decoding, the object's own plane positions, and the headers of the
source images one by one. Three questions:

- :func:`check_voxels`: did the model see what the files hold, slice by slice?
- :func:`check_placed`: does each frame of the encoded object lie, pixel for pixel, where the
  source image of that slice lies, and refer to that image?
- :func:`check_sides`: are structures that are coded left and right on their sides?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import iter_pixels, pixel_array

from dicom.errors import WrongGeometry
from dicom.seg import Masks, Segment
from dicom.volume import Grid, SliceSource, Volume

Floats = npt.NDArray[np.float64]

_MM: Final = 0.01  # what decimal strings of 16 characters round to, and more
_TURN: Final = 1e-4
_SAMPLED: Final = 3
_LEFT, _RIGHT = "7771000", "24028007"  # SCT
_FEWEST: Final = 10  # voxels: fewer have no side worth a refusal
_APART_MM: Final = 5.0
_OFF_SHARE: Final = 0.15  # of the body's width, beyond the midline
_AIR_HU: Final = -300.0
_HEADER: Final = [
    "SOPInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, slots=True, eq=False)
class _Plane:
    """Where one image lies, as its own header says; LPS, mm."""

    position: Floats
    orientation: Floats  # direction of a row's pixels, then of a column's
    spacing: Floats  # between rows, between columns
    uid: str
    frame: int | None

    @property
    def normal(self) -> Floats:
        return np.cross(self.orientation[:3], self.orientation[3:])

    def lies_like(self, other: _Plane) -> bool:
        return bool(
            np.abs(self.position - other.position).max() < _MM
            and np.abs(self.orientation - other.orientation).max() < _TURN
            and np.abs(self.spacing - other.spacing).max() < _MM
        )


# --- what the model saw ---------------------------------------------------------------------------


def check_voxels(volume: Volume) -> None:
    """Make sure that a volume's slices are those of their files, by pydicom's own decoding.

    The first, the middle and the last slice are compared value for value; every position is read
    from its file. A volume whose tilt was mended has no slices of its own and is not compared.

    Raises
    ------
    WrongGeometry
        When a slice holds other values than its file, or slices do not run along the normal.
    """
    if volume.shear is not None:
        return
    count = volume.shape_kji[0]
    for k in sorted({0, count // 2, count - 1})[:_SAMPLED]:
        found_ji = _decoded(volume.sources[k])
        if found_ji.shape != volume.voxels_kji[k].shape or not np.allclose(
            volume.voxels_kji[k], found_ji, rtol=1e-4, atol=1e-3
        ):
            raise WrongGeometry(f"slice {k} of the volume is not what its file holds")
    planes = _planes(volume.sources)
    along = np.array([plane.position @ planes[0].normal for plane in planes])
    if count > 1 and (np.diff(along) <= 0).any():
        raise WrongGeometry("the volume's slices do not run along their normal")


def _decoded(source: SliceSource) -> Floats:
    ds = dcmread(source.instance.path)
    index = None if source.frame_number is None else source.frame_number - 1
    stored = pixel_array(source.instance.path, index=index)
    if index is None:
        return np.asarray(apply_modality_lut(stored, ds), np.float64)
    shared = ds.SharedFunctionalGroupsSequence[0]
    group = ds.PerFrameFunctionalGroupsSequence[index]
    rescale = _macro(group, shared, "PixelValueTransformationSequence")
    if rescale is None:
        return np.asarray(stored, np.float64)
    return stored * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)


# --- where the object lies ------------------------------------------------------------------------


def check_placed(
    path: Path,
    segments: npt.NDArray[np.generic] | Masks,
    source: Grid,
    *,
    names: Mapping[str, str] | None = None,
) -> None:
    """Make sure that an encoded Segmentation lies in the patient where the model put it.

    Parameters
    ----------
    path : Path
        The object as it is about to be stored.
    segments : ndarray or Masks
        The prediction on the source's slices: segment number per voxel, shape (slices, rows,
        columns), or masks.
    source : Grid
        Which file each slice came from; positions are read from those files.
    names : Mapping, optional
        From the source files' SOP Instance UIDs to those that the object refers to them by.

    Raises
    ------
    WrongGeometry
        When a frame lies elsewhere, holds other pixels, refers to another image, or one that was
        predicted is missing.
    """
    ds = dcmread(path)
    planes = _planes(source.sources)
    normal = planes[0].normal
    at = {round(float(plane.position @ normal) / _MM): k for k, plane in enumerate(planes)}
    seen: set[tuple[int, int]] = set()
    for number, plane, referred, frame_ji in _frames(ds):
        k = _nearest(at, float(plane.position @ normal))
        if k is None or not plane.lies_like(planes[k]):
            raise WrongGeometry("a frame of the result lies where no source image is")
        _check_reference(referred, planes[k], names or {})
        if frame_ji.shape != source.shape_kji[1:]:
            raise WrongGeometry("a frame of the result has another size than its source image")
        wanted_ji = _wanted(segments, number, k)
        if not np.array_equal(frame_ji if number == 0 else frame_ji != 0, wanted_ji):
            raise WrongGeometry(f"a frame of the result is not the prediction on slice {k}")
        seen.add((number, k))
    for number, k in _expected(segments):
        if (number, k) not in seen and (0, k) not in seen:
            raise WrongGeometry(f"the prediction on slice {k} is missing in the result")


def _planes(sources: Sequence[SliceSource]) -> list[_Plane]:
    """Return where each slice lies, from its own file."""
    headers: dict[Path, Dataset] = {}
    planes = []
    for source in sources:
        path = source.instance.path
        if path not in headers:
            headers[path] = dcmread(path, specific_tags=_HEADER, stop_before_pixels=True)
        planes.append(_plane_of(headers[path], source.frame_number))
    return planes


def _plane_of(ds: Dataset, frame: int | None) -> _Plane:
    if frame is None:
        return _Plane(
            np.array(ds.ImagePositionPatient, np.float64),
            np.array(ds.ImageOrientationPatient, np.float64),
            np.array(ds.PixelSpacing, np.float64),
            str(ds.SOPInstanceUID),
            None,
        )
    shared = ds.SharedFunctionalGroupsSequence[0]
    group = ds.PerFrameFunctionalGroupsSequence[frame - 1]
    return _grouped_plane(group, shared, str(ds.SOPInstanceUID), frame)


def _grouped_plane(group: Dataset, shared: Dataset, uid: str, frame: int | None) -> _Plane:
    position = _macro(group, shared, "PlanePositionSequence")
    orientation = _macro(group, shared, "PlaneOrientationSequence")
    measures = _macro(group, shared, "PixelMeasuresSequence")
    if position is None or orientation is None or measures is None:
        raise WrongGeometry("a frame does not say where it lies")
    return _Plane(
        np.array(position.ImagePositionPatient, np.float64),
        np.array(orientation.ImageOrientationPatient, np.float64),
        np.array(measures.PixelSpacing, np.float64),
        uid,
        frame,
    )


def _macro(group: Dataset, shared: Dataset, keyword: str) -> Dataset | None:
    for place in (group, shared):
        items = place.get(keyword)
        if items:
            item: Dataset = items[0]
            return item
    return None


def _frames(
    ds: Dataset,
) -> Iterator[tuple[int, _Plane, list[tuple[str, int | None]], npt.NDArray[np.generic]]]:
    """Yield (segment, plane, what it refers to, pixels) of each frame; segment 0 is a label map."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    is_map = ds.SegmentationType == "LABELMAP"
    groups = ds.PerFrameFunctionalGroupsSequence
    for group, frame_ji in zip(groups, iter_pixels(ds), strict=True):
        number = 0
        if not is_map:
            identified = _macro(group, shared, "SegmentIdentificationSequence")
            if identified is None:
                raise WrongGeometry("a frame does not say which segment it shows")
            number = int(identified.ReferencedSegmentNumber)
        yield number, _grouped_plane(group, shared, "", None), _referred(group, shared), frame_ji


def _referred(group: Dataset, shared: Dataset) -> list[tuple[str, int | None]]:
    derivation = _macro(group, shared, "DerivationImageSequence")
    images = derivation.get("SourceImageSequence", []) if derivation is not None else []
    found = []
    for image in images:
        frame = image.get("ReferencedFrameNumber")
        number = int(frame) if isinstance(frame, int | str) else None
        found.append((str(image.ReferencedSOPInstanceUID), number))
    return found


def _check_reference(
    referred: list[tuple[str, int | None]], plane: _Plane, names: Mapping[str, str]
) -> None:
    wanted = (names.get(plane.uid, plane.uid), plane.frame)
    if referred and wanted not in referred:
        raise WrongGeometry("a frame of the result refers to another image than the one it is on")


def _nearest(at: Mapping[int, int], distance: float) -> int | None:
    step = round(distance / _MM)
    return next((at[near] for near in (step, step - 1, step + 1) if near in at), None)


def _wanted(
    segments: npt.NDArray[np.generic] | Masks, number: int, k: int
) -> npt.NDArray[np.generic]:
    if not isinstance(segments, Masks):
        plane_ji = segments[k]
        return plane_ji if number == 0 else np.asarray(plane_ji == number)
    wanted_ji = np.zeros(segments.shape_kji[1:], np.uint16 if number == 0 else np.bool_)
    for one, crop in segments.crops.items():
        first, j, i = crop.corner_kji
        if number not in (0, one) or not first <= k < first + crop.voxels_kji.shape[0]:
            continue
        inside = crop.voxels_kji[k - first] > 0
        part = wanted_ji[j : j + inside.shape[0], i : i + inside.shape[1]]
        part[inside] = one if number == 0 else True
    return wanted_ji


def _expected(segments: npt.NDArray[np.generic] | Masks) -> Iterator[tuple[int, int]]:
    """Yield (segment, slice) of every slice that has a voxel of it."""
    if isinstance(segments, Masks):
        for number, crop in segments.crops.items():
            for k in np.flatnonzero(crop.voxels_kji.any(axis=(1, 2))).tolist():
                yield number, crop.corner_kji[0] + k
        return
    for k, plane_ji in enumerate(segments):
        counts = np.bincount(plane_ji.ravel(), minlength=1)
        for number in np.flatnonzero(counts[1:]).tolist():
            yield number + 1, k


# --- left and right -------------------------------------------------------------------------------


def check_sides(
    masks: Masks, segments: Sequence[Segment], affine_lps: Floats, volume: Volume | None = None
) -> None:
    """Make sure that what is coded left lies on the patient's left of what is coded right.

    A pair (the same type and region, one left, one right) is judged by its two centres. A single
    sided structure is judged by the middle of the body, and only where the whole width of the body
    is in the image: it must not lie beyond the midline by more than 15 % of that width. Small
    structures, crossing ones, and images of one side are not judged; organs that lie on the other
    side by nature (situs inversus) keep their left and right.

    Parameters
    ----------
    masks : Masks
        Of each segment number.
    segments : sequence of Segment
        With their codes.
    affine_lps : ndarray, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm; x grows to the patient's left.
    volume : Volume, optional
        The image, to find the body in; without it only pairs are judged.

    Raises
    ------
    WrongGeometry
        When sides are exchanged.
    """
    centres: dict[tuple[str, str], dict[str, float]] = {}
    for segment in segments:
        side = segment.laterality.value if segment.laterality else ""
        crop = masks.crops.get(segment.number)
        if side not in (_LEFT, _RIGHT) or crop is None or int(crop.voxels_kji.sum()) < _FEWEST:
            continue
        index = np.argwhere(crop.voxels_kji).mean(axis=0) + crop.corner_kji
        x = float((affine_lps @ [*index, 1.0])[0])
        kind = (segment.type.value, segment.region.value if segment.region else "")
        centres.setdefault(kind, {})[side] = x
    middle = _middle(volume) if volume is not None else None
    for sides in centres.values():
        if len(sides) == 2:
            if sides[_RIGHT] - sides[_LEFT] > _APART_MM:
                raise WrongGeometry("a left and a right structure are on each other's side")
        elif middle is not None:
            ((side, x),) = sides.items()
            beyond = (middle[0] - x) if side == _LEFT else (x - middle[0])
            if beyond > _OFF_SHARE * middle[1]:
                raise WrongGeometry("a one-sided structure lies on the other side of the body")


def _middle(volume: Volume) -> tuple[float, float] | None:
    """Return the x of the body's midline and its width; None where the body is cut off."""
    steps = volume.affine_lps[:3, :3]
    directions = steps / np.linalg.norm(steps, axis=0)
    axis = int(np.argmax(np.abs(directions[0])))  # the grid's axis that runs most right to left
    if abs(directions[0, axis]) < np.cos(np.deg2rad(30)):
        return None
    thin = volume.voxels_kji[::2, ::4, ::4] if volume.shape_kji[0] > 1 else volume.voxels_kji
    scale = np.array([2.0, 4.0, 4.0]) if volume.shape_kji[0] > 1 else np.ones(3)
    body = np.asarray(thin > (_AIR_HU if volume.unit == "HU" else float(thin.mean())))
    profile = np.asarray(body.any(axis=tuple(a for a in range(3) if a != axis)))
    found = np.flatnonzero(profile)
    if not found.size or profile[0] or profile[-1]:
        return None
    middle = np.argwhere(body).mean(axis=0) * scale
    x = float((volume.affine_lps @ [*middle, 1.0])[0])
    width = (found[-1] - found[0] + 1) * scale[axis] * float(np.linalg.norm(steps[:, axis]))
    return x, float(width)
