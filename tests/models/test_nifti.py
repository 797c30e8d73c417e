"""NIfTI in and out keeps each voxel where it lies in the patient."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from dicom.errors import (
    InvalidSettings,
    NoGeometry,
    UnreadablePixels,
    UnsuitableSeries,
    UnsupportedPixelFormat,
)
from models.nifti import read_nifti, write_labels

DATA = Path(__file__).parents[3] / "shared/data/mr/t1_nifti"
AFFINE_RAS = np.array(
    [[0.0, -1.2, 0.1, 30.0], [0.9, 0.0, 0.2, -20.0], [0.0, 0.1, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]]
)
IMAGE_IJK = np.random.default_rng(4).integers(-900, 900, (5, 6, 7)).astype(np.int16)


def write(path: Path, array: np.ndarray, affine_ras: np.ndarray | None = AFFINE_RAS) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine_ras), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_each_voxel_keeps_its_value_and_its_place(tmp_path: Path, suffix: str) -> None:
    voxels_kji, affine_lps = read_nifti(write(tmp_path / f"image{suffix}", IMAGE_IJK))
    assert voxels_kji.dtype == np.int16
    for i, j, k in ((0, 0, 0), (4, 0, 0), (1, 5, 2), (3, 2, 6)):
        assert voxels_kji[k, j, i] == IMAGE_IJK[i, j, k]
        x, y, z = apply_affine(AFFINE_RAS, (i, j, k))
        np.testing.assert_allclose(apply_affine(affine_lps, (k, j, i)), (-x, -y, z), atol=1e-4)


def test_labels_lie_on_the_image_they_were_made_from(tmp_path: Path) -> None:
    voxels_kji, affine_lps = read_nifti(write(tmp_path / "image.nii", IMAGE_IJK))
    write_labels(tmp_path / "labels.nii.gz", (voxels_kji > 0).astype(np.uint8), affine_lps)
    labels = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), IMAGE_IJK > 0)
    assert labels.get_data_dtype() == np.uint8
    np.testing.assert_allclose(labels.affine, AFFINE_RAS, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_same_labels_are_the_same_bytes(tmp_path: Path) -> None:
    labels = np.ones((2, 3, 4), dtype=np.uint8)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, labels, np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_scaling_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(IMAGE_IJK, AFFINE_RAS)
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "scaled.nii")
    voxels_kji, _ = read_nifti(tmp_path / "scaled.nii")
    stored = nibabel.load(tmp_path / "scaled.nii").get_fdata()
    assert voxels_kji.dtype == np.float32
    np.testing.assert_allclose(voxels_kji.transpose(2, 1, 0), stored, atol=1e-3)


def test_metres_become_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(IMAGE_IJK, np.diag([0.001, 0.001, 0.003, 1.0]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "metres.nii")
    _, affine_lps = read_nifti(tmp_path / "metres.nii")
    np.testing.assert_allclose(np.linalg.norm(affine_lps[:3, :3], axis=0), (3.0, 1.0, 1.0))


def test_a_fourth_axis_of_one_is_no_matter_and_of_two_is(tmp_path: Path) -> None:
    voxels_kji, _ = read_nifti(write(tmp_path / "one.nii", IMAGE_IJK[..., None]))
    assert voxels_kji.shape == (7, 6, 5)
    with pytest.raises(UnsuitableSeries):
        read_nifti(write(tmp_path / "two.nii", np.stack([IMAGE_IJK] * 2, axis=-1)))
    with pytest.raises(UnsuitableSeries):
        read_nifti(write(tmp_path / "plane.nii", IMAGE_IJK[..., 0]))


def test_an_image_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoGeometry):
        read_nifti(write(tmp_path / "nowhere.nii", IMAGE_IJK, None))


def test_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for array in (rgb, np.zeros((3, 3, 3), dtype=np.complex64)):
        with pytest.raises(UnsupportedPixelFormat):
            read_nifti(write(tmp_path / "image.nii", array))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("length", [0, 10, 200, 400, 500])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str, length: int) -> None:
    path = write(tmp_path / f"image{suffix}", IMAGE_IJK)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UnreadablePixels):
        read_nifti(path)


def test_another_file_under_a_nifti_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nii").write_text("no image " * 100)
    with pytest.raises(UnreadablePixels):
        read_nifti(tmp_path / "text.nii")


def test_labels_are_written_under_a_nifti_name_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"labels\.txt"):
        write_labels(tmp_path / "labels.txt", np.zeros((1, 1, 1), dtype=np.uint8), np.eye(4))


def test_a_real_head_keeps_its_place(tmp_path: Path) -> None:
    files = sorted(DATA.rglob("*.nii*")) if DATA.is_dir() else []
    if not files:
        pytest.skip("needs ../shared/data/mr/t1_nifti")
    voxels_kji, affine_lps = read_nifti(files[0])
    image = nibabel.load(files[0])
    np.testing.assert_allclose(
        voxels_kji, np.asanyarray(image.dataobj).transpose(2, 1, 0), rtol=1e-6
    )
    write_labels(tmp_path / "labels.nii", np.zeros(voxels_kji.shape, np.uint8), affine_lps)
    np.testing.assert_allclose(
        nibabel.load(tmp_path / "labels.nii").affine, image.affine, atol=1e-4
    )
