"""A training from its dataset to its bundle, without any server: what `Model.train` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.building import device_of
from models.bundle import Bundle, version_key
from models.learning.beginning import begin_plan
from models.learning.bundling import Title, write_bundle
from models.learning.cases import read_dataset
from models.learning.graph import Graph, read_graph
from models.learning.graphing import shipped_graphs
from models.learning.trainer import train


def train_further(
    bundle: Bundle,
    dataset: Path,
    *,
    folder: Path,
    version: str | None,
    minutes: float,
    changes: Mapping[str, Any],
    augment: str | Path | None,
    seed: int,
    device: str,
    threads: int | None,
) -> Bundle:
    """Return a bundle that learnt further; see :meth:`models.model.Model.train`."""
    data = read_dataset(dataset)
    plan = begin_plan(data, start_from=bundle, minutes=minutes, seed=seed, changes=changes)
    chosen = version or _next(bundle)
    if threads is not None:
        torch.set_num_threads(threads)
    done = train(
        data,
        plan,
        folder / "runs" / f"{bundle.name}@{chosen}",
        cache=folder / "prepared",
        graph=_graph(augment),
        device=device_of(device),
        start_from=torch.load(bundle.weights, map_location="cpu", weights_only=True),
        minutes=None if "steps" in changes else minutes,
    )
    return write_bundle(folder, done, data.dataset, Title(bundle.name, chosen))


def _graph(augment: str | Path | None) -> Graph | None:
    if augment is None:
        return None
    shipped = shipped_graphs().get(str(augment))
    return read_graph(Path(augment) if shipped is None else shipped)


def _next(bundle: Bundle) -> str:
    major, minor, *_ = version_key(bundle.version)
    return f"{major}.{minor + 1}.0"
