"""nnU-Net v2's raw layout: imagesTr/, labelsTr/, dataset.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom.errors import InvalidDataset
from models.learning.cases import COLOUR
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import patient_of, read_case

_BACKGROUND = "background"
_RGB = {("R", "G", "B"), ("red", "green", "blue")}


def outline(folder: Path, *, patient: str) -> Outline:
    """Read dataset.json."""
    description = _description(folder)
    cases = _cases(folder, description)
    channels = tuple(str(name) for name in _ordered(description.get("channel_names", {})))
    return Outline(
        task="segmentation",
        classes=_classes(description),
        channels=COLOUR if channels in _RGB else channels,
        patients=check_patients(patient_of(name, patient) for name in cases),
        cases=len(cases),
        modalities=("CT",) if channels == ("CT",) else (),
        licence=str(description.get("licence") or description.get("license") or ""),
        source=str(description.get("reference") or description.get("name") or ""),
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the cases of imagesTr; those of imagesTs have no labels to learn from."""
    description = _description(folder)
    channels = outline(folder, patient=patient).channels
    ending = _ending(description)
    for name, images in _cases(folder, description).items():
        label = folder / "labelsTr" / f"{name}{ending}"
        if not label.is_file():
            raise InvalidDataset(f"case {name} has no labels")
        yield read_case(
            images, label, patient=patient_of(name, patient), channels=channels, name=name
        )


def _description(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDataset("the folder holds no dataset.json") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"dataset.json is no JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("labels"), dict):
        raise InvalidDataset("dataset.json names no labels")
    return found


def _classes(description: dict[str, Any]) -> dict[int, str]:
    """Return names by number; nnU-Net writes them the other way round."""
    classes: dict[int, str] = {}
    for name, number in description["labels"].items():
        if not isinstance(number, int):
            raise InvalidDataset(f"dataset.json: {name} is a region of several labels")
        if name != _BACKGROUND and number:
            classes[number] = str(name)
    return classes


def _cases(folder: Path, description: dict[str, Any]) -> dict[str, tuple[Path, ...]]:
    """Return the files of each case, a file a channel: ``NAME_0000.nii.gz``."""
    count = max(1, len(description.get("channel_names", {})))
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(_ending(description))}$")
    found: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / "imagesTr").glob("*")):
        named = pattern.match(path.name)
        if named is not None:
            found.setdefault(named.group(1), {})[int(named.group(2))] = path
    files = len({len(numbers) for numbers in found.values()}) == 1
    several = next(iter(found.values()), {})
    wanted = 1 if files and len(several) == 1 else count  # a picture in colour is one file
    for name, numbers in found.items():
        if sorted(numbers) != list(range(wanted)):
            raise InvalidDataset(f"case {name} has not {wanted} files")
    return {name: tuple(path for _, path in sorted(one.items())) for name, one in found.items()}


def _ordered(names: dict[str, Any]) -> list[Any]:
    return [names[key] for key in sorted(names, key=int)]


def _ending(description: dict[str, Any]) -> str:
    return str(description.get("file_ending", ".nii.gz"))
