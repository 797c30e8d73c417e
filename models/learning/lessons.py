"""A training from its dataset to its bundle, without any server.

What `Model.train` and `models.learn` do.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.building import device_of
from models.bundle import Bundle, version_key
from models.learning.beginning import begin_plan, check_codes
from models.learning.bundling import Title, write_bundle
from models.learning.cascades import first_name, for_first, for_second, of_each
from models.learning.cases import DatasetFolder, read_dataset
from models.learning.deriving import Derivation, derive
from models.learning.graph import Graph, read_graph
from models.learning.graphing import shipped_graphs
from models.learning.recipe import TrainingRecipe, get_recipe
from models.learning.trainer import train


def learn_by_recipe(
    recipe: TrainingRecipe,
    dataset: Path,
    *,
    folder: Path,
    name: str,
    version: str,
    minutes: float,
    changes: Mapping[str, Any],
    seed: int,
    device: str,
    threads: int | None,
) -> Bundle:
    """Return a bundle that learnt from nothing but a dataset; see :func:`models.model.learn`."""
    data = read_dataset(dataset)
    if recipe.first is not None and data.dataset.after is None:
        first = get_recipe(recipe.first.recipe)
        for_the_first, changes = of_each(changes)
        organ = derived_once(data, folder / "datasets", recipe.first.recipe, for_first(recipe))
        bundle = learn_by_recipe(
            first,
            organ.root,
            folder=folder,
            name=first_name(name),
            version=version,
            minutes=minutes / 2,
            changes=for_the_first,
            seed=seed,
            device=device,
            threads=threads,
        )
        minutes /= 2
        how = for_second(recipe, bundle.identity)
        data = derived_once(data, folder / "datasets", f"about_{recipe.first.recipe}", how)
    check_codes(data.dataset)
    if threads is not None:
        torch.set_num_threads(threads)
    plan = begin_plan(
        data, recipe=recipe, minutes=minutes, seed=seed, changes=changes, device=device
    )
    done = train(
        data,
        plan,
        folder / "runs" / f"{name}@{version}",
        cache=folder / "prepared",
        graph=recipe.graph,
        device=device_of(device),
        minutes=None if "steps" in changes else minutes,
    )
    title = Title(name, version, recipe.title, intended_use=recipe.intended_use)
    return write_bundle(folder, done, data.dataset, title)


def derived_once(data: DatasetFolder, root: Path, what: str, how: Derivation) -> DatasetFolder:
    """Return a dataset made of another, made now or by a try that was interrupted."""
    name = f"{data.dataset.name}_{what}"[:64]
    target = root / f"{name}@{data.dataset.version}"
    if target.is_dir():
        there = read_dataset(target)
        if there.dataset.after == how.after:
            return there
        shutil.rmtree(target)
    root.mkdir(parents=True, exist_ok=True)
    return derive(data, target, name, data.dataset.version, how)


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
    check_codes(data.dataset)
    plan = begin_plan(
        data, start_from=bundle, minutes=minutes, seed=seed, changes=changes, device=device
    )
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
