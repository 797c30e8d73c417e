"""Chest radiographs by the shipped recipes, cross-validated by patient: view, lungs, L markers.

Nothing is chosen on a fold that is measured: the last weights of a fixed number of steps count.
"""

from __future__ import annotations

import csv
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.lessons.common import DATA, SEED, Clock, learn, measured
from benchmarks.table import Row
from models.learning.beginning import begin_plan
from models.learning.cases import DatasetFolder, Split
from models.learning.detecting import average_precision
from models.learning.evaluating import CaseScore
from models.learning.recipe import get_recipe
from pipelines.datasets import Shelf, Wanted, get_layout

HANNOVER: Final = DATA / "cxr/hannover_cc-by-3.0"
MASKED: Final = (DATA / "cxr/lungmask_cc-by", DATA / "cxr/unclear/lungmask_cc-by-nc-sa")
FOLDS: Final = 5
ACCURACY, DICE, AP50 = 0.90, 0.95, 0.9
VIEWS: Final = ("PA", "AP")
VIEW: Final[dict[str, Any]] = {"steps": 240, "steps_an_epoch": 60}
LUNGS: Final[dict[str, Any]] = {
    "size": (160, 160),
    "patch": (160, 160),
    "network": {
        "kind": "unet",
        "channels": (16, 32, 64, 128, 128),
        "strides": (2, 2, 2, 2),
        "residual_units": 1,
        "dropout": 0.1,
    },
    "steps": 2400,
    "steps_an_epoch": 400,
}
MARKERS: Final[dict[str, Any]] = {"steps": 900, "steps_an_epoch": 100}


def view_rows(work: Path) -> Iterator[Row]:
    """Yield how often the view is right, and of each view."""
    rows = read_table(HANNOVER / "data.csv")
    classed = [(row["image_id"], row["patient_id"], row["projection"].upper()) for row in rows]
    clock = Clock()
    scores = []
    for fold, held in enumerate(_folds({patient for _, patient, _ in classed})):
        folder = view_dataset(work / f"fold{fold}", classed, held)
        plan = begin_plan(folder, recipe=get_recipe("chest_view"), seed=SEED, changes=VIEW)
        bundle = learn(
            folder, plan, work / f"fold{fold}", "chest_view", get_recipe("chest_view").graph
        )
        scores += measured(bundle, folder).cases
    right = [score.said == score.case.finding for score in scores]
    each = {
        name: statistics.fmean(
            one for one, score in zip(right, scores, strict=True) if score.case.finding == number
        )
        for number, name in enumerate(VIEWS)
    }
    said = ", ".join(f"{name} {share:.2f}" for name, share in each.items())
    accuracy = statistics.fmean(right)
    yield Row(
        f"view: PA or AP right, {FOLDS}-fold by patient, {len(scores)} radiographs ({said}; "
        f"{clock.said()})",
        "",
        round(accuracy, 4),
        target=f">= {ACCURACY}",
        met=accuracy >= ACCURACY,
    )


def lungs_rows(work: Path) -> Iterator[Row]:
    """Yield the lungs' Dice, and that of each."""
    recipe = get_recipe("chest_lungs")
    names = {row["image"]: row["patientid"] for root in MASKED for row in _index(root)}
    clock = Clock()
    scores: list[CaseScore] = []
    for fold, held in enumerate(_folds(set(names.values()))):
        folder = lungs_dataset(work / f"fold{fold}", names, held)
        plan = begin_plan(folder, recipe=recipe, seed=SEED, changes=LUNGS)
        bundle = learn(folder, plan, work / f"fold{fold}", "chest_lungs", recipe.graph)
        scores += measured(bundle, folder).cases
    each = [
        statistics.fmean(
            dice for score in scores if (dice := score.segments[number].dice) is not None
        )
        for number in (1, 2)
    ]
    dice = statistics.fmean(each)
    yield Row(
        f"lungs: Dice, {FOLDS}-fold by patient, {len(scores)} radiographs (right {each[0]:.3f}, "
        f"left {each[1]:.3f}; {clock.said()})",
        "",
        round(dice, 4),
        target=f">= {DICE}",
        met=dice >= DICE,
    )


def marker_rows(work: Path) -> Iterator[Row]:
    """Yield how well real L markers are found by what learnt painted ones."""
    clock = Clock()
    recipe = get_recipe("chest_marker")
    folder = marker_dataset(work)
    plan = begin_plan(folder, recipe=recipe, seed=SEED, changes=MARKERS)
    bundle = learn(folder, plan, work, "chest_marker", recipe.graph)
    cases = measured(bundle, folder).cases
    found = average_precision([score.boxes for score in cases if score.boxes is not None], 1)
    assert found is not None  # there are markers
    boxes = sum(len(score.case.boxes) for score in cases)
    yield Row(
        f"marker: mAP50 of {boxes} real L markers on {len(cases)} radiographs; learnt from painted "
        f"letters on others, whose own were not marked ({clock.said()})",
        "",
        round(found, 4),
        target=f">= {AP50}",
        met=found >= AP50,
    )


