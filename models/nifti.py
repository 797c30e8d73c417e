"""NIfTI in and out, for use without an archive.

NIfTI stores axes as (i, j, k), x first, with an affine to RAS; radloop's volumes have (k, j, i) and
an affine to LPS. Both functions keep the file's own axis order and directions: a voxel stays the
same voxel, only the way to count and the sign of x and y change.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from dicom.errors import (
    InvalidSettings,
    NoGeometry,
    UnreadablePixels,
    UnsuitableSeries,
    UnsupportedPixelFormat,
)

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse
_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_SUFFIXES = (".nii", ".nii.gz")


def is_nifti(path: Path) -> bool:
    """Return whether the name says that it is a NIfTI file."""
    return path.name.lower().endswith(_SUFFIXES)


def read_nifti(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Return the volume in a NIfTI file.

    Parameters
    ----------
    path : Path
        A .nii or .nii.gz file (NIfTI-1 or -2) with one volume.

    Returns
    -------
    voxels_kji : ndarray, shape (slices, rows, columns)
        With the file's scaling applied: int16 where the file holds it so, else float32.
    affine_lps : ndarray, float64, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.

    Raises
    ------
    UnreadablePixels
        When it is not NIfTI, or ends too early.
    UnsupportedPixelFormat
        When its voxels are colours or complex numbers.
    UnsuitableSeries
        When it holds not one volume but several, or a plane.
    NoGeometry
        When neither its sform nor its qform says where it lies (NIfTI-1: both codes 0): left and
        right would be a guess.
    """
    try:
        image = cast(Nifti1Image, nibabel.load(path))
        if not isinstance(image, Nifti1Image):  # NIfTI-2 is a subclass
            raise UnreadablePixels("the file is an image, but no NIfTI")
        header = image.header
        if header.get_data_dtype().kind not in "uif":
            raise UnsupportedPixelFormat("the NIfTI file holds colours or complex numbers")
        voxels_ijk = np.asanyarray(image.dataobj)
    except (ImageFileError, EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise UnreadablePixels("the file is no NIfTI image, or is damaged") from error
    while voxels_ijk.ndim > 3 and voxels_ijk.shape[-1] == 1:
        voxels_ijk = voxels_ijk[..., 0]
    if voxels_ijk.ndim != 3:
        raise UnsuitableSeries(f"the NIfTI file holds {voxels_ijk.shape} voxels, not one volume")
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise NoGeometry("the NIfTI file does not say where it lies in the patient")
    affine_ras = np.asarray(image.affine, dtype=np.float64).copy()
    affine_ras[:3] *= _MM[header.get_xyzt_units()[0]]
    dtype = np.int16 if voxels_ijk.dtype == np.int16 else np.float32
    voxels_kji = np.ascontiguousarray(voxels_ijk.transpose(2, 1, 0), dtype=dtype)
    return voxels_kji, _LPS_RAS @ affine_ras[:, [2, 1, 0, 3]]


def write_labels(
    path: Path,
    labels_kji: NDArray[np.uint8] | NDArray[np.uint16],
    affine_lps: NDArray[np.float64],
) -> None:
    """Write a label map as NIfTI, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in .nii or .nii.gz; an existing file is replaced.
    labels_kji : ndarray, uint8 or uint16, shape (slices, rows, columns)
        Segment or instance number per voxel; 0 is background.
    affine_lps : ndarray, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.

    Raises
    ------
    InvalidSettings
        When the name does not end so.
    """
    if not is_nifti(path):
        raise InvalidSettings(f"{path.name} does not end in {' or '.join(_SUFFIXES)}")
    affine_ras = _LPS_RAS @ np.asarray(affine_lps, dtype=np.float64)[:, [2, 1, 0, 3]]
    image = Nifti1Image(labels_kji.transpose(2, 1, 0), affine_ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine_ras, code="scanner")
    image.set_qform(affine_ras, code="scanner")
    content = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, compresslevel=6, mtime=0)  # same labels, same bytes
    half = path.with_name(f".{path.name}.part")
    half.write_bytes(content)
    half.replace(path)
