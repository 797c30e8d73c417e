"""A case as arrays and NIfTI files: what the formats for training have in common."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from dicom.errors import InvalidSegmentation
from dicom.seg import decode_seg
from dicom.volume import Volume, read_volume
from pipelines.exports import Case, Dataset
from pipelines.exports.cases import segment_code

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_case(case: Case) -> Volume:
    """Return the case's image; see :func:`dicom.volume.read_volume` for what it refuses."""
    return read_volume(case.series)


def read_labels(case: Case, dataset: Dataset, volume: Volume) -> npt.NDArray[np.uint8]:
    """Return the case's label map with the dataset's numbers, shape (slices, rows, columns).

    Raises
    ------
    InvalidSegmentation
        When segments overlap, since one map cannot hold both, or the case has none.
    """
    if case.seg is None:
        raise InvalidSegmentation("the case has no segmentation")
    decoded = decode_seg(case.seg.path, volume)
    number_of = dataset.number_of()
    ds = dcmread(case.seg.path, specific_tags=["SegmentSequence"])
    renumbered = np.zeros(1 + max(int(s.SegmentNumber) for s in ds.SegmentSequence), np.uint8)
    for item in ds.SegmentSequence:
        renumbered[int(item.SegmentNumber)] = number_of[segment_code(item)]
    labels: npt.NDArray[np.uint8] = renumbered[decoded.labels()]
    return labels


def write_nifti(path: Path, voxels_kji: npt.NDArray[Any], affine_lps: npt.NDArray[Any]) -> None:
    """Write an array as compressed NIfTI-1, whole or not at all; the same voxels, the same bytes.

    Parameters
    ----------
    path : Path
        Ends in .nii.gz.
    voxels_kji : ndarray, shape (slices, rows, columns)
        In the image's unit, or labels.
    affine_lps : ndarray, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm. The file gets axes (i, j, k) and the affine to RAS.
    """
    affine_ras = _LPS_RAS @ np.asarray(affine_lps, dtype=np.float64)[:, [2, 1, 0, 3]]
    image = nibabel.nifti1.Nifti1Image(voxels_kji.transpose(2, 1, 0), affine_ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine_ras, code="scanner")
    image.set_qform(affine_ras, code="scanner")
    write_whole(path, gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - what json takes
    """Write JSON for people and machines, whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    half.write_bytes(content)
    half.replace(path)
