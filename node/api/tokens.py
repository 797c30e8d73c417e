"""API tokens, for administrators: a token has the reach of the user that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import NotFound
from node.auth import AdminCaller
from node.parts import parts_of

router = APIRouter(prefix="/api/tokens", tags=["tokens"])


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token, without its secret."""

    name: str
    user: str
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class FreshToken:
    """A token's secret: shown this once, kept nowhere."""

    name: str
    user: str
    secret: str


class NewToken(BaseModel):
    """A token to be made; without `days` it lasts until it is revoked."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9._@-]+$")
    user: str
    days: int | None = Field(default=90, ge=1, le=3650)


@router.get("")
def tokens(request: Request, _caller: AdminCaller) -> list[KnownToken]:
    """List all tokens, without secrets."""
    return [
        KnownToken(
            name=token.name,
            user=token.user,
            created_at=token.created_at,
            expires_at=token.expires_at,
            revoked=token.revoked,
            used_at=token.used_at,
        )
        for token in parts_of(request).access.tokens()
    ]


@router.post("", status_code=201)
def add_token(new: NewToken, request: Request, caller: AdminCaller) -> FreshToken:
    """Make a token; its secret is in this answer only."""
    parts = parts_of(request)
    lifetime = timedelta(days=new.days) if new.days is not None else None
    secret = parts.auth.add_token(new.name, user=new.user, lifetime=lifetime)
    parts.audit.note("token_created", actor=caller.name, object=new.name, reason=new.user)
    return FreshToken(new.name, new.user, secret)


@router.delete("/{name}", status_code=204)
def revoke_token(name: str, request: Request, caller: AdminCaller) -> Response:
    """Revoke a token at once."""
    parts = parts_of(request)
    if parts.access.revoke_token(name) == 0:
        raise NotFound("no such token")
    parts.audit.note("token_revoked", actor=caller.name, object=name)
    return Response(status_code=204)
