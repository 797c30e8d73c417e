"""Passwords and tokens that the node makes for itself at its first start.

They lie in `<data>/secrets/`, a folder and files that the owner alone can read. What a setting
gives (a container's secret, say) is used in place of a file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from node.settings import Settings


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the processes of one node know and nobody else does."""

    folder: Path
    clinical_password: str
    research_password: str
    wake_token: str
    audit_key: bytes

    @property
    def master_key(self) -> Path:
        """File of the master keys."""
        return self.folder / "master.key"


def open_secrets(settings: Settings) -> Secrets:
    """Return the node's secrets; what is not there yet is made."""
    folder = settings.data / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return Secrets(
        folder=folder,
        clinical_password=settings.orthanc.clinical_password or _kept(folder / "clinical"),
        research_password=settings.orthanc.research_password or _kept(folder / "research"),
        wake_token=settings.worker.wake_token or _kept(folder / "wake"),
        audit_key=(settings.audit_key or _kept(folder / "audit")).encode(),
    )


def _kept(path: Path) -> str:
    """Return the file's text; made first when it is absent, whole or not at all."""
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        with contextlib.suppress(FileExistsError):  # another process was first: its text counts
            os.link(fresh, path)
        fresh.unlink()
    return path.read_text().strip()
