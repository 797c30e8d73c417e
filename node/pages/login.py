"""The login page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom.errors import CrossSite, LoginNeeded, RadloopError, TooManyTries, WrongPassword
from node.auth import COOKIE, AnyCaller, address_of
from node.faults import fault, status_of
from node.pages.render import render
from node.parts import parts_of

router = APIRouter(include_in_schema=False)


@router.get("/login", response_class=HTMLResponse)
def login_page(request: Request, next: str = "/") -> Response:
    """Show the form; who is logged in already goes on."""
    try:
        known = parts_of(request).auth.caller(request)
    except LoginNeeded:
        known = None
    if known is not None:
        return RedirectResponse(own_path(next), status_code=303)
    return _form(request, next, None)


@router.post("/login", response_class=HTMLResponse)
def login(
    request: Request,
    name: Annotated[str, Form(max_length=64)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Open a session."""
    parts = parts_of(request)
    if parts.auth.from_own_page(request) is False:
        raise CrossSite  # nobody shall be logged in as somebody else by another site
    name = name.strip().lower()
    try:
        secret = parts.auth.login(name, password, address=address_of(request))
    except (WrongPassword, TooManyTries) as error:
        # What is no user's name is not written down: it may be a password in the wrong field.
        known = parts.access.user(name) is not None
        parts.audit.note(
            "login",
            actor=name if known else "",
            outcome="refused",
            reason=error.code,
        )
        return _form(request, next, error)
    parts.audit.note("login", actor=name)
    answer = RedirectResponse(own_path(next), status_code=303)
    parts.auth.set_cookie(request, answer, secret)
    return answer


@router.post("/logout")
def logout(request: Request, caller: AnyCaller) -> Response:
    """End the session."""
    parts = parts_of(request)
    parts.auth.logout(request.cookies.get(COOKIE, ""))
    parts.audit.note("logout", actor=caller.name)
    answer = RedirectResponse("/login", status_code=303)
    parts.auth.drop_cookie(request, answer)
    return answer


def own_path(path: str) -> str:
    r"""Return a path of ours to go on to; anything else (`//host`, `/\host`, a URL) is `/`."""
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        return "/"
    return path if path.isprintable() else "/"


def _form(request: Request, next_path: str, error: RadloopError | None) -> Response:
    page = render(
        "login.html",
        caller=None,
        next=own_path(next_path),
        fault=fault(error) if error else None,
        version=parts_of(request).version,
    )
    if error is not None:
        page.status_code = status_of(error)
        if isinstance(error, TooManyTries):
            page.headers["Retry-After"] = str(error.wait_s)
    return page
