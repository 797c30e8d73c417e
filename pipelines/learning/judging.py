"""Whether a candidate may take the place of the current version, by its figures alone."""

from __future__ import annotations

from dataclasses import dataclass

from models.learning.comparison import Comparison, Span
from pipelines.learning.promoting import Policy


@dataclass(frozen=True, slots=True)
class Judgement:
    """The policy's word, and why in one sentence."""

    accepted: bool
    why: str


def judge(test: Comparison, policy: Policy, *, shadow: Comparison | None = None) -> Judgement:
    """Return what a policy says of a candidate.

    It is better when the lower end of the gain's interval on the locked test set lies above 0, and
    neither a subgroup nor the shadow run is worse by more than the margin.

    Parameters
    ----------
    test, shadow : Comparison
        On the locked test set; on what readers corrected since, where there is anything.
    """
    figure = policy.figure if policy.figure in test.gain else test.leading
    gain = test.gain.get(figure)
    if test.incumbent is None or gain is None:
        return Judgement(
            False, test.note or "there is nothing to compare it with: a person decides"
        )
    said = f"gain in {figure} {_spoken(gain)} over {gain.patients} patients"
    if gain.patients < policy.fewest_patients:
        return Judgement(
            False, f"{said}: fewer patients than the {policy.fewest_patients} asked for"
        )
    if gain.low <= 0:
        return Judgement(False, f"{said}: it may be none")
    for group in test.groups:
        if group.gain is not None and group.gain.mean < -policy.margin:
            return Judgement(
                False, f"{said}, but worse for {group.tag} {group.value}: {_spoken(group.gain)}"
            )
    recent = None if shadow is None else shadow.gain.get(figure)
    if recent is not None and recent.mean < -policy.margin:
        return Judgement(False, f"{said}, but worse on recent corrections: {_spoken(recent)}")
    return Judgement(True, said)


def _spoken(gain: Span) -> str:
    return f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
