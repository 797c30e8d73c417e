"""What a prediction is, for those who ask for one and those who make it; no torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom.errors import NoGeometry, UnsuitableSeries

Progress: TypeAlias = Callable[[float], None]
"""Told the share of the network's windows that are done, 0 to 1, never less than before."""

Canceled: TypeAlias = Callable[[], bool]
"""Asked between two windows; True ends the prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Labels, and how they came about.

    Attributes
    ----------
    labels_kji : ndarray, uint8, shape (slices, rows, columns)
        Segment number per voxel; 0 is background. The grid of the volume that was given.
    forward_s : float
        Seconds in the network's forward passes.
    total_s : float
        Seconds in all, loading the model not included.
    device : str
        Where the network ran: ``cpu``, ``cuda:0``.
    bundle_sha256 : str
        :attr:`models.bundle.Bundle.sha256` of the model that ran.
    """

    labels_kji: NDArray[np.uint8]
    forward_s: float
    total_s: float
    device: str
    bundle_sha256: str


def check_volume(voxels_kji: NDArray[np.generic], affine_lps: NDArray[np.float64]) -> None:
    """Refuse what no model can make sense of.

    Parameters
    ----------
    voxels_kji : ndarray, shape (slices, rows, columns)
        Real numbers in the modality's unit.
    affine_lps : ndarray, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.

    Raises
    ------
    UnsuitableSeries
        When it is not three-dimensional, empty, or has values that are not finite numbers.
    NoGeometry
        When the affine is not finite or not invertible.
    """
    if voxels_kji.ndim != 3 or 0 in voxels_kji.shape:
        raise UnsuitableSeries(f"a volume has three axes and no empty one, not {voxels_kji.shape}")
    if voxels_kji.dtype.kind not in "uif":
        raise UnsuitableSeries(f"a volume holds real numbers, not {voxels_kji.dtype}")
    if voxels_kji.dtype.kind == "f" and not np.isfinite(voxels_kji).all():
        raise UnsuitableSeries("the volume holds values that are no numbers (NaN or infinite)")
    if (
        affine_lps.shape != (4, 4)
        or not np.isfinite(affine_lps).all()
        or abs(np.linalg.det(affine_lps[:3, :3])) < 1e-9
    ):
        raise NoGeometry("the volume's affine is no invertible 4 x 4 matrix")
