"""The phantom is one head in patient space, and a valid DICOM study full of invented identity."""

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from dicom.phantom import (
    Anatomy,
    Person,
    Tissue,
    brain_of,
    head_affine,
    head_around,
    head_mr,
    head_tissues,
    write_head_study,
)


@pytest.fixture(scope="module")
def head():
    return head_mr(1, slices=80, size=128)


def test_a_seed_is_one_head(head):
    again = head_mr(1, slices=80, size=128)
    other = head_mr(2, slices=80, size=128)
    assert np.array_equal(head.voxels_kji, again.voxels_kji)
    assert not np.array_equal(head.tissues_kji, other.tissues_kji)


def test_the_head_lies_in_patient_space_whatever_the_plane(head):
    other = head_mr(1, slices=90, size=120, plane="axial", tilt_deg=(-4.0, 3.0, 1.0))
    to_other = np.linalg.inv(other.affine_lps) @ head.affine_lps
    places = np.argwhere(np.ones(head.brain_kji.shape, bool))
    there = places @ to_other[:3, :3].T + to_other[:3, 3]
    sampled = ndimage.map_coordinates(other.brain_kji.astype(np.float32), there.T, order=1)
    brain = head.brain_kji.ravel()
    dice = 2 * (brain & (sampled > 0.5)).sum() / (brain.sum() + (sampled > 0.5).sum())
    assert dice > 0.98


def test_the_brain_is_of_a_brains_size_and_in_one_piece(head):
    average = head_mr(1, slices=80, size=128, anatomy=Anatomy())
    assert 1200 < average.brain_kji.sum() * np.prod(average.spacing_mm) / 1000 < 1600
    _, pieces = ndimage.label(head.brain_kji)
    assert pieces == 1
    assert np.array_equal(head.brain_kji, ndimage.binary_fill_holes(head.brain_kji))


def test_every_tissue_occurs(head):
    missing = set(Tissue) - set(np.unique(head.tissues_kji).tolist())
    assert not missing


def test_the_brain_is_closed_off_from_air(head):
    near = ndimage.distance_transform_edt(~head.brain_kji, sampling=head.spacing_mm)
    air = np.isin(head.tissues_kji, [Tissue.AIR, Tissue.CAVITY])
    assert near[air].min() > 1.0


def test_the_fiducial_is_on_the_left_and_in_front(head):
    index = np.argwhere(head.tissues_kji == Tissue.FIDUCIAL).mean(axis=0)
    left, posterior, _ = (head.affine_lps @ (*index, 1))[:3]
    assert left > 20
    assert posterior < -50


def test_white_matter_is_brighter_than_grey_than_csf(head):
    means = [
        head.voxels_kji[head.tissues_kji == tissue].mean()
        for tissue in (Tissue.WHITE_MATTER, Tissue.GREY_MATTER, Tissue.VENTRICLE, Tissue.AIR)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > 1.3 * means[1] > 2 * means[2]


def test_tissues_alone_agree_with_the_image(head):
    affine = head_affine(
        head.voxels_kji.shape, (2.2, 2.0, 2.0), plane="sagittal", tilt_deg=(2.0, -1.5, 3.0)
    )
    tissues = head_tissues(1, head.voxels_kji.shape, affine)
    assert np.array_equal(tissues, head.tissues_kji)
    assert np.array_equal(brain_of(tissues), head.brain_kji)


@pytest.mark.parametrize("plane", ["sagittal", "axial", "coronal"])
def test_the_files_place_their_voxels_where_the_truth_lies(tmp_path: Path, plane):
    written = write_head_study(tmp_path, seed=3, slices=24, size=64, plane=plane)
    for k, instance in enumerate(written.series.instances):
        ds = pydicom.dcmread(instance.path)
        assert np.array_equal(ds.pixel_array, written.head.voxels_kji[k])
        row, column = np.reshape(ds.ImageOrientationPatient, (2, 3)).astype(float)
        place = np.array(ds.ImagePositionPatient, float)
        place = place + 11 * row * ds.PixelSpacing[1] + 7 * column * ds.PixelSpacing[0]
        assert place == pytest.approx((written.head.affine_lps @ (k, 7, 11, 1))[:3], abs=1e-3)
    normal = np.cross(row, column)
    step = written.head.affine_lps[:3, 0]
    assert normal @ step == pytest.approx(np.linalg.norm(step))
    assert 0 < np.degrees(np.arccos(np.abs(normal).max())) < 8  # slightly oblique


def test_the_series_is_valid_dicom(tmp_path: Path):
    written = write_head_study(tmp_path, seed=4, slices=8, size=64)
    paths = [str(instance.path) for instance in written.series.instances]
    for program in (["dciodvfy", paths[3]], ["dcentvfy", *paths]):
        answer = subprocess.run(program, capture_output=True, text=True, check=False)
        assert "Error" not in answer.stdout + answer.stderr
    assert len({instance.sop_instance_uid for instance in written.series.instances}) == 8


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path):
    first = write_head_study(tmp_path / "a", seed=5, slices=4, size=32)
    second = write_head_study(tmp_path / "b", seed=5, slices=4, size=32)
    for one, two in zip(first.series.instances, second.series.instances, strict=True):
        assert one.path.read_bytes() == two.path.read_bytes()


def test_one_person_may_come_twice(tmp_path: Path):
    person = Person.drawn(9)
    first = write_head_study(tmp_path / "a", seed=9, slices=4, size=32, person=person)
    second = write_head_study(tmp_path / "b", seed=9, slices=4, size=32, person=person, visit=2)
    assert first.study.study_uid != second.study.study_uid
    one, two = (pydicom.dcmread(w.series.instances[0].path) for w in (first, second))
    assert one.PatientID == two.PatientID
    assert one.StudyDate < two.StudyDate


def test_identity_is_everywhere(tmp_path: Path):
    written = write_head_study(tmp_path, seed=6, slices=2, size=32)
    person = written.person
    ds = pydicom.dcmread(written.series.instances[0].path)
    family = person.name.split("^")[0]
    holders = [element.tag for element in ds.iterall() if family in str(element.value)]
    assert len(holders) >= 10
    assert any(tag.is_private for tag in holders)
    assert ds[0x0029, 0x1003].value[0].PatientName == person.name  # nested, and private
    assert person.physician in str(ds.ReferringPhysicianIdentificationSequence)


def test_a_head_can_be_built_around_another_brain(head):
    tissues = head_around(7, head.brain_kji, head.affine_lps)
    assert np.array_equal(brain_of(tissues), head.brain_kji)
    assert {Tissue.BONE, Tissue.OUTER_CSF, Tissue.FAT, Tissue.VITREOUS} <= set(np.unique(tissues))
    near = ndimage.distance_transform_edt(~head.brain_kji, sampling=head.spacing_mm)
    assert near[tissues == Tissue.AIR].min() > 4
    assert not np.array_equal(tissues, head_around(8, head.brain_kji, head.affine_lps))
