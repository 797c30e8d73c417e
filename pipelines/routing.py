"""Routes: predicates on a series' de-identified attributes that decide what is done with it.

A rule can only ask about :class:`dicom.volume.SeriesFacts`, which are read from the de-identified
series: no rule can depend on a patient's name, by construction. Rules are data; no expression is
evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dicom.errors import InvalidSettings
from dicom.seg import SegmentationType
from dicom.volume import Kind, SeriesFacts

Priority = Literal["stat", "high", "routine", "low"]
"""How soon a task is run; STAT goes before all that waits."""


@dataclass(frozen=True, slots=True)
class When:
    """Conditions on one series; all of those that are given must hold.

    Attributes
    ----------
    modality : tuple of str
        Modality (0008,0060) is one of these.
    body_part : tuple of str
        BodyPartExamined (0018,0015) is one of these; upper and lower case are the same.
    description : str
        A regular expression found in the cleaned SeriesDescription (0008,103E).
    study_description : str
        A regular expression found in the cleaned StudyDescription (0008,1030).
    protocol : str
        A regular expression found in the cleaned ProtocolName (0018,1030).
    min_slices : int
        The series has at least so many images.
    max_slices : int
        The series has at most so many images.
    max_spacing_mm : float
        Upper bound of the step between slices.
    orientation : tuple of str
        The plane of the slices is one of these.
    image_type : tuple of str
        Every one of these is among the values of ImageType (0008,0008).
    not_image_type : tuple of str
        None of these is (`LOCALIZER`, `DERIVED` ...).
    kind : tuple of Kind
        What most images of the series are: one of these. Told from class, geometry, ImageType and
        description together, so that it holds where a scanner leaves ImageType out.
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    description: str = ""
    study_description: str = ""
    protocol: str = ""
    min_slices: int | None = None
    max_slices: int | None = None
    max_spacing_mm: float | None = None
    orientation: tuple[Literal["axial", "sagittal", "coronal", "oblique"], ...] = ()
    image_type: tuple[str, ...] = ()
    not_image_type: tuple[str, ...] = ()
    kind: tuple[Kind, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (self.description, self.study_description, self.protocol):
            try:
                re.compile(pattern)
            except re.error as error:
                raise InvalidSettings(f"{pattern!r} is no regular expression: {error}") from error


@dataclass(frozen=True, slots=True)
class Route:
    """One rule: which series, what is done, where results go.

    Attributes
    ----------
    name : str
        How people and logs call it.
    bundle : str
        `name` or `name@version` of an installed bundle; empty for a route that only collects.
    outputs : tuple of str
        Output types by name (`seg`, `sr`), in the order in which they are stored; empty: a
        segmentation with its report, or a report alone where the model makes no segments.
    destinations : tuple of str
        Names of peers that get the result by C-STORE, after the clinical archive.
    segmentation_type : str
        Of a DICOM SEG, what its destinations can read; `auto`: binary for few segments.
    priority : str
        STAT goes before all that waits.
    collect : bool
        Whether the de-identified series also goes to the research archive.
    project : str
        The `[[project]]` by whose profile and pseudonyms it goes there; empty: the node's own.
    """

    name: str
    when: When = field(default_factory=When)
    bundle: str = ""
    outputs: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    segmentation_type: SegmentationType = "auto"
    priority: Priority = "routine"
    collect: bool = False
    project: str = ""

    def __post_init__(self) -> None:
        if not self.bundle and not self.collect and not self.project:
            raise InvalidSettings(f"route {self.name!r} neither runs a bundle nor collects")


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a rule, looked at: what was asked, what was found."""

    condition: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a route matched a series, or why not."""

    route: str
    checks: tuple[Check, ...]

    @property
    def matched(self) -> bool:
        """Whether every condition holds."""
        return all(check.holds for check in self.checks)


def match_routes(facts: SeriesFacts, routes: Sequence[Route]) -> list[Route]:
    """Return the routes whose every condition holds for a series, in their order."""
    return [route for route in routes if explain(facts, route).matched]


def untaken(modalities: Iterable[str], routes: Iterable[Route]) -> frozenset[str]:
    """Return those modalities that no rule can match: each names others."""
    named = [set(route.when.modality) for route in routes]
    return frozenset(
        modality for modality in modalities if all(each and modality not in each for each in named)
    )


def explain(facts: SeriesFacts, route: Route) -> Explanation:
    """Look at each condition of `route` for a series; a value that is absent never matches."""
    when = route.when
    checks = []
    if when.modality:
        checks.append(_one_of("modality", facts.modality, when.modality))
    if when.body_part:
        checks.append(_one_of("body_part", facts.body_part, when.body_part))
    if when.description:
        checks.append(_pattern("description", facts.description, when.description))
    if when.study_description:
        checks.append(
            _pattern("study description", facts.study_description, when.study_description)
        )
    if when.protocol:
        checks.append(_pattern("protocol", facts.protocol, when.protocol))
    if when.min_slices is not None:
        checks.append(
            Check(
                f"at least {when.min_slices} slices",
                str(facts.slice_count),
                facts.slice_count >= when.min_slices,
            )
        )
    if when.max_slices is not None:
        checks.append(
            Check(
                f"at most {when.max_slices} slices",
                str(facts.slice_count),
                facts.slice_count <= when.max_slices,
            )
        )
    if when.max_spacing_mm is not None:
        checks.append(_spacing(facts.spacing_mm, when.max_spacing_mm))
    if when.orientation:
        checks.append(_one_of("orientation", facts.orientation, when.orientation))
    found = {value.upper() for value in facts.image_type}
    listed = "\\".join(facts.image_type) or "nothing"
    for value in when.image_type:
        checks.append(Check(f"image type has {value}", listed, value.upper() in found))
    for value in when.not_image_type:
        checks.append(Check(f"image type lacks {value}", listed, value.upper() not in found))
    if when.kind:
        checks.append(_one_of("kind", facts.kind, when.kind))
    return Explanation(route.name, tuple(checks))


def _one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> Check:
    holds = (value or "").upper() in {candidate.upper() for candidate in allowed}
    return Check(f"{name} is {' or '.join(allowed)}", value or "nothing", holds)


def _pattern(name: str, value: str | None, pattern: str) -> Check:
    holds = value is not None and re.search(pattern, value, re.IGNORECASE) is not None
    return Check(f"{name} matches {pattern}", value or "nothing", holds)


def _spacing(value: float | None, limit: float) -> Check:
    holds = value is not None and value <= limit
    return Check(
        f"slice step at most {limit} mm", "unknown" if value is None else f"{value:.2f} mm", holds
    )
