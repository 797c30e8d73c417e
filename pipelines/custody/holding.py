"""What was held back, and what a person may decide about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from dicom.errors import BurnedInText, Conflict, HeadNotDefaced, InvalidRequest
from pipelines.drawer import Drawer
from pipelines.keyring import NODE_PROJECT
from pipelines.store import Collections, Held, HeldView, Jobs

RELEASABLE: Final[Mapping[str, str]] = {
    BurnedInText.code: "The pixels go on as they are, with the text that stands in them.",
    HeadNotDefaced.code: "The series goes to the project with its face.",
}
"""Refusals that a person may overrule after looking, and what then happens. All others are facts,
not suspicions: the second look found identity, or nobody can read what the file holds."""

LONGEST_REASON: Final = 1000
_CANNOT: Final = "this refusal cannot be overruled: delete it here, and mend it at its source"


def is_releasable(code: str) -> bool:
    """Return whether a person may overrule a refusal."""
    return code in RELEASABLE


class Desk:
    """Where a custodian decides on what is held back.

    Parameters
    ----------
    held : Held
    jobs : Jobs
    collections : Collections
    drawer : Drawer
        Seals reasons: people write names.
    """

    def __init__(self, held: Held, jobs: Jobs, collections: Collections, drawer: Drawer) -> None:
        self._held = held
        self._jobs = jobs
        self._collections = collections
        self._drawer = drawer

    def release(self, held_id: str, *, by: str, reason: str) -> HeldView:
        """Let exactly this content pass, for its project; its job or collection goes on with it.

        Raises
        ------
        NotFound
        Conflict
            When somebody decided already, or nobody may overrule it.
        InvalidRequest
            Without a reason.
        """
        if not is_releasable(self._held.one(held_id).code):
            raise Conflict(_CANNOT)
        return self._settle(held_id, "released", by=by, reason=reason)

    def delete(self, held_id: str, *, by: str, reason: str) -> HeldView:
        """Never use this content for its project; the original stays whole in the archive.

        The job runs again without it, so that the rest of the study goes on.

        Raises
        ------
        NotFound
        Conflict
            When somebody decided already.
        InvalidRequest
            Without a reason.
        """
        return self._settle(held_id, "deleted", by=by, reason=reason)

    def reason_of(self, held: HeldView) -> str:
        """Return why somebody decided so.

        Raises
        ------
        DrawerLocked
            When it was sealed with another key.
        """
        if held.reason is None:
            return ""
        return self._drawer.open(held.reason, bound_to=_owner(held.id)).decode()

    def _settle(
        self, held_id: str, state: Literal["released", "deleted"], *, by: str, reason: str
    ) -> HeldView:
        text = checked_reason(reason)
        held = self._held.settle(
            held_id,
            state,
            by=by,
            seal=lambda owner: self._drawer.close(text.encode(), bound_to=_owner(owner)),
        )
        content = held.content
        if held.collection is not None:
            if state == "released":
                self._collections.take_again(held.collection, content.series_id)
            return held
        again = content.project == NODE_PROJECT or state == "released"
        if again and not self._held.undecided(content.job_id, content.project):
            self._jobs.run_again(content.job_id)
        return held


def checked_reason(reason: str) -> str:
    """Return a reason without space around it.

    Raises
    ------
    InvalidRequest
        When there is none, or it is too long.
    """
    text = reason.strip()
    if not text:
        raise InvalidRequest("say why: the reason is kept, sealed, with the decision")
    if len(text) > LONGEST_REASON:
        raise InvalidRequest(f"a reason has at most {LONGEST_REASON} characters")
    return text


def _owner(held_id: str) -> str:
    return f"held {held_id}"
