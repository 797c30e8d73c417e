"""OHIF at `/ohif/`: the stock build, mended while it is served, and our `app-config.js`.

The build believes that it lives at the root of its host. Where it says so (the page, the style
sheets, the public path of its scripts) the text is changed on its way out; the files on disk stay
as they were published. All else goes out as it lies there, compressed when it was installed.

Only names that are in `dist/` are served, so no path can lead out of it.

Browsers keep what they got for ever: the build lies below an address with a digest of it, and so
does our configuration, all files together, since modules name each other beside them. The two
addresses are named by the page and by `app-config.js`, which are asked for each time.
"""

import gzip
import hashlib
import json
import mimetypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
_SCRIPT_ROOTS: tuple[tuple[bytes, str], ...] = (
    (b'__webpack_require__.p = "/";', '__webpack_require__.p = "{root}";'),
    (b"('/dicom-microscopy-viewer/", "('{root}dicom-microscopy-viewer/"),
)
# What the page itself loads lies with the rest of the build.
_LOADED = re.compile(
    rb'(src|href)="'
    + MOUNT.encode()
    + rb'(app\.bundle\.[0-9a-f.]*(?:js|css)|init-service-worker\.js)"'
)
_LARGEST = b"<script defer "  # the application; it is what all else waits for
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
        self.version = self._digest()
        self._assets: dict[str, Asset] = {}
        self._lock = Lock()

    def _digest(self) -> str:
        """Return a digest of the build: its names, and the content of those that do not tell it."""
        digest = hashlib.blake2b(digest_size=8)
        for name, path in sorted(self._files.items()):
            digest.update(name.encode() + b"\n")
            if not _HASHED_NAME.search(path.name):
                digest.update(hashlib.blake2b(path.read_bytes()).digest())
        return digest.hexdigest()

    def asset(self, name: str) -> Asset | None:
        """Return the asset of that name below `dist/`, or None; mended at its first use."""
        path = self._files.get(name)
        if path is None:
            return None
        with self._lock:  # two browsers that start together do not mend 17 MB twice
            if name not in self._assets:
                self._assets[name] = _prepare(path, f"{MOUNT}build/{self.version}/")
            return self._assets[name]


class Configuration:
    """Our files for the viewer, as they are now.

    Parameters
    ----------
    folder : Path
        With `app-config.js`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: tuple[object, str] = (None, "")

    @property
    def files(self) -> Mapping[str, Path]:
        """The files that are served, by name."""
        return {path.name: path for path in self._folder.iterdir() if path.suffix in _TYPES}

    @property
    def version(self) -> str:
        """A digest of all of them; read again when one was written."""
        files = sorted(self.files.items())
        told = [(path.stat().st_mtime_ns, path.stat().st_size) for _, path in files]
        state = (tuple(name for name, _ in files), tuple(told))
        known, version = self._known
        if known != state:
            digest = hashlib.blake2b(digest_size=8)
            for name, path in files:
                digest.update(name.encode() + hashlib.blake2b(path.read_bytes()).digest())
            version = digest.hexdigest()
            self._known = (state, version)
        return version

    @property
    def address(self) -> str:
        """Where browsers find these files, for as long as they stay as they are."""
        return f"{MOUNT}config/{self.version}/"

    def app_config(self, caller: Caller) -> str:
        """Return `app-config.js` after the facts that it reads: this caller's, and `address`."""
        archives = ["clinical", "research"] if caller.is_clinical else ["research"]
        script = (self._folder / "app-config.js").read_text(encoding="utf-8")
        facts = json.dumps({"archives": archives, "user": caller.name, "config": self.address})
        return f"window.radloop = {facts};\n{script}"

    def preloading(self, caller: Caller) -> bytes:
        """Return markup that has the browser fetch the panel's modules side by side."""
        if not caller.is_clinical:  # who sees no panel
            return b""
        modules = sorted(name for name in self.files if name.endswith(".js"))
        links = (
            f'<link rel="modulepreload" fetchpriority="low" href="{self.address}{name}">'
            for name in modules
            if name != "app-config.js"
        )
        return "".join(links).encode()


