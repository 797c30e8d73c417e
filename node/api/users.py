"""Users, for administrators."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import Conflict, NotFound
from node.auth import SHORTEST_PASSWORD, AdminCaller
from node.parts import FrontParts, parts_of
from pipelines.store import Role, User

router = APIRouter(prefix="/api/users", tags=["users"])


@dataclass(frozen=True, slots=True)
class KnownUser:
    """A person who may log in, unless disabled."""

    name: str
    role: Role
    disabled: bool


class NewUser(BaseModel):
    """A user to be added."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9._@-]+$")
    role: Role
    password: str = Field(min_length=SHORTEST_PASSWORD, max_length=1024)


class NewPassword(BaseModel):
    """A password that replaces a forgotten one."""

    model_config = ConfigDict(extra="forbid")

    password: str = Field(min_length=SHORTEST_PASSWORD, max_length=1024)


@router.get("")
def users(request: Request, _caller: AdminCaller) -> list[KnownUser]:
    """List all users."""
    return [_known(user) for user in parts_of(request).access.users()]


@router.post("", status_code=201)
def add_user(new: NewUser, request: Request, caller: AdminCaller) -> KnownUser:
    """Add a user."""
    parts = parts_of(request)
    parts.auth.add_user(new.name, role=new.role, password=new.password)
    parts.audit.note("user_added", actor=caller.name, object=new.name, reason=new.role)
    return KnownUser(new.name, new.role, disabled=False)


@router.put("/{name}/password", status_code=204)
def reset_password(name: str, new: NewPassword, request: Request, caller: AdminCaller) -> Response:
    """Give a user a new password, and enable a disabled one; that user's logins end."""
    parts = parts_of(request)
    parts.auth.set_password(_user(parts, name), new.password)
    parts.audit.note("password_changed", actor=caller.name, object=name)
    return Response(status_code=204)


@router.delete("/{name}", status_code=204)
def disable_user(name: str, request: Request, caller: AdminCaller) -> Response:
    """Disable a user: logins and tokens end at once. The name stays, for the audit trail."""
    parts = parts_of(request)
    if name == caller.name:
        raise Conflict("nobody can disable himself")
    parts.access.disable_user(_user(parts, name).name)
    parts.audit.note("user_disabled", actor=caller.name, object=name)
    return Response(status_code=204)


def _user(parts: FrontParts, name: str) -> User:
    user = parts.access.user(name)
    if user is None:
        raise NotFound("no such user")
    return user


def _known(user: User) -> KnownUser:
    return KnownUser(user.name, user.role, user.disabled)
