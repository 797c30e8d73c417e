"""The way from a browser to an archive's DICOMweb: who may, what may, and nothing else.

Orthanc never meets a browser. A request that passes the guard and names one of DICOMweb's own
resources (PS3.18 10.4 to 10.6) is sent on with the archive's password instead of the caller's
cookie, and streamed both ways. Nothing here writes a path or a query to a log: they hold UIDs.

What Orthanc 1.10's DICOMweb plugin needs mended on the way: keywords in a search (it may take a
private attribute of that name), percent-encoded values (it does not decode them), thumbnails (small
renderings, here), and `Forwarded`, from which it builds the absolute URLs in its answers. What it
tells slowly, a study's metadata, is kept while the study stays as it is (node/metadata_cache.py),
asked for before anybody does (node/foreseen.py), and given to those who may read it.
"""

from __future__ import annotations

import asyncio
import re
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
)
from node.archive_state import ArchiveState
from node.foreseen import follow
from node.metadata_cache import Kept, MetadataCache, pack, series_of, study_of
from node.stow import MAX_STORE_BYTES, StoreBody

_MOST_HELD = 256 << 20

# What Orthanc is told of the host in whose name it is asked, where that is to be filled in.
_FOR_ANY_HOST = "host=any.invalid;proto=http"
_ANY_HOST = b"http://any.invalid/"
_IDLE_S = 0.5  # Orthanc closes an idle connection after 1 s: it is left before
_JSON = ("application/dicom+json", "application/json", "*/*")
_VIEWERS_ACCEPT = "application/dicom+json"  # OHIF 3.13

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
_THUMBNAIL = "viewport=192,192"  # PS3.18 8.3.5.1.3; Orthanc 1.10 knows no thumbnails but this
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")

# What goes on in each direction; all else (cookies, credentials, hop-by-hop) stays behind.
_REQUEST_HEADERS = ("accept", "content-type", "content-length")
_RESPONSE_HEADERS = ("content-type", "content-length", "content-encoding", "content-location")

# Pictures of patients do not stay on the disk of a shared workstation.
_NOT_ON_DISK = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


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

    @property
    def archive_url(self) -> str:
        """The root of the archive's own REST API."""
        return self.url.rstrip("/").rsplit("/", 1)[0] + "/"


TakeExported = Callable[[Request, bytes], Response]
"""Takes a STOW-RS body that begins with a segmentation that the viewer exported by itself."""

_NO_RESOURCE = "the archive has no such DICOMweb resource, or it is not for browsers"


