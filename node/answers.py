"""What every answer of the front has in common: errors in plain words, headers, an access log.

An error is JSON for programs and a page for people; one that nobody foresaw is a reference number
for the caller and a traceback for the log. The access log has the route's template, never the path:
a path may hold an original UID.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom.errors import (
    InvalidRequest,
    LoginNeeded,
    MissingProgram,
    NotFound,
    RadloopError,
    TooManyTries,
)
from node.faults import Fault, fault, status_of
from node.pages.render import render

_OWN_POLICY_PREFIX = "/ohif/"  # the viewer's part says itself what its pages and workers need
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # the viewer's addresses hold UIDs
    "X-Content-Type-Options": "nosniff",
}
_ONE_YEAR_S = 365 * 24 * 3600

log = structlog.get_logger()


def install_handlers(app: FastAPI) -> None:
    """Answer every error that reaches the HTTP door."""

    @app.exception_handler(RadloopError)
    async def coded(request: Request, error: RadloopError) -> Response:
        if isinstance(error, LoginNeeded) and _wants_page(request):
            return RedirectResponse(f"/login?next={_way_back(request)}", status_code=303)
        headers = {}
        if isinstance(error, LoginNeeded):
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, TooManyTries):
            headers["Retry-After"] = str(error.wait_s)
        return _answer(request, fault(error), status_of(error), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Without the values that came: they may hold a password.
        places = (
            f"{'.'.join(str(part) for part in problem['loc'][1:]) or 'body'}: {problem['msg']}"
            for problem in error.errors()
        )
        refused = InvalidRequest("; ".join(places))
        return _answer(request, fault(refused), status_of(refused))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        found: RadloopError = InvalidRequest(str(error.detail))
        if error.status_code == 404:
            found = NotFound("there is nothing at this address")
        elif error.status_code == 503:
            found = MissingProgram(str(error.detail))
        return _answer(request, fault(found), error.status_code, dict(error.headers or {}))


class CommonAnswers:
    """ASGI middleware: security headers, the access log, and the last catch.

    Parameters
    ----------
    app : ASGIApp
        What answers.
    https_only : bool
        Whether browsers reach us by TLS alone (`front.public_url` is https): they shall remember.
    """

    def __init__(self, app: ASGIApp, *, https_only: bool) -> None:
        self._app = app
        self._headers = dict(_HEADERS)
        if https_only:
            self._headers["Strict-Transport-Security"] = f"max-age={_ONE_YEAR_S}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(scope["path"], MutableHeaders(scope=message))
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("request_failed", reference=reference, **_about(scope))
            if status:
                raise  # the answer has begun: all that is left is to break it off
            request = Request(scope)
            found = Fault(
                "unexpected_error",
                f"Something went wrong in the node (reference {reference}).",
                "Try again; if it stays so, give the reference to whoever runs the node.",
                "developer",
            )
            await _answer(request, found, 500)(scope, receive, send_with_headers)
        seconds = round(time.monotonic() - started, 3)
        say = log.debug if scope["method"] in ("GET", "HEAD") and status < 400 else log.info
        say("request", status=status, seconds=seconds, **_about(scope))

    def _add_headers(self, path: str, headers: MutableHeaders) -> None:
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        if not path.startswith(_OWN_POLICY_PREFIX):
            headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)


def _about(scope: Scope) -> dict[str, str]:
    """Return what of a request may be logged."""
    about = {"method": scope["method"], "route": getattr(scope.get("route"), "path", "none")}
    caller = scope.get("state", {}).get("caller")
    if caller is not None:
        about["user"] = caller.name
    return about


def _answer(
    request: Request, found: Fault, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    if _wants_page(request):
        caller = request.scope.get("state", {}).get("caller")
        page = render("error.html", fault=found, status=status, caller=caller)
        page.status_code = status
        page.headers.update(headers or {})
        return page
    return JSONResponse(asdict(found), status_code=status, headers=dict(headers or {}))


def _wants_page(request: Request) -> bool:
    """Whether a person looks at this, not a program."""
    path = request.url.path
    if path.startswith(("/api/", "/dicom-web", "/research/dicom-web")) and path != "/api/docs":
        return False
    return "text/html" in request.headers.get("accept", "")


def _way_back(request: Request) -> str:
    here = request.url.path
    if request.url.query:
        here += f"?{request.url.query}"
    return quote(here if request.method == "GET" else "/", safe="")
