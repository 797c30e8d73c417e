"""Versions of models: their figures, and which of them is current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from dicom.errors import InvalidRequest, NotFound, RadloopError
from node.api.learning.plans import Asked
from node.auth import AdminCaller, Caller, LearningCaller
from node.parts import FrontParts, parts_of
from pipelines.learning import Policy, promote, results_of, roll_back, withdraw
from pipelines.store import EvaluationView, ResultOf, VersionView

router = APIRouter(prefix="/api/learning", tags=["learning"])

_KINDS: Final = {
    ".md": "text/markdown; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
}
_OF_A_REPORT: Final = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""A report carries its style in itself, so that it can be passed on; it runs nothing."""


class Decision(Asked):
    """Why somebody decides so."""

    why: str = Field(min_length=3, max_length=500)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model: its standing, what was done with it, its figures."""

    version: VersionView
    evaluations: tuple[EvaluationView, ...]


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What is current now, and the results that the withdrawn version made."""

    current: VersionView
    withdrawn: str
    results: tuple[ResultOf, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A version that never runs again, and the results that it made."""

    version: VersionView
    results: tuple[ResultOf, ...]


@router.get("/models")
def model_versions(request: Request, caller: LearningCaller) -> list[VersionView]:
    """Return every version that this node answers for."""
    return parts_of(request).school.versions.all()


@router.get("/models/{identity}")
def model_version(identity: str, request: Request, caller: LearningCaller) -> ModelVersion:
    """Return one version, ``NAME@VERSION``, with its deeds and figures."""
    versions = parts_of(request).school.versions
    return ModelVersion(versions.version(identity), tuple(versions.evaluations(identity)))


@router.get("/models/{identity}/docs/{name}", response_class=Response)
def model_docs(identity: str, name: str, request: Request, caller: LearningCaller) -> Response:
    """Return what a version's bundle says of itself: card, report, the report's pictures."""
    found = docs_of(parts_of(request), identity).get(name)
    if found is None:
        raise NotFound("the version has no such page")
    kind = _KINDS.get(found.suffix, "application/octet-stream")
    headers = {"Content-Security-Policy": _OF_A_REPORT} if found.suffix == ".html" else None
    return Response(found.read_bytes(), media_type=kind, headers=headers)


@router.post("/models/{identity}/promote")
def promote_version(
    identity: str, said: Decision, request: Request, caller: AdminCaller
) -> VersionView:
    """Let a version become current; where two people have to, note the first of them."""
    return promote_model(parts_of(request), caller, identity, said.why)


@router.post("/models/{identity}/withdraw")
def withdraw_version(
    identity: str, said: Decision, request: Request, caller: AdminCaller
) -> Withdrawn:
    """Let a version never run again; where it is current, none is until one is promoted."""
    return withdraw_model(parts_of(request), caller, identity, said.why)


@router.post("/models/{name}/rollback")
def rollback(name: str, said: Decision, request: Request, caller: AdminCaller) -> RolledBack:
    """Withdraw the current version of a model, and return to the one before it."""
    return roll_model_back(parts_of(request), caller, name, said.why)


def promote_model(parts: FrontParts, caller: Caller, identity: str, why: str) -> VersionView:
    """Let a version become current, and note it on the trail."""
    if "@" not in identity:
        raise InvalidRequest("say which version: NAME@VERSION")
    policy = policy_of(parts, identity)
    found = promote(parts.school, identity, by=caller.name, why=why, policy=policy)
    deed: Literal["model_promoted", "model_approved"] = (
        "model_promoted" if found.stage == "current" else "model_approved"
    )
    parts.audit.note(deed, actor=caller.name, object=identity, reason=why)
    parts.bell.ring()
    return found


def withdraw_model(parts: FrontParts, caller: Caller, identity: str, why: str) -> Withdrawn:
    """Let a version never run again, and note it on the trail."""
    now = withdraw(parts.school, identity, by=caller.name, why=why)
    parts.audit.note("model_withdrawn", actor=caller.name, object=identity, reason=why)
    parts.bell.ring()
    return Withdrawn(now, tuple(results_of(parts.school, identity)))


def docs_of(parts: FrontParts, identity: str) -> Mapping[str, Path]:
    """Return the pages of a version's bundle by their names; none where it is not there."""
    parts.school.versions.version(identity)
    try:
        root = parts.school.registry.installed(identity).root
    except RadloopError:  # it was taken away, or is not what was signed
        return {}
    found = (root / "docs").glob("*")
    return {path.name: path for path in found if path.suffix in _KINDS and path.is_file()}


def policy_of(parts: FrontParts, identity: str) -> Policy:
    """Return what has to be so before a version becomes current."""
    own = parts.policies.get("", Policy())
    try:
        training = parts.school.versions.version(identity).training_id
    except NotFound:  # not signed yet, such as one that was imported
        return own
    if training is None:
        return own
    return parts.policies.get(parts.school.trainings.training(training).rule or "", own)


def roll_model_back(parts: FrontParts, caller: Caller, name: str, why: str) -> RolledBack:
    """Return to the version before, and note it on the trail."""
    before = parts.school.versions.current(name)
    now = roll_back(parts.school, name, by=caller.name, why=why)
    gone = "" if before is None else before.id
    parts.audit.note("model_rolled_back", actor=caller.name, object=gone, reason=why)
    parts.bell.ring()
    return RolledBack(now, gone, tuple(results_of(parts.school, gone)))
