"""One Orthanc's REST API: open connections, and its answers as values or as coded errors."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

from dicom.errors import ArchiveMismatch, PeerRefused, PeerUnreachable

CLOSED_AMID = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""What is seen where Orthanc closed an idle connection at the very moment of a request; the same
is asked once more, on a new one."""


class Rest:
    """Connections to one Orthanc; safe to use from several threads."""

    def __init__(self, url: str, user: str, password: str, *, timeout_s: float) -> None:
        self._http = httpx.Client(
            base_url=url,
            auth=(user, password),
            # Orthanc would compress pixels: 60 files of 525 KB a second instead of 600.
            headers={"Accept-Encoding": "identity"},
            timeout=timeout_s,
            trust_env=False,  # the machine's proxy is not for our archive
            # Orthanc closes an idle connection after 1 s: leave it before it does.
            limits=httpx.Limits(max_connections=16, keepalive_expiry=0.5),
        )

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(self, path: str, params: Mapping[str, int] | None = None) -> httpx.Response:
        return accepted(self._request("GET", path, params=params))

    def _get_held(self, path: str) -> httpx.Response:
        return held(self._request("GET", path))

    def _post(
        self,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        return accepted(self._request("POST", path, json=json, content=content))

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, int] | None = None,
        json: Mapping[str, object] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        # All that is sent here may be sent twice: what is stored already is left, and what is
        # deleted already is no error.
        for last_try in (False, True):
            try:
                return self._http.request(method, path, params=params, json=json, content=content)
            except CLOSED_AMID as error:
                if last_try:
                    raise unreachable(error) from None
            except httpx.TransportError as error:
                # `from None`: httpx's own text and request carry the path: it holds identifiers.
                raise unreachable(error) from None
        raise AssertionError("the loop returns or raises")


def accepted(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is none of the refusals; else raise :class:`PeerRefused`."""
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise PeerRefused("the archive refused our user and password")
    if answer.is_error:
        raise PeerRefused(f"the archive refused with HTTP {answer.status_code}")
    return answer


def held(answer: httpx.Response) -> httpx.Response:
    """Return the answer about something held; :class:`ArchiveMismatch` where it is gone."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ArchiveMismatch("the archive does not hold it any longer")
    return accepted(answer)


def unreachable(error: httpx.TransportError) -> PeerUnreachable:
    """Return the error for an archive that did not answer, without its address."""
    return PeerUnreachable(f"the archive did not answer ({type(error).__name__})")
