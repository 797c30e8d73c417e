"""brainchop's model on a real head gives the tissue map that was made of it elsewhere.

The map was made in the head's conformed space by the same weights (PROVENANCE.md beside it), so
what is compared is all that lies around the network: axes, spacing, intensities, the way back.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from models import load
from models.importing.model import import_meshnet

torch.set_num_threads(2)

DATA = Path(__file__).parents[3] / "shared/data"
WEIGHTS = DATA / "weights/brainchop_tfjs_MIT/model5_gw_ae"
LABELS = DATA / "mr/silver_labels"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

pytestmark = pytest.mark.skipif(
    not (WEIGHTS.is_dir() and LABELS.is_dir()), reason=f"{DATA} does not hold weights and labels"
)


def on_grid(
    map_file: Path, shape_kji: tuple[int, ...], affine_lps: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """A map of labels on another grid: each label linearly, then the highest."""
    found = nibabel.load(map_file)
    labels_ijk = np.asarray(found.dataobj)
    to_ras = LPS_TO_RAS @ affine_lps[:, [2, 1, 0, 3]]
    back = np.linalg.inv(found.affine) @ to_ras
    shape_ijk = shape_kji[::-1]
    shares = [
        affine_transform(
            (labels_ijk == n).astype(np.float32), back, output_shape=shape_ijk, order=1
        )
        for n in range(3)
    ]
    labels: NDArray[np.uint8] = np.argmax(shares, axis=0).astype(np.uint8).transpose(2, 1, 0)
    return labels


def dice(found: NDArray[np.uint8], expected: NDArray[np.uint8], label: int) -> float:
    one, other = found == label, expected == label
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_a_childs_head_from_dicom(tmp_path: Path) -> None:
    archive = DATA / "mr/sag_anon_t1_dicom/dicom.tar.xz"
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "study", filter="data")
    bundle = import_meshnet(WEIGHTS, tmp_path / "site")
    result = load(bundle.root).predict(tmp_path / "study")
    assert result.labels_kji.shape == (192, 256, 256)
    expected = on_grid(LABELS / "sag_meshnet5_gwm.nii.gz", (192, 256, 256), result.affine_lps)
    assert dice(result.labels_kji, expected, 1) >= 0.95  # white matter
    assert dice(result.labels_kji, expected, 2) >= 0.95  # grey matter
