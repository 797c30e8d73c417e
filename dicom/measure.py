"""What can be measured of a segment on its image: size, diameters, values.

Every figure is one of the voxels' centres and sizes, so that another program that counts the same
voxels gets the same number. What makes no sense is not given: no diameter without a distance
between voxels, no volume of a single slice, no area of several, no millimetre where the pixels'
size is known at the detector or on the film only, no value in a unit that the image does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy

from dicom.seg import Crop, Masks
from dicom.volume import Picture, Volume

Floats = npt.NDArray[np.float64]

_FEW: Final = 64  # points whose distances are all looked at: a hull costs more
_DEGENERATE: Final = 1e-6  # mm
_IN_THE_PATIENT: Final = ("PixelSpacing", "PhysicalDelta")  # not magnified, not of a film


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one segment; None for what cannot be measured.

    Attributes
    ----------
    number : int
        Segment number.
    voxels : int
    volume_ml : float or None
        Voxels times their size; None on a single slice.
    axial_diameter_mm : float or None
        The longest distance between two of its voxel centres in one plane of the grid, of those
        planes that lie nearest to the patient's axial ones; of a picture, in the picture.
    diameter_mm : float or None
        The longest distance between any two of its voxel centres; None on a single slice.
    mean, sd, minimum, maximum : float or None
        Of the values within, in `unit`; `sd` with the divisor n - 1, None of a single voxel.
    unit : str
        ``HU``, ``SUVbw``, PET's own such as ``BQML``, or empty where values have none (MR).
    area_mm2 : float or None
        Pixels times their size, on a single slice or picture; None on several, and where nothing
        says how large a pixel is in the patient.
    """

    number: int
    voxels: int
    volume_ml: float | None
    axial_diameter_mm: float | None
    diameter_mm: float | None
    mean: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None
    unit: str
    area_mm2: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """What is measured on: values, and the steps between voxels as columns, LPS or image, mm."""

    values_kji: npt.NDArray[Any] | None  # None of colours
    steps: Floats | None  # None where they are not known
    unit: str
    factor: float = 1.0
    volumetric: bool = False  # several slices, which make a volume
    flat: bool = False  # a single one


def measure(segments: npt.NDArray[np.generic] | Masks, volume: Volume) -> tuple[Measured, ...]:
    """Measure every segment.

    Parameters
    ----------
    segments : ndarray or Masks
        Segment number per voxel, shape (slices, rows, columns), 0 is background, on the volume's
        own grid; or masks, which may overlap. Shares of a voxel count from a half.
    volume : Volume
        Values and LPS affine, mm. A PET volume that says what SUVbw needs is measured in that.

    Returns
    -------
    tuple of Measured
        By segment number; segments without a voxel among them where `segments` are masks.

    Raises
    ------
    ValueError
        When the shapes differ: a bug, not bad input.
    """
    masks = segments if isinstance(segments, Masks) else masks_of(segments)
    if masks.shape_kji != volume.shape_kji:
        raise ValueError(f"segments of shape {masks.shape_kji}, volume of {volume.shape_kji}")
    factor = 1.0 if volume.suv_factor is None else volume.suv_factor
    unit = volume.unit if volume.suv_factor is None else "SUVbw"
    image = _Image(
        volume.voxels_kji,
        volume.affine_lps[:3, :3],
        unit,
        factor,
        volumetric=volume.shape_kji[0] > 1,
        flat=volume.shape_kji[0] == 1,
    )
    return tuple(_measured(number, crop, image) for number, crop in sorted(masks.crops.items()))


def measure_pictures(
    segments: npt.NDArray[np.generic] | Masks, pictures: Sequence[Picture]
) -> tuple[Measured, ...]:
    """Measure every segment on images that have no place in a patient.

    Parameters
    ----------
    segments : ndarray or Masks
        Shape (pictures' frames, rows, columns), as :func:`measure` takes them.
    pictures : sequence of Picture
        Of one size, one behind the other. Colours are not measured; lengths and areas are given
        where a pixel's size in the patient is known and is the same in all of them.

    Raises
    ------
    ValueError
        When the shapes differ: a bug, not bad input.
    """
    masks = segments if isinstance(segments, Masks) else masks_of(segments)
    frames = sum(picture.shape_fji[0] for picture in pictures)
    if masks.shape_kji != (frames, *pictures[0].shape_fji[1:]):
        raise ValueError(f"segments of shape {masks.shape_kji}, {frames} pictures")
    sizes = {
        (each.row_mm, each.column_mm)
        if each is not None and each.attribute in _IN_THE_PATIENT
        else None
        for each in (picture.spacing for picture in pictures)
    }
    known = len(sizes) == 1 and None not in sizes
    grey = not any(picture.is_colour for picture in pictures)
    image = _Image(
        np.concatenate([picture.pixels_fji for picture in pictures]) if grey else None,
        pictures[0].affine_image[:3, :3] if known else None,
        "",
        volumetric=False,
        flat=frames == 1,
    )
    return tuple(_measured(number, crop, image) for number, crop in sorted(masks.crops.items()))


