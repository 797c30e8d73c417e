"""COCO's layout: ``annotations.json`` with `images`, `annotations`, `categories`; ``images/``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dicom.errors import InvalidDataset
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.boxes import box_of
from pipelines.datasets.files import channels_of, patient_of, read_pair, stem
from pipelines.datasets.table import image_of, images_of

_FILE: Final = "annotations.json"


class _Image(BaseModel):
    id: int
    file_name: str


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    """Left and upper edge, width, height; pixels, whose first begins at 0."""


class _Category(BaseModel):
    id: int
    name: str


class _Coco(BaseModel):
    images: tuple[_Image, ...]
    annotations: tuple[_Annotation, ...]
    categories: tuple[_Category, ...]
    licenses: tuple[dict[str, Any], ...] = ()


def outline(folder: Path, *, patient: str) -> Outline:
    """Read the annotations."""
    coco, images = _read(folder)
    licences = {str(one.get("name", "")) for one in coco.licenses}
    return Outline(
        task="detection",
        classes=dict(enumerate(sorted(one.name for one in coco.categories), 1)),
        channels=channels_of(images[coco.images[0].id]),
        patients=check_patients(patient_of(stem(path), patient) for path in images.values()),
        cases=len(images),
        named=True,
        licence="; ".join(sorted(licences - {""})),
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the images with their boxes."""
    coco, images = _read(folder)
    channels = channels_of(images[coco.images[0].id])
    names = {one.id: one.name for one in coco.categories}
    for image in coco.images:
        path = images[image.id]
        found = read_pair(path, None, patient=patient_of(stem(path), patient), channels=channels)
        boxes = []
        for one in coco.annotations:
            if one.image_id != image.id:
                continue
            if one.category_id not in names:
                raise InvalidDataset(f"{_FILE}: there is no category {one.category_id}")
            x, y, width, height = one.bbox
            boxes.append(box_of(names[one.category_id], (0, y, x), (1, y + height, x + width)))
        yield replace(found, boxes=tuple(boxes))


def _read(folder: Path) -> tuple[_Coco, Mapping[int, Path]]:
    try:
        content = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        coco = _Coco.model_validate(content)
    except OSError as error:
        raise InvalidDataset(f"the folder holds no {_FILE}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{_FILE} is no JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidDataset(f"{_FILE}: {where}: {first['msg']}") from None
    if not coco.images:
        raise InvalidDataset(f"{_FILE} names no image")
    there = images_of(folder)
    return coco, {one.id: image_of(Path(one.file_name).name, there) for one in coco.images}
