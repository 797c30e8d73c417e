"""Whether the front answers, for a monitor without a login; how the node is, for its users."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from fastapi import APIRouter, Depends, Request

from node.auth import ROLES, Guard
from node.parts import parts_of

WORKER_SILENT = timedelta(seconds=30)
"""A worker that was not heard for so long is taken for dead."""

router = APIRouter(prefix="/api", tags=["node"])


@dataclass(frozen=True, slots=True)
class Health:
    """The front answers."""

    status: str
    version: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How the node is: without a worker, studies wait."""

    version: str
    workers: tuple[str, ...]
    studies: int
    working: int
    failed: int
    completed: int


@router.get("/health")
def health(request: Request) -> Health:
    """Say that the front answers, and its version. Needs no login."""
    return Health("ok", parts_of(request).version)


@router.get("/status", dependencies=[Depends(Guard(*ROLES, note_use=False))])
def status(request: Request) -> NodeStatus:
    """Say which workers are alive, and how many studies there are, wait or have failed."""
    parts = parts_of(request)
    return NodeStatus(
        version=parts.version,
        workers=tuple(sorted(parts.access.workers_seen(within=WORKER_SILENT))),
        studies=parts.studies.count(),
        working=parts.studies.count("working"),
        failed=parts.studies.count("failed"),
        completed=parts.studies.count("completed"),
    )
