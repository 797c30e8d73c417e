"""Two models that learn from one dataset: the first finds where to look, the second looks there.

The second learns from parts that are cut about what is true, and later is given parts about what
the first finds, with the same margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom.errors import InvalidPlan
from models.learning.beginning import begin_plan
from models.learning.cases import DatasetFolder
from models.learning.deriving import Derivation, derived
from models.learning.planning import Plan
from models.learning.recipe import TrainingRecipe, get_recipe
from models.table import AfterRow


def first_name(name: str) -> str:
    """Return what the model that looks first is called, of a cascade of that name."""
    return f"{name[: 64 - len(_FIRST)]}{_FIRST}"


_FIRST = "_first"


def for_first(recipe: TrainingRecipe) -> Derivation:
    """Return how a cascade's dataset becomes that of the model that looks first."""
    assert recipe.first is not None  # of a cascade
    first = get_recipe(recipe.first.recipe)
    return Derivation(
        mapping=recipe.first.mapping,
        classes=first.classes,
        segments=first.segment,
        recipe=first.name,
    )


def for_second(recipe: TrainingRecipe, bundle: str) -> Derivation:
    """Return how a cascade's dataset becomes that of the second model: parts about what is true.

    Parameters
    ----------
    bundle : str
        NAME@VERSION of the model that looks first.
    """
    assert recipe.first is not None  # of a cascade
    look = recipe.first
    row = next(one for one in get_recipe(look.recipe).segment if one.label == look.segment)
    about = {n for n in recipe.classes if look.mapping.get(n, n) == row.number}
    return Derivation(
        about=frozenset(about),
        margin_mm=look.margin_mm,
        after=AfterRow(bundle=bundle, segment=look.segment, margin_mm=look.margin_mm),
        recipe=recipe.name,
    )


def plan_first(
    folder: DatasetFolder,
    recipe: TrainingRecipe,
    *,
    minutes: float | None = None,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Plan:
    """Return what the model that looks first would do; nothing is written.

    Parameters
    ----------
    folder : DatasetFolder
        Of whole images, imported by the cascade's recipe.
    minutes : float or None
        About how long it may learn, by itself.
    changes : mapping or None
        Fields of the plan, in place of those that are planned.
    device : str
        Where it shall learn, as a training's.

    Raises
    ------
    CannotTrain, InvalidRecipe, InvalidPlan, InvalidDataset
        As :func:`models.learning.beginning.begin_plan`.
    """
    seen = derived(folder, for_first(recipe))
    return begin_plan(seen, minutes=minutes, seed=seed, changes=changes, device=device)


def plan_second(
    folder: DatasetFolder,
    recipe: TrainingRecipe,
    *,
    minutes: float | None = None,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Plan:
    """Return what the model that looks second would do, of parts about what is true.

    Parameters and errors are those of :func:`plan_first`.
    """
    seen = derived(folder, for_second(recipe, _NOT_YET))
    return begin_plan(seen, minutes=minutes, seed=seed, changes=changes, device=device)


def of_each(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which fields of a plan are changed for the first model, and which for the second.

    ``first.rate`` is for the first alone, ``second.rate`` for the second, ``rate`` for both.
    """
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for key, value in changes.items():
        which, dot, field = key.partition(".")
        for number, name in enumerate(("first", "second")):
            if not dot:
                found[number].setdefault(key, value)
            elif which == name:
                found[number][field] = value
    unknown = [
        key for key in changes if "." in key and key.split(".")[0] not in ("first", "second")
    ]
    if unknown:
        raise InvalidPlan(f"{unknown[0]}: a cascade has two plans, first. and second.")
    return found


_NOT_YET = "not_learnt_yet@0.1.0"
