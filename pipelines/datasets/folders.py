"""A folder a class: ``PA/``, ``AP/``, each with the images of that class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dicom.errors import InvalidDataset
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import channels_of, is_image, patient_of, read_pair, stem


def outline(folder: Path, *, patient: str) -> Outline:
    """Look at the names; the folders are the classes, in the order of the alphabet."""
    images = _images(folder)
    names = sorted({image.parent.name for image in images})
    return Outline(
        task="classification",
        classes=dict(enumerate(names)),
        channels=channels_of(images[0]),
        patients=check_patients(patient_of(stem(image), patient) for image in images),
        cases=len(images),
        named=True,
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the images."""
    images = _images(folder)
    channels = channels_of(images[0])
    for image in images:
        whose = patient_of(stem(image), patient)
        found = read_pair(image, None, patient=whose, channels=channels)
        yield replace(found, finding_name=image.parent.name)


def _images(folder: Path) -> list[Path]:
    """Return every image of every folder.

    Raises
    ------
    InvalidDataset
        When there is none, or two have one name: which is which could not be said.
    """
    found = [
        path
        for inner in sorted(folder.iterdir())
        if inner.is_dir() and not inner.name.startswith(".")
        for path in sorted(inner.iterdir())
        if is_image(path)
    ]
    if not found:
        raise InvalidDataset("no folder of a class holds an image")
    names = [stem(path) for path in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidDataset(f"{twice} is in two folders")
    return found
