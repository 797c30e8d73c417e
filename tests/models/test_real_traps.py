"""Real files that mislead readers: a flipped NIfTI, contours whose references match nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom.errors import InvalidSegmentation, NotAnImage, WrongGeometry
from dicom.folder import read_folder
from dicom.gate import check_sides
from dicom.seg import Masks, decode_seg
from dicom.volume import read_volume
from models.nifti import read_nifti
from tests.segmentations import segments_of
from tests.series import real_series

TRUNK = Path(__file__).parents[3] / "shared/data/ct/totalseg_trunk_3mm"
KIDNEY_RIGHT, KIDNEY_LEFT, LIVER = 2, 3, 5  # both label sets number these alike
NAMES = ("kidney_left", "kidney_right")


@pytest.mark.skipif(not TRUNK.is_dir(), reason="real data (shared/data) is absent")
@pytest.mark.parametrize(
    "name", ["example_seg_fast_force_split.nii.gz", "example_seg_mr.nii.gz"], ids=["RAS", "LPS"]
)
def test_left_stays_left_whichever_way_a_nifti_counts(name: str) -> None:
    """One file counts voxels to the right, the other to the left: both are read by the affine."""
    labels_kji, affine_lps = read_nifti(TRUNK / name)
    left, right = labels_kji == KIDNEY_LEFT, labels_kji == KIDNEY_RIGHT
    assert min(left.sum(), right.sum()) > 100
    check_sides(Masks.of([left, right]), segments_of(*NAMES), affine_lps)
    with pytest.raises(WrongGeometry):
        check_sides(Masks.of([left[..., ::-1], right[..., ::-1]]), segments_of(*NAMES), affine_lps)
    x = {
        number: (affine_lps @ [*np.argwhere(labels_kji == number).mean(axis=0), 1])[0]
        for number in (KIDNEY_LEFT, LIVER)
    }
    assert x[LIVER] < x[KIDNEY_LEFT]  # the liver is on the right, at smaller x in LPS


def test_contours_whose_references_match_nothing_are_no_image_and_no_segmentation(
    tmp_path: Path,
) -> None:
    real_series("ct/sts/STS_008.tar.gz", tmp_path)
    study = read_folder(tmp_path).studies
    series = [one for each in study for one in each.series]
    contours = [one for one in series if one.modality == "RTSTRUCT"]
    images = next(one for one in series if one.modality == "CT")
    assert contours
    for one in contours:
        with pytest.raises(NotAnImage):
            read_volume(one)
        with pytest.raises(InvalidSegmentation):
            decode_seg(one.instances[0].path, read_volume(images))