def dicomweb_router(
    *,
    prefix: str,
    upstream: Upstream,
    guard: Callable[..., object],
    max_store_bytes: int = MAX_STORE_BYTES,
    take_exported: TakeExported | None = None,
    metadata_bytes: int = 0,
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
    metadata_bytes : int
        Memory for the metadata of studies that were opened; 0: none is kept.
    """
    # Orthanc closes an idle connection after 1 s: each is left before it does. A body is streamed
    # and cannot be sent twice: it goes by a connection that was never idle.
    client, storing = (
        httpx.AsyncClient(
            base_url=upstream.url.rstrip("/") + "/",
            auth=(upstream.user, upstream.password),
            timeout=httpx.Timeout(120.0, connect=5.0),
            limits=httpx.Limits(
                max_connections=40, max_keepalive_connections=kept, keepalive_expiry=_IDLE_S
            ),
            trust_env=False,  # a hospital's HTTP proxy is not on the way to our own archive
        )
        for kept in (40, 0)
    )
    archive = httpx.AsyncClient(
        base_url=upstream.archive_url,
        auth=(upstream.user, upstream.password),
        limits=httpx.Limits(max_connections=8, keepalive_expiry=_IDLE_S),
        timeout=httpx.Timeout(10.0, connect=2.0),
        trust_env=False,
    )
    state = ArchiveState(upstream.archive_url, user=upstream.user, password=upstream.password)
    cache = MetadataCache(archive, most_bytes=metadata_bytes, state=state)

    async def remember(study_uid: str, series_uid: str) -> None:
        path = f"studies/{study_uid}/series/{series_uid}/metadata"

        async def fetch() -> Kept | None:
            return await _fetched(client, path, "", _VIEWERS_ACCEPT, _FOR_ANY_HOST)

        key = (path, "", _VIEWERS_ACCEPT, None)
        await cache.answer(key, study_uid, fetch, series_uid=series_uid)

    @asynccontextmanager
    async def closing(_app: FastAPI) -> AsyncIterator[None]:
        async with client, storing, archive:
            ahead = asyncio.create_task(follow(archive, remember)) if metadata_bytes else None
            try:
                yield
            finally:
                if ahead is not None:
                    ahead.cancel()
                    await asyncio.gather(ahead, return_exceptions=True)
                state.close()

    router = APIRouter(prefix=prefix, lifespan=closing, include_in_schema=False)
    public_path = prefix.removesuffix(urlsplit(upstream.url).path.rstrip("/"))

    @router.get("/{path:path}", dependencies=[Depends(guard)])
    async def read(path: str, request: Request) -> Response:
        if not _READABLE.fullmatch(path):
            raise NotFound(_NO_RESOURCE)
        kept = await _metadata(cache, client, request, path, public_path)
        if kept is not None:
            return _unpacked(request, kept)
        return _streamed(await _send(client, request, path, public_path, None))

    @router.post("/{path:path}", dependencies=[Depends(guard)])
    async def store(path: str, request: Request) -> Response:
        if not _WRITABLE.fullmatch(path):
            raise NotFound(_NO_RESOURCE)
        body = await StoreBody.opened(
            request, limit=max_store_bytes, hold=take_exported is not None
        )
        if take_exported is not None and body.held is not None:
            return await run_in_threadpool(take_exported, request, body.held)
        return _streamed(await _send(storing, request, path, public_path, body))

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


def _headers(request: Request, public_path: str) -> dict[str, str]:
    kept = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
    # Orthanc writes proto://host/dicom-web/... into its answers: our prefix goes with the host.
    kept["forwarded"] = f"host={_host(request)}{public_path};proto={request.url.scheme}"
    kept["accept-encoding"] = "identity"  # on one machine, packing costs more than it spares
    return kept


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise InvalidRequest("the Host header is not a host name")
    return host


async def _send(
    client: httpx.AsyncClient,
    request: Request,
    path: str,
    public_path: str,
    body: StoreBody | None,
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
    query = rewrite_query(request.url.query)
    if path.endswith("/thumbnail"):
        path = path.removesuffix("thumbnail") + "rendered"
        query, headers["accept"] = _THUMBNAIL, "image/jpeg"
    url = httpx.URL(path, query=query.encode("ascii"))
    outgoing = client.build_request(
        request.method, url, headers=headers, content=None if body is None else body.chunks()
    )
    return await _reach(client, outgoing, once=body is not None)


async def _reach(
    client: httpx.AsyncClient, outgoing: httpx.Request, *, once: bool = False
) -> httpx.Response:
    for last_try in (once, True):
        try:
            return await client.send(outgoing, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            # An idle connection that Orthanc closed at this very moment: once more, on a new one.
            if last_try:
                raise PeerUnreachable("the archive does not answer") from error
        except httpx.TransportError as error:
            raise PeerUnreachable("the archive does not answer") from error
    raise AssertionError("the loop returns or raises")


async def _metadata(
    cache: MetadataCache, client: httpx.AsyncClient, request: Request, path: str, public_path: str
) -> Kept | None:
    """Return the answer to a question about a study's metadata; None of all others."""
    study_uid = study_of(path)
    accept = request.headers.get("accept", "*/*")
    if study_uid is None or not accept.startswith(_JSON):
        return None
    query = rewrite_query(request.url.query)
    # Addresses in the answer begin as the caller's own did.
    ours = f"{request.url.scheme}://{_host(request)}{public_path}/"

    async def addressed(of_any_host: Kept) -> Kept:
        return await run_in_threadpool(of_any_host.replace, _ANY_HOST, ours.encode())

    async def fetch() -> Kept | None:
        forwarded = _headers(request, public_path)["forwarded"]
        return await _fetched(client, path, query, accept, forwarded)

    return await cache.answer(
        (path, query, accept, ours),
        study_uid,
        fetch,
        series_uid=series_of(path),
        beside=((path, query, accept, None), addressed),
    )


async def _fetched(
    client: httpx.AsyncClient, path: str, query: str, accept: str, forwarded: str
) -> Kept | None:
    """Return the archive's answer; None of one that is not to be kept."""
    headers = {"accept": accept, "forwarded": forwarded, "accept-encoding": "identity"}
    url = httpx.URL(path, query=query.encode("ascii"))
    answer = await _reach(client, client.build_request("GET", url, headers=headers))
    try:
        media_type = answer.headers.get("content-type", "")
        if answer.status_code != httpx.codes.OK or not media_type.startswith(_JSON):
            return None
        content = bytearray()
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > _MOST_HELD:
                return None
    except httpx.TransportError as error:
        raise PeerUnreachable("the archive broke off its answer") from error
    finally:
        await answer.aclose()
    return await run_in_threadpool(pack, bytes(content), media_type)


def _unpacked(request: Request, kept: Kept) -> Response:
    headers = {**_NOT_ON_DISK, "etag": kept.etag, "vary": "accept, accept-encoding"}
    if kept.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(kept.packed, media_type=kept.media_type, headers=headers)
    return Response(kept.plain, media_type=kept.media_type, headers=headers)


def _streamed(answer: httpx.Response) -> Response:
    headers = {name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers}
    return StreamingResponse(
        _chunks(answer), status_code=answer.status_code, headers=headers | _NOT_ON_DISK
    )


async def _chunks(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:  # also when the browser went away
        await answer.aclose()
