"""nnU-Net v2: `Dataset001_NAME/{imagesTr,labelsTr,imagesTs,labelsTs}` and dataset.json.

nnU-Net makes its own folds: cases for training and validation both go to imagesTr, and
splits_final.json says which is which (one fold). File names are running numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom.errors import InvalidRequest
from pipelines.exports import Case, Dataset
from pipelines.exports.volumes import read_case, read_labels, write_json, write_nifti


def check(dataset: Dataset) -> None:
    """Refuse a dataset of several modalities, without labels, or with nothing to train on."""
    modalities = {case.series.modality for case in dataset.cases}
    if len(modalities) > 1:
        raise InvalidRequest(
            f"nnU-Net wants one kind of image, not {', '.join(sorted(modalities))}"
        )
    if any(case.seg is None for case in dataset.cases):
        count = sum(case.seg is None for case in dataset.cases)
        raise InvalidRequest(f"{count} of {len(dataset.cases)} cases have no segmentation")


def write(case: Case, dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Write one case's image and labels."""
    home = folder / _home(dataset)
    part = "Ts" if case.split == "test" else "Tr"
    volume = read_case(case)
    image = home / f"images{part}" / f"{_key(case, dataset)}_0000.nii.gz"
    labels = home / f"labels{part}" / f"{_key(case, dataset)}.nii.gz"
    labels_kji = read_labels(case, dataset, volume)  # first: a case without them is no half case
    write_nifti(image, volume.voxels_kji, volume.affine_lps)
    write_nifti(labels, labels_kji, volume.affine_lps)
    return (image, labels)


def finish(dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Write dataset.json and splits_final.json."""
    home = folder / _home(dataset)
    training = [case for case in dataset.cases if case.split != "test"]
    write_json(
        home / "dataset.json",
        {
            "channel_names": {"0": training[0].series.modality},
            "labels": {"background": 0, **{label.name: label.number for label in dataset.labels}},
            "numTraining": len(training),
            "file_ending": ".nii.gz",
            "name": dataset.name,
            "description": dataset.description,
            "licence": dataset.licence,
        },
    )
    fold = {
        "train": [_key(case, dataset) for case in training if case.split == "train"],
        "val": [_key(case, dataset) for case in training if case.split == "validation"],
    }
    write_json(home / "splits_final.json", [fold])
    return (home / "dataset.json", home / "splits_final.json")


def _home(dataset: Dataset) -> str:
    return f"Dataset001_{dataset.name}"


def _key(case: Case, dataset: Dataset) -> str:
    return f"{dataset.name}_{case.number:04d}"
