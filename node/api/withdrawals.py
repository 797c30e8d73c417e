"""Patients who withdraw from research."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import Conflict
from node.auth import Caller, CustodyCaller
from node.faults import Fault, fault_of
from node.parts import FrontParts, parts_of
from pipelines.custody import Patient
from pipelines.custody.holding import LONGEST_REASON
from pipelines.store import FoundIn, WithdrawalView
from pipelines.store.withdrawn import WithdrawalState

router = APIRouter(prefix="/api/withdrawals", tags=["withdrawals"])


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A withdrawal: what holds the patient, what was removed, and what cannot be.

    `patient` is the node's pseudonym, null until it is found out.
    """

    id: str
    patient: str | None
    state: WithdrawalState
    asked_by: str
    asked_at: datetime
    confirmed_by: str | None
    done_at: datetime | None
    fault: Fault | None
    found: tuple[FoundIn, ...]
    reason: str


class Meant(BaseModel):
    """Who withdraws: by PatientID (and its issuer, where images name one), or by a study."""

    model_config = ConfigDict(extra="forbid")

    patient_id: str = Field("", max_length=256)
    issuer: str = Field("", max_length=256)
    study: str = Field("", max_length=64)
    reason: str = Field(min_length=1, max_length=LONGEST_REASON)


@router.get("")
def withdrawals(request: Request, _caller: CustodyCaller) -> list[Withdrawal]:
    """List the withdrawals, the newest first."""
    parts = parts_of(request)
    return [view_withdrawal(parts, row) for row in parts.custody.withdrawals.all()]


@router.get("/{withdrawal}")
def withdrawal(withdrawal: str, request: Request, _caller: CustodyCaller) -> Withdrawal:
    """Show one of them."""
    parts = parts_of(request)
    return view_withdrawal(parts, parts.custody.withdrawals.one(withdrawal))


@router.post("", status_code=202)
def ask(meant: Meant, request: Request, bell: BackgroundTasks, caller: CustodyCaller) -> Withdrawal:
    """Ask what holds a patient; nothing is removed before it is confirmed."""
    patient = Patient(meant.patient_id.strip(), meant.issuer.strip(), meant.study.strip())
    return ask_withdrawal(parts_of(request), patient, caller, meant.reason, bell)


@router.post("/{withdrawal}/confirm", status_code=202)
def confirm(
    withdrawal: str, request: Request, bell: BackgroundTasks, caller: CustodyCaller
) -> Withdrawal:
    """Withdraw the patient, and remove what can be removed; this cannot be taken back."""
    return confirm_withdrawal(parts_of(request), withdrawal, caller, bell)


@router.post("/{withdrawal}/retry", status_code=202)
def retry(
    withdrawal: str, request: Request, bell: BackgroundTasks, caller: CustodyCaller
) -> Withdrawal:
    """Try again what failed."""
    return retry_withdrawal(parts_of(request), withdrawal, caller, bell)


def ask_withdrawal(
    parts: FrontParts, patient: Patient, caller: Caller, reason: str, bell: BackgroundTasks
) -> Withdrawal:
    """Ask for a withdrawal, note who did, and wake the worker up after the answer.

    Raises
    ------
    InvalidRequest
        Without a reason.
    """
    asked = parts.custody.withdrawing.ask(patient, by=caller.name, reason=reason)
    parts.audit.note("withdrawal_asked", actor=caller.name, object=asked)
    bell.add_task(parts.bell.ring)
    return view_withdrawal(parts, parts.custody.withdrawals.one(asked))


def confirm_withdrawal(
    parts: FrontParts, withdrawal: str, caller: Caller, bell: BackgroundTasks
) -> Withdrawal:
    """Confirm a withdrawal, note who did, and wake the worker up after the answer.

    Raises
    ------
    NotFound
    Conflict
        While it is not known yet what holds the patient.
    """
    if parts.custody.withdrawals.confirm(withdrawal, by=caller.name):
        parts.audit.note("withdrawal_confirmed", actor=caller.name, object=withdrawal)
        bell.add_task(parts.bell.ring)
    return view_withdrawal(parts, parts.custody.withdrawals.one(withdrawal))


def retry_withdrawal(
    parts: FrontParts, withdrawal: str, caller: Caller, bell: BackgroundTasks
) -> Withdrawal:
    """Let the worker try again what failed.

    Raises
    ------
    NotFound
    Conflict
        When nothing failed.
    """
    if not parts.custody.withdrawals.try_again(withdrawal):
        raise Conflict("nothing of it has failed")
    parts.audit.note("withdrawal_asked", actor=caller.name, object=withdrawal, reason="again")
    bell.add_task(parts.bell.ring)
    return view_withdrawal(parts, parts.custody.withdrawals.one(withdrawal))


def view_withdrawal(parts: FrontParts, row: WithdrawalView) -> Withdrawal:
    """Return what is shown of a withdrawal."""
    return Withdrawal(
        id=row.id,
        patient=row.patient,
        state=row.state,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        confirmed_by=row.confirmed_by,
        done_at=row.done_at,
        fault=fault_of(row.error_code, row.error_message),
        found=row.found,
        reason=parts.custody.withdrawing.reason_of(row),
    )
