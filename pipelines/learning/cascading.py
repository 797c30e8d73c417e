"""A cascade as one deed: the model that looks first is learnt, then the one that looks about it.

Each is a training like any other: watched, measured on the locked test set, signed, promoted by
itself. What the first knows of the second is a wish that is kept with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from dicom.errors import InvalidRecipe, NotFound, RadloopError
from models.learning.beginning import cascade_of
from models.learning.cascades import (
    first_name,
    for_first,
    for_second,
    plan_first,
    plan_second,
)
from models.learning.cases import DatasetFolder
from models.learning.planning import Plan
from models.learning.recipe import TrainingRecipe, get_recipe
from pipelines.learning.ordering import check_model_name, next_version, order_training
from pipelines.learning.school import School
from pipelines.store import LauncherName, TrainingView

log = structlog.get_logger()

_LONGEST: Final = 64


def order_cascade(
    school: School,
    *,
    dataset: str,
    name: str,
    asked_by: str,
    version: str | None = None,
    minutes: float = 60.0,
    device: str = "auto",
    launcher: LauncherName | None = None,
    seed: int = 0,
    at_once: bool = True,
    first: Mapping[str, Any] | None = None,
    second: Mapping[str, Any] | None = None,
) -> TrainingView:
    """Ask for both models of a cascade; return the training of the first.

    Both are planned now, so that what does not fit is said before anything runs.

    Parameters
    ----------
    dataset : str
        ``NAME`` or ``NAME@VERSION``, of whole images, imported by a cascade's recipe.
    name, version : str
        Of the model that looks second; the first has the same version, and `_first` behind its
        name.
    minutes : float
        For both: half of it each.
    device, launcher, seed, at_once
        As :func:`pipelines.learning.ordering.order_training`.
    first, second : mapping or None
        Fields of the plan of each, in place of what the node plans; a number of steps that is
        changed goes before the minutes.

    Raises
    ------
    InvalidRecipe
        When the dataset is not one of a cascade.
    NotFound, InvalidDataset, InvalidRequest, InvalidPlan, CannotTrain, Conflict
        As :func:`pipelines.learning.ordering.order_training`.
    """
    check_model_name(name)
    folder = school.shelf.get(dataset)
    recipe = _cascade(folder)
    assert recipe.first is not None  # of a cascade
    first, second = dict(first or {}), dict(second or {})
    plan_second(folder, recipe, minutes=minutes / 2, seed=seed, changes=second, device=device)
    chosen = version or next_version(school, name)
    look = get_recipe(recipe.first.recipe)
    organ = school.shelf.derive(folder, _named(folder, look.name), for_first(recipe))
    return order_training(
        school,
        dataset=organ.dataset.identity,
        name=first_name(name),
        version=chosen,
        asked_by=asked_by,
        changes=first,
        graph=look.graph,
        minutes=None if "steps" in first else minutes / 2,
        device=device,
        launcher=launcher,
        seed=seed,
        at_once=at_once,
        then={
            "recipe": recipe.name,
            "dataset": folder.dataset.identity,
            "name": name,
            "version": chosen,
            "minutes": None if "steps" in second else minutes / 2,
            "seed": seed,
            "changes": second,
        },
    )


def plan_cascade(
    school: School,
    *,
    dataset: str,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Plan, Plan]:
    """Return what the node would do for each of both models, with its reasons; nothing runs.

    Raises
    ------
    InvalidRecipe
        When the dataset is not one of a cascade.
    NotFound, InvalidDataset, InvalidPlan, CannotTrain
        As :func:`pipelines.learning.ordering.order_training`.
    """
    folder = school.shelf.get(dataset)
    recipe = _cascade(folder)
    half = None if minutes is None else minutes / 2
    return (
        plan_first(folder, recipe, minutes=half, seed=seed, device=device),
        plan_second(folder, recipe, minutes=half, seed=seed, device=device),
    )


def follow(school: School, training_id: str) -> TrainingView | None:
    """Ask for what follows a training that has made its bundle; once, however often it is called.

    Returns
    -------
    TrainingView or None
        None where nothing follows, or it could not begin: that is an alarm then, and the bundle of
        the first stays.
    """
    training = school.trainings.training(training_id)
    if training.then is None or training.candidate is None:
        return None
    if training.followed_by is not None:
        return school.trainings.training(training.followed_by)
    try:
        made = _ask_second(school, training)
    except RadloopError as error:
        school.alarms.raise_alarm(
            "training",
            bundle=f"{training.then['name']}@{training.then['version']}",
            message=f"the second model of a cascade could not begin: {error.message} "
            f"({error.code})",
            facts={"training": training_id, "code": error.code},
        )
        return None
    school.trainings.followed(training_id, made.id)
    log.info("cascade_goes_on")
    return made


def _ask_second(school: School, first: TrainingView) -> TrainingView:
    """Cut parts about what is true, and ask for the training that learns from them.

    Raises
    ------
    RadloopError
    """
    wish = first.then
    if wish is None or first.candidate is None:
        raise NotFound("nothing follows the training")
    recipe = get_recipe(wish["recipe"])
    folder = school.shelf.get(wish["dataset"])
    parts = school.shelf.derive(
        folder, _named(folder, f"{wish['name']}_parts"), for_second(recipe, first.candidate)
    )
    return order_training(
        school,
        dataset=parts.dataset.identity,
        name=wish["name"],
        version=wish["version"],
        asked_by=first.asked_by,
        changes=wish.get("changes"),
        graph=recipe.graph,
        minutes=wish["minutes"],
        device=first.device,
        launcher=first.launcher,
        seed=wish["seed"],
        at_once=first.at_once,
        key=f"{first.id} then",
    )


def _cascade(folder: DatasetFolder) -> TrainingRecipe:
    recipe = cascade_of(folder.dataset)
    if recipe is None or recipe.first is None:
        raise InvalidRecipe(f"{folder.dataset.identity} was not taken in by a cascade's recipe")
    return recipe


def _named(folder: DatasetFolder, what: str) -> str:
    """Return what a dataset that is made of another one is called."""
    return f"{folder.dataset.name}_{what}"[:_LONGEST]
