"""The Medical Segmentation Decathlon's layout: a dataset.json that lists images with labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicom.errors import InvalidDataset
from models.learning.cases import Split
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import patient_of, read_case, stem

_SPLITS: dict[str, Split] = {"validation": "validation", "test": "test"}
_DICOM = {"CT": "CT", "MRI": "MR", "MR": "MR", "PET": "PT"}


def outline(folder: Path, *, patient: str) -> Outline:
    """Read dataset.json."""
    description = _description(folder)
    items = list(_items(folder, description))
    modalities = [str(description["modality"][key]) for key in sorted(description["modality"])]
    return Outline(
        task="segmentation",
        classes={int(n): str(name) for n, name in description["labels"].items() if int(n)},
        channels=tuple(modalities),
        patients=check_patients(patient_of(stem(image), patient) for image, _, _ in items),
        cases=len(items),
        modalities=tuple(sorted({_DICOM[one] for one in modalities if one in _DICOM})),
        licence=str(description.get("licence", "")),
        source=str(description.get("reference") or description.get("name") or ""),
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the cases that have labels; what `validation` and `test` list keeps its split."""
    description = _description(folder)
    channels = outline(folder, patient=patient).channels
    for image, label, split in _items(folder, description):
        name = stem(image)
        whose = patient_of(name, patient)
        if len(channels) > 1:
            raise InvalidDataset(
                f"case {name} holds several channels in one file; write one file a channel"
            )
        found = read_case((image,), label, patient=whose, channels=channels, name=name)
        yield replace(found, split=split)


def _description(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDataset("the folder holds no dataset.json") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"dataset.json is no JSON: {error}") from None
    missing = [key for key in ("labels", "modality", "training") if key not in found]
    if missing:
        raise InvalidDataset(f"dataset.json has no {missing[0]}")
    return dict(found)


def _items(folder: Path, description: dict[str, Any]) -> Iterator[tuple[Path, Path, Split | None]]:
    listed = any(_labelled(description.get(key, [])) for key in _SPLITS)
    for key in ("training", *_SPLITS):
        for item in _labelled(description.get(key, [])):
            image, label = (_within(folder, str(item[side])) for side in ("image", "label"))
            own: Split = _SPLITS.get(key, "train")
            yield image, label, own if listed else None


def _labelled(items: list[Any]) -> list[dict[str, Any]]:
    return [one for one in items if isinstance(one, dict) and {"image", "label"} <= one.keys()]


def _within(folder: Path, name: str) -> Path:
    """Return a file that the list names; one that leads out of the folder is refused."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidDataset("dataset.json names a file outside of the folder")
    return path
