"""Datasets from DICOM: image series and the segmentations that lie on them."""

from pathlib import Path

import numpy as np
import pytest

from dicom.errors import InvalidDataset
from dicom.phantom import Person, write_head_study
from dicom.volume import read_volume
from pipelines.datasets import Shelf, Wanted, get_layout
from pipelines.exports.cases import Shares
from tests.segmentations import encoded


def write_studies(folder: Path, *, segmented: int = 3) -> dict[str, np.ndarray]:
    """Write three heads of three patients; return the labels of the segmented ones."""
    labels = {}
    for seed in range(1, 4):
        home = folder / f"study{seed}"
        written = write_head_study(
            home, seed=seed, slices=8, size=48, plane="axial", person=Person.drawn(seed)
        )
        if seed > segmented:
            continue
        volume = read_volume(written.study.series[0])
        mask = (volume.voxels_kji > np.percentile(volume.voxels_kji, 70)).astype(np.uint8)
        encoded(mask, volume).save_as(home / "seg.dcm", enforce_file_format=True)
        labels[written.study.series[0].series_uid] = mask
    return labels


def test_series_with_their_segmentations_become_cases(tmp_path: Path):
    labels = write_studies(tmp_path / "in")
    wanted = Wanted(name="heads", shares=Shares(0.34, 0.34))
    folder = Shelf(tmp_path / "shelf").freeze(get_layout("dicom"), tmp_path / "in", wanted)
    dataset = folder.dataset
    assert len(dataset.cases) == 3
    assert dataset.modalities == ("MR",)
    assert [row.number for row in dataset.segments] == list(dataset.classes)
    assert {case.split for case in dataset.cases} == {"train", "validation", "test"}
    sizes = sorted(int((np.asarray(folder.label(case)) == 1).sum()) for case in dataset.cases)
    assert sizes == sorted(int(mask.sum()) for mask in labels.values())
    assert all(case.tags["manufacturer"] for case in dataset.cases)
    assert all(case.affine_lps is not None for case in dataset.cases)


def test_a_series_without_a_segmentation_is_no_case(tmp_path: Path):
    write_studies(tmp_path / "in", segmented=2)
    wanted = Wanted(name="heads", shares=Shares(0.0, 0.5))
    folder = Shelf(tmp_path / "shelf").freeze(get_layout("dicom"), tmp_path / "in", wanted)
    assert len(folder.dataset.cases) == 2


def test_no_segmentation_at_all_is_no_dataset(tmp_path: Path):
    write_studies(tmp_path / "in", segmented=0)
    with pytest.raises(InvalidDataset, match="no series"):
        Shelf(tmp_path / "shelf").freeze(get_layout("dicom"), tmp_path / "in", Wanted(name="heads"))
