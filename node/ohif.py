"""OHIF at `/ohif/`: the stock build, mended while it is served, and our `app-config.js`.

The build believes that it lives at the root of its host. Where it says so (the page, the style
sheets, the public path of its scripts) the text is changed on its way out; the files on disk stay
as they were published. All else goes out as it lies there, compressed when it was installed.

Only names that are in `dist/` are served, so no path can lead out of it.
"""

import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from dicom.errors import MissingProgram, NotFound
from node.auth import Caller

MOUNT = "/ohif/"
_NO_FILE = "the viewer has no such file"

# What the stock build writes where it means "the root of this host".
_SCRIPT_ROOTS: tuple[tuple[bytes, bytes], ...] = (
    (b'__webpack_require__.p = "/";', f'__webpack_require__.p = "{MOUNT}";'.encode()),
    (b"('/dicom-microscopy-viewer/", f"('{MOUNT}dicom-microscopy-viewer/".encode()),
)
_MANIFEST = b'<link rel="manifest" href="/manifest.json">'  # browsers ask for it without the cookie
_MARKUP_ROOT = re.compile(rb"""(?<=[=:(])( ?["']?)/(?=["'a-z0-9])""")
_HASHED_NAME = re.compile(r"(^|\.)[0-9a-f]{16}\.(js|wasm|woff2)$")

# The browser itself keeps the viewer from talking to anyone but this node. Scripts are compiled
# at run time (WebAssembly, VTK's shaders), and codecs run in workers made from blobs.
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'self' blob:",
        "frame-src 'self' blob:",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_NEVER_KEPT = {"Cache-Control": "no-store"}
_ASKED_EACH_TIME = {"Cache-Control": "no-cache"}
_KEPT_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}

# Windows' registry, or a bare container's missing mime.types, must not decide what OHIF gets.
_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the build, ready to be served.

    Parameters
    ----------
    media_type : str
        The Content-Type.
    etag : str
        Of the content before compression, in quotes.
    caching : mapping
        The Cache-Control header.
    path : Path
        The file; served from there when `plain` is None.
    gzip_path : Path or None
        The same, compressed at the installation.
    plain, packed : bytes or None
        The content where it was mended, as it is and compressed.
    """

    media_type: str
    etag: str
    caching: Mapping[str, str]
    path: Path
    gzip_path: Path | None = None
    plain: bytes | None = None
    packed: bytes | None = None


class Build:
    """The installed `dist/`: which files there are, and how each is served.

    Parameters
    ----------
    dist : Path
        Where `scripts/install_ohif.py` unpacked it.

    Raises
    ------
    MissingProgram
        When OHIF is not installed there.
    """

    def __init__(self, dist: Path) -> None:
        if not (dist / "index.html").is_file():
            raise MissingProgram("OHIF is not installed; run scripts/install_ohif.py")
        self._files = {
            path.relative_to(dist).as_posix(): path
            for path in dist.rglob("*")
            if path.is_file() and path.suffix != ".gz"
        }
        self._assets: dict[str, Asset] = {}
        self._lock = Lock()

    def asset(self, name: str) -> Asset | None:
        """Return the asset of that name below `dist/`, or None; mended at its first use."""
        path = self._files.get(name)
        if path is None:
            return None
        with self._lock:  # two browsers that start together do not mend 17 MB twice
            if name not in self._assets:
                self._assets[name] = _prepare(path)
            return self._assets[name]


def mend(name: str, content: bytes) -> bytes:
    """Return a file of the build with every root path moved below `MOUNT`."""
    if name.endswith(".js"):
        for root, ours in _SCRIPT_ROOTS:
            content = content.replace(root, ours)
    elif name.endswith((".html", ".css")):
        content = content.replace(_MANIFEST, b"")
        content = _MARKUP_ROOT.sub(rb"\1" + MOUNT.encode(), content)
    return content


def ohif_router(*, dist: Path, config: Path, guard: Callable[..., Caller]) -> APIRouter:
    """Return the routes below `/ohif/`.

    Parameters
    ----------
    dist : Path
        OHIF's build. Where it is absent, these routes raise MissingProgram and the rest works.
    config : Path
        The folder with our `app-config.js`; its other files are served at `/ohif/config/`.
    guard : callable
        FastAPI dependency: returns the caller, or raises when nobody is logged in.
    """
    router = APIRouter(include_in_schema=False)
    builds: list[Build] = []

    def build() -> Build:
        if not builds:
            builds.append(Build(dist))
        return builds[0]

    @router.get(MOUNT.rstrip("/"), dependencies=[Depends(guard)])
    def root() -> Response:
        return RedirectResponse(MOUNT)

    @router.get(f"{MOUNT}app-config.js")
    def app_config(caller: Annotated[Caller, Depends(guard)]) -> Response:
        return Response(
            _app_config(config, caller),
            media_type=_TYPES[".js"],
            headers={**_NEVER_KEPT, "X-Content-Type-Options": "nosniff"},
        )

    @router.get(MOUNT + "config/{name}", dependencies=[Depends(guard)])
    def configured(name: str, request: Request) -> Response:
        files = {path.name: path for path in config.iterdir() if path.suffix in _TYPES}
        if name not in files:
            raise NotFound(_NO_FILE)
        path = files[name]
        return _answer(
            request, Asset(_type(path), _etag(path.read_bytes()), _ASKED_EACH_TIME, path)
        )

    @router.get(MOUNT + "{name:path}", dependencies=[Depends(guard)])
    def asset(name: str, request: Request) -> Response:
        found = build().asset(name)
        # The viewer's own routes (/ohif/viewer, /ohif/segmentation ...) are the one page.
        if found is None and "." not in name.rsplit("/", 1)[-1]:
            found = build().asset("index.html")
        if found is None:
            raise NotFound(_NO_FILE)
        return _answer(request, found)

    return router


def _app_config(config: Path, caller: Caller) -> str:
    """Return `app-config.js` after the facts about this caller that it reads."""
    archives = ["clinical", "research"] if caller.is_clinical else ["research"]
    script = (config / "app-config.js").read_text(encoding="utf-8")
    facts = json.dumps({"archives": archives, "user": caller.name})
    return f"window.radloop = {facts};\n{script}"


def _prepare(path: Path) -> Asset:
    content = path.read_bytes()
    mended = mend(path.name, content)
    caching = _KEPT_FOR_EVER if _HASHED_NAME.search(path.name) else _ASKED_EACH_TIME
    if mended == content:
        packed_path = path.with_name(path.name + ".gz")
        return Asset(
            _type(path),
            _etag(content),
            caching,
            path,
            gzip_path=packed_path if packed_path.is_file() else None,
        )
    packed = gzip.compress(mended, compresslevel=6, mtime=0)
    return Asset(_type(path), _etag(mended), caching, path, plain=mended, packed=packed)


def _type(path: Path) -> str:
    known = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0]
    return known or "application/octet-stream"


def _etag(content: bytes) -> str:
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def _answer(request: Request, asset: Asset) -> Response:
    headers = {
        **asset.caching,
        "ETag": asset.etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if asset.media_type.startswith("text/html"):
        headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    if asset.plain is not None:
        content = asset.packed if zipped and asset.packed is not None else asset.plain
        if content is asset.packed:
            headers["Content-Encoding"] = "gzip"
        return Response(content, media_type=asset.media_type, headers=headers)
    if zipped and asset.gzip_path is not None:
        headers["Content-Encoding"] = "gzip"
        return FileResponse(asset.gzip_path, media_type=asset.media_type, headers=headers)
    return FileResponse(asset.path, media_type=asset.media_type, headers=headers)
