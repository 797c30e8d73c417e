"""A candidate beside the version that is current, in figures; as JSON, and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

OF_BOXES: Final = ("ap50", "found", "right")
"""Of detections: average precision at half overlap, the share of things that were found, and that
of boxes that are right."""
FIGURES: Final = ("dice", "surface_dice", "hausdorff95_mm", "volume_error", "added_path_mm")
"""Of segmentations, attributes of :class:`dicom.agreement.Likeness`; of a classification `correct`
stands in their place."""

Unit = Literal["mm", "pixels", "mm or pixels"]


def in_unit(words: str, unit: Unit) -> str:
    """Return what a figure is called where lengths are in that unit."""
    return words.replace("mm", unit)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Part):
    """A mean over patients, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    patients: int


class Group(_Part):
    """The cases that share a tag's value: one scanner, one sex, one decade."""

    tag: str
    value: str
    cases: int
    candidate: Span | None
    gain: Span | None


class Calibration(_Part):
    """Whether a model is as sure as it may be.

    Attributes
    ----------
    said, held : float
        Mean probability that it gave what it found, and the share of it that is true.
    error : float
        Mean difference of the two, case by case.
    """

    said: float
    held: float
    error: float
    cases: int


class Lesions(_Part):
    """Connected pieces of the truth, and how many of them were touched by what was found."""

    pieces: int
    found: int
    sensitivity: Span | None


class Worst(_Part):
    """One of the cases on which the candidate did worst; `picture` is a file beside.

    `words` say what came of it: its Dice, how many boxes were found, what was said.
    """

    case: str
    score: float
    picture: str
    words: str = ""

    @property
    def caption(self) -> str:
        """The case and what came of it."""
        return f"{self.case}: {self.words or f'{self.score:.3f}'}"


class Side(_Part):
    """One bundle's figures: over all classes, by class, of lesions, of calibration."""

    bundle: str
    sha256: str
    figures: Mapping[str, Span | None]
    classes: Mapping[str, Mapping[str, Span | None]]
    lesions: Lesions | None
    calibration: Calibration | None


class Comparison(_Part):
    """A candidate measured on one split, and the current version on the same cases.

    Attributes
    ----------
    gain : mapping
        By figure: candidate less incumbent, patient by patient; empty without an incumbent.
    unit : str
        Of lengths: an image that says no spacing is measured in its pixels.
    note : str
        Why there is no incumbent, where there is one that cannot be compared.
    """

    dataset: str
    dataset_sha256: str
    split: str
    cases: int
    patients: int
    candidate: Side
    incumbent: Side | None
    gain: Mapping[str, Span | None]
    groups: tuple[Group, ...]
    worst: tuple[Worst, ...]
    note: str = ""
    unit: Unit = "mm"

    @property
    def leading(self) -> str:
        """The figure that says most.

        Dice; of a classification the share that is correct, of a detection average precision.
        """
        known = self.candidate.figures
        return next(figure for figure in ("dice", "ap50", "correct") if figure in known)

    @property
    def legend(self) -> str:
        """What the pictures of the worst cases show."""
        return _LEGENDS[self.leading]


_LEGENDS: Final = {
    "dice": "Green: what is true. Red: what it finds.",
    "ap50": "Green: found. Yellow, dashed: missed. Red: it says so, and nothing is there.",
    "correct": "Its surest mistakes first, then what it was least sure of.",
}
