"""What a layout finds in a folder, and how a dataset shall be made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dicom.codes import Code
from models.learning.cases import Split, TaskKind
from models.learning.recipe import TrainingRecipe
from models.table import FindingRow, SegmentRow, WithoutRow
from pipelines.exports.cases import Shares


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box as a layout found it: the name of its class, its first and last voxel (k, j, i)."""

    name: str
    first: tuple[int, int, int]
    last: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One case as a layout found it.

    Attributes
    ----------
    id : str
        Letters, digits, dots, dashes.
    patient : str
        Whose; a pseudonym.
    image : ndarray, shape (channels, slices, rows, columns)
    label : ndarray or None
        Shape (slices, rows, columns).
    affine_lps : ndarray or None
        (k, j, i, 1) -> LPS mm; None where the image has no place.
    spacing_kji : tuple of float, or None
        mm.
    finding : int or None
        Of a classification: the class, where the layout numbers them.
    finding_name : str
        ... or its name.
    boxes : tuple of FoundBox
        Of a detection.
    split : str or None
        Where the layout says it.
    """

    id: str
    patient: str
    image: npt.NDArray[Any]
    label: npt.NDArray[Any] | None
    affine_lps: npt.NDArray[np.float64] | None = None
    spacing_kji: tuple[float, float, float] | None = None
    finding: int | None = None
    finding_name: str = ""
    boxes: tuple[FoundBox, ...] = ()
    split: Split | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outline:
    """What a layout says of the whole, before a voxel is read.

    Attributes
    ----------
    task : str
    classes : mapping of int to str
        Empty where the layout does not name them.
    channels : tuple of str
    patients : tuple of str
        In any order, each once.
    cases : int
    named : bool
        Its cases say their classes by name; their numbers are as good as others.
    selects : bool
        Its label maps may hold more than is wanted: what nobody asks for is background.
    numbers : callable or None
        Called where nobody names the classes: which values its label maps hold.
    """

    task: TaskKind
    classes: Mapping[int, str]
    channels: tuple[str, ...]
    patients: tuple[str, ...]
    cases: int
    named: bool = False
    selects: bool = False
    modalities: tuple[str, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    licence: str = ""
    source: str = ""
    numbers: Callable[[], Iterable[int]] | None = None


Row = TypeVar("Row", SegmentRow, FindingRow)


class Layout(Protocol):
    """What a module of a layout offers."""

    def outline(self, folder: Path, *, patient: str) -> Outline:
        """Look at names and descriptions alone; `patient` is a pattern for a case's patient."""
        ...

    def read(self, folder: Path, *, patient: str) -> Iterator[Found]:
        """Yield the cases, read."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a dataset shall be made.

    Attributes
    ----------
    name : str
    shares : Shares
        How patients are shared out, where the layout and `splits` do not say it.
    splits : mapping of str to str
        Patient to split, for all of them; empty: by `shares`.
    classes : mapping of int to str
        Names, where the layout has none or does not number them.
    segments, findings : tuple
        The codes of the classes.
    question : Code or None
        What the classes of a classification answer.
    without : WithoutRow or None
        The bundle whose boxes `change` paints over.
    recipe : str or None
        By which a model is planned that learns from it.
    mapping : mapping of int to int
        Other values for labels: ``{3: 0}`` leaves the third out.
    change : callable or None
        Given each case as it was read, for what has to be done to every image before.
    patient : str
        A regular expression; its first group in a case's name is its patient. Empty: each case is
        a patient of its own.
    modality, modalities : str, tuple of str
        DICOM's, where the layout does not say them: the one there is, or all that a recipe is for.
    """

    name: str
    shares: Shares = field(default_factory=Shares)
    splits: Mapping[str, Split] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)
    segments: tuple[SegmentRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    question: Code | None = None
    without: WithoutRow | None = None
    recipe: str | None = None
    mapping: Mapping[int, int] = field(default_factory=dict)
    change: Callable[[Found], Found] | None = None
    patient: str = ""
    modality: str = ""
    modalities: tuple[str, ...] = ()
    licence: str = ""
    source: str = ""

    @classmethod
    def by_recipe(cls, recipe: TrainingRecipe, name: str, **other: Any) -> Wanted:  # noqa: ANN401
        """Return what a recipe wants: its classes, codes and modalities; `other` goes before."""
        fields = {
            "classes": recipe.classes,
            "segments": recipe.segment,
            "findings": recipe.finding,
            "question": recipe.question,
            "recipe": recipe.name or None,
            "modalities": recipe.modalities,
        }
        return cls(name, **{**fields, **other})
