"""How much time a model's results save: mending them beside drawing the same from scratch.

Nothing is claimed: both sides are seconds of active editing that the viewer counted on this node.
What is saved several times is one piece of work, whose seconds add up; and only drawings of the
same structures are beside each other, for a vessel tree takes longer than a bladder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pipelines.store import CorrectionView

FEW: Final = 5
"""Fewer pieces of work than that, on either side, are too few to say much."""

Structures = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Spread:
    """Some figures: how many, their middle, the smallest and the largest."""

    count: int
    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Saved:
    """What one model saves; `drawn_s` and what follows is null where nobody drew such a thing.

    `saved_s` is the difference of the middles, `saved_share` its part of drawing from scratch;
    below 0, mending takes longer. `is_few` while one side has fewer than five pieces of work.
    """

    bundle: str
    mended_s: Spread
    drawn_s: Spread | None
    saved_s: float | None
    saved_share: float | None
    readers: int
    is_few: bool


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work of one person, from its first save to its last; no bundle: from scratch."""

    author: str
    bundle: str | None
    structures: Structures
    seconds: float


def spread(values: Iterable[float]) -> Spread | None:
    """Return how figures are spread; None of none."""
    known = sorted(values)
    return Spread(len(known), median(known), known[0], known[-1]) if known else None


def savings(rows: Iterable[CorrectionView]) -> list[Saved]:
    """Return what each model saves, by name; those whose mending nobody timed are left out."""
    done = pieces_of_work(rows)
    scratch = [one for one in done if one.bundle is None]
    mended: dict[str, list[Work]] = defaultdict(list)
    for one in done:
        if one.bundle is not None:
            mended[one.bundle].append(one)
    return [_saved(bundle, mended[bundle], scratch) for bundle in sorted(mended)]


def pieces_of_work(rows: Iterable[CorrectionView]) -> list[Work]:
    """Return the work that was timed from its beginning to its end.

    What a person went on with after somebody else had drawn it is none from scratch, and is left
    out; as is work of which a part was saved by a program that counts no seconds.
    """
    roots: dict[str, tuple[str, str]] = {}
    parts: dict[tuple[str, str, str], list[CorrectionView]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.created_at):
        if row.result_id is not None:
            root = ("", row.result_id)
        else:
            root = roots.get(row.predecessor_id or "", (row.author, row.id))
        roots[row.id] = root
        if root[0] in ("", row.author):
            parts[row.author, *root].append(row)
    found = []
    for (author, _, _), saves in parts.items():
        seconds = [save.effort.active_s for save in saves if save.effort is not None]
        if author and len(seconds) == len(saves):
            last = saves[-1]
            found.append(Work(author, last.bundle, _structures(last), sum(seconds)))
    return found


def _structures(row: CorrectionView) -> Structures:
    return frozenset((str(each.get("scheme")), str(each.get("type"))) for each in row.segments)


def _saved(bundle: str, mended: Sequence[Work], scratch: Sequence[Work]) -> Saved:
    same = {one.structures for one in mended}
    drawn = [one for one in scratch if one.structures in same]
    first, second = spread(one.seconds for one in mended), spread(one.seconds for one in drawn)
    assert first is not None  # a model is here because its results were mended
    saved = share = None
    if second is not None:
        saved = second.median - first.median
        share = saved / second.median if second.median > 0 else None
    return Saved(
        bundle=bundle,
        mended_s=first,
        drawn_s=second,
        saved_s=saved,
        saved_share=share,
        readers=len({one.author for one in (*mended, *drawn)}),
        is_few=min(len(mended), len(drawn)) < FEW,
    )
