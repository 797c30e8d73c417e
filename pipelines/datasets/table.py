"""A table of classes: ``images/`` and ``labels.csv`` with the columns `file` and `class`.

Further columns are optional: `patient`, `split` (train, validation, test); all others become tags,
by which figures are grouped.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, cast, get_args

from dicom.errors import InvalidDataset
from models.learning.cases import Split
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import channels_of, is_image, patient_of, read_pair, stem

_FILE: Final = "labels.csv"
_OURS: Final = frozenset({"file", "class", "patient", "split"})


def outline(folder: Path, *, patient: str) -> Outline:
    """Read the table."""
    rows = read_rows(folder, _FILE, {"file", "class"})
    images = images_of(folder)
    names = sorted({row["class"] for row in rows})
    return Outline(
        task="classification",
        classes=dict(enumerate(names)),
        channels=channels_of(image_of(rows[0]["file"], images)),
        patients=check_patients(_patient(row, patient) for row in rows),
        cases=len(rows),
        named=True,
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the images that the table names."""
    rows = read_rows(folder, _FILE, {"file", "class"})
    images = images_of(folder)
    channels = channels_of(image_of(rows[0]["file"], images))
    for row in rows:
        image = image_of(row["file"], images)
        found = read_pair(image, None, patient=_patient(row, patient), channels=channels)
        yield replace(
            found,
            finding_name=row["class"],
            split=split_of(row),
            tags={key: value for key, value in row.items() if key not in _OURS and value},
        )


def read_rows(folder: Path, name: str, needed: set[str]) -> list[Mapping[str, str]]:
    """Return the rows of a CSV file, by their columns' names in small letters.

    Raises
    ------
    InvalidDataset
        When it cannot be read, lacks a column, or a row has no value in one.
    """
    try:
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            read = csv.DictReader(file)
            columns = {(each or "").strip().lower() for each in read.fieldnames or ()}
            rows = [
                {str(key).strip().lower(): (value or "").strip() for key, value in row.items()}
                for row in read
            ]
    except OSError as error:
        raise InvalidDataset(f"the folder holds no {name}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidDataset(f"{name} is no table in UTF-8: {error}") from None
    missing = sorted(needed - columns)
    if missing:
        raise InvalidDataset(f"{name} has no column {missing[0]}")
    for number, row in enumerate(rows, 2):
        empty = sorted(column for column in needed if not row.get(column))
        if empty:
            raise InvalidDataset(f"{name}, line {number}: no {empty[0]}")
    if not rows:
        raise InvalidDataset(f"{name} has no row")
    return list(rows)


def images_of(folder: Path) -> dict[str, Path]:
    """Return the images of ``images/`` by their names, with and without ending.

    Raises
    ------
    InvalidDataset
        When there is no such folder.
    """
    if not (folder / "images").is_dir():
        raise InvalidDataset("the folder has no images/")
    found = [path for path in sorted((folder / "images").iterdir()) if is_image(path)]
    return {stem(path): path for path in found} | {path.name: path for path in found}


def image_of(name: str, images: Mapping[str, Path]) -> Path:
    """Return the image of that name.

    Raises
    ------
    InvalidDataset
        When there is none.
    """
    if name not in images:
        raise InvalidDataset(f"images/ holds no {name}")
    return images[name]


def split_of(row: Mapping[str, str]) -> Split | None:
    """Return where a row says that its case belongs.

    Raises
    ------
    InvalidDataset
        When it names a split that there is not.
    """
    split = row.get("split", "")
    if split and split not in get_args(Split):
        raise InvalidDataset(f"{split!r} is no split; there are: {', '.join(get_args(Split))}")
    return cast(Split, split) if split else None


def _patient(row: Mapping[str, str], pattern: str) -> str:
    return row.get("patient") or patient_of(stem(Path(row["file"])), pattern)
