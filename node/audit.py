"""Who did what: one function per deed, all of them on one trail.

An object is a pseudonym, a job, a user or a token's name; never a patient's name, an id or an
original UID. Rows are only ever added.
"""

from __future__ import annotations

from typing import Literal

from pipelines.store import Trail

Action = Literal[
    "login",
    "logout",
    "password_changed",
    "names_listed",
    "study_opened",
    "correction_saved",
    "result_assessed",
    "run_asked",
    "elsewhere_matched",
    "elsewhere_dismissed",
    "case_claimed",
    "case_released",
    "case_handed_over",
    "case_changed",
    "case_commented",
    "round_opened",
    "reading_done",
    "round_settled",
    "round_canceled",
    "workspace_changed",
    "collection_begun",
    "collection_canceled",
    "collection_retried",
    "export_begun",
    "export_canceled",
    "export_retried",
    "export_downloaded",
    "export_deleted",
    "held_released",
    "held_deleted",
    "identity_looked",
    "withdrawal_asked",
    "withdrawal_confirmed",
    "job_canceled",
    "job_retried",
    "dataset_asked",
    "dataset_canceled",
    "training_asked",
    "training_canceled",
    "model_promoted",
    "model_approved",
    "model_rolled_back",
    "model_withdrawn",
    "alarm_settled",
    "user_added",
    "user_disabled",
    "token_created",
    "token_revoked",
]
Outcome = Literal["ok", "refused"]


class Audit:
    """The audit trail, for the front's rooms."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    def note(
        self,
        action: Action,
        *,
        actor: str,
        object: str = "",
        outcome: Outcome = "ok",
        reason: str = "",
    ) -> None:
        """Add one event.

        Parameters
        ----------
        action : Action
            What was done, or tried.
        actor : str
            Who: a user's name, as it was typed where a login failed.
        object : str
            To what: a study's pseudonym, a job's id, a user's or token's name.
        outcome : Outcome
            `refused` where it was only tried.
        reason : str
            Why, or in which way; an error's code where it was refused.
        """
        self._trail.note(actor=actor, action=action, object=object, outcome=outcome, reason=reason)
