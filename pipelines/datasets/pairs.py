"""``images/`` and ``labels/`` with equal stems: NIfTI volumes, or pictures with PNG masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dicom.errors import InvalidDataset
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import (
    channels_of,
    is_image,
    label_values,
    patient_of,
    read_pair,
    stem,
)


def outline(folder: Path, *, patient: str) -> Outline:
    """Look at the names; the classes are not named here, and are numbered where nobody does."""
    pairs = _pairs(folder)
    return Outline(
        task="segmentation",
        classes={},
        channels=channels_of(pairs[0][0]),
        patients=check_patients(patient_of(stem(image), patient) for image, _ in pairs),
        cases=len(pairs),
        numbers=lambda: set().union(*(label_values(label) for _, label in pairs)),
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the pairs."""
    pairs = _pairs(folder)
    channels = channels_of(pairs[0][0])
    for image, label in pairs:
        whose = patient_of(stem(image), patient)
        yield read_pair(image, label, patient=whose, channels=channels)


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return images with their labels.

    Raises
    ------
    InvalidDataset
        When a folder is missing, or one of a pair.
    """
    sides = []
    for name in ("images", "labels"):
        if not (folder / name).is_dir():
            raise InvalidDataset(f"the folder has no {name}/")
        files = [path for path in sorted((folder / name).iterdir()) if is_image(path)]
        sides.append({stem(path): path for path in files})
    images, labels = sides
    lonely = sorted(images.keys() ^ labels.keys())
    if lonely:
        raise InvalidDataset(f"{len(lonely)} files have no partner, such as {lonely[0]}")
    if not images:
        raise InvalidDataset("images/ holds no image")
    return [(images[name], labels[name]) for name in sorted(images)]
