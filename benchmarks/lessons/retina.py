"""Few samples: vessels of six retinas are learnt, twelve others are measured (CHASE_DB1).

Children 01 to 03 are learnt from, 04 to 09 measured against the first observer; nothing is chosen
on them, nor on anything else: the last weights are those that are measured. What the second
observer reaches against the first is the ceiling.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.lessons.common import DATA, SEED, Clock, changed, learn, measured, shipped
from benchmarks.table import Row
from models.designs.document import Design
from models.learning.cases import DatasetFolder, Split
from models.learning.planning import Plan, make_plan
from models.table import SegmentRow
from pipelines.datasets import Shelf, Wanted, get_layout

FOLDER: Final = DATA / "retina/unclear/CHASE_DB1"
DICE, MINUTES, SPARE_S = 0.78, 60, 60
STEPS: Final = 2500
CHANNELS: Final = (12, 24, 48, 96)
VESSEL: Final = SegmentRow.model_validate(
    {
        "number": 1,
        "label": "Retinal vessel",
        "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
        "type": {"value": "59820001", "scheme": "SCT", "meaning": "Blood Vessel"},
        "region": {"value": "5665001", "scheme": "SCT", "meaning": "Retina"},
        "rgb": (216, 101, 79),
    }
)


def rows(work: Path) -> Iterator[Row]:
    """Yield the two observers' agreement, then what is learnt of six images."""
    if not FOLDER.is_dir():
        raise SystemExit(f"{FOLDER} is not there")
    ceiling = statistics.fmean(
        statistics.fmean(_observers(eye) for eye in FOLDER.glob(f"Image_{child:02d}?.jpg"))
        for child in range(4, 10)
    )
    yield Row(
        "retina: the second observer against the first, children 04-09, Dice", "", round(ceiling, 4)
    )
    folder = dataset(work)
    clock = Clock()
    bundle = learn(
        folder, plan(folder), work, "retina", shipped("vessels"), within_s=MINUTES * 60 - SPARE_S
    )
    minutes = clock.seconds / 60
    steps = json.loads((bundle.root / "configs" / "metadata.json").read_bytes())
    done = steps["radloop"]["provenance"]["steps"]
    found = measured(bundle, folder).interval("dice")
    assert found is not None  # twelve cases were measured
    yield Row(
        f"retina: 6 images learnt, 12 of other children measured, Dice "
        f"(95 %: {found.low:.3f} to {found.high:.3f}; {clock.said()})",
        "",
        round(found.mean, 4),
        "second observer",
        round(ceiling, 4),
        round(found.mean / ceiling, 3),
        f">= {DICE}",
        found.mean >= DICE,
    )
    yield Row(
        f"retina: the training by the clock, {done} of {STEPS} steps; ended where it takes longer",
        "min",
        round(minutes, 1),
        target=f"<= {MINUTES}",
        met=minutes <= MINUTES,
    )


def dataset(work: Path) -> DatasetFolder:
    """Return the retinas, frozen: children 01 to 03 to learn from, the others locked."""
    pairs = work / "pairs"
    for eye in sorted(FOLDER.glob("Image_*.jpg")):
        image, label = pairs / "images" / eye.name, pairs / "labels" / f"{eye.stem}.png"
        for link, target in ((image, eye), (label, FOLDER / f"{eye.stem}_1stHO.png")):
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(target)
    shelf = Shelf(work / "datasets")
    if shelf.names():
        return shelf.get("retina")
    splits: dict[str, Split] = {
        f"{child:02d}": "train" if child < 4 else "test" for child in range(1, 10)
    }
    wanted = Wanted(
        "retina",
        splits=splits,
        classes={1: VESSEL.label},
        segments=(VESSEL,),
        patient=r"Image_(\d+)",
        modality="OP",
        source="CHASE_DB1, Kingston University",
    )
    return shelf.freeze(get_layout("pairs"), pairs, wanted)


def plan(folder: DatasetFolder) -> Plan:
    """Return the plan: vessels are a few pixels wide, so that the finest level has features."""
    return changed(
        make_plan(folder, modality="OP", seed=SEED),
        patch=(128, 128),
        batch=8,
        loss="dice_bce",
        network=network(CHANNELS).model_dump(mode="json", by_alias=True),
        steps=STEPS,
        steps_an_epoch=100,
    )


def network(channels: tuple[int, ...]) -> Design:
    """Return a U-Net whose first level is as fine as the image."""
    blocks: list[dict[str, object]] = []
    last = "image"
    for level, count in enumerate(channels):
        if level:
            blocks.append({"name": f"down{level}", "kind": "down", "from": [last], "by": 2})
            last = f"down{level}"
        blocks.append(_convolutions(f"in{level}", last, count))
        last = f"in{level}"
    for level in reversed(range(len(channels) - 1)):
        up, join = f"up{level}", f"join{level}"
        blocks.append({"name": up, "kind": "up", "from": [last], "channels": channels[level]})
        blocks.append({"name": join, "kind": "join", "from": [f"in{level}", up]})
        blocks.append(_convolutions(f"out{level}", join, channels[level]))
        last = f"out{level}"
    blocks.append({"name": "answer", "kind": "head", "from": [last]})
    return Design.model_validate({"norm": "batch", "block": blocks})


def _convolutions(name: str, last: str, channels: int) -> dict[str, object]:
    return {"name": name, "kind": "convolutions", "from": [last], "channels": channels}


def _observers(eye: Path) -> float:
    one, other = (
        np.asarray(Image.open(FOLDER / f"{eye.stem}_{who}HO.png").convert("L")) > 0
        for who in ("1st", "2nd")
    )
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
