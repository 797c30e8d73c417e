"""Makes a shipped bundle of radiographs whose licence allows it; its card says this very command.

``python -m benchmarks.lessons.shipping chest_view`` learns by the recipe and the plan that were
measured, and writes ``models/bundles/chest_view`` with its card. The card's figures are those of
``make bench B=learning``, and of the weights as they are shipped where radiographs were kept apart.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.learning import NAME
from benchmarks.lessons import chest
from benchmarks.lessons.common import SEED, THREADS, learn, measured
from benchmarks.table import RESULTS
from models.bundle import Bundle, read_bundle
from models.learning.beginning import begin_plan
from models.learning.cases import DatasetFolder, file_sha256
from models.learning.detecting import average_precision
from models.learning.recipe import get_recipe

SHIPPED: Final = Path(__file__).parents[2] / "models/bundles"
DATA_SAID: Final = (
    "| what | used for | licence |\n|---|---|---|\n"
    "| COVID-19 image repository (ml-workgroup/covid-19-image-repository), Institute for "
    "Diagnostic and Interventional Radiology, Hannover Medical School: 64 frontal radiographs of "
    "46 patients | learning, and the figures | CC BY 3.0 |\n"
)


@dataclass(frozen=True, slots=True)
class Shipped:
    """What is shipped, and what its card says besides its figures."""

    part: str
    dataset: Callable[[Path], DatasetFolder]
    plan: Mapping[str, Any]
    measured_by: str
    learnt_from: str
    what: str
    intended_use: str
    limits: str


def _every_view(work: Path) -> DatasetFolder:
    rows = chest.read_table(chest.HANNOVER / "data.csv")
    classed = [(row["image_id"], row["patient_id"], row["projection"].upper()) for row in rows]
    return chest.view_dataset(work, classed, frozenset())


BUNDLES: Final = {
    "chest_view": Shipped(
        part="view",
        dataset=_every_view,
        plan=chest.VIEW,
        measured_by="cross-validated by patient, by models that had not seen the patient",
        learnt_from="The weights here learnt from **all** patients by the same plan and number of "
        "steps, so that no radiograph of this set can measure them.",
        what="PA or AP view of a frontal chest radiograph, as a coded value in a report (SR).",
        intended_use="To show and to correct on a screen, to sort series for research. Not a "
        "medical device.",
        limits="""\
- Frontal radiographs only: a lateral one is called PA or AP, since no lateral view may be learnt
  from under a licence that allows it to be passed on.
- One hospital, adults with COVID-19 or suspected of it; other detectors, children and other
  diseases are not measured. AP there nearly always means a portable detector and an ill patient:
  what is learnt may be the setting as much as the projection.
- 64 radiographs are few: one more that is wrong is 0.016 less.""",
    ),
    "chest_marker": Shipped(
        part="marker",
        dataset=chest.marker_dataset,
        plan=chest.MARKERS,
        measured_by="real markers on radiographs of patients that were not learnt from",
        learnt_from="The weights here are of the same plan, data and seed; no marker was drawn by "
        "hand to learn from: letters are painted into the radiographs while it learns.",
        what="L and R markers on a radiograph, as boxes in a report (SR); another model can have "
        "them painted over before it looks (`without` in its metadata).",
        intended_use="To show and to correct on a screen, to check a side in research, to mask "
        "markers out before another model learns from them or looks. Not a medical device.",
        limits="""\
- Measured on 13 real L markers of one hospital; no real R marker was at hand, so that R is learnt
  and measured on painted letters alone.
- A marker that is mirrored, as on a film that was flipped, is taken for none.
- Chest radiographs; of other regions nothing is measured.""",
    ),
}


def main() -> None:
    """Learn, and write the bundle into the tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(BUNDLES))
    parser.add_argument("--folder", type=Path, help="keeps the run: it goes on where it was")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="radloop-ship-") as passing:
        bundle = make(asked.name, asked.folder or Path(passing))
    print(f"{bundle.identity} {bundle.sha256}")


def make(name: str, work: Path) -> Bundle:
    """Learn from every patient and write the bundle where bundles are shipped."""
    shipped, recipe = BUNDLES[name], get_recipe(name)
    folder = shipped.dataset(work)
    plan = begin_plan(folder, recipe=recipe, seed=SEED, changes=shipped.plan)
    bundle = learn(folder, plan, work, name, recipe.graph)
    target = SHIPPED / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(bundle.root, target)
    weights = target / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({key: _halved(value) for key, value in state.items()}, weights)
    shutil.copy(SHIPPED / "mr_brain" / "LICENSE", target / "LICENSE")
    _say(target, shipped)
    card = _card(name, shipped, folder, file_sha256(weights), _as_shipped(target, folder))
    (target / "docs" / "README.md").write_text(card, encoding="utf-8")
    return read_bundle(target)


def _as_shipped(target: Path, folder: DatasetFolder) -> str:
    """Return a row of what the halved weights find on what was kept apart; none where nothing."""
    tested = [case for case in folder.dataset.cases if case.split == "test"]
    if not tested:
        return ""
    bundle = read_bundle(target)
    cases = measured(bundle, folder).cases
    found = [score.boxes for score in cases if score.boxes is not None]
    precision = average_precision(found, bundle.findings[0].number)
    return (
        f"| these very weights: mAP50 of {bundle.findings[0].label}s on {len(cases)} radiographs "
        f"that were kept apart | {precision if precision is None else round(precision, 4)} | |\n"
    )


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def _say(target: Path, shipped: Shipped) -> None:
    path = target / "configs" / "metadata.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["description"], content["intended_use"] = shipped.what, shipped.intended_use
    content["copyright"] = "Copyright (c) radloop contributors; learnt from data under CC BY 3.0"
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def _card(name: str, shipped: Shipped, folder: DatasetFolder, sha256: str, as_shipped: str) -> str:
    dataset = folder.dataset
    rows = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))["rows"]
    figures = as_shipped + "\n".join(
        f"| {row['what']} | {row['ours']} | {row['target']} |"
        for row in rows
        if row["what"].startswith(f"{shipped.part}:")
    )
    return f"""# {name}

{shipped.what} A MONAI bundle; how it was planned is in `configs/train.json`, weights are in half
precision.

Weights: sha256 `{sha256}`.

**Intended use**: {shipped.intended_use}

## Figures

| {shipped.measured_by} | is | target |
|---|---|---|
{figures}

`make bench B=learning PART={shipped.part}` makes them. {shipped.learnt_from}

## Data and licences

{DATA_SAID}
This bundle, weights included: Apache-2.0 (`LICENSE`); the data's licence asks to name its makers,
as above. Dataset `{dataset.identity}`, sha256 `{dataset.sha256}`.

## How it was trained

    python -m benchmarks.lessons.shipping {name}

Seed {SEED}, on a processor. The same command leads to the same weights on the same kind of
processor with the same libraries, elsewhere to weights like these.

## Limits

{shipped.limits}
"""


if __name__ == "__main__":
    main()
