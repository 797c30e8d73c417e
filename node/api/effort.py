"""Effort: what corrections cost, by model and by reader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request

from node.auth import ClinicalCaller
from node.blind import seen_corrections, unseen_by
from node.parts import parts_of
from node.savings import Saved, Spread, savings, spread
from pipelines.store import CorrectionView

router = APIRouter(prefix="/api/effort", tags=["effort"])


@dataclass(frozen=True, slots=True)
class Effort:
    """What one reader's corrections of one model's results cost; null where nobody knows.

    `bundle` is null for what was drawn from scratch: the time that a model's result saves is the
    difference to that. `tolerance_mm` is what `surface_dice` was measured with; null where it
    changed in between.
    """

    bundle: str | None
    reader: str | None
    corrections: int
    unchanged: int
    active_s: Spread | None
    added_path_mm: Spread | None
    changed_voxels: Spread | None
    surface_dice: Spread | None
    tolerance_mm: float | None


@router.get("")
def effort(
    request: Request,
    caller: ClinicalCaller,
    bundle: Annotated[str | None, Query(max_length=200)] = None,
    reader: Annotated[str | None, Query(max_length=64)] = None,
) -> list[Effort]:
    """Show what corrections cost, for each model and reader; of all, or of one of them."""
    rows = parts_of(request).corrections.measured(bundle=bundle, author=reader)
    return efforts(seen_corrections(rows, unseen_by(request, caller.name)))


@router.get("/saved")
def saved(request: Request, caller: ClinicalCaller) -> list[Saved]:
    """Show what each model's results save: mending them beside drawing the same from scratch."""
    rows = parts_of(request).corrections.measured()
    return savings(seen_corrections(rows, unseen_by(request, caller.name)))


def efforts(rows: Iterable[CorrectionView]) -> list[Effort]:
    """Return what corrections cost, for each model and reader."""
    groups: dict[tuple[str, str], list[CorrectionView]] = defaultdict(list)
    for row in rows:
        groups[row.bundle or "", row.author].append(row)
    return [_effort(*names, groups[names]) for names in sorted(groups)]


def _effort(bundle: str, reader: str, rows: Sequence[CorrectionView]) -> Effort:
    differences = [row.difference for row in rows if row.difference is not None]
    tolerances = {difference.tolerance_mm for difference in differences}
    return Effort(
        bundle=bundle or None,
        reader=reader or None,
        corrections=len(rows),
        unchanged=sum(difference.changed_voxels == 0 for difference in differences),
        active_s=spread(row.effort.active_s for row in rows if row.effort is not None),
        added_path_mm=spread(difference.added_path_mm for difference in differences),
        changed_voxels=spread(float(difference.changed_voxels) for difference in differences),
        surface_dice=spread(
            difference.surface_dice
            for difference in differences
            if difference.surface_dice is not None
        ),
        tolerance_mm=tolerances.pop() if len(tolerances) == 1 else None,
    )
