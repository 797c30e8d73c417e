"""What the child of the learning loop is told, and what it says in the end; no torch here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models.learning.planning import Plan

ORDER: Final = "order.json"
DONE: Final = "done.json"
FAILED: Final = "failed.json"
BEST: Final = "best.pt"
"""The trainer's averaged weights of its best epoch."""
LAST: Final = "last.pt"
"""The trainer's checkpoint."""
CURVE: Final = "curve.jsonl"
"""The trainer's epochs so far, a line each."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainOrder(_Part):
    """Learn from a dataset and make a bundle of what was learnt.

    Attributes
    ----------
    dataset, cache : Path
        The dataset's folder, where prepared cases are kept.
    bundles : Path or None
        Where the bundle goes; None: none is made, what is learnt stays a checkpoint.
    start_from : Path or None
        Weights to begin with.
    processes : int
        That learn side by side on this machine, on a GPU each.
    """

    kind: Literal["train"] = "train"
    dataset: Path
    cache: Path
    bundles: Path | None
    plan: Plan
    name: str
    version: str
    description: str = ""
    graph: dict[str, Any] | None = None
    start_from: Path | None = None
    minutes: float | None = None
    device: str = "auto"
    threads: int | None = None
    processes: int = Field(1, ge=1)


class BundleOrder(_Part):
    """Make a bundle of the best that a training which was ended has come to.

    Attributes
    ----------
    run, bundles : Path
        The training's folder, and where the bundle goes.
    """

    kind: Literal["bundle"] = "bundle"
    run: Path
    dataset: Path
    bundles: Path
    plan: Plan
    name: str
    version: str
    description: str = ""


class PackOrder(_Part):
    """Pack what a training needs, so that it can learn on another machine.

    Attributes
    ----------
    train : TrainOrder
        What will be learnt here or there.
    into : Path
        The folder that gets it, as :mod:`models.learning.packing` describes.
    """

    kind: Literal["pack"] = "pack"
    train: TrainOrder
    into: Path


class MeasureOrder(_Part):
    """Measure a bundle on a dataset's split, beside the one that is current.

    Attributes
    ----------
    bundle, against : Path
        Their folders; the second is None where there is nothing to compare with.
    bundles : tuple of Path
        Where further models are looked for, that one of the two may be made of.
    """

    kind: Literal["measure"] = "measure"
    dataset: Path
    split: Literal["train", "validation", "test"] = "test"
    bundle: Path
    against: Path | None = None
    bundles: tuple[Path, ...] = ()
    device: str = "auto"
    threads: int | None = None


Order = TrainOrder | BundleOrder | PackOrder | MeasureOrder
_ORDER: Final[TypeAdapter[Order]] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])


class Failure(_Part):
    """Why the child gave up: a coded error."""

    code: str
    message: str


def write_order(folder: Path, order: Order) -> None:
    """Write what is to be done; what an earlier try said is forgotten."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (DONE, FAILED):
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / ORDER, order.model_dump_json(indent=1))


def read_order(folder: Path) -> Order:
    """Return what is to be done."""
    return _ORDER.validate_json((folder / ORDER).read_bytes())


def write_whole(path: Path, text: str) -> None:
    """Write a file beside, then rename it: it is there whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
