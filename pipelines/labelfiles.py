"""Label maps as files of other programs (NRRD, NIfTI), on the grid of a series and back.

A file may count its voxels along other axes than the series, or hold a part of it alone; it lies on
the series' grid when every one of its voxels is one of the series'. Nothing is resampled.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidLabels, InvalidRequest, OtherGrid
from dicom.seg import Masks
from models.nifti import read_nifti
from models.nifti import write_labels as write_nifti
from models.nrrd import NrrdSegment, read_nrrd, write_nrrd

Suffix = Literal[".nrrd", ".seg.nrrd", ".nii.gz", ".nii"]
SUFFIXES: Final[tuple[Suffix, ...]] = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii")

_OFF_GRID: Final = 0.02  # of a voxel: what single precision and text leave open
_OFF_MM: Final = 0.02

Labels = npt.NDArray[np.uint16]


class Lattice(Protocol):
    """Voxels that labels can lie on: those of a series, or of an uploaded image."""

    @property
    def affine_lps(self) -> npt.NDArray[np.float64]:
        """From index (k, j, i, 1) to LPS, mm."""

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""

    @property
    def spacing_kji(self) -> tuple[float, float, float]:
        """Distances between voxels, mm."""


@dataclass(frozen=True, slots=True)
class FileSegment:
    """What one value of one layer of a file stands for."""

    name: str
    value: int
    layer: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class LabelFile:
    """Labels as a file has them.

    Attributes
    ----------
    layers_nkji : ndarray, uint16, shape (layers, slices, rows, columns)
        Several layers where segments overlap.
    affine_lps : ndarray, float64, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.
    segments : tuple of FileSegment
        What the file itself calls its values; empty where it does not.
    """

    layers_nkji: Labels
    affine_lps: npt.NDArray[np.float64]
    segments: tuple[FileSegment, ...] = ()

    def on(self, grid: Lattice) -> LabelFile:
        """Return the labels on the voxels of a series, or of an image.

        Raises
        ------
        OtherGrid
            When one of its voxels is none of the series', and holds a label or not.
        """
        turned = np.linalg.solve(grid.affine_lps, self.affine_lps)
        axes = np.rint(turned[:3, :3]).astype(int)
        is_turned = (np.abs(axes).sum(axis=0) == 1).all() and (np.abs(axes).sum(axis=1) == 1).all()
        # a hundredth of a voxel, at the far end of the volume too
        size = np.array(self.layers_nkji.shape[1:])
        drift = np.abs(turned[:3, :3] - axes) @ (size - 1)
        shift = np.rint(turned[:3, 3]).astype(int)
        off = drift + np.abs(turned[:3, 3] - shift)
        if not is_turned or (off > _OFF_GRID + _OFF_MM / np.array(grid.spacing_kji)).any():
            raise OtherGrid("the labels lie on other voxels than the series")
        order = np.abs(axes).argmax(axis=1)
        layers = self.layers_nkji.transpose(0, *(1 + order))
        corner = shift.copy()
        for axis in range(3):
            if axes[axis, order[axis]] < 0:
                layers = np.flip(layers, axis + 1)
                corner[axis] -= layers.shape[axis + 1] - 1
        end = corner + layers.shape[1:]
        if (corner < 0).any() or (end > np.array(grid.shape_kji)).any():
            raise OtherGrid("the labels reach beyond the series")
        whole = np.zeros((len(layers), *grid.shape_kji), np.uint16)
        (k, j, i), (to_k, to_j, to_i) = corner, end
        whole[:, k:to_k, j:to_j, i:to_i] = layers
        return LabelFile(whole, grid.affine_lps, self.segments)


def suffix_of(name: str) -> Suffix:
    """Return which kind of file a name says.

    Raises
    ------
    InvalidRequest
        When it is none of those that are understood.
    """
    lower = name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix):
            return suffix
    raise InvalidRequest(f"a label map is a file that ends in {', '.join(SUFFIXES)}")


def read_label_file(content: bytes, suffix: Suffix) -> LabelFile:
    """Return the labels that a file holds.

    Raises
    ------
    InvalidLabels
        When its voxels are no labels: negative, broken numbers, or above 65535.
    InputError
        As :func:`models.nrrd.read_nrrd` and :func:`models.nifti.read_nifti`.
    """
    if suffix in (".nrrd", ".seg.nrrd"):
        found = read_nrrd(content)
        segments = tuple(FileSegment(s.name, s.value, s.layer) for s in found.segments)
        return LabelFile(_as_labels(found.layers_nkji), found.affine_lps, segments)
    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
        path = Path(folder, f"labels{suffix}")
        path.write_bytes(content)
        voxels_kji, affine_lps = read_nifti(path)
    return LabelFile(_as_labels(voxels_kji[np.newaxis]), affine_lps)


def write_label_file(
    labels: npt.NDArray[np.generic] | Masks, affine_lps: npt.NDArray[np.float64], *,
    names: Sequence[str], suffix: Suffix,
) -> bytes:  # fmt: skip
    """Return labels as a file, voxel for voxel.

    Parameters
    ----------
    labels : ndarray, shape (slices, rows, columns), or Masks
        Segments numbered from 1.
    names : sequence of str
        What segment 1, 2, 3 ... is called.
    suffix : str
        `.seg.nrrd` alone keeps segments that overlap apart, and their names; in the others, the
        later of two shows.
    """
    layers = _layers(labels, len(names))
    kind = np.uint8 if len(names) < 256 else np.uint16
    if suffix == ".seg.nrrd":
        segments = [
            NrrdSegment(name, number, _layer_of(layers, number))
            for number, name in enumerate(names, 1)
        ]
        stored = np.stack([layer.astype(kind) for layer in layers])
        return write_nrrd(stored, affine_lps, segments=segments)
    flat = layers[0].copy()
    for layer in layers[1:]:
        flat[layer > 0] = layer[layer > 0]
    if suffix == ".nrrd":
        return write_nrrd(flat.astype(kind), affine_lps)
    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
        path = Path(folder, f"labels{suffix}")
        write_nifti(path, flat.astype(np.uint8) if kind is np.uint8 else flat, affine_lps)
        return path.read_bytes()


def _as_labels(voxels: npt.NDArray[np.generic]) -> Labels:
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.rint(voxels)):
        raise InvalidLabels("the file holds other values than whole numbers: an image, not labels")
    if voxels.size and (int(voxels.min()) < 0 or int(voxels.max()) > 0xFFFF):
        raise InvalidLabels("the file holds values that are no labels: below 0, or above 65535")
    return voxels.astype(np.uint16)


def _layers(labels: npt.NDArray[np.generic] | Masks, count: int) -> list[Labels]:
    """Return label maps in which no two segments share a voxel, as few as go one after another."""
    if not isinstance(labels, Masks):
        return [labels.astype(np.uint16)]
    layers: list[Labels] = [np.zeros(labels.shape_kji, np.uint16)]
    for number in range(1, count + 1):
        crop = labels.crops.get(number)
        if crop is None:
            continue
        inside = crop.voxels_kji != 0
        free = next((one for one in layers if not (one[crop.within()][inside] > 0).any()), None)
        if free is None:
            free = np.zeros(labels.shape_kji, np.uint16)
            layers.append(free)
        free[crop.within()][inside] = number
    return layers


def _layer_of(layers: Sequence[Labels], number: int) -> int:
    return next((n for n, layer in enumerate(layers) if (layer == number).any()), 0)
