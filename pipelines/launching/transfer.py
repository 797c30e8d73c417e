"""Files to a cluster and back: each with its hash, each gone on with where it was cut off.

A file has its name only once its hash was seen to be right; until then it is NAME.part. So what
bears its name has arrived whole, and is not sent again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom.errors import TransferFailed
from models.learning.packing import PackedFile
from pipelines.launching.login import CommandFailed, Login
from pipelines.launching.shipment import Shipment

_LIST: Final = "cd \"$1\" 2>/dev/null || exit 0; find . -type f -printf '%s %P\\n'"
_PUT: Final = """
set -eu; umask 077; mkdir -p "$(dirname "$1")"
if [ "$4" = anew ]; then rm -f "$1.part"; fi
cat >> "$1.part"
[ "$(wc -c < "$1.part")" -eq "$2" ] || exit 4
[ "$(sha256sum < "$1.part" | cut -c 1-64)" = "$3" ] || exit 5
mv "$1.part" "$1"
"""
_CHECK: Final = """
cd "$1"; sha256sum --check --quiet - 2>/dev/null | sed -n 's/: FAILED.*//p' | while read -r name; do
    rm -f "$name"; printf '%s\\n' "$name"
done
"""
_HASH: Final = 'sha256sum < "$1" | cut -c 1-64'
_REST: Final = 'tail -c "+$2" "$1"'
_WRONG: Final = (4, 5)


@dataclass(frozen=True, slots=True)
class Sent:
    """What one call has sent: whole files, and bytes."""

    files: int
    size: int


def send(
    login: Login,
    shipment: Shipment,
    folder: str,
    *,
    looked: Callable[[float], None] = lambda share: None,
) -> Sent:
    """Send what is not there yet; return what that was.

    Parameters
    ----------
    shipment : Shipment
        Nothing else can be sent.
    folder : str
        On the cluster.
    looked : callable
        Told the share that has arrived, from 0 to 1.

    Raises
    ------
    TransferFailed
        When a file arrives damaged twice.
    ClusterUnreachable, DiskFull
        What had arrived by then stays.
    """
    total = sum(one.size for one in shipment.files.values()) or 1
    files = size = 0
    for _ in range(2):
        there = _there(login, folder)
        missing = [name for name, one in shipment.files.items() if there.get(name) != one.size]
        arrived = total - sum(shipment.files[name].size for name in missing)
        for name in missing:
            wanted = shipment.files[name]
            begun = there.get(f"{name}.part", 0)
            size += _put(login, shipment.root / name, f"{folder}/{name}", wanted, begun)
            files += 1
            arrived += wanted.size
            looked(arrived / total)
        if not _changed(login, shipment.files, folder):
            return Sent(files, size)
    raise TransferFailed("files on the cluster change after they have arrived")


def fetch(login: Login, there: str, here: Path) -> None:
    """Bring a file back; one that was cut off is gone on with.

    Raises
    ------
    TransferFailed
        When it is not what lies there: it changed meanwhile, or was damaged.
    ClusterUnreachable
    """
    part = here.with_name(f"{here.name}.fetched")
    for _ in range(2):
        try:
            wanted = login.run(_HASH, there).strip()
            begun = part.stat().st_size if part.exists() else 0
            with part.open("ab") as file:
                login.run(_REST, there, str(begun + 1), stdout=file)
        except CommandFailed as error:
            raise TransferFailed("a file on the cluster cannot be read") from error
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == wanted:
            part.replace(here)
            return
        part.unlink()
    raise TransferFailed("a file of the cluster did not come back as it is there")


def _there(login: Login, folder: str) -> dict[str, int]:
    """Return the sizes of all files below a folder of the cluster, by name."""
    found = {}
    for line in login.run(_LIST, folder).splitlines():
        size, _, name = line.partition(" ")
        found[name] = int(size)
    return found


def _put(login: Login, source: Path, target: str, wanted: PackedFile, begun: int) -> int:
    """Send one file, or what is missing of it; return the bytes that were sent."""
    sent = 0
    for first in dict.fromkeys((begun if begun <= wanted.size else 0, 0)):
        with source.open("rb", buffering=0) as file:
            file.seek(first)
            how = "on" if first else "anew"
            sent += wanted.size - first
            try:
                login.run(_PUT, target, str(wanted.size), wanted.sha256, how, stdin=file)
            except CommandFailed as error:
                if error.code in _WRONG:
                    continue
                raise TransferFailed("the cluster could not keep a file") from error
        return sent
    raise TransferFailed("a file arrived at the cluster with other bytes than were sent")


def _changed(login: Login, files: Mapping[str, PackedFile], folder: str) -> bool:
    """Let the cluster read everything again; what is not as it was sent is deleted there."""
    with tempfile.TemporaryFile() as lines:
        for name, one in files.items():
            lines.write(f"{one.sha256}  {name}\n".encode())
        lines.seek(0)
        return bool(login.run(_CHECK, folder, stdin=lines))
