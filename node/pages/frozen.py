"""`/learning/datasets`: what can be learnt from, what is in it, and what changed."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from dicom.errors import NotFound
from models.learning.cases import Dataset, class_counts
from node.api.learning.datasets import A_SHEET, differing, summaries, summary
from node.auth import LearningCaller
from node.pages.render import render
from node.parts import FrontParts, parts_of
from pipelines.learning import Picked
from pipelines.store import DatasetView

router = APIRouter(include_in_schema=False)

_SHOWN_VALUES: Final = 12
_VERDICTS: Final = {"modified": "corrected", "accepted": "accepted"}


@router.get("/learning/datasets", response_class=HTMLResponse)
def datasets_page(request: Request, caller: LearningCaller) -> Response:
    """List the versions of every dataset."""
    parts = parts_of(request)
    return render(
        "learning_datasets.html",
        caller=caller,
        version=parts.version,
        datasets=summaries(parts),
        freezings=[one for one in parts.school.freezings.all() if one.is_open],
    )


@router.get("/learning/datasets/{dataset}", response_class=HTMLResponse)
def dataset_page(
    dataset: str,
    request: Request,
    caller: LearningCaller,
    older: Annotated[str, Query(max_length=130)] = "",
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    """Show one version: what it holds, pictures of it, what changed since another version."""
    parts = parts_of(request)
    folder = parts.school.shelf.get(dataset)
    found = folder.dataset
    splits = {name: found.of(name) for name in ("train", "validation", "test")}
    known = _known(parts, found)
    name = found.name
    versions = [one for one in reversed(parts.school.shelf.names()) if one.split("@")[0] == name]
    return render(
        "learning_dataset.html",
        caller=caller,
        version=parts.version,
        dataset=summary(found),
        splits=splits,
        counts={split: class_counts(folder, cases) for split, cases in splits.items() if cases},
        patients={split: len({case.patient for case in cases}) for split, cases in splits.items()},
        spreads=_spreads(found),
        tags=_tags(found),
        known=known,
        made_of=_made_of(known),
        others=[one for one in versions if one != found.identity],
        changed=differing(parts, older, found.identity) if older else None,
        page=page,
        pages=max(1, *(-(-len(cases) // A_SHEET) for cases in splits.values())),
        a_sheet=A_SHEET,
    )


def _spreads(dataset: Dataset) -> list[tuple[str, str, str, str]]:
    """Return smallest, middle and largest size and spacing of the cases."""
    rows = []
    named = ("slices", "rows", "columns")
    for axis, name in enumerate(named):
        rows.append((name.capitalize(), [float(case.shape[axis]) for case in dataset.cases]))
    spacings = [case.spacing_kji for case in dataset.cases if case.spacing_kji is not None]
    for axis, name in enumerate(named):
        rows.append((f"Between {name}, mm", [spacing[axis] for spacing in spacings]))
    return [
        (name, f"{min(values):g}", f"{statistics.median(values):g}", f"{max(values):g}")
        for name, values in rows
        if values and (dataset.dimensions == 3 or "slices" not in name.lower())
    ]


def _tags(dataset: Dataset) -> dict[str, list[tuple[str, int]]]:
    """Return of each tag its values, the commonest first, and of how many cases they are."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for case in dataset.cases:
        for tag, value in case.tags.items():
            found[tag][value] += 1
    return {tag: values.most_common(_SHOWN_VALUES) for tag, values in sorted(found.items())}


def _known(parts: FrontParts, dataset: Dataset) -> DatasetView | None:
    try:
        return parts.school.datasets.dataset(dataset.identity)
    except NotFound:  # taken in from a folder, and not learnt from yet
        return None


def _made_of(known: DatasetView | None) -> str:
    """Say by which rule a dataset was made of what readers corrected."""
    if known is None or known.rule is None:
        return ""
    picked = Picked.from_json(known.rule)
    said = " and ".join(
        {"modified": "corrected", "accepted": "accepted"}[v] for v in picked.verdicts
    )
    parts = [f"what was {said}"]
    parts += [f"of {', '.join(picked.models)}"] if picked.models else []
    parts += [f"by {', '.join(picked.readers)}"] if picked.readers else []
    parts += [f"taken by {', '.join(picked.workspaces)}"] if picked.workspaces else []
    parts += [f"of {', '.join(picked.modalities)}"] if picked.modalities else []
    parts += [f"described as {picked.description}"] if picked.description else []
    parts += [f"since {picked.since:%Y-%m-%d}"] if picked.since else []
    parts += [f"{len(picked.series)} series picked by hand"] if picked.series else []
    parts += [
        f"{label} {'left out' if name == '-' else f'counted as {name}'}"
        for label, name in picked.classes.items()
    ]
    if any(case.fused for case in known.cases):
        parts.append(f"double readings fused by {picked.fusion}")
    return ", ".join(parts)
