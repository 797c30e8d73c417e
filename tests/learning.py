"""Small datasets and plans that a test can learn within seconds."""

from pathlib import Path

import numpy as np

from models.learning.cases import (
    Case,
    Dataset,
    read_dataset,
    write_array,
    write_dataset,
)
from models.learning.planning import Plan, UNetPlan
from models.learning.recipe import get_recipe
from models.table import FindingRow, SegmentRow
from pipelines.learning import School
from pipelines.store import Database

SPLITS = ("train", "train", "train", "validation", "test")
_STRUCTURE = {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"}
_KIDNEY = {"value": "64033007", "scheme": "SCT", "meaning": "Kidney"}
_LIVER = {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
SEGMENTS = tuple(
    SegmentRow.model_validate(
        {"number": n, "label": label, "category": _STRUCTURE, "type": kind, "rgb": (200, 99, 99)}
    )
    for n, label, kind in ((1, "Bright", _KIDNEY), (2, "Dark", _LIVER))
)
FINDINGS = tuple(
    FindingRow.model_validate(
        {"number": n, "label": label, "code": {"value": v, "scheme": "SCT", "meaning": label}}
    )
    for n, label, v in ((0, "Left", "7771000"), (1, "Right", "24028007"))
)


def blobs(folder: Path, *, task="segmentation", slices=1, side=48, patients=SPLITS):
    """Write images with a bright blob and a dark one, and what they are."""
    draw = np.random.default_rng(5)
    cases = []
    for number, split in enumerate(patients):
        shape = (slices, side, side)
        _, j, i = np.indices(shape)
        image = draw.normal(0, 0.3, shape)
        label = np.zeros(shape, np.uint8)
        for value, sign in ((1, 1.0), (2, -1.0)):
            centre = draw.uniform(side * 0.25, side * 0.75, 2)
            inside = (j - centre[0]) ** 2 + (i - centre[1]) ** 2 < (side / 7) ** 2
            label[inside] = value
            image[inside] = sign + draw.normal(0, 0.3, int(inside.sum()))
        finding = number % 2
        if task == "classification":
            image = draw.normal(0, 0.3, shape) + (i / side if finding else 1 - i / side)
        masks = np.stack([label == 1, label >= 1])
        stored = masks if task == "multilabel" else label
        cases.append(
            Case(
                id=f"c{number}",
                patient=f"p{number}",
                split=split,
                shape=shape,
                finding=finding if task == "classification" else None,
                spacing_kji=(2.0, 1.0, 1.0),
                image_sha256=write_array(
                    folder, f"c{number}", "image.npy", image[None].astype(np.float32)
                ),
                label_sha256=""
                if task == "classification"
                else write_array(folder, f"c{number}", "label.npy", stored),
            )
        )
    classes = {0: "Left", 1: "Right"} if task == "classification" else {1: "Bright", 2: "Dark"}
    write_dataset(
        folder,
        Dataset(
            name="blobs",
            version="1",
            task=task,
            classes=classes,
            modalities=("MR",),
            segments=() if task == "classification" else SEGMENTS,
            findings=FINDINGS if task == "classification" else (),
            channels=("grey",),
            cases=tuple(cases),
        ),
    )
    return read_dataset(folder)


def kits(folder: Path, *, tumours: bool = True):
    """Write kidneys with tumours in them, as an import by the recipe leaves them."""
    recipe = get_recipe("kidney_tumour")
    draw = np.random.default_rng(3)
    cases = []
    for number, split in enumerate(SPLITS):
        label = np.zeros((12, 32, 32), np.uint8)
        label[3:9, 8:18, 8:18] = 1
        if tumours:
            label[5:8, 12:16, 12:16] = 2
        image = draw.normal(0, 20, (1, *label.shape)).astype(np.float32) + 90 * label
        cases.append(
            Case(
                id=f"c{number}",
                patient=f"p{number}",
                split=split,
                shape=label.shape,
                spacing_kji=(3.0, 2.0, 2.0),
                image_sha256=write_array(folder, f"c{number}", "image.npy", image),
                label_sha256=write_array(folder, f"c{number}", "label.npy", label),
            )
        )
    dataset = Dataset(
        name="kits",
        version="1",
        task="segmentation",
        classes=recipe.classes,
        modalities=("CT",),
        segments=recipe.segment,
        channels=("grey",),
        recipe=recipe.name,
        cases=tuple(cases),
    )
    write_dataset(folder, dataset)
    return read_dataset(folder)


def school_in(folder: Path, database: Database) -> School:
    """Return what the learning loop works with, all in one folder."""
    return School.open(
        database,
        secret=b"audit key",
        datasets=folder / "datasets",
        runs=folder / "runs",
        prepared=folder / "prepared",
        bundles=folder / "imported",
        folders=(folder / "imported",),
    )


def small_plan(**change: object) -> Plan:
    plan = {
        "task": "segmentation",
        "dimensions": 2,
        "in_channels": 1,
        "classes": 2,
        "intensity": "spread",
        "patch": (32, 32),
        "batch": 4,
        "steps": 40,
        "steps_an_epoch": 20,
        "rate": 0.01,
        "average": 0.8,
        "seed": 3,
        "network": UNetPlan(channels=(8, 16, 16), strides=(2, 2), residual_units=1, dropout=0.1),
    }
    return Plan.model_validate({**plan, **change})
