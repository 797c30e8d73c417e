"""Two models that learn from one dataset: the first finds where to look, the second looks there.

The second learns from parts that are cut about what is true, and later is given parts about what
the first finds, with the same margin.
"""

from __future__ import annotations

from models.learning.deriving import Derivation
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