def _measured(number: int, crop: Crop, image: _Image) -> Measured:
    fractional = crop.voxels_kji.dtype.kind == "f"
    mask_kji = np.asarray(crop.voxels_kji >= 0.5 if fractional else crop.voxels_kji, np.bool_)
    count = int(mask_kji.sum())
    steps = image.steps
    values = np.zeros(0)
    if count and image.values_kji is not None:
        values = image.values_kji[crop.within()][mask_kji].astype(np.float64) * image.factor
    volume_ml = area_mm2 = across_mm = diameter_mm = None
    if steps is not None:
        if image.volumetric:
            volume_ml = count * abs(float(np.linalg.det(steps))) / 1000.0
        if image.flat:
            area_mm2 = count * float(np.linalg.norm(np.cross(steps[:, 1], steps[:, 2])))
        if count:
            across_mm = _longest_in_planes(mask_kji, steps)
        if count and image.volumetric:
            diameter_mm = _longest(_outermost(mask_kji), steps)
    return Measured(
        number=number,
        voxels=count,
        volume_ml=volume_ml,
        axial_diameter_mm=across_mm,
        diameter_mm=diameter_mm,
        mean=float(values.mean()) if values.size else None,
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        minimum=float(values.min()) if values.size else None,
        maximum=float(values.max()) if values.size else None,
        unit=image.unit,
        area_mm2=area_mm2,
    )


def masks_of(labels_kji: npt.NDArray[np.generic]) -> Masks:
    """Return the segments of a label map, each in its box.

    Parameters
    ----------
    labels_kji : ndarray, shape (slices, rows, columns)
        Segment number per voxel; 0 is background. Looked through once, not once a label.
    """
    slices, rows, columns = labels_kji.shape
    low: dict[int, list[int]] = {}
    high: dict[int, list[int]] = {}
    for k in range(slices):
        plane_ji = labels_kji[k]
        found_j = np.flatnonzero(plane_ji.any(axis=1))
        if not found_j.size:
            continue
        part = plane_ji[found_j[0] : found_j[-1] + 1]
        for number in np.unique(part[part != 0]).tolist():
            inside = part == number
            js, is_ = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            first = [k, int(js[0] + found_j[0]), int(is_[0])]
            last = [k, int(js[-1] + found_j[0]), int(is_[-1])]
            before = low.setdefault(number, first)
            low[number] = [min(a, b) for a, b in zip(before, first, strict=True)]
            after = high.setdefault(number, last)
            high[number] = [max(a, b) for a, b in zip(after, last, strict=True)]
    crops = {}
    for number, (k, j, i) in low.items():
        box = tuple(slice(a, b + 1) for a, b in zip((k, j, i), high[number], strict=True))
        crops[number] = Crop((k, j, i), labels_kji[box] == number)
    return Masks((slices, rows, columns), crops)


# --- diameters ------------------------------------------------------------------------------------


def _longest_in_planes(mask_kji: npt.NDArray[np.bool_], steps: Floats) -> float:
    """Return the longest distance within one of the planes that lie nearest to axial ones."""
    directions = steps / np.linalg.norm(steps, axis=0)
    axis = int(np.argmax(np.abs(directions[2])))  # the grid's axis that runs most head to foot
    planes = np.moveaxis(mask_kji, axis, 0)
    others = [other for other in range(3) if other != axis]
    rest = steps[:, others]
    bounds = []
    for number, plane in enumerate(planes):
        a, b = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        if a.size:
            spans = np.array([a[-1] - a[0], b[-1] - b[0]], np.float64)
            sizes = np.linalg.norm(rest, axis=0) * spans
            bounds.append((float(sizes.sum()), number))
    longest = 0.0
    for bound, number in sorted(bounds, reverse=True):
        if bound <= longest:  # no later plane can hold a longer one
            break
        longest = max(longest, _longest(_outermost(planes[number]), rest))
    return longest


def _outermost(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the indices of voxels that are first or last along every axis.

    No others can be corners of the hull.
    """
    corners = mask.copy()
    for axis in range(mask.ndim):
        ends = np.zeros_like(mask)
        moved, target = np.moveaxis(mask, axis, 0), np.moveaxis(ends, axis, 0)
        lines = moved.any(axis=0)
        first = moved.argmax(axis=0)
        last = moved.shape[0] - 1 - moved[::-1].argmax(axis=0)
        places = np.nonzero(lines)
        target[(first[places], *places)] = True
        target[(last[places], *places)] = True
        corners &= ends
    return np.argwhere(corners)


def _longest(index: npt.NDArray[np.intp], steps: Floats) -> float:
    """Return the longest distance between points, mm."""
    points = index.astype(np.float64) @ steps.T
    if len(points) < 2:
        return 0.0
    if len(points) > _FEW:
        points = _hull(points)
    return float(scipy.spatial.distance.pdist(points).max())


def _hull(points: Floats) -> Floats:
    """Return the corners of the points' convex hull, in as many dimensions as they span."""
    centred = points - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    spanned = centred @ directions[sizes > _DEGENERATE * max(1.0, sizes[0])].T
    if spanned.shape[1] < 2:
        return points[[int(spanned[:, 0].argmin()), int(spanned[:, 0].argmax())]]
    try:
        corners = scipy.spatial.ConvexHull(spanned).vertices
    except scipy.spatial.QhullError:  # numerically flat after all: look at every point
        return points
    return np.asarray(points[corners], np.float64)
