"""MONAI datalist in the layout of the Medical Segmentation Decathlon: `Task01_NAME/`.

`monai.data.load_decathlon_datalist(dataset.json, key)` reads `training`, `validation` and `test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom.errors import InvalidRequest
from pipelines.exports import Case, Dataset, Split
from pipelines.exports.volumes import read_case, read_labels, write_json, write_nifti

_FOLDERS = {"train": "Tr", "validation": "Tr", "test": "Ts"}


def check(dataset: Dataset) -> None:
    """Refuse a dataset of which a case to learn from has no labels."""
    missing = [case for case in dataset.cases if case.seg is None and case.split != "test"]
    if missing:
        raise InvalidRequest(f"{len(missing)} cases to learn from have no segmentation")


def write(case: Case, dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Write one case's image, and its labels where it has some."""
    home = folder / _home(dataset)
    volume = read_case(case)
    # labels first: a case whose labels cannot be read is no half case
    labels_kji = None if case.seg is None else read_labels(case, dataset, volume)
    files = [home / _image(case, dataset)]
    write_nifti(files[0], volume.voxels_kji, volume.affine_lps)
    if labels_kji is not None:
        files.append(home / _labels(case, dataset))
        write_nifti(files[1], labels_kji, volume.affine_lps)
    return files


def finish(dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Write dataset.json."""
    path = folder / _home(dataset) / "dataset.json"
    modalities = sorted({case.series.modality for case in dataset.cases})
    write_json(
        path,
        {
            "name": dataset.name,
            "description": dataset.description,
            "licence": dataset.licence,
            "tensorImageSize": "3D",
            "modality": {str(place): modality for place, modality in enumerate(modalities)},
            "labels": {
                "0": "background",
                **{str(label.number): label.name for label in dataset.labels},
            },
            "numTraining": sum(case.split == "train" for case in dataset.cases),
            "numTest": sum(case.split == "test" for case in dataset.cases),
            "training": _items(dataset, "train"),
            "validation": _items(dataset, "validation"),
            "test": _items(dataset, "test"),
        },
    )
    return (path,)


def _items(dataset: Dataset, split: Split) -> list[dict[str, str]]:
    items = []
    for case in dataset.cases:
        if case.split == split:
            item = {"image": f"./{_image(case, dataset)}"}
            if case.seg is not None:
                item["label"] = f"./{_labels(case, dataset)}"
            items.append(item)
    return items


def _home(dataset: Dataset) -> str:
    return f"Task01_{dataset.name}"


def _image(case: Case, dataset: Dataset) -> str:
    return f"images{_FOLDERS[case.split]}/{dataset.name}_{case.number:04d}.nii.gz"


def _labels(case: Case, dataset: Dataset) -> str:
    return f"labels{_FOLDERS[case.split]}/{dataset.name}_{case.number:04d}.nii.gz"