def view_dataset(
    work: Path, classed: Sequence[tuple[str, str, str]], held: frozenset[str]
) -> DatasetFolder:
    """Return the radiographs with their view; the patients `held` are not learnt from."""
    source = _linked(
        work / "in", {f"{name}.png": HANNOVER / "png" / f"{name}.png" for name, _, _ in classed}
    )
    lines = [f"{name}.png,{view},{patient}" for name, patient, view in classed]
    (source / "labels.csv").write_text("\n".join(["file,class,patient", *lines]) + "\n")
    recipe = get_recipe("chest_view")
    findings = tuple(row for row in recipe.finding if row.label in VIEWS)
    wanted = Wanted(
        "views",
        splits=_splits({patient for _, patient, _ in classed}, held),
        classes={row.number: row.label for row in findings},
        findings=findings,
        modality="DX",
        licence="CC BY 3.0",
        source="ml-workgroup/covid-19-image-repository, Hannover Medical School",
    )
    return _frozen(work, "table", source, wanted)


def lungs_dataset(work: Path, names: Mapping[str, str], held: frozenset[str]) -> DatasetFolder:
    """Return the radiographs with masks of the lungs; what is neither lung is left out."""
    source = work / "in"
    rows = [(root, row) for root in MASKED for row in _index(root)]
    for number, (root, row) in enumerate(rows):
        for kind, name in (("images", row["image"]), ("labels", row["label"])):
            link = source / kind / f"p{row['patientid']}_{number}{Path(name).suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(root / kind / name)
    recipe = get_recipe("chest_lungs")
    wanted = Wanted(
        "lungs",
        splits=_splits(set(names.values()), held),
        classes=recipe.classes,
        segments=recipe.segment,
        mapping={3: 0},
        patient=r"^p([^_]+)_",
        modality="DX",
    )
    return _frozen(work, "pairs", source, wanted)


def marker_dataset(work: Path) -> DatasetFolder:
    """Return what was looked at for markers as the test set, all other patients to learn from."""
    recipe = get_recipe("chest_marker")
    rows = read_table(HANNOVER / "data.csv")
    boxes = read_table(HANNOVER / "marker_boxes_by_hand.csv")
    looked_at = {row["image_id"] for row in boxes}
    held = frozenset(row["patient_id"] for row in rows if row["image_id"] in looked_at)
    used = [row for row in rows if row["image_id"] in looked_at or row["patient_id"] not in held]
    whose = {row["image_id"]: row["patient_id"] for row in used}
    files = {name: f"{patient}_{name}.png" for name, patient in whose.items()}
    source = _linked(
        work / "in", {file: HANNOVER / "png" / f"{name}.png" for name, file in files.items()}
    )
    lines = ["file,class,x0,y0,x1,y1"]
    for row in boxes:
        if row["marker"] == "L":
            x1, y1 = int(row["x1"]) - 1, int(row["y1"]) - 1
            lines.append(f"{files[row['image_id']]},L marker,{row['x0']},{row['y0']},{x1},{y1}")
    (source / "boxes.csv").write_text("\n".join(lines) + "\n")
    wanted = Wanted(
        "markers",
        splits=_splits(set(whose.values()), held),
        classes=recipe.classes,
        findings=recipe.finding,
        patient=r"^([^_]+)_",
        modality="DX",
        licence="CC BY 3.0",
        source="ml-workgroup/covid-19-image-repository, Hannover Medical School",
    )
    return _frozen(work, "boxes", source, wanted)


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _index(root: Path) -> list[dict[str, str]]:
    return read_table(root / "index.csv")


def _folds(patients: set[str]) -> list[frozenset[str]]:
    drawn = sorted(patients)
    random.Random(SEED).shuffle(drawn)
    return [frozenset(drawn[fold::FOLDS]) for fold in range(FOLDS)]


def _splits(patients: set[str], held: frozenset[str]) -> dict[str, Split]:
    return {patient: "test" if patient in held else "train" for patient in patients}


def _linked(folder: Path, files: Mapping[str, Path]) -> Path:
    for name, target in files.items():
        link = folder / "images" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(target)
    return folder


def _frozen(work: Path, layout: str, source: Path, wanted: Wanted) -> DatasetFolder:
    shelf = Shelf(work / "datasets")
    if shelf.names():
        return shelf.get(wanted.name)
    return shelf.freeze(get_layout(layout), source, wanted)
