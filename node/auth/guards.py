"""Dependencies of routes: which roles may pass, and that a write comes from our own pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from dicom.errors import CrossSite, LoginNeeded, NotAllowed
from node.auth.callers import (
    CLINICAL_ROLES,
    CUSTODY_ROLES,
    DATASET_ROLES,
    LEARNING_ROLES,
    ROLES,
    Caller,
)
from node.auth.logins import Auth
from pipelines.store import Role

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """A dependency that lets only some roles pass; every route but a few has one.

    Parameters
    ----------
    roles : Role
        Who may pass.
    note_use : bool
        Whether a session counts as used by this request.
    """

    def __init__(self, *roles: Role, note_use: bool = True) -> None:
        self.roles = roles
        self._note_use = note_use

    def __call__(self, request: Request) -> Caller:
        """Return the caller.

        Raises
        ------
        LoginNeeded
            When nobody is logged in.
        NotAllowed
            When the role does not reach that far.
        CrossSite
            When a session's cookie came with a write that none of our own pages sent.
        """
        auth = auth_of(request)
        caller = auth.caller(request, note_use=self._note_use)
        if caller is None:
            raise LoginNeeded
        request.state.caller = caller
        if caller.role not in self.roles:
            raise NotAllowed
        if (
            caller.by == "session"
            and request.method not in _HARMLESS
            and not auth.from_own_page(request)
        ):
            raise CrossSite
        return caller


def guard(*roles: Role) -> Guard:
    """Return a dependency that lets these roles pass."""
    return Guard(*roles)


AnyCaller = Annotated[Caller, Depends(guard(*ROLES))]
ClinicalCaller = Annotated[Caller, Depends(guard(*CLINICAL_ROLES))]
CustodyCaller = Annotated[Caller, Depends(guard(*CUSTODY_ROLES))]
DatasetCaller = Annotated[Caller, Depends(guard(*DATASET_ROLES))]
LearningCaller = Annotated[Caller, Depends(guard(*LEARNING_ROLES))]
AdminCaller = Annotated[Caller, Depends(guard("admin"))]


def auth_of(request: Request) -> Auth:
    """Return the application's Auth."""
    auth: Auth = request.app.state.parts.auth
    return auth


def address_of(request: Request) -> str:
    """Return where a request comes from; behind a proxy that uvicorn trusts, what that says."""
    return request.client.host if request.client else ""
