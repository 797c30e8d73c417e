"""Who a MONAI Label client is: a login or an API token, as its library sends them.

The library asks `/auth/`, sends user and password as a form, and gets a token back. Who wants to
keep the password out of another program types an API token of radloop in its place.

3D Slicer's extension downloads an image without its token. So the image that a caller was just
given as the next sample may be fetched once, from the same address, within two minutes.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Request

from dicom.errors import LoginNeeded, NotAllowed, WrongPassword
from node.auth import (
    CLINICAL_ROLES,
    TOKEN_PREFIX,
    Caller,
    ClinicalCaller,
    address_of,
    auth_of,
    guard,
)
from node.parts import parts_of

router = APIRouter(prefix="/monailabel/auth", tags=["monailabel"])

_LIFETIME: Final = timedelta(hours=12)
_GRANT_S: Final = 120.0
_MOST_GRANTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Enabled:
    """That a login is needed."""

    enabled: bool
    client_id: str
    realm: str


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What the Authorization header shall hold from now on."""

    access_token: str
    token_type: str


@dataclass(frozen=True, slots=True)
class Known:
    """Who the token belongs to."""

    username: str
    roles: tuple[str, ...]


@router.get("/")
def enabled() -> Enabled:
    """Say that a login is needed."""
    return Enabled(True, "radloop", "radloop")


@router.post("/token")
def token(
    request: Request, username: Annotated[str, Form()], password: Annotated[str, Form()]
) -> AccessToken:
    """Give a token for user and password, which ends after twelve hours; a token is given back."""
    auth, audit = auth_of(request), parts_of(request).audit
    if password.startswith(TOKEN_PREFIX):
        caller = auth.token_caller(password)
        if caller is None:
            raise WrongPassword
        _only_clinical(caller)
        return AccessToken(password, "Bearer")
    try:
        user = auth.check(username, password, address=address_of(request))
    except WrongPassword as error:
        audit.note("login", actor=username[:64], outcome="refused", reason=error.code)
        raise
    _only_clinical(Caller(user.name, user.role, "token"))
    name = f"monailabel-{secrets.token_hex(4)}"
    secret = auth.add_token(name, user=user.name, lifetime=_LIFETIME)
    audit.note("token_created", actor=user.name, object=name)
    return AccessToken(secret, "Bearer")


@router.get("/token/valid")
def valid(caller: ClinicalCaller) -> Known:
    """Say whose token it is."""
    return Known(caller.name, (caller.role,))


def _only_clinical(caller: Caller) -> None:
    if not caller.is_clinical:
        raise NotAllowed


class Grants:
    """Images that may be fetched once without a token, by whom and from where."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], tuple[Caller, float]] = {}
        self._lock = threading.Lock()

    def give(self, request: Request, image: str, caller: Caller) -> None:
        """Let the next request from this address fetch the image."""
        now = time.monotonic()
        with self._lock:
            self._given = {k: v for k, v in self._given.items() if v[1] > now}
            while len(self._given) >= _MOST_GRANTS:
                self._given.pop(next(iter(self._given)))
            self._given[address_of(request), image] = caller, now + _GRANT_S

    def take(self, request: Request, image: str) -> Caller | None:
        """Return who was given the image, once."""
        with self._lock:
            caller, until = self._given.pop((address_of(request), image), (None, 0.0))
        return caller if until > time.monotonic() else None


def grants_of(request: Request) -> Grants:
    """Return the application's grants."""
    grants: Grants = request.app.state.monailabel.grants
    return grants


_clinical = guard(*CLINICAL_ROLES)


def image_caller(request: Request, image: str) -> Caller:
    """Return who fetches an image: by token, or as the one who was just given it."""
    try:
        return _clinical(request)
    except LoginNeeded:
        caller = None
        if "authorization" not in request.headers:
            caller = grants_of(request).take(request, image)
        if caller is None:
            raise
        return caller


ImageCaller = Annotated[Caller, Depends(image_caller)]
