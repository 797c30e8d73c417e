"""Cases as API and page show them to one person."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from node.auth import Caller
from node.parts import FrontParts
from pipelines.store import (
    CaseState,
    CaseView,
    Chosen,
    Priority,
    RoundState,
    RoundView,
    Strategy,
    WantedCases,
)

_IDENTITY: Final = re.compile(
    r"[A-Za-z0-9][\w.-]*@\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]*[0-9A-Za-z])?"
    r"|(?<=^of )[\w.-]+(?=, readers)"  # of all versions of a model
)


@dataclass(frozen=True, slots=True)
class Score:
    """How much speaks for a case, 0 to 1, and where that comes from."""

    value: float
    why: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the readers of a round agree; each figure is the mean over pairs of readers.

    `volume_difference` is |a - b| by their mean; `surface_dice` was measured at `tolerance_mm`.
    """

    readers: tuple[str, ...]
    dice: float | None
    surface_dice: float | None
    volume_difference: float | None
    tolerance_mm: float


@dataclass(frozen=True, slots=True)
class Case:
    """A study, or one series of it, that is to be read.

    While a round is open `state` leaves out what its readers did since it began, `readers` are
    those who read it and `mine` is how far this caller is: `open`, `done`, or null for who is
    none of them.
    """

    id: str
    study: str
    series: str | None
    description: str
    received_at: datetime
    state: CaseState
    modalities: tuple[str, ...]
    priority: Priority
    assigned_to: str | None
    holder: str | None
    lease_until: datetime | None
    uncertainty: Score | None
    disagreement: Score | None
    agreement: Agreement | None
    readers: tuple[str, ...]
    mine: str | None
    awaits_adjudication: bool
    workspaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NextCase:
    """The case to take next; `score` is null where the strategy has none, `why` says the reason."""

    case: Case
    strategy: Strategy
    score: float | None
    why: str


@dataclass(frozen=True, slots=True)
class SegmentAgreement:
    """One structure in the answers of two readers."""

    between: tuple[str, str]
    type: str
    dice: float | None
    surface_dice: float | None
    volumes_ml: tuple[float, float]
    volume_difference: float | None


@dataclass(frozen=True, slots=True)
class ReadingState:
    """One reader's part; `verdict` and `answer` are null while the round is open.

    A reader of an open round is told of nobody else whether they have done, either.
    """

    reader: str
    done_at: datetime | None
    verdict: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Round:
    """A case that several read alone.

    `answer` is what counts in the end: a result or a correction, by its own id.
    """

    id: str
    case: str
    state: RoundState
    opened_by: str
    opened_at: datetime
    read_at: datetime | None
    adjudicator: str | None
    settled_by: str | None
    settled_at: datetime | None
    answer: str | None
    readings: tuple[ReadingState, ...]
    agreement: Agreement | None
    segments: tuple[SegmentAgreement, ...]


def view_case(
    row: CaseView, caller: Caller, shared: frozenset[str], title_of: Callable[[str], str]
) -> Case:
    """Return a case for that person; `shared` are the workspaces that they share."""
    mine = None
    if caller.name in row.readers:
        mine = "done" if caller.name in row.readers_done else "open"
    return Case(
        id=row.id,
        study=row.study_id,
        series=row.series_id,
        description=row.description,
        received_at=row.received_at,
        state=row.state,
        modalities=row.modalities,
        priority=row.priority,
        assigned_to=row.assigned_to,
        holder=row.holder,
        lease_until=row.lease_until,
        uncertainty=_score(row.uncertainty, row.uncertainty_why, title_of),
        disagreement=_score(row.disagreement, row.disagreement_why, title_of),
        agreement=_agreement(row.agreement),
        readers=row.readers,
        mine=mine,
        awaits_adjudication=row.awaits_adjudication,
        workspaces=tuple(name for name in row.workspaces if name in shared),
    )


def view_cases(parts: FrontParts, caller: Caller, rows: list[CaseView]) -> list[Case]:
    """Return cases for that person."""
    shared = frozenset(one.name for one in parts.reading.workspaces.of_member(caller.name))
    title_of = parts.registry.title_of
    return [view_case(row, caller, shared, title_of) for row in rows]


def view_one(parts: FrontParts, caller: Caller, row: CaseView) -> Case:
    """Return one case for that person."""
    return view_cases(parts, caller, [row])[0]


def view_chosen(parts: FrontParts, caller: Caller, chosen: Chosen) -> NextCase:
    """Return the chosen case for that person."""
    why = _in_words(chosen.why, parts.registry.title_of)
    return NextCase(view_one(parts, caller, chosen.case), chosen.strategy, chosen.score, why)


def view_round(row: RoundView, caller: Caller) -> Round:
    """Return a round; while it is open, each reader's own part alone."""
    is_open, reads = row.state == "open", any(r.reader == caller.name for r in row.readings)

    def part(reader: str, value: str | None) -> str | None:
        return value if not is_open or reader == caller.name else None

    measured = row.agreement if row.state != "open" else None
    return Round(
        id=row.id,
        case=row.case_id,
        state=row.state,
        opened_by=row.opened_by,
        opened_at=row.opened_at,
        read_at=row.read_at,
        adjudicator=row.adjudicator,
        settled_by=row.settled_by,
        settled_at=row.settled_at,
        answer=row.answer_id,
        readings=tuple(
            ReadingState(
                one.reader,
                None if is_open and reads and one.reader != caller.name else one.done_at,
                part(one.reader, one.verdict),
                part(one.reader, one.answer_id),
            )
            for one in row.readings
        ),
        agreement=_agreement(measured),
        segments=tuple(
            SegmentAgreement(
                between=(one["between"][0], one["between"][1]),
                type=one["type"],
                dice=one["dice"],
                surface_dice=one["surface_dice"],
                volumes_ml=(one["volumes_ml"][0], one["volumes_ml"][1]),
                volume_difference=one["volume_difference"],
            )
            for one in (measured or {}).get("segments", ())
        ),
    )


def wanted_by(parts: FrontParts, caller: Caller, wanted: WantedCases) -> WantedCases:
    """Return what is wanted, after a look whether the caller shares that workspace.

    Raises
    ------
    NotFound
        When they do not.
    """
    if wanted.workspace:
        parts.reading.workspaces.workspace(wanted.workspace, member=caller.name)
    return wanted


def _score(value: float | None, why: str | None, title_of: Callable[[str], str]) -> Score | None:
    return None if value is None else Score(value, _in_words(why or "", title_of))


def _in_words(why: str, title_of: Callable[[str], str]) -> str:
    """Return a reason with models called as people call them: the rows name ``NAME@VERSION``."""
    return _IDENTITY.sub(lambda found: title_of(found[0]), why)


def _agreement(figures: Any) -> Agreement | None:  # noqa: ANN401 - a JSON column
    if not figures:
        return None
    return Agreement(
        tuple(figures["readers"]),
        figures["dice"],
        figures["surface_dice"],
        figures["volume_difference"],
        figures["tolerance_mm"],
    )
