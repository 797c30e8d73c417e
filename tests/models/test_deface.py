"""Faces: gone from the surface, the brain untouched, all other pixels as they were."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom.errors import CannotDeface
from dicom.phantom import Head, WrittenHead, head_mr, write_head_study
from dicom.study import Series
from models.deface.face import face_mask, head_of, painted_black
from models.deface.portrait import portrait
from models.deface.series import DefacingPass, declared, deface_series
from models.nifti import read_nifti

MR = Path(__file__).parents[3] / "shared/data/mr"
needs_heads = pytest.mark.skipif(not MR.exists(), reason="needs ../shared/data/mr")


@cache
def small_head(plane: str = "sagittal") -> Head:
    """Return a phantom of voxels of 2 mm."""
    slices = 88 if plane == "sagittal" else 120
    return head_mr(5, slices=slices, size=128, spacing_mm=(2.0, 2.0, 2.0), plane=plane)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WrittenHead:
    return write_head_study(tmp_path_factory.mktemp("head"), head=small_head())


def series_of(written: WrittenHead) -> Series:
    return written.study.series[0]


@pytest.mark.parametrize("plane", ["sagittal", "axial"])
def test_the_face_goes_and_the_brain_stays(plane: str) -> None:
    head = small_head(plane)
    gone, check = face_mask(head.voxels_kji, head.affine_lps, head.brain_kji)
    assert check.holds
    assert check.brain_voxels_changed == 0
    assert not (gone & head.brain_kji).any()
    after = painted_black(head.voxels_kji, gone)
    np.testing.assert_array_equal(after[~gone], head.voxels_kji[~gone])
    skin = 0.2 * float(np.percentile(head.voxels_kji, 99))
    kept = (after > skin)[head.voxels_kji > skin].mean()
    assert kept > 0.5  # most of the head is still there


@needs_heads
def test_a_real_face_cannot_be_rendered_any_more() -> None:
    voxels, affine = read_nifti(MR / "t1_nifti/brainchop_t1_crop.nii.gz")
    brain, _ = read_nifti(MR / "silver_labels/t1crop_silver_brainmask.nii.gz")
    gone, check = face_mask(voxels, affine, brain > 0)
    assert check.holds
    assert check.left == 0
    assert check.median_mm > 40
    assert not (gone & (brain > 0)).any()
    before, after = portrait(voxels, affine), portrait(voxels, affine, gone)
    assert before.shape == after.shape
    assert (before != after).mean() > 0.05


def test_a_head_without_a_brain_is_refused() -> None:
    head = small_head()
    with pytest.raises(CannotDeface):
        face_mask(head.voxels_kji, head.affine_lps, np.zeros_like(head.brain_kji))


def test_a_face_that_stays_is_no_defaced_one() -> None:
    """A brain that reaches to the tip of the nose keeps the face: the check must not hold."""
    head = small_head()
    skin = 0.2 * float(np.percentile(head.voxels_kji, 99))
    all_of_it = head_of(head.voxels_kji.astype(np.float32), skin)
    with pytest.raises(CannotDeface):
        face_mask(head.voxels_kji, head.affine_lps, all_of_it)


# --- DICOM ----------------------------------------------------------------------------------------


def test_only_painted_pixels_of_the_slices_change(written: WrittenHead) -> None:
    defaced = deface_series(series_of(written), lambda _: written.head.brain_kji)
    gone = defaced.gone_kji
    assert gone.any()
    for source, mask in zip(defaced.volume.sources, gone, strict=True):
        ds = dcmread(source.instance.path)
        after = defaced(ds)
        assert after is not None
        before = ds.pixel_array
        np.testing.assert_array_equal(after.pixel_array[~mask], before[~mask])
        assert (after.pixel_array[mask] == before.min()).all()
        assert after.get("RescaleSlope") == ds.get("RescaleSlope")


def test_what_is_no_slice_of_the_volume_is_held_back(written: WrittenHead) -> None:
    defaced = deface_series(series_of(written), lambda _: written.head.brain_kji)
    ds = dcmread(series_of(written).instances[0].path)
    ds.SOPInstanceUID = "1.2.3"
    with pytest.raises(CannotDeface):
        defaced(ds)
    ds.SeriesInstanceUID = "1.2.4"
    assert defaced(ds) is None


def test_ct_and_other_contrasts_are_refused(written: WrittenHead, tmp_path: Path) -> None:
    series = series_of(written)
    with pytest.raises(CannotDeface):
        deface_series(Series(series.series_uid, "CT", series.instances), no_brain_asked)
    long_echo = dcmread(series.instances[0].path)
    long_echo.EchoTime = 90
    long_echo.save_as(tmp_path / "a.dcm")
    folder = DefacingPass(tmp_path, no_brain_asked)
    for _ in range(2):  # the second time from memory
        with pytest.raises(CannotDeface):
            folder(long_echo)


def no_brain_asked(_: object) -> np.ndarray:
    raise AssertionError("nobody should look for a brain here")


def test_other_parts_of_the_body_pass_by(written: WrittenHead, tmp_path: Path) -> None:
    ds = dcmread(series_of(written).instances[0].path)
    ds.BodyPartExamined, ds.SeriesDescription, ds.ProtocolName = "KNEE", "knee", "knee"
    ds.StudyDescription = "knee"
    assert DefacingPass(tmp_path, no_brain_asked)(ds) is None


def test_the_code_joins_the_others_of_what_is_de_identified() -> None:
    ds = Dataset()
    ds.set_original_encoding(False, True)
    ds.file_meta = Dataset()
    assert declared(ds).RecognizableVisualFeatures == "NO"
    assert "DeidentificationMethodCodeSequence" not in declared(ds)
    ds.PatientIdentityRemoved = "YES"
    twice = declared(declared(ds))
    assert [item.CodeValue for item in twice.DeidentificationMethodCodeSequence] == ["113102"]
    assert "RecognizableVisualFeatures" not in ds
