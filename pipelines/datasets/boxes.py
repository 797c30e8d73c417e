"""Boxes beside images: ``images/`` and ``boxes.csv``.

Columns: `file`, `class`, and the box: `x0`, `y0`, `x1`, `y1`, its first and last column and row,
both within; of a volume also `z0`, `z1`, its slices. All of them count from 0 in the file's own
axes. Instead of these, ``low_x``, ``low_y``, ``low_z``, ``high_x``, ``high_y``, ``high_z``: two
opposite corners in the patient, LPS, mm, for volumes that say where they lie. `patient` is
optional. An image that no row names has no box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from dicom.errors import InvalidDataset
from pipelines.datasets import Found, FoundBox, Outline, check_patients
from pipelines.datasets.files import channels_of, patient_of, read_pair, stem
from pipelines.datasets.table import image_of, images_of, read_rows

_FILE: Final = "boxes.csv"
_PIXELS: Final = ("x0", "y0", "x1", "y1")
_CORNERS: Final = tuple(f"{end}_{axis}" for end in ("low", "high") for axis in "xyz")
_AT_AN_EDGE: Final = 1e-3  # of a voxel


def outline(folder: Path, *, patient: str) -> Outline:
    """Read the table and the names of the images."""
    rows = read_rows(folder, _FILE, {"file", "class"})
    images = sorted(set(images_of(folder).values()))
    for row in rows:
        image_of(row["file"], images_of(folder))
    owners = _owners(rows)
    names = sorted({row["class"] for row in rows})
    return Outline(
        task="detection",
        classes=dict(enumerate(names, 1)),
        channels=channels_of(images[0]),
        patients=check_patients(
            owners.get(stem(each)) or patient_of(stem(each), patient) for each in images
        ),
        cases=len(images),
        named=True,
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield every image with its boxes."""
    rows = read_rows(folder, _FILE, {"file", "class"})
    images = sorted(set(images_of(folder).values()))
    channels = channels_of(images[0])
    owners = _owners(rows)
    for image in images:
        name = stem(image)
        whose = owners.get(name) or patient_of(name, patient)
        found = read_pair(image, None, patient=whose, channels=channels)
        mine = [row for row in rows if row["file"] in (name, image.name)]
        yield replace(found, boxes=tuple(_box(row, found) for row in mine))


def box_of(name: str, low: Sequence[float], high: Sequence[float]) -> FoundBox:
    """Return the voxels that lie in a box, whole or in part.

    Parameters
    ----------
    low, high : sequence of float
        Its edges (k, j, i); voxel n reaches from n to n + 1.
    """
    k, j, i = (int(np.floor(edge + _AT_AN_EDGE)) for edge in low)
    k1, j1, i1 = (int(np.ceil(edge - _AT_AN_EDGE)) - 1 for edge in high)
    return FoundBox(name, (k, j, i), (max(k, k1), max(j, j1), max(i, i1)))


def _owners(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {stem(Path(row["file"])): row["patient"] for row in rows if row.get("patient")}


def _box(row: Mapping[str, str], found: Found) -> FoundBox:
    if all(row.get(column) for column in _PIXELS):
        x0, y0, x1, y1 = (_number(row, column) for column in _PIXELS)
        z0, z1 = (_number(row, end) if row.get(end) else 0.0 for end in ("z0", "z1"))
        return box_of(row["class"], (z0, y0, x0), (z1 + 1, y1 + 1, x1 + 1))
    if not all(row.get(column) for column in _CORNERS):
        raise InvalidDataset(f"{_FILE}: {row['file']} has a box without {', '.join(_PIXELS)}")
    if found.affine_lps is None:
        raise InvalidDataset(f"case {found.id} does not say where it lies; give its box in pixels")
    ends = [_number(row, column) for column in _CORNERS]
    corners = np.array([(*at, 1.0) for at in product(*zip(ends[:3], ends[3:], strict=True))])
    index = (corners @ np.linalg.inv(found.affine_lps).T)[:, :3] + 0.5
    return box_of(row["class"], index.min(axis=0).tolist(), index.max(axis=0).tolist())


def _number(row: Mapping[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise InvalidDataset(
            f"{_FILE}: {row['file']}: {column} is {row[column]!r}, no number"
        ) from None