def mend(name: str, content: bytes, root: str = MOUNT) -> bytes:
    """Return a file of the build with every root path moved below `MOUNT`.

    Parameters
    ----------
    name : str
        The file's name.
    content : bytes
        As it was published.
    root : str
        Where scripts find the other files of the build: below `MOUNT`.
    """
    if name.endswith(".js"):
        for stock, ours in _SCRIPT_ROOTS:
            content = content.replace(stock, ours.format(root=root).encode())
    elif name.endswith((".html", ".css")):
        content = _MARKUP_ROOT.sub(rb"\1" + MOUNT.encode(), content.replace(_MANIFEST, b""))
        content = content.replace(_LARGEST, b'<script fetchpriority="high" defer ')
        content = _LOADED.sub(rb'\1="%s\2"' % root.encode(), content)
    return content


def ohif_router(*, dist: Path, config: Path, guard: Callable[..., Caller]) -> APIRouter:
    """Return the routes below `/ohif/`.

    Parameters
    ----------
    dist : Path
        OHIF's build. Where it is absent, these routes raise MissingProgram and the rest works.
    config : Path
        The folder with our `app-config.js`; its other files are served below `/ohif/config/`.
    guard : callable
        FastAPI dependency: returns the caller, or raises when nobody is logged in.
    """
    router = APIRouter(include_in_schema=False)
    ours = Configuration(config)
    builds: list[Build] = []

    def build() -> Build:
        if not builds:
            builds.append(Build(dist))
        return builds[0]

    def page(request: Request, caller: Caller) -> Response:
        found = build().asset("index.html")
        if found is None or found.plain is None:  # a Build has a page, and it is mended
            raise NotFound(_NO_FILE)
        content = found.plain.replace(b"</head>", ours.preloading(caller) + b"</head>")
        return _answer(request, replace(found, plain=content, packed=None, etag=_etag(content)))

    @router.get(MOUNT.rstrip("/"), dependencies=[Depends(guard)])
    def root() -> Response:
        return RedirectResponse(MOUNT)

    @router.get(f"{MOUNT}app-config.js")
    def app_config(caller: Annotated[Caller, Depends(guard)]) -> Response:
        return Response(
            ours.app_config(caller),
            media_type=_TYPES[".js"],
            headers={**_NEVER_KEPT, "X-Content-Type-Options": "nosniff"},
        )

    @router.get(MOUNT + "config/{version}/{name}", dependencies=[Depends(guard)])
    def configured(version: str, name: str, request: Request) -> Response:
        path = ours.files.get(name)
        if path is None:
            raise NotFound(_NO_FILE)
        # A page that was opened before an update gets what is there now, but not for ever.
        caching = _KEPT_FOR_EVER if version == ours.version else _ASKED_EACH_TIME
        return _answer(request, Asset(_type(path), _etag(path.read_bytes()), caching, path))

    @router.get(MOUNT + "build/{version}/{name:path}", dependencies=[Depends(guard)])
    def built(version: str, name: str, request: Request) -> Response:
        found = build().asset(name)
        if found is None:
            raise NotFound(_NO_FILE)
        if version == build().version:
            found = replace(found, caching=_KEPT_FOR_EVER)
        return _answer(request, found)

    @router.get(MOUNT + "{name:path}")
    def asset(name: str, request: Request, caller: Annotated[Caller, Depends(guard)]) -> Response:
        found = build().asset(name)
        if found is None and "." in name.rsplit("/", 1)[-1]:
            raise NotFound(_NO_FILE)
        # The viewer's own routes (/ohif/viewer, /ohif/segmentation ...) are the one page.
        if found is None or name == "index.html":
            return page(request, caller)
        return _answer(request, found)

    return router


def _prepare(path: Path, root: str) -> Asset:
    content = path.read_bytes()
    mended = mend(path.name, content, root)
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
