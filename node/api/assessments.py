"""Assessments: what people say of results, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from dicom.codes import Code
from node.auth import ClinicalCaller
from node.blind import check_seen, is_seen, unseen_by
from node.parts import parts_of
from pipelines.corrections import REASONS, Assessed
from pipelines.labels import Uid
from pipelines.store import Verdict

router = APIRouter(prefix="/api/assessments", tags=["assessments"])


class NewAssessment(BaseModel):
    """What is said of a result; `result` is its SOPInstanceUID, `reason` the value of a code."""

    model_config = ConfigDict(extra="forbid")

    result: Uid
    verdict: Verdict
    reason: str | None = None
    comment: str | None = Field(None, max_length=2000)


@dataclass(frozen=True, slots=True)
class Assessment:
    """An assessment; `result` and `correction` are our own ids."""

    id: str
    result: str
    verdict: Verdict
    reason: str | None
    comment: str | None
    correction: str | None
    author: str
    created_at: datetime


@router.get("/reasons")
def reasons(_caller: ClinicalCaller) -> list[Code]:
    """List the coded reasons."""
    return list(REASONS)


@router.get("")
def assessments(
    caller: ClinicalCaller, request: Request, study: Annotated[str, Query(max_length=64)]
) -> list[Assessment]:
    """List what people said of the results of a study, the newest first."""
    parts = parts_of(request)
    parts.studies.study(study)
    unseen = unseen_by(request, caller.name)
    return [_view(one) for one in parts.desk.verdicts.of_study(study) if is_seen(one.row, unseen)]


@router.post("", status_code=201)
def assess(new: NewAssessment, caller: ClinicalCaller, request: Request) -> Assessment:
    """Accept a result, say that it has to be modified, or reject it, which needs a reason."""
    parts = parts_of(request)
    check_seen(parts, new.result, unseen_by(request, caller.name))
    said = parts.desk.verdicts.assess(
        new.result,
        verdict=new.verdict,
        reason=new.reason,
        comment=new.comment,
        author=caller.name,
    )
    parts.audit.note(
        "result_assessed",
        actor=caller.name,
        object=said.row.result_id,
        reason=" ".join(filter(None, (new.verdict, new.reason))),
    )
    return _view(said)


def _view(said: Assessed) -> Assessment:
    row = said.row
    return Assessment(
        id=row.id,
        result=row.result_id,
        verdict=row.verdict,
        reason=row.reason,
        comment=said.comment,
        correction=row.correction_id,
        author=row.author,
        created_at=row.created_at,
    )
