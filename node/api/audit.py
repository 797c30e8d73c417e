"""The audit trail, for administrators and custodians."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from node.auth import CustodyCaller
from node.parts import parts_of
from pipelines.store import AuditEvent

router = APIRouter(prefix="/api/audit", tags=["audit"])


@router.get("")
def audit_trail(
    request: Request, _caller: CustodyCaller, limit: Annotated[int, Query(ge=1, le=10_000)] = 200
) -> list[AuditEvent]:
    """List who did what, the newest first."""
    return parts_of(request).trail.events(limit=limit)
