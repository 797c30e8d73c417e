"""`/account`: who is logged in, and a new password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom.errors import InvalidRequest, RadloopError, TooManyTries, WrongPassword
from node.api.me import change_own_password
from node.auth import SHORTEST_PASSWORD, AnyCaller, Caller, address_of
from node.faults import fault, status_of
from node.pages.render import render
from node.parts import parts_of

router = APIRouter(include_in_schema=False)


@router.get("/account", response_class=HTMLResponse)
def account(request: Request, caller: AnyCaller) -> Response:
    """Show the form."""
    return _form(request, caller, None)


@router.post("/account", response_class=HTMLResponse)
def change(
    request: Request,
    caller: AnyCaller,
    present: Annotated[str, Form(max_length=1024)] = "",
    new: Annotated[str, Form(max_length=1024)] = "",
) -> Response:
    """Change the password; the login page comes next, since all logins end."""
    try:
        change_own_password(
            parts_of(request), caller, present=present, new=new, address=address_of(request)
        )
    except (WrongPassword, TooManyTries, InvalidRequest) as error:
        return _form(request, caller, error)
    return RedirectResponse("/login", status_code=303)


def _form(request: Request, caller: Caller, error: RadloopError | None) -> Response:
    page = render(
        "account.html",
        caller=caller,
        version=parts_of(request).version,
        fault=fault(error) if error else None,
        shortest=SHORTEST_PASSWORD,
    )
    if error is not None:
        page.status_code = status_of(error)
    return page
