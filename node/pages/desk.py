"""The training form as it was sent, and what is made of it; each part may say what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from dicom.errors import InvalidDesign, InvalidRequest
from models.designs.tracing import Traced
from models.learning.planning import Plan
from models.learning.recipe import TrainingRecipe
from node.faults import Fault
from node.pages.planform import FieldGroup, FormField
from pipelines.store import LauncherName


@dataclass(frozen=True, slots=True)
class CascadeStep:
    """One of a cascade's models: how it learns, as a form; its network and augmentation drawn.

    `word` is `first` or `second`, and stands before the names of its fields.
    """

    word: str
    recipe: TrainingRecipe
    plan: Plan
    fields: tuple[FormField, ...]
    first_fields: tuple[FormField, ...]
    groups: tuple[FieldGroup, ...]
    drawing: Markup | None = None
    traced: Traced | None = None
    network: Markup | None = None


@dataclass(slots=True)
class Desk:
    """One look at the form."""

    typed: dict[str, str]
    plan: Plan | None = None
    fields: tuple[FormField, ...] = ()
    design: str = ""
    graph: str = ""
    design_before: str = ""  # the last that fitted together
    block_names: tuple[str, ...] = ()
    traced: Traced | None = None
    drawing: Markup | None = None
    graph_drawing: Markup | None = None
    graph_nodes: tuple[tuple[str, str], ...] = ()  # name and kind
    graph_ports: tuple[str, ...] = ()  # what another node can be put behind
    graph_title: str = ""
    steps: tuple[CascadeStep, ...] = ()  # of a cascade
    recipe: TrainingRecipe | None = None  # by which the dataset was taken in
    cascade: TrainingRecipe | None = None  # ... where that is one of two models
    preview: str = ""
    shown: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """Return a field as it was typed."""
        return self.typed.get(name, default).strip()

    def whole(self, name: str, default: int) -> int:
        """Return a field as a whole number.

        Raises
        ------
        InvalidDesign
        """
        text = self.get(name)
        if not text:
            return default
        if not text.isdigit():
            raise InvalidDesign(f"{name.partition('-')[2] or name}: a whole number is needed")
        return int(text)

    @property
    def dropout(self) -> float:
        """Of a network that is drawn anew.

        Raises
        ------
        InvalidDesign
        """
        try:
            return float(self.get("shape-dropout") or 0)
        except ValueError:
            raise InvalidDesign("dropout: a number between 0 and 0.9 is needed") from None

    @property
    def minutes(self) -> float:
        """About how long it may learn.

        Raises
        ------
        InvalidRequest
        """
        try:
            found = float(self.get("minutes") or 30)
        except ValueError:
            raise InvalidRequest("minutes are a number") from None
        if not 0.01 <= found <= 100_000:
            raise InvalidRequest("minutes are between 0.01 and 100000")
        return found

    @property
    def launcher(self) -> LauncherName | None:
        """Where it shall learn; None: where the settings say."""
        known: dict[str, LauncherName] = {"local": "local", "slurm": "slurm"}
        return known.get(self.get("launcher"))

    @property
    def is_cascade(self) -> bool:
        """Whether both models of a cascade shall be learnt, one after the other."""
        return self.cascade is not None and self.get("way", "cascade") == "cascade"

    @property
    def at_once(self) -> bool:
        """Whether it may learn outside quiet hours."""
        return self.get("when", "now") == "now"
