"""Where a training begins: from drawn weights, or from a bundle, whose plan goes with its weights.

The one place that says which fields of a plan weights are bound to, and how a plan is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import ValidationError

from dicom.errors import CannotTrain, InvalidPlan, InvalidRequest
from models.bundle import Bundle
from models.learning.cases import Dataset, DatasetFolder, TaskKind
from models.learning.planning import Plan, make_plan
from models.learning.recipe import TrainingRecipe, get_recipe
from models.learning.room import room_on

BOUND_TO_WEIGHTS: Final = (
    "network",
    "spacing_mm",
    "size",
    "intensity",
    "window",
    "patch",
    "typical_box",
)
"""Fields of a plan that weights are bound to: with others they say nothing."""


def begin_plan(
    folder: DatasetFolder,
    *,
    recipe: TrainingRecipe | None = None,
    start_from: Bundle | None = None,
    minutes: float | None = None,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Plan:
    """Return what a training would do, from scratch or from a bundle's weights, with changes.

    Parameters
    ----------
    folder : DatasetFolder
    recipe : TrainingRecipe or None
        What it says of the plan goes before what is planned; None: the one by which the dataset was
        imported, where it was.
    start_from : Bundle or None
        Its network, and what that is given, are taken over.
    minutes : float or None
        About how long it may take.
    changes : mapping or None
        Fields of the plan, in place of those that are planned.
    device : str
        'auto', 'cpu', 'cuda' or 'cuda:1': how much fits at once.

    Raises
    ------
    CannotTrain
        When nothing can be learnt from the dataset.
    InvalidRecipe
        When the dataset is not one that the recipe is for.
    InvalidPlan
        When the bundle does not say how it was trained, or the plan does not fit together; the
        message names the field.
    """
    modality = next(iter(folder.dataset.modalities), "")
    recipe = recipe or recipe_of(folder.dataset)
    painted = recipe.painted if recipe is not None else frozenset()
    if recipe is not None:
        recipe.check(folder.dataset)
    plan = make_plan(
        folder,
        modality=modality,
        room=room_on(device),
        minutes=minutes,
        seed=seed,
        painted=painted,
    )
    if recipe is not None:
        why = {**plan.why, **dict.fromkeys(recipe.plan, f"the recipe: {recipe.title}")}
        plan = changed_plan(plan, {**recipe.fields, "why": why})
    if start_from is not None:
        plan = changed_plan(plan, _taken_over(start_from))
    return changed_plan(plan, changes or {})


def recipe_of(dataset: Dataset) -> TrainingRecipe | None:
    """Return the recipe by which a dataset was imported; None where it was by none.

    Nor is it that of a cascade's second model where the dataset's cases are no parts yet.
    """
    if not dataset.recipe:
        return None
    recipe = get_recipe(dataset.recipe)
    return None if recipe.first is not None and dataset.after is None else recipe


def cascade_of(dataset: Dataset) -> TrainingRecipe | None:
    """Return the cascade's recipe by which a dataset of whole images was imported; None: by none.

    Two models learn from it, one after the other: see :mod:`models.learning.cascades`.
    """
    if not dataset.recipe or dataset.after is not None:
        return None
    recipe = get_recipe(dataset.recipe)
    return recipe if recipe.first is not None else None


def check_task(dataset: Dataset, wanted: str) -> None:
    """See that a dataset is one for a task, such as ``segmentation-3d`` or ``multi-label``.

    Raises
    ------
    InvalidRequest
        When there is no such task.
    CannotTrain
        When the dataset is one for another task.
    """
    word, _, ending = wanted.lower().replace("multi-label", "multilabel").partition("-")
    if word not in get_args(TaskKind) or ending not in ("", "2d", "3d"):
        raise InvalidRequest(
            f"there is no task {wanted!r}; there are: segmentation, classification, detection, "
            "multi-label, each also with -2d or -3d behind it"
        )
    if word != dataset.task or ending not in ("", f"{dataset.dimensions}d"):
        raise CannotTrain(
            f"{dataset.identity} is for {dataset.task} in {dataset.dimensions}D, not for {wanted}: "
            "its labels say no more"
        )


def check_codes(dataset: Dataset) -> None:
    """See that a bundle can be made of what is learnt; better now than after hours of learning.

    Raises
    ------
    CannotTrain
        When the dataset's classes have no codes: results could not be written.
    """
    if not dataset.segments and not dataset.findings:
        raise CannotTrain(
            f"the classes of {dataset.identity} have no codes, so that no result could be written: "
            'name them as DICOM does when it is imported (--class "1=Liver"), or import it by a '
            "recipe"
        )


def changed_plan(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """Return a plan with fields of one's own.

    Raises
    ------
    InvalidPlan
        When it does not fit together then; the message names the field.
    """
    if not changes:
        return plan
    try:
        return Plan.model_validate({**plan.model_dump(mode="json"), **changes})
    except ValidationError as error:
        found = ((one["loc"] or ("plan",), one["msg"]) for one in error.errors())
        places = (
            f"{'.'.join(map(str, place))}: {message.removeprefix('Value error, ')}"
            for place, message in found
        )
        raise InvalidPlan("; ".join(places)) from None


def has_plan(bundle: Bundle) -> bool:
    """Return whether a bundle says how it was trained, so that a training can begin with it."""
    return (bundle.root / "configs" / "train.json").is_file()


def _taken_over(bundle: Bundle) -> Mapping[str, Any]:
    """Return the fields of a bundle's plan that its weights are bound to.

    Raises
    ------
    InvalidPlan
        When the bundle does not say with which plan it was made.
    """
    try:
        path = bundle.root / "configs" / "train.json"
        content = Plan.model_validate_json(path.read_bytes()).model_dump(mode="json")
    except (OSError, ValidationError):
        raise InvalidPlan(
            f"{bundle.identity} does not say how it was trained, so that its weights fit no plan"
        ) from None
    return {field: content[field] for field in BOUND_TO_WEIGHTS}
