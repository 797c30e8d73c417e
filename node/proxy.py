"""The way from a browser to an archive's DICOMweb: who may, what may, and nothing else.

Orthanc never meets a browser. A request that passes the guard and names one of DICOMweb's own
resources (PS3.18 10.4 to 10.6) is sent on with the archive's password instead of the caller's
cookie, and streamed both ways. Nothing here writes a path or a query to a log: they hold UIDs.

What Orthanc 1.10's DICOMweb plugin needs mended on the way: keywords in a search (it may take a
private attribute of that name), percent-encoded values (it does not decode them), and `Forwarded`,
from which it builds the absolute URLs in its answers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote_plus, urlsplit

import httpx
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from pydicom.datadict import tag_for_keyword
from starlette.concurrency import run_in_threadpool

from dicom.errors import (
    InvalidRequest,
    NotFound,
    PeerUnreachable,
    TooLarge,
    UnsafeSegmentation,
)

GIB = 1 << 30
MAX_STORE_BYTES = 4 * GIB
_LOOK_FIRST = 1 << 16
_MOST_HELD = 256 << 20

_UID = r"[0-9.]{1,64}"
_STUDY = rf"studies/{_UID}"
_SERIES = rf"{_STUDY}/series/{_UID}"
_INSTANCE = rf"{_SERIES}/instances/{_UID}"
_FRAMES = r"frames/[0-9]+(,[0-9]+)*"
_READABLE = re.compile(
    "|".join(
        (
            r"studies|series|instances",  # search
            rf"{_STUDY}/(series|instances)|{_SERIES}/instances",
            rf"({_STUDY}|{_SERIES}|{_INSTANCE})(/metadata|/rendered|/thumbnail)?",  # retrieve
            rf"{_INSTANCE}/{_FRAMES}(/rendered|/thumbnail)?",
            rf"{_INSTANCE}/bulk(/[0-9A-Fa-f]{{1,8}})+",
        )
    )
)
_WRITABLE = re.compile(rf"studies(/{_UID})?")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")

# What goes on in each direction; all else (cookies, credentials, hop-by-hop) stays behind.
_REQUEST_HEADERS = ("accept", "content-type", "content-length")
_RESPONSE_HEADERS = ("content-type", "content-length", "content-encoding", "content-location")

_SEGMENTATION_CLASSES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}  # PS3.4 B.5: SEG, LABELMAP
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """An archive's DICOMweb service.

    Parameters
    ----------
    url : str
        Its root, such as `http://127.0.0.1:8042/dicom-web`.
    user, password : str
        The archive's one account.
    """

    url: str
    user: str
    password: str = field(repr=False)


TakeExported = Callable[[Request, bytes], Response]
"""Takes a STOW-RS body that begins with a segmentation that the viewer exported by itself."""

_NO_RESOURCE = "the archive has no such DICOMweb resource, or it is not for browsers"
_NO_DICOM = "only uncompressed multipart/related DICOM can be stored here"
_OHIF_SEG = (
    "the viewer's own export of a segmentation is not stored: from the second save on it can hold "
    "other voxels than were painted"
)


def _too_large(limit: int) -> str:
    return f"more than {limit >> 20} MiB in one request"


def dicomweb_router(
    *,
    prefix: str,
    upstream: Upstream,
    guard: Callable[..., object],
    max_store_bytes: int = MAX_STORE_BYTES,
    take_exported: TakeExported | None = None,
) -> APIRouter:
    """Return the routes that stand for one archive.

    Parameters
    ----------
    prefix : str
        Where browsers find it, such as `/research/dicom-web`.
    upstream : Upstream
        Where it is.
    guard : callable
        FastAPI dependency that raises unless the caller may use this archive.
    max_store_bytes : int
        The largest body of one STOW-RS request.
    take_exported : callable, optional
        Given a body that begins with a segmentation of the viewer's own export, which is not
        stored as it is; it answers instead of the archive. Without it such a body is refused.
    """
    client = httpx.AsyncClient(
        base_url=upstream.url.rstrip("/") + "/",
        auth=(upstream.user, upstream.password),
        timeout=httpx.Timeout(120.0, connect=5.0),
        limits=httpx.Limits(max_connections=40, max_keepalive_connections=40),
        trust_env=False,  # a hospital's HTTP proxy is not on the way to our own archive
    )

    @asynccontextmanager
    async def closing(_app: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    router = APIRouter(prefix=prefix, lifespan=closing, include_in_schema=False)
    public_path = prefix.removesuffix(urlsplit(upstream.url).path.rstrip("/"))

    @router.get("/{path:path}", dependencies=[Depends(guard)])
    async def read(path: str, request: Request) -> Response:
        if not _READABLE.fullmatch(path):
            raise NotFound(_NO_RESOURCE)
        return _streamed(await _send(client, request, path, public_path, None))

    @router.post("/{path:path}", dependencies=[Depends(guard)])
    async def store(path: str, request: Request) -> Response:
        if not _WRITABLE.fullmatch(path):
            raise NotFound(_NO_RESOURCE)
        body = await _Body.opened(request, limit=max_store_bytes, hold=take_exported is not None)
        if take_exported is not None and body.held is not None:
            return await run_in_threadpool(take_exported, request, body.held)
        return _streamed(await _send(client, request, path, public_path, body))

    return router


def rewrite_query(query: str) -> str:
    """Return the query as Orthanc understands it, without a `token` that is not its business."""
    kept = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name.lower() == "token":
            continue
        if name.lower() == "includefield":
            value = ",".join(_tag_of(attribute) for attribute in re.split("%2[Cc]|,", value))
        else:
            value = _bare(value)
        kept.append(f"{_tag_of(name)}{equals}{value}")
    return "&".join(kept)


def _bare(value: str) -> str:
    """Return a value without percent signs, which Orthanc 1.10 takes for part of the name sought.

    What cannot stand bare in an address becomes a wildcard (PS3.4 C.2.2.2.4): one character is
    found by `?`, letters beyond ASCII by `*`. The search finds more, and never less.
    """
    plain = unquote_plus(value)
    return re.sub(r"[^\x00-\x7f]+", "*", re.sub(r"[\x00-\x20\x7f\"#%&+<>]", "?", plain))


def _tag_of(attribute: str) -> str:
    """Return `00100010` for `PatientName`, level by level; what is no keyword comes back as it is.

    Orthanc looks keywords up in DCMTK's dictionaries, where a private one has the same name for
    73 of them: it would search (0013,"SIEMENS CM VA0  CMS",20) and find nobody.
    """
    return ".".join(_tag_of_one(keyword) for keyword in attribute.split("."))


def _tag_of_one(keyword: str) -> str:
    tag = tag_for_keyword(keyword) if keyword else None  # pydicom knows a tag without a keyword
    return keyword if tag is None else f"{tag:08x}"


class StoreScanner:
    """Looks at the file meta information (PS3.10 7.1) of every object in a multipart stream.

    Fed with the chunks as they pass, of whatever size; keeps no more than an object's unfinished
    header.
    """

    _START = b"DICM\x02\x00\x00\x00UL\x04\x00"
    _LONGEST_META = 1 << 16

    def __init__(self) -> None:
        self._tail = b""

    @property
    def waiting(self) -> bool:
        """Return whether a header has begun and has not ended yet."""
        return self._tail.startswith(self._START)

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises
        ------
        UnsafeSegmentation
            When an object is a segmentation that OHIF wrote.
        """
        data = self._tail + chunk
        position = data.find(self._START)
        while position >= 0:
            begin = position + len(self._START) + 4
            if len(data) < begin:
                break
            (length,) = struct.unpack_from("<I", data, begin - 4)
            length = min(length, self._LONGEST_META)
            if len(data) < begin + length:
                break
            if _is_ohif_segmentation(data[begin : begin + length]):
                raise UnsafeSegmentation(_OHIF_SEG)
            position = data.find(self._START, begin)
        self._tail = data[position:] if position >= 0 else data[-len(self._START) + 1 :]


