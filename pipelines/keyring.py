"""The node's master keys: the first makes pseudonyms for ever, the newest seals identities.

They lie one after the other in a file of their own, never in the database, so that a copy of the
database gives nothing away. All other keys come from them by HKDF (RFC 5869), one for each purpose
and project. A rotation adds a master key; what older ones sealed is sealed anew, and a backup that
is older than the rotation can still be read. Pseudonyms do not change with it: a patient who comes
back must be the same.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dicom.errors import VaultLocked

KEY_BYTES: Final = 32
NODE_PROJECT: Final = "node"
"""The project whose pseudonyms the node itself works with."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The master keys, the oldest first.

    Parameters
    ----------
    masters : sequence of bytes
        Each of 32 bytes; at least one.
    path : Path or None
        The file that they were read from.
    """

    masters: Sequence[bytes] = field(repr=False)
    path: Path | None = None

    def __post_init__(self) -> None:
        if not self.masters or any(len(master) != KEY_BYTES for master in self.masters):
            raise ValueError(f"a master key has {KEY_BYTES} bytes, and there is at least one")

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """Read the ring's file.

        Raises
        ------
        FileNotFoundError
            When there is none.
        VaultLocked
            When it cannot be read, or holds no keys.
        """
        try:
            content = path.read_bytes()
        except PermissionError:
            raise VaultLocked("the key file cannot be read by this user") from None
        if not content or len(content) % KEY_BYTES:
            raise VaultLocked("the key file is damaged: it does not hold whole keys of 32 bytes")
        starts = range(0, len(content), KEY_BYTES)
        return cls(tuple(content[start : start + KEY_BYTES] for start in starts), path)

    @classmethod
    def open(cls, path: Path, *, may_create: bool) -> KeyRing:
        """Read the ring's file; make it at the first start.

        Parameters
        ----------
        path : Path
            Made with mode 0600, its folder with 0700.
        may_create : bool
            False when the database holds sealed identities already: a new key could never open
            them.

        Raises
        ------
        VaultLocked
            When the file is absent and must not be made, cannot be read, or holds no keys.
        """
        try:
            return cls.read(path)
        except FileNotFoundError:
            if not may_create:
                raise VaultLocked(
                    "the key file is absent, and identities are sealed with it"
                ) from None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = _written_beside(path, secrets.token_bytes(KEY_BYTES))
        try:
            path.hardlink_to(fresh)  # appears whole; where another was first, its key stands
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
        return cls.read(path)

    def with_new_master(self) -> KeyRing:
        """Add a master key to the file and return the new ring; the old one goes on to open.

        Raises
        ------
        VaultLocked
            When the file is no longer what this ring was read from.
        ValueError
            When the ring has no file: a bug of the caller.
        """
        if self.path is None:
            raise ValueError("a ring without a file cannot grow")
        with _folder(self.path.parent) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # two rotations at once must not lose a key
            if KeyRing.read(self.path).masters != self.masters:
                raise VaultLocked("the key file was changed meanwhile; nothing was done")
            content = b"".join((*self.masters, secrets.token_bytes(KEY_BYTES)))
            _written_beside(self.path, content).replace(self.path)
            os.fsync(descriptor)
        return KeyRing.read(self.path)

    def reread(self) -> KeyRing:
        """Return the ring as it is now: another process may have added a key."""
        return KeyRing.read(self.path) if self.path is not None else self

    def pseudonym_key(self, project: str = NODE_PROJECT) -> bytes:
        """Return the key that one project's pseudonyms come from.

        Two projects get keys, and so pseudonyms, that nobody without the master key can link.
        """
        return _derived(self.masters[0], b"radloop pseudonyms v1\0" + project.encode())

    def vault_keys(self, project: str = NODE_PROJECT) -> tuple[bytes, ...]:
        """Return the keys that open one project's identities; the last one seals."""
        info = b"radloop vault v1"
        if project != NODE_PROJECT:
            info += b"\0" + project.encode()
        return tuple(_derived(master, info) for master in self.masters)


def _derived(master: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)


def _written_beside(path: Path, content: bytes) -> Path:
    """Write a file next to `path` that only its owner may read, down to the disk."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a mode from the first byte on
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return fresh


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
