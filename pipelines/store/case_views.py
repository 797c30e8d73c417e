"""A case as the rest of the house sees it, and what can be asked of the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pipelines.records import CaseRow
from pipelines.store.standing import CaseState

Priority = Literal["low", "routine", "high", "stat"]
"""How urgent a case is; the words of a requested procedure (PS3.3 C.4.11), and one below them."""

PRIORITIES: tuple[Priority, ...] = ("low", "routine", "high", "stat")

Sort = Literal["urgency", "newest", "oldest", "uncertainty", "disagreement", "agreement"]
"""The order of a list. By urgency: of equal ones the oldest; by agreement: the least first."""

Strategy = Literal["priority", "oldest", "uncertainty", "disagreement", "random"]
"""How the next case is chosen."""


@dataclass(frozen=True, slots=True)
class WantedCases:
    """Which cases are asked for; None is all of them.

    Attributes
    ----------
    modality : str, optional
        That some series of it has.
    reader : str, optional
        Who holds it, has it assigned, or is to read it in an open round.
    workspace : str, optional
        In which it is.
    text : str, optional
        Part of the study's pseudonym, or of its cleaned description.
    studies : sequence of str, optional
        These studies only.
    """

    state: CaseState | None = None
    modality: str | None = None
    reader: str | None = None
    priority: Priority | None = None
    workspace: str | None = None
    text: str | None = None
    studies: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class CaseView:
    """One case; `holder` is None when the lease has run out.

    `agreement` is the newest measured one of a round: Dice, surface Dice, volume difference.
    `readers` are those of the open round, `awaits_adjudication` when it is over and undecided.
    """

    id: str
    study_id: str
    series_id: str | None
    orthanc_id: str
    description: str
    received_at: datetime
    changed_at: datetime
    state: CaseState
    modalities: tuple[str, ...]
    priority: Priority
    assigned_to: str | None
    holder: str | None
    lease_until: datetime | None
    uncertainty: float | None
    uncertainty_why: str | None
    disagreement: float | None
    disagreement_why: str | None
    agreement: Mapping[str, Any] | None
    readers: tuple[str, ...]
    readers_done: tuple[str, ...]
    awaits_adjudication: bool
    workspaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A case that was chosen for a reader, and why it is this one."""

    case: CaseView
    strategy: Strategy
    score: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a case its picture shows; `fingerprint` changes with the series' content."""

    series_id: str
    fingerprint: str
    result_id: str | None


@dataclass(frozen=True, slots=True)
class Around:
    """What stands beside a case in other tables."""

    orthanc_id: str
    description: str
    round_state: str | None
    readers: tuple[str, ...]
    readers_done: tuple[str, ...]
    workspaces: tuple[str, ...]


def case_view(row: CaseRow, around: Around, now: datetime) -> CaseView:
    """Return a case as it stands at that time."""
    held = row.holder is not None and row.lease_until is not None and row.lease_until > now
    is_open = around.round_state == "open"
    return CaseView(
        id=row.id,
        study_id=row.study_id,
        series_id=row.series_id,
        orthanc_id=around.orthanc_id,
        description=around.description,
        received_at=row.received_at,
        changed_at=row.changed_at,
        state=row.state,  # type: ignore[arg-type]  # `standing` alone writes it
        modalities=tuple(row.modalities.split()),
        priority=PRIORITIES[row.priority],
        assigned_to=row.assigned_to,
        holder=row.holder if held else None,
        lease_until=row.lease_until if held else None,
        uncertainty=row.uncertainty,
        uncertainty_why=row.uncertainty_why,
        disagreement=row.disagreement,
        disagreement_why=row.disagreement_why,
        agreement=row.agreement,
        readers=around.readers if is_open else (),
        readers_done=around.readers_done if is_open else (),
        awaits_adjudication=around.round_state == "read",
        workspaces=around.workspaces,
    )
