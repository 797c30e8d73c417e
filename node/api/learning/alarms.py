"""Alarms: what is not as it was with a model, and who has seen to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from node.auth import Caller, LearningCaller
from node.parts import FrontParts, parts_of
from pipelines.store import AlarmView

router = APIRouter(prefix="/api/learning", tags=["learning"])


@router.get("/alarms")
def alarms(
    request: Request,
    caller: LearningCaller,
    open_only: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[AlarmView]:
    """Return alarms, the newest first."""
    return parts_of(request).school.alarms.all(open_only=open_only, limit=limit)


@router.post("/alarms/{alarm}/settle")
def settle(alarm: str, request: Request, caller: LearningCaller) -> AlarmView:
    """Say that one has seen to it; the same thing raises a new one when it goes on."""
    return settle_alarm(parts_of(request), caller, alarm)


def settle_alarm(parts: FrontParts, caller: Caller, alarm_id: str) -> AlarmView:
    """Note who has seen to an alarm, with it and on the trail."""
    settled = parts.school.alarms.settle(alarm_id, by=caller.name)
    reason = f"{settled.kind} {settled.bundle}"
    parts.audit.note("alarm_settled", actor=caller.name, object=alarm_id, reason=reason)
    return settled
