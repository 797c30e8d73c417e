"""Which patient is in which split: drawn once, and kept for good.

A model that is current learnt from the training patients of yesterday's version. Were one of them
in tomorrow's test, it would shine there for the wrong reason; so a patient keeps the split of any
earlier version, and one that is tested in any dataset of the node is learnt from in none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from dicom.errors import PatientInTwoSplits
from models.learning.cases import Split
from pipelines.exports.cases import Shares


@dataclass(frozen=True, slots=True)
class Past:
    """What was drawn before.

    Attributes
    ----------
    own : mapping of str to str
        Patient to split, in earlier versions of this dataset.
    locked, learnt_from : frozenset of str
        The patients that any dataset of the node tests, and that any learns from.
    """

    own: Mapping[str, str] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    learnt_from: frozenset[str] = frozenset()


def share_out(
    patients: Collection[str],
    past: Past,
    shares: Shares,
    *,
    wanted: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Return the split of each patient; those that may be in none are missing.

    New patients fill test first, then validation, in the order of a hash of seed and pseudonym.
    With three patients or more, each split gets one where that can be.

    Parameters
    ----------
    wanted : mapping or None
        Splits that a person chose for some.

    Raises
    ------
    PatientInTwoSplits
        When a chosen split breaks with an earlier one: what was tested would be learnt from, or the
        other way round.
    """
    chosen = wanted or {}
    splits: dict[str, Split] = {}
    for patient in patients:
        before = _before(patient, past)
        if before is None and patient in chosen:
            splits[patient] = chosen[patient]
        elif before is not None and chosen.get(patient, before) != before:
            raise PatientInTwoSplits(
                f"a patient that is in {before} of an earlier version was put into"
                f" {chosen[patient]}; test stays test, and what was learnt from is not tested"
            )
        elif before is not None and not (before != "test" and patient in past.locked):
            splits[patient] = before
    left_out = {p for p in patients if p not in splits and _before(p, past) is not None}
    fresh = sorted(
        set(patients) - splits.keys() - left_out,
        key=lambda patient: hashlib.sha256(f"{shares.seed}\0{patient}".encode()).digest(),
    )
    total = len(splits) + len(fresh)
    for split, share in (("test", shares.test), ("validation", shares.validation)):
        least = 1 if share and total >= 3 else 0
        missing = max(round(share * total), least) - sum(one == split for one in splits.values())
        fit = [p for p in fresh if split != "test" or p not in past.learnt_from]
        for patient in fit[: max(0, missing)]:
            splits[patient] = split  # type: ignore[assignment]  # one of the two above
            fresh.remove(patient)
    return splits | dict.fromkeys(fresh, "train")


def _before(patient: str, past: Past) -> Split | None:
    """Return the split that a patient has had; test where any dataset tests it."""
    own = past.own.get(patient)
    if own in ("train", "validation", "test"):
        return own  # type: ignore[return-value]  # one of the three
    return "test" if patient in past.locked else None
