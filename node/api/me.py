"""Who is logged in, and that person's own password."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import NotAllowed
from node.auth import SHORTEST_PASSWORD, AnyCaller, Caller, address_of
from node.parts import FrontParts, parts_of

router = APIRouter(prefix="/api/me", tags=["me"])


class PasswordChange(BaseModel):
    """The present password, and the one to come."""

    model_config = ConfigDict(extra="forbid")

    present: str = Field(max_length=1024)
    new: str = Field(min_length=SHORTEST_PASSWORD, max_length=1024)


@router.get("")
def me(caller: AnyCaller) -> Caller:
    """Say who sends this request, that user's role, and whether by session or token."""
    return caller


@router.post("/password", status_code=204)
def change_password(change: PasswordChange, request: Request, caller: AnyCaller) -> Response:
    """Change one's own password. All logins of the user end, this one too; tokens stay."""
    change_own_password(
        parts_of(request),
        caller,
        present=change.present,
        new=change.new,
        address=address_of(request),
    )
    return Response(status_code=204)


def change_own_password(
    parts: FrontParts, caller: Caller, *, present: str, new: str, address: str
) -> None:
    """Change the password of who is logged in.

    Raises
    ------
    NotAllowed
        To a token.
    WrongPassword
    TooManyTries
    InvalidRequest
        When the new one is too short.
    """
    if caller.by == "token":
        raise NotAllowed("a token cannot change a password")
    user = parts.auth.check(caller.name, present, address=address)
    parts.auth.set_password(user, new)
    parts.audit.note("password_changed", actor=caller.name, object=caller.name)
