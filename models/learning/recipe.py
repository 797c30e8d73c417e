"""Training recipes: what a kind of model learns, from which data, how, and what it writes.

One TOML file a kind in ``recipes/``. A recipe names the classes with their codes, the fields of the
plan that experience sets otherwise than :func:`models.learning.planning.make_plan` would, the
augmentation, and for a cascade the recipe of the model that looks first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom.codes import Code
from dicom.errors import InvalidRecipe, NotFound
from models.learning.cases import Dataset, TaskKind
from models.learning.graph import Graph, read_graph
from models.learning.planning import Plan
from models.table import FindingRow, SegmentRow

_FOLDER: Final = "recipes"
_Words = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FirstLook(_Part):
    """The model that looks first, and about which of its segments the second one looks.

    Attributes
    ----------
    recipe : str
        By which the first one learns.
    mapping : mapping of int to int
        Of the dataset's labels, for the first one: ``{2 = 1}`` takes a tumour as its organ.
    segment : str
        Its segment, by label.
    margin_mm : float
    """

    recipe: str
    mapping: Mapping[int, int] = Field(default_factory=dict)
    segment: str
    margin_mm: float = Field(20.0, ge=0, le=1000)


class TrainingRecipe(_Part):
    """A recipe as its file says it.

    Attributes
    ----------
    name : str
        Of its file.
    title, needs : str
        For people: what it makes, and the data that it takes.
    intended_use : str
        Of the bundles.
    task, dimensions, channels, modalities
        What a dataset has to be.
    segment, finding : tuple
        The classes with their codes: segments of a segmentation, findings of all else.
    question : Code or None
        What a classification answers: the concept whose value its class is.
    output : tuple of str
        The DICOM objects that results are written as.
    plan : mapping
        Fields of the plan.
    augment : mapping
        The augmentation graph; its comments say why each step may be.
    first : FirstLook or None
        Of a cascade.
    """

    name: str = ""
    title: _Words
    needs: _Words
    intended_use: str = "To show and to correct on a screen, and for research."
    task: TaskKind
    dimensions: Literal[2, 3]
    channels: tuple[str, ...] = Field(min_length=1)
    modalities: tuple[str, ...] = Field(min_length=1)
    segment: tuple[SegmentRow, ...] = ()
    finding: tuple[FindingRow, ...] = ()
    question: Code | None = None
    output: tuple[Literal["seg", "sr"], ...] = Field(min_length=1)
    plan: Mapping[str, Any] = Field(default_factory=dict)
    augment: Mapping[str, Any] | None = None
    first: FirstLook | None = None

    @property
    def classes(self) -> dict[int, str]:
        """Names by number."""
        segments = {row.number: row.label for row in self.segment}
        return segments | {row.number: row.label for row in self.finding}

    @property
    def graph(self) -> Graph | None:
        """What is made of each case."""
        return None if self.augment is None else read_graph(self.augment)

    @property
    def fields(self) -> dict[str, Any]:
        """The plan's fields; TOML has no word for nothing, so that ``"none"`` stands for it."""
        return {name: None if value == "none" else value for name, value in self.plan.items()}

    @property
    def painted(self) -> frozenset[int]:
        """The classes that the augmentation paints in, whether or not a case shows them."""
        graph = self.graph
        nodes = graph.node if graph is not None else ()
        return frozenset(n for node in nodes for n in getattr(node, "letters", {}).values())

    @model_validator(mode="after")
    def _task_has_its_classes(self) -> TrainingRecipe:
        segments = self.task in ("segmentation", "multilabel")
        if bool(self.segment) != segments or bool(self.finding) == segments:
            raise ValueError("a segmentation has segments, all else has findings")
        unknown = sorted(self.plan.keys() - Plan.model_fields.keys())
        if unknown:
            raise ValueError(f"plan has no field {unknown[0]}")
        return self

    def check(self, dataset: Dataset) -> None:
        """See that a dataset is one that the recipe is for.

        Raises
        ------
        InvalidRecipe
            When its task, its dimensions, its channels or its classes are others.
        """
        for what, ours, theirs in (
            ("task", self.task, dataset.task),
            ("dimensions", self.dimensions, dataset.dimensions),
            ("channels", len(self.channels), len(dataset.channels)),
        ):
            if ours != theirs:
                raise InvalidRecipe(f"{dataset.identity}: {what}: {theirs}, the recipe has {ours}")
        if self.first is not None and dataset.after is None:
            raise InvalidRecipe(
                f"{dataset.identity} has whole images; the second model of a cascade learns from "
                "parts of them: radloop datasets derive"
            )
        unknown = set(dataset.classes.values()) - set(self.classes.values())
        if unknown:
            raise InvalidRecipe(
                f"{dataset.identity}: the recipe knows no {sorted(unknown)[0]}; it knows: "
                f"{', '.join(self.classes.values())}"
            )


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with radloop."""
    folder = files("models.learning") / _FOLDER
    return tuple(
        sorted(
            one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")
        )
    )


@cache
def get_recipe(name: str) -> TrainingRecipe:
    """Return the recipe of that name.

    Raises
    ------
    NotFound
        When there is none.
    InvalidRecipe
        When its file is wrong; the message names the place.
    """
    if name not in recipe_names():
        raise NotFound(f"there is no recipe {name!r}; there are: {', '.join(recipe_names())}")
    file = files("models.learning") / _FOLDER / f"{name}.toml"
    return read_recipe(file.read_text(encoding="utf-8")).model_copy(update={"name": name})


def read_recipe(text: str) -> TrainingRecipe:
    """Read a recipe from TOML.

    Raises
    ------
    InvalidRecipe
        When it is none; the message names the place.
    InvalidGraph
        When its augmentation is none.
    """
    try:
        recipe = TrainingRecipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidRecipe(f"no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "recipe"
        raise InvalidRecipe(f"{where}: {first['msg']}") from None
    if recipe.augment is not None:
        read_graph(recipe.augment)
    return recipe
