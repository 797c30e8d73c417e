"""A patient's withdrawal from research: asked for, sealed, confirmed.

Who is meant reaches the rows sealed, and is erased from them as soon as the pseudonyms are known:
one for each project. What follows is the worker's (:mod:`pipelines.custody.runs`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from dicom.errors import InvalidRequest, NotFound
from pipelines.custody.holding import checked_reason
from pipelines.drawer import Drawer
from pipelines.store import Withdrawals, WithdrawalView


@dataclass(frozen=True, slots=True, repr=False)
class Patient:
    """Who is meant: by a PatientID, or by the pseudonym of one of the patient's studies.

    Attributes
    ----------
    patient_id, issuer : str
        PatientID and IssuerOfPatientID.
    study : str
        A study's pseudonym, of the node or of a project; instead of the two.
    """

    patient_id: str = ""
    issuer: str = ""
    study: str = ""

    def __post_init__(self) -> None:
        if bool(self.patient_id) == bool(self.study):
            raise InvalidRequest("say who is meant: by a PatientID or by a study's pseudonym")


class Withdrawing:
    """Asking for a withdrawal, and seeing what became of it; needs no key of the vault."""

    def __init__(self, rows: Withdrawals, drawer: Drawer) -> None:
        self._rows = rows
        self._drawer = drawer

    def ask(self, patient: Patient, *, by: str, reason: str) -> str:
        """Ask what holds a patient; return the withdrawal's id. Nothing is removed yet.

        Raises
        ------
        InvalidRequest
            Without a reason.
        """
        text = checked_reason(reason)
        words = json.dumps([patient.patient_id, patient.issuer, patient.study])
        return self._rows.ask(
            by=by,
            request=lambda owner: self._drawer.close(words.encode(), bound_to=f"asked {owner}"),
            reason=lambda owner: self._drawer.close(text.encode(), bound_to=f"reason {owner}"),
        )

    def reason_of(self, row: WithdrawalView) -> str:
        """Return why somebody asked.

        Raises
        ------
        DrawerLocked
            When it was sealed with another key.
        """
        return self._drawer.open(row.reason, bound_to=f"reason {row.id}").decode()

    def patient_of(self, row: WithdrawalView) -> Patient:
        """Return who is meant, while that is not found out yet.

        Raises
        ------
        DrawerLocked
            When it was sealed with another key.
        NotFound
            When it was erased.
        """
        if row.request is None:
            raise NotFound("who was meant is known by pseudonyms only")
        words = json.loads(self._drawer.open(row.request, bound_to=f"asked {row.id}"))
        return Patient(*words)
