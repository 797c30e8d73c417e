"""Whether the model saw what the files hold, slice by slice, as pydicom decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array

from dicom.errors import WrongGeometry
from dicom.gate.places import TURN, Floats, Place, read_sources, tolerance_mm
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.volume import SliceSource, Volume

_ROUNDED: Final = 0.501  # what interpolated values of whole numbers lose
_WITHOUT_UNIT: Final = ""


def check_voxels(volume: Volume) -> None:
    """Make sure that a volume's slices are those of their files, by pydicom's own decoding.

    The first, the middle and the last slice are compared value for value; every position is read
    from its file, and the grid has to put every slice there. Of a volume whose tilt was mended, the
    slices lie between the files' pixels: its grid is compared, and its values within what linear
    interpolation leaves of them.

    Raises
    ------
    WrongGeometry
        When a slice holds other values than its file, or lies elsewhere.
    """
    source = volume.source
    sources = read_sources(source.sources)
    if len(sources) != source.shape_kji[0]:
        raise WrongGeometry("the volume has another number of slices than sources")
    _check_grid(source.affine_lps, [each.place for each in sources])
    count = len(sources)
    for k in sorted({0, count // 2, count - 1}):
        found_ji = _decoded(volume.sources[k], unit=volume.unit)
        if found_ji.shape != source.shape_kji[1:]:
            raise WrongGeometry(f"slice {k} of the volume has another size than its file")
        if not _shows(volume, k, found_ji, sources[k].place):
            raise WrongGeometry(f"slice {k} of the volume is not what its file holds")


def _check_grid(affine_lps: Floats, places: Sequence[Place]) -> None:
    """Hold a grid against where each file says that it lies."""
    if not all(place.known for place in places):
        raise WrongGeometry("a source image does not say where it lies")
    within_mm = tolerance_mm(places)
    for k, place in enumerate(places):
        row, column = np.array(place.orientation[:3]), np.array(place.orientation[3:])
        steps = np.column_stack([column * place.spacing[0], row * place.spacing[1]])
        off_mm = affine_lps[:3, 0] * k + affine_lps[:3, 3] - place.position
        turned = np.abs(affine_lps[:3, 1:3] - steps).max() / min(place.spacing)
        if not (np.abs(off_mm).max() < within_mm and turned < TURN):  # NaN is never below
            raise WrongGeometry(f"slice {k} of the volume lies elsewhere than its file")
    heights = [place.height for place in places]
    if not (np.diff(heights) > 0).all():
        raise WrongGeometry("the volume's slices do not run along their normal")


def _shows(volume: Volume, k: int, found_ji: Floats, place: Place) -> bool:
    """Whether slice k of the volume shows what its file holds, where the file says it lies."""
    slice_ji = volume.voxels_kji[k]
    if volume.shear is None:
        return found_ji.shape == slice_ji.shape and np.allclose(
            slice_ji, found_ji, rtol=1e-4, atol=1e-3
        )
    j, i = np.indices(slice_ji.shape)
    points = volume.affine_lps[:3, :3] @ np.stack([np.full(j.size, k), j.ravel(), i.ravel()])
    off = points + (volume.affine_lps[:3, 3] - place.position)[:, None]
    if np.abs(place.normal @ off).max() > tolerance_mm([place]):
        return False
    at_j = np.array(place.orientation[3:]) @ off / place.spacing[0]
    at_i = np.array(place.orientation[:3]) @ off / place.spacing[1]
    rows, columns = found_ji.shape
    inside = (at_j >= 0) & (at_j <= rows - 1) & (at_i >= 0) & (at_i <= columns - 1)
    wanted = scipy.ndimage.map_coordinates(found_ji, [at_j[inside], at_i[inside]], order=1)
    off_by = np.abs(slice_ji.ravel()[inside] - wanted)
    scale = max(1.0, float(np.abs(found_ji).max()))
    return bool(inside.any() and (off_by <= _ROUNDED + 1e-4 * scale).all())


def _decoded(source: SliceSource, *, unit: str) -> Floats:
    """Return a slice's values as pydicom decodes and rescales them."""
    with quiet_pydicom():
        try:
            ds = dcmread(source.instance.path)
            index = None if source.frame_number is None else source.frame_number - 1
            stored = pixel_array(ds, index=index)
            if ds.PhotometricInterpretation == "MONOCHROME1" and unit == _WITHOUT_UNIT:
                stored = _turned(stored, ds)
            if "PerFrameFunctionalGroupsSequence" not in ds:
                return np.asarray(apply_modality_lut(stored, ds), np.float64)
            group = ds.PerFrameFunctionalGroupsSequence[index or 0]
            rescale = _rescale(group) or _rescale(ds.SharedFunctionalGroupsSequence[0])
        except (*PARSER_ERRORS, RuntimeError):  # the last one is pydicom's decoders'
            raise WrongGeometry("a source image cannot be decoded again") from None
    if rescale is None:
        return np.asarray(stored, np.float64)
    return stored * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)


def _turned(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[Any]:
    """Return values of MONOCHROME1 so that large is bright: within BitsStored (C.7.6.3.1.2)."""
    low = -(1 << ds.BitsStored - 1) if ds.PixelRepresentation else 0
    turned: npt.NDArray[Any] = 2 * low + (1 << ds.BitsStored) - 1 - stored.astype(np.int64)
    return turned


def _rescale(group: Dataset) -> Dataset | None:
    items = group.get("PixelValueTransformationSequence")
    return items[0] if items else None
