"""What goes wrong in other converters: orientation, slope, gantry, several volumes, half cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import Dataset as PydicomDataset
from pydicom import dcmread

from dicom.folder import read_folder
from dicom.study import Series, Study
from dicom.uids import derived_uid
from dicom.volume import read_volume
from pipelines.exporting import Order, export
from pipelines.exports import Dataset
from pipelines.exports.cases import Shares, gather
from tests.segmentations import encoded, segments_of, uids_of
from tests.series import AXIAL, PLANES, picture, write_series

SHAPE = (6, 18, 20)
NO_SPLIT = Shares(0, 0)


def dataset_of(*series: Series) -> Dataset:
    studies = [Study(str(dcmread(s.instances[0].path).StudyInstanceUID), (s,)) for s in series]
    return gather("pitfalls", studies, shares=NO_SPLIT)[0]


def written(dataset: Dataset, target: Path, *formats: str) -> tuple[Path, list[str]]:
    order = Order(dataset, (), formats, "Basic Profile", "0.0.test")
    done = export(order, target, gate=lambda path: None)
    return target, [code for _, code, _ in done.refused]


@pytest.mark.parametrize("plane", sorted(PLANES))
def test_every_voxel_lies_where_it_lay_in_the_patient(plane: str, tmp_path: Path) -> None:
    series = write_series(tmp_path / "in", plane=PLANES[plane], shape_kji=SHAPE)
    home, refused = written(dataset_of(series), tmp_path / "out", "nifti")
    assert refused == []
    (path,) = home.rglob("*.nii.gz")
    image = nibabel.load(path)
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
    ras = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    expected = picture(ras * [-1, -1, 1])  # a function of the place, LPS
    # a voxel whose centre lies on the ball's very edge may fall on either side
    assert (np.asarray(image.dataobj) == expected).mean() > 0.99
    assert nibabel.aff2axcodes(image.affine) is not None
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-5)


def test_slope_and_intercept_are_applied_once(tmp_path: Path) -> None:
    def edit(_: int, ds: PydicomDataset) -> None:
        ds.RescaleSlope, ds.RescaleIntercept = "2", "-1024"

    series = write_series(tmp_path / "in", shape_kji=SHAPE, edit=edit)
    plain = write_series(tmp_path / "plain", shape_kji=SHAPE)
    home, _ = written(dataset_of(series), tmp_path / "out", "nifti")
    (path,) = home.rglob("*.nii.gz")
    image = nibabel.load(path)
    stored = np.stack([dcmread(i.path).pixel_array for i in plain.instances])
    slope = image.dataobj.slope, image.dataobj.inter
    assert slope in ((1.0, 0.0), (None, None))  # in the voxels, not in the header a second time
    voxels = np.asarray(image.dataobj)
    assert (voxels.min(), voxels.max()) == (2 * stored.min() - 1024, 2 * stored.max() - 1024)


def test_a_tilted_gantry_and_several_volumes_are_left_out_with_their_codes(tmp_path: Path) -> None:
    def tilt(k: int, ds: PydicomDataset) -> None:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, float(y) + 0.9 * k, z]

    def twice(k: int, ds: PydicomDataset) -> None:
        x, y, _ = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, str(3.0 * (k // 2))]
        ds.TemporalPositionIdentifier = k % 2 + 1

    tilted = write_series(tmp_path / "a", name="a", shape_kji=SHAPE, plane=AXIAL, edit=tilt)
    phases = write_series(tmp_path / "b", name="b", shape_kji=SHAPE, plane=AXIAL, edit=twice)
    good = write_series(tmp_path / "c", name="c", shape_kji=SHAPE)
    dataset = dataset_of(tilted, phases, good)
    home, refused = written(dataset, tmp_path / "out", "nifti")
    assert len(refused) == 2
    assert "gantry_tilt" in refused
    assert set(refused) - {"gantry_tilt"} <= {"several_volumes", "doubled_slice"}
    assert len(list(home.rglob("*.nii.gz"))) == 1
    card = json.loads((home / "card.json").read_text())
    assert sorted(one["code"] for one in card["refused"]) == sorted(refused)


@pytest.mark.parametrize("name", ["nnunet", "decathlon", "nifti"])
def test_a_case_whose_labels_cannot_be_held_leaves_no_image_behind(
    name: str, tmp_path: Path
) -> None:
    found = []
    for number, word in enumerate(("a", "b")):
        series = write_series(tmp_path / word, name=word, shape_kji=SHAPE)
        volume = read_volume(series)
        labels_kji = np.zeros(volume.shape_kji, np.uint8)
        labels_kji[1:3, 2:9, 3:9] = 1
        seg = encoded(labels_kji, volume, segments_of("liver"), uids=uids_of(1, word))
        if number:  # it claims another place than its images have
            seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [9, 9]
        seg.save_as(tmp_path / word / "seg.dcm", enforce_file_format=True)
        (study,) = read_folder(tmp_path / word).studies
        found.append(study)
    dataset, _ = gather("halves", found, shares=NO_SPLIT)
    home, refused = written(dataset, tmp_path / "out", name)
    assert len(refused) == 1
    files = list(home.rglob("*.nii.gz"))
    assert len(files) == 2, files  # the good case's image and labels


def test_the_label_is_the_one_that_nobody_corrected(tmp_path: Path) -> None:
    series = write_series(tmp_path / "a", shape_kji=SHAPE)
    volume = read_volume(series)
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[1:3, 2:9, 3:9] = 1
    first = encoded(labels_kji, volume, segments_of("liver"), uids=uids_of(1, "first"))
    second = encoded(labels_kji, volume, segments_of("liver"), uids=uids_of(1, "second"))
    for seg in (first, second):  # dates are gone where a project keeps none
        seg.ContentDate, seg.ContentTime = "19000101", "000000"
    before, inner, study = PydicomDataset(), PydicomDataset(), PydicomDataset()
    before.ReferencedSOPClassUID = first.SOPClassUID
    for corrected, by in ((first, second), (second, first)):
        before.ReferencedSOPInstanceUID = corrected.SOPInstanceUID
        inner.SeriesInstanceUID = corrected.SeriesInstanceUID
        inner.ReferencedSOPSequence, study.ReferencedSeriesSequence = [before], [inner]
        study.StudyInstanceUID = derived_uid("study", "a")
        by.PredecessorDocumentsSequence = [study]
        folder = tmp_path / f"as {by.SOPInstanceUID[-4:]}"
        folder.mkdir()
        for seg in (first, second):
            seg.save_as(folder / f"{seg.SOPInstanceUID[-6:]}.dcm", enforce_file_format=True)
        drawn = read_folder(folder).studies[0].series
        whole = replace(Study(derived_uid("study", "a"), (series,)), series=(series, *drawn))
        case = gather("one", [whole], shares=NO_SPLIT)[0].cases[0]
        assert case.seg is not None and case.seg.sop_instance_uid == by.SOPInstanceUID
        assert [one.sop_instance_uid for one in case.related] == [corrected.SOPInstanceUID]
        del by.PredecessorDocumentsSequence
