#!/usr/bin/env python3
"""Install the OHIF viewer's prebuilt files under `.ohif/`, checked and compressed.

The npm package is fetched with npm itself, its sha512 is compared with the one pinned here, and
its `dist/` is unpacked as it is, less what a radiology node has no use for. A second run finds the
marker, does nothing and needs no network. Standard library only: it runs before the environment
exists.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

PACKAGE = "@ohif/app"
VERSION = "3.13.2"
INTEGRITY = "sha512-" + (
    "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
)
RECIPE = 1  # raise it when LEFT_OUT or the compression changes: installed copies are then renewed
MARKER = "installed"

# In `dist/`. Folders end in a slash.
LEFT_OUT = (
    "ort/",  # 136 MB, for the SAM tools alone, which fetch models from outside and are off
    "customizations/",  # loaded by a URL parameter that our app-config.js does not allow
    "app-config.js",  # ours is served instead
    "sw.js",  # never registered; would fetch from a CDN
    "google.js",  # a cloud's login; not referred to
    "oidc-client.min.js",  # likewise; the node does logins on its own side
    "es6-shim.min.js",
    "polyfill.min.js",
    "_headers",
    "_redirects",
)
LEFT_OUT_SUFFIXES = (".map",)
COMPRESSED_SUFFIXES = (".css", ".html", ".js", ".json", ".svg", ".wasm")


class CannotInstall(Exception):
    """Why OHIF is not installed, in words for the person who ran this."""


def install(target: Path, *, tarball: Path | None = None) -> bool:
    """Install OHIF in `target`/dist, unless this version is there already.

    Parameters
    ----------
    target : Path
        Made when absent. Holds `dist/`, `LICENSE` and, once all is there, the marker `installed`.
    tarball : Path, optional
        The package, fetched elsewhere with `npm pack`; for a machine without network.

    Returns
    -------
    bool
        False when there was nothing to do.

    Raises
    ------
    CannotInstall
        npm is missing or failed, or the package is not the pinned one.
    """
    marker = target / MARKER
    stamp = f"{PACKAGE} {VERSION} {INTEGRITY} recipe {RECIPE}\n"
    if marker.is_file() and marker.read_text() == stamp and (target / "dist/index.html").is_file():
        return False
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=target) as folder:
        new = Path(folder)
        package = tarball or fetch(new)
        check_integrity(package)
        unpack(package, new)
        compress(new / "dist")
        # From here on a crash leaves no marker, and the next run does it again.
        marker.unlink(missing_ok=True)
        shutil.rmtree(target / "dist", ignore_errors=True)
        (new / "dist").rename(target / "dist")
        (new / "LICENSE").replace(target / "LICENSE")
        (new / MARKER).write_text(stamp)
        (new / MARKER).replace(marker)
    return True


def fetch(folder: Path) -> Path:
    """Fetch the package into `folder` with npm, and return the tarball.

    Raises
    ------
    CannotInstall
        When npm is not installed or cannot reach its registry.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise CannotInstall("npm is not installed; on Debian: apt install npm")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(folder)]
    command += ["--silent", "--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603  # no shell; all words are ours
    found = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or not found:
        last = (done.stderr.strip() or "npm pack said nothing").splitlines()[-1]
        raise CannotInstall(
            f"npm could not fetch {PACKAGE}@{VERSION} (is the network, or npm's registry setting, "
            f"as it should be?): {last}\nOn a machine without network: run `npm pack "
            f"{PACKAGE}@{VERSION}` elsewhere and give the file with --tarball."
        )
    return found[0]


def check_integrity(package: Path) -> None:
    """Compare the tarball with the pinned sha512.

    Raises
    ------
    CannotInstall
        When it is another file, or is not there.
    """
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except OSError as error:
        raise CannotInstall(f"{package}: {error.strerror}") from error
    found = f"sha512-{base64.b64encode(digest).decode()}"
    if found != INTEGRITY:
        raise CannotInstall(
            f"{package.name} is not {PACKAGE} {VERSION} as published; nothing is installed.\n"
            f"expected {INTEGRITY}\nfound    {found}"
        )


def unpack(package: Path, folder: Path) -> None:
    """Unpack `dist/` and `LICENSE` into `folder`, less what is left out."""
    with tarfile.open(package) as archive:
        for member in archive:
            path = PurePosixPath(member.name).relative_to("package")
            if not member.isfile() or ".." in path.parts or not _wanted(path):
                continue
            content = archive.extractfile(member)
            assert content is not None  # a regular file has content
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, place.open("wb") as file:
                shutil.copyfileobj(content, file)


def _wanted(path: PurePosixPath) -> bool:
    if path == PurePosixPath("LICENSE"):
        return True
    if path.parts[0] != "dist" or path.suffix in LEFT_OUT_SUFFIXES:
        return False
    inside = str(path.relative_to("dist"))
    return not any(inside == name or inside.startswith(_folder(name)) for name in LEFT_OUT)


def _folder(name: str) -> str:
    return name if name.endswith("/") else name + "/"


def compress(folder: Path) -> None:
    """Write `X.gz` beside each text or code file X that gets smaller by it."""
    for path in sorted(folder.rglob("*")):
        if path.suffix not in COMPRESSED_SUFFIXES:
            continue
        content = path.read_bytes()
        packed = gzip.compress(content, compresslevel=9, mtime=0)
        if len(packed) < 0.9 * len(content):
            path.with_name(path.name + ".gz").write_bytes(packed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, say what was done, and return the exit code."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=f"Install the OHIF viewer {VERSION}.")
    parser.add_argument("--target", type=Path, default=root / ".ohif", help="default: .ohif/")
    parser.add_argument("--tarball", type=Path, help="the npm package, for use without network")
    chosen = parser.parse_args(arguments)
    try:
        done = install(chosen.target, tarball=chosen.tarball)
    except CannotInstall as why:
        sys.stderr.write(f"OHIF is not installed: {why}\n")
        return 1
    where = os.path.relpath(chosen.target)
    sys.stdout.write(f"OHIF {VERSION} {'installed' if done else 'is'} in {where}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
