"""A training from its dataset to its bundle, without any server: what `Model.train` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from dicom.errors import InvalidPlan
from models.building import device_of
from models.bundle import Bundle, version_key
from models.learning.bundling import Title, write_bundle
from models.learning.cases import read_dataset
from models.learning.graph import Graph, read_graph
from models.learning.graphing import shipped_graphs
from models.learning.planning import Plan, make_plan
from models.learning.trainer import train

_OF_THE_NETWORK = ("network", "spacing_mm", "intensity", "window", "patch")


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
    modality = next(iter(data.dataset.modalities), "")
    plan = make_plan(data, modality=modality, minutes=minutes, seed=seed)
    plan = _changed(plan, {**_bound_to_weights(bundle), **changes})
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


def _bound_to_weights(bundle: Bundle) -> dict[str, Any]:
    try:
        path = bundle.root / "configs" / "train.json"
        content = Plan.model_validate_json(path.read_bytes()).model_dump(mode="json")
    except (OSError, ValidationError):
        raise InvalidPlan(
            f"{bundle.identity} does not say how it was trained, so that its weights fit no plan"
        ) from None
    return {field: content[field] for field in _OF_THE_NETWORK}


def _changed(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    try:
        return Plan.model_validate({**plan.model_dump(mode="json"), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        raise InvalidPlan(f"{where}: {first['msg']}") from None


def _graph(augment: str | Path | None) -> Graph | None:
    if augment is None:
        return None
    shipped = shipped_graphs().get(str(augment))
    return read_graph(Path(augment) if shipped is None else shipped)


def _next(bundle: Bundle) -> str:
    major, minor, *_ = version_key(bundle.version)
    return f"{major}.{minor + 1}.0"
