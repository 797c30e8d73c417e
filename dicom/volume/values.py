"""What a series becomes: a grid, a volume, a picture, and what routing may ask about it.

Axes: k counts slices, j rows (downwards in the image), i columns (rightwards). World: LPS, mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from dicom.study import Instance
from dicom.volume.shear import Floats, Shear

Voxels = npt.NDArray[np.int16] | npt.NDArray[np.float32]
Orientation = Literal["axial", "sagittal", "coronal", "oblique"]
Label = TypeVar("Label", bound=np.generic)


class Mending(StrEnum):
    """What a caller may allow to be done to a series that would else be refused.

    Each is the word that a bundle's metadata and the command line use.
    """

    TILT = "tilt"
    """Slices of a tilted gantry are shifted within their planes onto an orthogonal grid."""
    DOUBLED = "doubled"
    """Of slices at one position that nothing tells apart, the first stays."""
    STRAYS = "strays"
    """Slices of another plane, size or pixel spacing than most are left out."""


@dataclass(frozen=True, slots=True)
class SliceSource:
    """Where one slice came from: an instance, and which of its frames.

    Parameters
    ----------
    frame_number : int or None
        From 1, as ReferencedFrameNumber counts (PS3.3 Table 10-3); None for an instance that is
        one image and is referred to without a frame number.
    """

    instance: Instance
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of a series lie, without the voxels.

    Parameters
    ----------
    shape_kji : tuple of int
        Slices, rows, columns.
    affine_lps : ndarray, float64, shape (4, 4)
        Maps a voxel's index (k, j, i, 1) to the centre of the voxel in LPS, mm. Slice k grows
        along the normal (row direction x column direction). Its columns are orthogonal, except
        those of a tilted series whose mending was allowed: k then runs as the slices do.
    sources : tuple of SliceSource
        Slice k was read from ``sources[k]``.
    """

    shape_kji: tuple[int, int, int]
    affine_lps: Floats
    sources: tuple[SliceSource, ...]
    series_uid: str
    frame_of_reference_uid: str
    modality: str

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instance of each slice; of a multi-frame instance, the same one again and again."""
        return tuple(source.instance for source in self.sources)

    @property
    def spacing_kji(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxels along slices, rows and columns."""
        return spacing_of(self.affine_lps)


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """The voxels of one series, and where they lie.

    Parameters
    ----------
    voxels_kji : ndarray, int16 or float32, shape (slices, rows, columns)
        Values after the rescale of each slice: int16 where that is exact, else float32.
    affine_lps : ndarray, float64, shape (4, 4)
        Maps a voxel's index (k, j, i, 1) to the centre of the voxel in LPS, mm; orthogonal.
    source : Grid
        The slices as they are in the archive. The same grid, unless a tilt was mended. A result
        that refers to the images lies there: see :meth:`to_source`.
    unit : str
        Of the values: ``HU``, PET's Units such as ``BQML``, or empty where they have none (MR).
    suv_factor : float or None
        PET only: values times this are SUVbw (g/ml); None where an input of it is missing.
    mended : frozenset of Mending
        What was done to the series, of all that the caller had allowed.
    shear : Shear or None
        Between `source` and this grid; None where they are the same.
    """

    voxels_kji: Voxels
    affine_lps: Floats
    source: Grid
    unit: str
    suv_factor: float | None = None
    mended: frozenset[Mending] = frozenset()
    shear: Shear | None = None

    @property
    def sources(self) -> tuple[SliceSource, ...]:
        """Slice k was read from ``sources[k]``."""
        return self.source.sources

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instance of each slice; of a multi-frame instance, the same one again and again."""
        return self.source.instances

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.source.series_uid

    @property
    def frame_of_reference_uid(self) -> str:
        """FrameOfReferenceUID."""
        return self.source.frame_of_reference_uid

    @property
    def modality(self) -> str:
        """Modality (0008,0060)."""
        return self.source.modality

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.voxels_kji.shape
        return slices, rows, columns

    @property
    def spacing_kji(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxels along slices, rows and columns."""
        return spacing_of(self.affine_lps)

    def in_suv(self) -> Volume:
        """Return the volume of a PET series in standardised uptake values, unit ``SUVbw`` (g/ml).

        Raises
        ------
        ValueError
            When ``suv_factor`` is None: look before you ask.
        """
        if self.suv_factor is None:
            raise ValueError("the series does not say what SUVbw needs")
        voxels_kji = (self.voxels_kji * self.suv_factor).astype(np.float32)
        return replace(self, voxels_kji=voxels_kji, unit="SUVbw", suv_factor=1.0)

    def to_source(self, labels_kji: npt.NDArray[Label]) -> npt.NDArray[Label]:
        """Return labels that were made on this volume's grid on the slices of the archive.

        Parameters
        ----------
        labels_kji : ndarray, shape ``shape_kji``
            Any type; values are moved, never mixed (nearest neighbour).

        Returns
        -------
        ndarray, shape ``source.shape_kji``
            The same array where the grids are the same.

        Raises
        ------
        ValueError
            When the labels do not have the volume's shape: a bug, not bad input.
        """
        if labels_kji.shape != self.shape_kji:
            raise ValueError(f"labels of shape {labels_kji.shape}, volume of {self.shape_kji}")
        return labels_kji if self.shear is None else self.shear.back(labels_kji)


def spacing_of(affine_lps: Floats) -> tuple[float, float, float]:
    """Return the distance in mm between neighbouring planes along slices, rows and columns.

    Along slices it is the distance between their planes, which in a tilted grid is shorter than
    the step from one corner to the next.
    """
    j, i = (float(np.linalg.norm(affine_lps[:3, axis])) for axis in (1, 2))
    normal = np.cross(affine_lps[:3, 2], affine_lps[:3, 1]) / (i * j)
    return float(abs(affine_lps[:3, 0] @ normal)), j, i
