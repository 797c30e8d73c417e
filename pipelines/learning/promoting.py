"""Which version is current: signed, promoted by policy or by people, rolled back, withdrawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dicom.errors import Conflict, NotBetter, UnknownBundle, WithdrawnBundle
from models.bundle import Bundle
from pipelines.learning.school import School
from pipelines.store import EvaluationView, ResultOf, VersionView

Way = Literal["policy", "one", "two"]
"""Who lets a version become current: its figures alone, one person, or two of them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When a candidate may take the place of the current version.

    Attributes
    ----------
    way : str
        `policy`: by its figures, without a person; `one`, `two`: so many people say yes, each of
        them once.
    margin : float
        No subgroup's mean Dice may fall by more than this.
    fewest_patients : int
        Of the locked test set; with fewer, figures decide nothing by themselves.
    figure : str
        By which the two are compared: an attribute of :class:`dicom.agreement.Likeness` where more
        is better.
    """

    way: Way = "one"
    margin: float = 0.02
    fewest_patients: int = 5
    figure: Literal["dice", "surface_dice"] = "dice"


def sign(
    school: School,
    bundle: Bundle,
    *,
    by: str,
    dataset: str | None = None,
    training_id: str | None = None,
) -> VersionView:
    """Answer for a bundle: from now on its hash is fixed. It is a candidate at first.

    Raises
    ------
    Conflict
        When that version was signed with another hash.
    """
    return school.versions.sign(
        bundle.identity,
        sha256=bundle.sha256,
        signature=school.signer.sign(bundle.identity, bundle.sha256),
        by=by,
        dataset=dataset,
        training_id=training_id,
    )


def current_bundle(school: School, name: str) -> Bundle | None:
    """Return what routes get that name no version; None where there is none."""
    try:
        return school.registry.get(name)
    except (UnknownBundle, WithdrawnBundle):
        return None


def promote(
    school: School, identity: str, *, by: str, why: str, policy: Policy | None = None
) -> VersionView:
    """Let a version become current, or note one of the two people who have to say yes.

    The version that was current till now is signed too, so that there is a way back to it.

    Parameters
    ----------
    identity : str
        ``NAME@VERSION``.
    by, why : str
        Who says so, and the reason; both are kept.

    Returns
    -------
    VersionView
        Its stage is `current`, or `candidate` while another person has to say yes.

    Raises
    ------
    UnknownBundle, ChangedBundle, WithdrawnBundle
        When it is not there, or not what was signed.
    Conflict
        When it is current.
    """
    bundle = school.registry.get(identity)
    if bundle.identity != identity:
        raise Conflict(f"say which version of {identity} shall be current")
    row = sign(school, bundle, by=by)
    if row.stage == "current":
        raise Conflict(f"{identity} is current already")
    if policy is not None and policy.way == "two":
        approved = school.versions.version(identity).approvals
        if not approved - {by}:
            school.versions.note(identity, "approved", by=by, why=why)
            return school.versions.version(identity)
    return _promoted(school, bundle, by=by, why=why)


def promote_by_figures(
    school: School, identity: str, evaluation: EvaluationView, *, by: str
) -> VersionView:
    """Let a version become current because its figures say so.

    Raises
    ------
    NotBetter
        When they do not; that is noted with the version.
    """
    if not evaluation.accepted:
        school.versions.note(identity, "refused", by=by, why=evaluation.verdict)
        raise NotBetter(f"{identity}: {evaluation.verdict}")
    bundle = school.registry.get(identity)
    return _promoted(school, bundle, by=by, why=evaluation.verdict)


def roll_back(school: School, name: str, *, by: str, why: str) -> VersionView:
    """Withdraw the current version of a model and return to the one before it.

    Returns
    -------
    VersionView
        What is current now; `results_of` lists what the withdrawn one made.

    Raises
    ------
    Conflict
        When there is none before it.
    UnknownBundle, ChangedBundle
        When the one before it is no longer there, or not what was signed: nothing is changed then.
    """
    now = school.versions.current(name)
    before = None if now is None else now.predecessor
    while before is not None and school.versions.version(before).stage == "withdrawn":
        before = school.versions.version(before).predecessor
    if before is not None:
        school.registry.get(before)
    return school.versions.roll_back(name, by=by, why=why)


def withdraw(school: School, identity: str, *, by: str, why: str) -> VersionView:
    """Let a version never run again, and return it; `results_of` lists what it made.

    From the current version `roll_back` returns to the one before. Withdrawn, it leaves none:
    routes that name no version are refused (`withdrawn_bundle`) until another one is promoted.

    Raises
    ------
    NotFound
        When the node has not signed it, and it is not installed either.
    Conflict
        When it was withdrawn already.
    """
    _sign_what_runs(school, identity, by=by)
    school.versions.withdraw(identity, by=by, why=why)
    return school.versions.version(identity)


def results_of(school: School, identity: str) -> Sequence[ResultOf]:
    """Return the results that a version made, the newest first."""
    return school.versions.results_of(identity)


def _sign_what_runs(school: School, identity: str, *, by: str) -> None:
    """Answer for a version that nobody promoted; where its name means it, it is what is current."""
    for bundle in school.registry.allowed():
        if bundle.identity == identity:
            current = current_bundle(school, bundle.name)
            sign(school, bundle, by=by)
            is_meant = current is not None and current.identity == identity
            if is_meant and school.versions.current(bundle.name) is None:
                school.versions.make_current(
                    identity, by=by, why="it was the newest when it was withdrawn"
                )


def _promoted(school: School, bundle: Bundle, *, by: str, why: str) -> VersionView:
    if school.versions.current(bundle.name) is None:
        before = current_bundle(school, bundle.name)
        if before is not None and before.identity != bundle.identity:
            sign(school, before, by=by)
            school.versions.make_current(
                before.identity, by=by, why="it was the newest when the first one was promoted"
            )
    return school.versions.make_current(bundle.identity, by=by, why=why)
