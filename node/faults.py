"""What went wrong, for people and for programs: one shape for pages, API and jobs.

A :class:`Fault` says what happened, what to do, and who acts next. Its code is one of
:mod:`dicom.errors`; a traceback never leaves the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dicom.errors import (
    Conflict,
    CrossSite,
    InputError,
    InvalidRequest,
    LoginNeeded,
    NotAllowed,
    NotFound,
    PeerError,
    RadloopError,
    ResourceError,
    TooLarge,
    TooManyTries,
    WrongPassword,
    error_of,
)

Acts = Literal["person", "peer", "machine", "developer"]
"""Who acts next: somebody mends it, another system answers, this machine has room, we fix a bug."""

_STATUS: dict[type[BaseException], int] = {
    LoginNeeded: 401,
    WrongPassword: 401,
    NotAllowed: 403,
    CrossSite: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    InvalidRequest: 422,
    TooManyTries: 429,
    InputError: 400,
    PeerError: 502,
    ResourceError: 503,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, in words that a person can act on; free of PHI."""

    code: str
    message: str
    advice: str
    acts: Acts


def fault_of(code: str | None, message: str | None) -> Fault | None:
    """Return the fault that a row keeps as code and message; None where it keeps none.

    A code that no error class has (a bug that ended a job) is a fault for a developer.
    """
    if code is None:
        return None
    if code == "interrupted":
        return Fault(code, "The node was stopped in this step.", "It was begun again.", "machine")
    try:
        return fault(error_of(code, message or ""))
    except KeyError:
        return Fault(
            code,
            message or "An unexpected error; the node's log has the details.",
            "Try the job again; if that fails too, send its id to whoever runs the node.",
            "developer",
        )


def fault(error: RadloopError) -> Fault:
    """Return what a coded error says."""
    acts: Acts = "person"
    if isinstance(error, PeerError):
        acts = "peer"
    elif isinstance(error, ResourceError):
        acts = "machine"
    return Fault(error.code, error.message, error.advice, acts)


def status_of(error: RadloopError) -> int:
    """Return the HTTP status that fits an error: that of the nearest class that has one."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
