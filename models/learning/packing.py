"""What a training needs, packed for a machine that may see arrays only.

::

    INTO/dataset/dataset.json   cases to learn from and to validate on: without their names,
                                patients' pseudonyms, tags; none of the locked test set
    INTO/arrays/KEY.npy         them as the network sees them (:mod:`models.learning.preparing`)
    INTO/start.pt               the weights to begin with, where there are any
    INTO/run/order.json         what to learn, with paths below INTO
    INTO/manifest.json          name, size and hash of each of these; written last

Nothing else is ever in it, and who sends it looks again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.learning.cases import Case, Dataset, DatasetFolder, file_sha256, read_dataset
from models.learning.graph import Graph, Source, read_graph
from models.learning.orders import ORDER, PackOrder, TrainOrder, write_whole

DATASET: Final = "dataset"
ARRAYS: Final = "arrays"
START: Final = "start.pt"
RUN: Final = "run"
PACKED: Final = "manifest.json"


class PackedFile(BaseModel):
    """A file that was packed: its size and hash."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Packed(BaseModel):
    """Everything that was packed, by its name below the folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["radloop-packed-1"] = "radloop-packed-1"
    files: Mapping[str, PackedFile]


def pack(order: PackOrder) -> str:
    """Pack what a training needs; return the manifest's hash.

    A folder that holds a manifest is packed; without one it is begun again.

    Raises
    ------
    InvalidDataset, InvalidGraph
        As when training.
    """
    manifest = order.into / PACKED
    if not manifest.is_file():
        shutil.rmtree(order.into, ignore_errors=True)
        _pack(order.train, order.into)
        names = sorted(path for path in order.into.rglob("*") if path.is_file())
        files = {
            path.relative_to(order.into).as_posix(): PackedFile(
                size=path.stat().st_size, sha256=file_sha256(path)
            )
            for path in names
        }
        write_whole(manifest, Packed(files=files).model_dump_json(indent=1))
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def _pack(order: TrainOrder, into: Path) -> None:
    folder = read_dataset(order.dataset)
    graph = None if order.graph is None else read_graph(order.graph)
    bare = _bare(folder.dataset, graph)
    for name in (DATASET, ARRAYS, RUN):
        (into / name).mkdir(parents=True)
    _prepare(folder, order, into / ARRAYS)
    write_whole(into / DATASET / "dataset.json", bare.model_dump_json(indent=1))
    if order.start_from is not None:
        shutil.copyfile(order.start_from, into / START)
    there = order.model_copy(
        update={
            "dataset": Path(DATASET),
            "cache": Path(ARRAYS),
            "bundles": None,
            "plan": order.plan.model_copy(update={"why": {}}),
            "name": "learnt",
            "version": "0.0.0",
            "description": "",
            "start_from": None if order.start_from is None else Path(START),
        }
    )
    write_whole(into / RUN / ORDER, there.model_dump_json(indent=1))


def _prepare(folder: DatasetFolder, order: TrainOrder, arrays: Path) -> None:
    """Keep every array that the training will read; what it reads is named by what it is of."""
    from models.learning.preparing import Prepared  # late: torch, which who sends does not need

    prepared = Prepared(folder, order.plan, arrays)
    for case in (*folder.dataset.of("train"), *folder.dataset.of("validation")):
        prepared.image(case)
        if case.label_sha256:
            prepared.label(case)
            prepared.places(case)
        elif folder.dataset.task == "detection":
            prepared.boxes(case)
            prepared.places(case)


def _bare(dataset: Dataset, graph: Graph | None) -> Dataset:
    """Return a dataset without what is not needed to learn: whose the cases are, and what else."""
    asked = {
        key
        for node in (() if graph is None else graph.node)
        if isinstance(node, Source)
        for key in node.tags
    }
    patients: dict[str, str] = {}

    def bare(number: int, case: Case) -> Case:
        patient = patients.setdefault(case.patient, f"patient-{len(patients) + 1}")
        tags = {key: value for key, value in case.tags.items() if key in asked}
        return case.model_copy(update={"id": f"case-{number}", "patient": patient, "tags": tags})

    kept = [case for case in dataset.cases if case.split != "test"]
    return dataset.model_copy(
        update={
            "name": "packed",
            "version": "1",
            "licence": "",
            "source": "",
            "cases": tuple(bare(number, case) for number, case in enumerate(kept, 1)),
        }
    )
