"""The two real heads, on one grid each, with a brain mask to learn from or to be measured by.

Both masks are made from what MeshNet (brainchop's MIT weights) says is grey or white matter, its
largest piece, closed by 10 mm and filled. That is right on the adult. On the child MeshNet leaves
out the outer 5 to 8 mm of cortex nearly everywhere (its white matter is not yet as bright as an
adult's), and so does the mask: 1063 ml, where the brain has about 1450 ml. :func:`mended` grows
such a mask through tissue as bright as the brain up to the dark rim of CSF and skull, and closes it
by the same 10 mm. On the adult, whose mask is right, it changes little: the figures are in
docs/figures.json.

Axes: ``_xyz`` is (R, A, S); ``affine_ras`` maps (x, y, z, 1) to RAS mm.
"""

from __future__ import annotations

import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.misc import is_dicom
from scipy import ndimage

from dicom.study import Instance, Series
from dicom.volume import Volume, read_volume

CHILD, ADULT = "sag_anon", "t1crop"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RealHead:
    """One real T1-weighted head at 1 mm."""

    name: str
    voxels_xyz: NDArray[np.float32]
    silver_xyz: Mask  # MeshNet's, closed
    brain_xyz: Mask  # what to believe: the adult's as it is, the child's mended
    affine_ras: NDArray[np.float64]


def read_head(name: str, mr: Path) -> RealHead:
    """Return a head and its masks.

    Parameters
    ----------
    name : str
        ``sag_anon`` (a child, three years old) or ``t1crop`` (an adult).
    mr : Path
        Folder with ``t1_nifti``, ``silver_labels`` and ``sag_anon_t1_dicom``.
    """
    stem = "sag" if name == CHILD else "t1crop"
    silver, affine = _canonical(mr / "silver_labels" / f"{stem}_silver_brainmask.nii.gz")
    if name == CHILD:
        series = read_archived_series(mr / "sag_anon_t1_dicom" / "dicom.tar.xz")
        own_affine = LPS_TO_RAS @ series.affine_lps
        voxels = resampled(series.voxels_kji, own_affine, silver.shape, affine)
    else:
        voxels, _ = _canonical(mr / "t1_nifti" / "brainchop_t1_crop.nii.gz")
    mask = silver > 0
    brain = mended(voxels, mask) if name == CHILD else mask
    return RealHead(name, voxels, mask, brain, affine)


def read_archived_series(archive: Path) -> Volume:
    """Return the volume of the one DICOM series in a tar archive.

    Raises
    ------
    dicom.errors.InputError
        When its files are no series that makes a volume.
    """
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        instances = []
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and is_dicom(path):
                ds = dcmread(path, stop_before_pixels=True)
                instances.append(Instance(ds.SOPInstanceUID, ds.SOPClassUID, path))
        return read_volume(Series(ds.SeriesInstanceUID, ds.Modality, tuple(instances)))


def _canonical(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Read a NIfTI file with its axes turned to R, A, S."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def resampled(
    voxels: NDArray[np.generic],
    affine: NDArray[np.float64],
    shape: tuple[int, ...],
    onto: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return a volume on another grid, linearly; 0 outside."""
    matrix = np.linalg.inv(affine) @ onto
    moved = ndimage.affine_transform(
        voxels.astype(np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=1
    )
    return cast(NDArray[np.float32], moved)


def mended(voxels: NDArray[np.float32], silver: Mask) -> Mask:
    """Return a brain mask grown through brain-like tissue to the dark rim around it.

    Parameters
    ----------
    voxels : ndarray, float32
        T1-weighted, 1 mm isotropic.
    silver : ndarray, bool
        A mask that lies within the brain but for a few voxels.
    """
    reach = 12  # voxels that it may grow, and room for the closing
    (found,) = ndimage.find_objects(silver.astype(np.uint8))
    box = tuple(slice(max(0, side.start - 26), side.stop + 26) for side in found)
    brain = np.zeros_like(silver)
    brain[box] = _grown(voxels[box], silver[box], reach)
    return brain


def _grown(voxels: NDArray[np.float32], silver: Mask, reach: int) -> Mask:
    core = ndimage.binary_erosion(silver, iterations=3) & (voxels > 0.3 * voxels[silver].mean())
    # The local mean of the brain, so that a coil's shading does not matter.
    weight = ndimage.gaussian_filter(core.astype(np.float32), 25, mode="constant")
    level = ndimage.gaussian_filter(voxels * core, 25, mode="constant")
    relative = voxels * weight / np.maximum(level, 1e-3)
    near = ndimage.distance_transform_edt(~silver) < reach
    tissue = ((relative > 0.68) & (relative < 1.4) & near) | core
    opened = ndimage.binary_opening(tissue, _ball(3))  # cuts the bridges to skull and eyes
    pieces, _ = ndimage.label(opened)
    kept = pieces == np.bincount(pieces[core])[1:].argmax() + 1
    return closed((ndimage.binary_dilation(kept, _ball(1)) & tissue) | kept, 10.0)


def _ball(radius: int) -> Mask:
    axes = np.mgrid[(slice(-radius, radius + 1),) * 3]
    return cast(Mask, np.sum(axes**2, axis=0) <= radius * (radius + 0.2))


def closed(mask: Mask, radius: float) -> Mask:
    """Return a mask closed by a ball of `radius` voxels, its holes filled."""
    margin = int(radius) + 2
    padded = np.pad(mask, margin)
    dilated = ndimage.distance_transform_edt(~padded) <= radius
    eroded = ndimage.distance_transform_edt(dilated) > radius
    inner = eroded[margin:-margin, margin:-margin, margin:-margin] | mask
    return cast(Mask, ndimage.binary_fill_holes(inner))