def _is_ohif_segmentation(meta: bytes) -> bool:
    """Return what file meta information, after its group length, says about its object."""
    found: dict[int, str] = {}
    position = 0
    while position + 8 <= len(meta):  # PS3.10 7.1: always explicit VR little endian
        group, element, vr, length = struct.unpack_from("<HH2sH", meta, position)
        position += 8
        if vr in (b"OB", b"UN"):  # PS3.5 7.1.2: a 32-bit length after two reserved bytes
            if position + 4 > len(meta):
                break
            (length,) = struct.unpack_from("<I", meta, position)
            position += 4
        if group == 0x0002 and element in (0x0002, 0x0013):
            found[element] = meta[position : position + length].decode("ascii", "replace")
        position += length
    media_storage_sop_class_uid = found.get(0x0002, "").rstrip("\0 ")
    implementation_version_name = found.get(0x0013, "")
    return (
        media_storage_sop_class_uid in _SEGMENTATION_CLASSES
        and implementation_version_name.startswith("OHIF-")
    )


class _Body:
    """A STOW-RS body on its way: counted and looked at; kept only where it goes no further."""

    def __init__(self, request: Request, *, limit: int, hold: bool) -> None:
        self._incoming = request.stream()
        self._limit = limit
        self._may_hold = hold
        self.held: bytes | None = None
        self._bytes = 0
        self._scanner = StoreScanner()
        self._first: list[bytes] = []
        self._rest = self._judged()

    @classmethod
    async def opened(cls, request: Request, *, limit: int, hold: bool) -> _Body:
        """Return the body after a look at its first object.

        With `hold`, a body that begins with the viewer's own segmentation is read to its end and
        `held`; nothing of it goes on.

        Raises
        ------
        InvalidRequest, TooLarge, UnsafeSegmentation
            When it is no DICOM, is announced too large, or begins with what is not stored.
        """
        content_type = request.headers.get("content-type", "").lower()
        if not content_type.startswith("multipart/related") or (
            "content-encoding" in request.headers
        ):
            raise InvalidRequest(_NO_DICOM)
        if int(request.headers.get("content-length", "0")) > limit:
            raise TooLarge(_too_large(limit))
        body = cls(request, limit=limit, hold=hold)
        # The usual body is one object: it is judged before the archive hears of it.
        async for chunk in body._rest:
            body._first.append(chunk)
            if body._bytes >= _LOOK_FIRST and not body._scanner.waiting:
                break
        body._may_hold = False  # what follows is on its way to the archive
        return body

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole body once.

        Raises
        ------
        TooLarge, UnsafeSegmentation
            When it grows too large, or a later object is not stored. The archive then sees a
            request that breaks off within that object, and drops it.
        """
        while self._first:
            yield self._first.pop(0)
        async for chunk in self._rest:
            yield chunk

    async def _judged(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._incoming:
            self._bytes += len(chunk)
            if self._bytes > self._limit:
                raise TooLarge(_too_large(self._limit))
            try:
                self._scanner.feed(chunk)
            except UnsafeSegmentation:
                if self._may_hold:
                    await self._hold(chunk)
                    return
                await self._drain()
                raise
            yield chunk

    async def _hold(self, chunk: bytes) -> None:
        """Keep the whole body, from its beginning."""
        parts = [*self._first, chunk]
        async for later in self._incoming:
            self._bytes += len(later)
            if self._bytes > min(self._limit, _MOST_HELD):
                raise TooLarge(_too_large(_MOST_HELD))
            parts.append(later)
        self._first.clear()
        self.held = b"".join(parts)

    async def _drain(self) -> None:
        """Read the rest, so that the browser listens to the answer instead of a broken pipe."""
        async for chunk in self._incoming:
            self._bytes += len(chunk)
            if self._bytes > self._limit:
                return


def _headers(request: Request, public_path: str) -> dict[str, str]:
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise InvalidRequest("the Host header is not a host name")
    kept = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
    # Orthanc writes proto://host/dicom-web/... into its answers: our prefix goes with the host.
    kept["forwarded"] = f"host={host}{public_path};proto={request.url.scheme}"
    kept["accept-encoding"] = "identity"  # on one machine, packing costs more than it spares
    return kept


async def _send(
    client: httpx.AsyncClient,
    request: Request,
    path: str,
    public_path: str,
    body: _Body | None,
) -> httpx.Response:
    """Send the request on and return the answer, its body unread.

    Raises
    ------
    PeerUnreachable
        When the archive does not answer.
    InvalidRequest, TooLarge, UnsafeSegmentation
        When the body was refused while it went through.
    """
    headers = _headers(request, public_path)
    if body is None:
        headers.pop("content-length", None)
        headers.pop("content-type", None)
    url = httpx.URL(path, query=rewrite_query(request.url.query).encode("ascii"))
    outgoing = client.build_request(
        request.method, url, headers=headers, content=None if body is None else body.chunks()
    )
    for last_try in (body is not None, True):
        try:
            return await client.send(outgoing, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            # An idle connection that Orthanc closed at this very moment: once more, on a new one.
            if last_try:
                raise PeerUnreachable("the archive does not answer") from error
        except httpx.TransportError as error:
            raise PeerUnreachable("the archive does not answer") from error
    raise AssertionError("the loop returns or raises")


def _streamed(answer: httpx.Response) -> Response:
    headers = {name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers}
    # Pictures of patients do not stay on the disk of a shared workstation.
    headers |= {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return StreamingResponse(_chunks(answer), status_code=answer.status_code, headers=headers)


async def _chunks(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:  # also when the browser went away
        await answer.aclose()
