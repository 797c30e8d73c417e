"""Datasets to learn from: what is in them, and what changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from dicom.errors import NotFound
from models.learning.cases import Dataset, Split, difference
from models.learning.pictures import as_png, captioned, colours_of, pictured, sheet
from node.api.learning.pictures import PNG, picture
from node.auth import LearningCaller
from node.parts import FrontParts, parts_of

router = APIRouter(prefix="/api/learning", tags=["learning"])

A_SHEET: Final = 24
"""Pictures on a contact sheet."""
_SIDE: Final = 160


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """A version of a dataset in short; `splits` counts cases, `patients` whose they are."""

    id: str
    task: str
    dimensions: int
    classes: dict[int, str]
    channels: tuple[str, ...]
    modalities: tuple[str, ...]
    splits: dict[Split, int]
    patients: int
    licence: str
    source: str
    sha256: str
    has_codes: bool


@dataclass(frozen=True, slots=True)
class DatasetDifference:
    """What changed from one version to another: ids of cases, names of fields."""

    older: str
    newer: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    image_changed: tuple[str, ...]
    label_changed: tuple[str, ...]
    split_changed: tuple[str, ...]
    fields: tuple[str, ...]


@router.get("/datasets")
def datasets(request: Request, caller: LearningCaller) -> list[DatasetSummary]:
    """Return every version of every dataset, the newest of a name first."""
    return summaries(parts_of(request))


@router.get("/datasets/{dataset}")
def dataset(dataset: str, request: Request, caller: LearningCaller) -> DatasetSummary:
    """Return one version, or the newest of a name."""
    return summary(parts_of(request).school.shelf.get(dataset).dataset)


@router.get("/datasets/{dataset}/difference")
def dataset_difference(
    dataset: str, older: str, request: Request, caller: LearningCaller
) -> DatasetDifference:
    """Return what changed from version `older` to this one."""
    return differing(parts_of(request), older, dataset)


@router.get("/datasets/{dataset}/sheet.png", response_class=Response, responses=PNG)
def contact_sheet(
    dataset: str,
    request: Request,
    caller: LearningCaller,
    split: Split = "train",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """Return pictures of a split's cases with their labels, the slice with most of them."""
    folder = parts_of(request).school.shelf.get(dataset)
    colours = colours_of(folder.dataset)
    pictures = []
    for case in folder.dataset.of(split)[(page - 1) * A_SHEET : page * A_SHEET]:
        label = folder.label(case) if case.label_sha256 else None
        one = pictured(folder.image(case), label, folder.boxes(case), colours, side=_SIDE)
        if case.finding is not None:
            one = captioned(one, folder.dataset.classes[case.finding], letters=12)
        pictures.append(one)
    if not pictures:
        raise NotFound("the split has no more cases")
    return picture(as_png(sheet(pictures, columns=6)))


def summaries(parts: FrontParts) -> list[DatasetSummary]:
    """Return every version of every dataset, the newest of a name first."""
    shelf = parts.school.shelf
    return [summary(shelf.get(name).dataset) for name in reversed(shelf.names())]


def summary(found: Dataset) -> DatasetSummary:
    """Return a dataset in short."""
    return DatasetSummary(
        id=found.identity,
        task=found.task,
        dimensions=found.dimensions,
        classes=dict(found.classes),
        channels=found.channels,
        modalities=found.modalities,
        splits={
            "train": len(found.of("train")),
            "validation": len(found.of("validation")),
            "test": len(found.of("test")),
        },
        patients=len({case.patient for case in found.cases}),
        licence=found.licence,
        source=found.source,
        sha256=found.sha256,
        has_codes=bool(found.segments or found.findings),
    )


def differing(parts: FrontParts, older: str, newer: str) -> DatasetDifference:
    """Return what changed from one version to another."""
    one, other = (parts.school.shelf.get(name).dataset for name in (older, newer))
    return DatasetDifference(one.identity, other.identity, **asdict(difference(one, other)))
