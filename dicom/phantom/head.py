"""A head sampled on a grid, and imaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicom.phantom.anatomy import Anatomy, Waves
from dicom.phantom.sculptor import Sculptor
from dicom.phantom.tissues import BRAIN, T1_SIGNAL, Tissue

Plane = Literal["sagittal", "axial", "coronal"]

_AXES: Mapping[Plane, tuple[tuple[float, ...], ...]] = {
    # direction of growing k, j, i in LPS, as scanners write them (k along the slice normal)
    "sagittal": ((-1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}
_TOP_MM = 96.0  # just above the skin of the vertex


def head_affine(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    plane: Plane = "sagittal",
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """Return the grid that a technician would lay over the phantom.

    Parameters
    ----------
    shape : tuple of int
        (slices, rows, columns).
    spacing_mm : tuple of float
        Of neighbouring slices, rows and columns.
    plane : {"sagittal", "axial", "coronal"}
    tilt_deg : tuple of float
        Turns of the grid about the patient's L, P and S axes: an oblique acquisition.

    Returns
    -------
    ndarray, float64, shape (4, 4)
        Maps (k, j, i, 1) to LPS mm; right-handed in (i, j, k) as PS3.3 C.7.6.2 has it.
    """
    about_x, about_y, about_z = np.radians(tilt_deg)
    turn = np.eye(3)
    for first, second, angle in ((1, 2, about_x), (2, 0, about_y), (0, 1, about_z)):
        one = np.eye(3)
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    directions = np.array(_AXES[plane]).T
    extent = np.abs(directions @ (np.array(spacing_mm) * shape))
    centre = np.array([0.0, -6.0, _TOP_MM - extent[2] / 2])
    affine = np.eye(4)
    affine[:3, :3] = turn @ directions * spacing_mm
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def head_tissues(
    seed: int,
    shape: tuple[int, int, int],
    affine_lps: NDArray[np.float64],
    *,
    anatomy: Anatomy | None = None,
) -> NDArray[np.uint8]:
    """Return the tissue of every voxel of one head.

    Parameters
    ----------
    seed : int
        Of the folds and all other irregularities and, without `anatomy`, of the measures.
    shape : tuple of int
        (slices, rows, columns).
    affine_lps : ndarray, shape (4, 4)
        Where the grid lies; see :func:`head_affine`.
    anatomy : Anatomy, optional
        The head's measures; drawn from `seed` when not given.

    Returns
    -------
    ndarray, uint8, shape `shape`
        Values of :class:`Tissue`.
    """
    rng = np.random.default_rng([seed, 0x6865616D])
    drawn = Anatomy.drawn(rng, variety=0.6)
    sculptor = Sculptor(anatomy or drawn, rng, affine_lps, shape[1], shape[2])
    return np.stack([sculptor.tissues(k) for k in range(shape[0])])


def head_around(
    seed: int,
    brain_kji: NDArray[np.bool_],
    affine_lps: NDArray[np.float64],
    *,
    anatomy: Anatomy | None = None,
) -> NDArray[np.uint8]:
    """Return a head that is built by the phantom's rules around the brain of somebody else.

    Parameters
    ----------
    seed : int
        Of skull, scalp, face and neck.
    brain_kji : ndarray, bool, shape (slices, rows, columns)
        The brain, in one piece, sulci and ventricles filled.
    affine_lps : ndarray, float64, shape (4, 4)
        Where it lies.
    anatomy : Anatomy, optional
        The head's measures, those of the brain left aside; drawn from `seed` when not given.

    Returns
    -------
    ndarray, uint8, shape of `brain_kji`
        Values of :class:`Tissue`; the whole of the brain is WHITE_MATTER.
    """
    rng = np.random.default_rng([seed, 0x61726F])
    anatomy = anatomy or Anatomy.drawn(rng, variety=0.6)
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    depth = ndimage.distance_transform_edt(brain_kji, sampling=spacing)
    depth -= ndimage.distance_transform_edt(~brain_kji, sampling=spacing)
    # Lay the brain's box over the box of the phantom's brain, so that face and neck find it.
    places = np.argwhere(brain_kji) @ affine_lps[:3, :3].T + affine_lps[:3, 3]
    low, high = places.min(axis=0), places.max(axis=0)
    own_high = np.array([anatomy.brain_width, anatomy.brain_length, anatomy.brain_height])
    own_low = np.array([-anatomy.brain_width, -anatomy.brain_length, -anatomy.stem_end])
    onto = np.eye(4)
    onto[:3, :3] = np.diag((own_high - own_low) / (high - low)) * anatomy.size
    onto[:3, 3] = own_low * anatomy.size - onto[:3, :3] @ low
    _, rows, columns = brain_kji.shape
    given = depth.astype(np.float32)
    sculptor = Sculptor(anatomy, rng, onto @ affine_lps, rows, columns, given)
    return np.stack([sculptor.tissues(k) for k in range(len(brain_kji))])


def brain_of(tissues_kji: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the brain mask of a tissue map: the filled hull, sulci and ventricles included."""
    inside = np.zeros(256, bool)
    inside[sorted(BRAIN)] = True
    return inside[tissues_kji]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """One imaged phantom; all arrays share one grid."""

    voxels_kji: NDArray[np.uint16]  # 0 .. 4095
    tissues_kji: NDArray[np.uint8]  # values of Tissue
    brain_kji: NDArray[np.bool_]
    affine_lps: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances of neighbouring slices, rows and columns."""
        k, j, i = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(k), float(j), float(i)


def head_mr(
    seed: int = 1,
    *,
    slices: int = 160,
    size: int = 256,
    spacing_mm: tuple[float, float, float] | None = None,
    plane: Plane = "sagittal",
    tilt_deg: tuple[float, float, float] = (2.0, -1.5, 3.0),
    anatomy: Anatomy | None = None,
    signal: Mapping[Tissue, float] = T1_SIGNAL,
    noise: float = 0.03,
    bias: float = 0.15,
) -> Head:
    """Return a T1-weighted MR volume of one head, with its brain mask.

    Parameters
    ----------
    seed : int
        One seed is one head; the noise, and nothing else of it, depends on the grid too.
    slices, size : int
        Slices, and rows and columns of each.
    spacing_mm : tuple of float, optional
        Of slices, rows and columns. When not given the whole head is covered: 176 mm from side
        to side (or 176 mm downwards, 230 mm from front to back), 256 mm within a slice.
    plane : {"sagittal", "axial", "coronal"}
    tilt_deg : tuple of float
        About the patient's L, P, S axes; the default is slightly oblique.
    anatomy : Anatomy, optional
        The head's measures; drawn from `seed` when not given.
    signal : mapping of Tissue to float
        Mean signal; 1 becomes about 1100 in the image.
    noise : float
        Standard deviation in each channel of the Rician noise, as a part of white matter.
    bias : float
        Standard deviation of the logarithm of the bias field.
    """
    if spacing_mm is None:
        spacing_mm = ((230.0 if plane == "coronal" else 176.0) / slices, 256.0 / size, 256.0 / size)
    shape = (slices, size, size)
    affine = head_affine(shape, spacing_mm, plane=plane, tilt_deg=tilt_deg)
    tissues = head_tissues(seed, shape, affine, anatomy=anatomy)

    rng = np.random.default_rng([seed, 0x6D72])
    bias_at = Waves.drawn(rng, 260.0, 12).on(affine, size, size)
    texture_at = Waves.drawn(rng, 11.0, 24).on(affine, size, size)
    means = np.zeros(256, np.float32)
    for tissue, mean in signal.items():
        means[tissue] = mean * np.exp(rng.normal() * 0.04)
    image = means[tissues]
    # Partial volume: a point spread of about a millimetre, whatever the grid.
    blur = tuple(0.45 / s for s in spacing_mm)
    image = ndimage.gaussian_filter(image, blur, truncate=2.0, output=np.float32)
    voxels = np.empty(shape, np.uint16)
    for k, flat in enumerate(image):
        clean = flat * np.exp(bias * bias_at(k)) * (1 + 0.025 * texture_at(k))
        real = clean + noise * rng.standard_normal(clean.shape, dtype=np.float32)
        imaginary = noise * rng.standard_normal(clean.shape, dtype=np.float32)
        voxels[k] = np.clip(1100 * np.hypot(real, imaginary), 0, 4095)
    return Head(voxels, tissues, brain_of(tissues), affine)
