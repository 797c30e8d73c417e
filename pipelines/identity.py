"""The identity vault: the only way back from a pseudonym to a patient.

Every study's :class:`~dicom.deid.Identity` is sealed with AES-256-GCM before it reaches the
database, bound to the study's pseudonym and to the key, and opened here alone. Each opening is
written to the audit trail first. All keys come from one master key by HKDF; the master lies in a
file of its own, never in the database, so that a copy of the database gives nothing away.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dicom.deid import Identity
from dicom.errors import NotFound, VaultLocked

KEY_BYTES: Final = 32
NODE_PROJECT: Final = "node"

# An envelope: four bytes of format, eight that name the key, a nonce, ciphertext with its tag. The
# key's name lets a later rotation tell which rows are still to be sealed anew.
_FORMAT: Final = b"RLV1"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12  # NIST SP 800-38D: 96 bits, random
_HEAD_BYTES: Final = len(_FORMAT) + _KEY_ID_BYTES + _NONCE_BYTES


class VaultStore(Protocol):
    """Where sealed identities are kept."""

    def put_sealed(self, study_id: str, sealed: bytes, *, in_place_of: bytes | None) -> bool:
        """Keep a study's sealed identity; False when something else is there by now."""

    def get_sealed(self, study_id: str) -> bytes | None:
        """Return a study's sealed identity, or None."""


class AuditTrail(Protocol):
    """Where each opening is written down."""

    def note(
        self, *, actor: str, action: str, object: str = "", outcome: str = "ok", reason: str = ""
    ) -> None:
        """Add one event to the trail."""


class Vault:
    """Seals and opens identities.

    Parameters
    ----------
    key : bytes
        32 secret bytes, from :func:`vault_key`.
    store : VaultStore
        Where sealed bytes lie.
    trail : AuditTrail
        Where each opening is written down, before anything is opened.
    """

    def __init__(self, key: bytes, store: VaultStore, trail: AuditTrail) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a vault key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)
        self._key_id = sha256(b"radloop vault key id v1\0" + key).digest()[:_KEY_ID_BYTES]
        self._store = store
        self._trail = trail

    def seal(self, identity: Identity) -> None:
        """Keep an identity, together with what is known of the same study already.

        Raises
        ------
        VaultLocked
            When what is there was sealed with another key or has been changed.
        CannotDeidentify
            When what is there contradicts it, see :meth:`Identity.merged`.
        """
        study = identity.study_pseudonym
        kept = False
        while not kept:  # another worker may seal the same study: then merge with what it wrote
            there = self._store.get_sealed(study)
            whole = identity if there is None else self._opened(study, there).merged(identity)
            kept = self._store.put_sealed(study, self._sealed(whole), in_place_of=there)

    def unseal(self, study_pseudonym: str, *, actor: str, reason: str) -> Identity:
        """Return a study's identity; the audit trail gets an event first, whatever comes of it.

        Parameters
        ----------
        study_pseudonym : str
            StudyInstanceUID after de-identification.
        actor, reason : str
            Who asks, and what for; both are required, and neither may be empty.

        Raises
        ------
        NotFound
            When no identity of that study was ever sealed.
        VaultLocked
            When it was sealed with another key or has been changed.
        ValueError
            When actor or reason is empty: a bug of the caller.
        """
        if not actor.strip() or not reason.strip():
            raise ValueError("the vault opens for a named actor with a reason only")
        self._trail.note(
            actor=actor, action="identity.unseal", object=study_pseudonym, reason=reason
        )
        sealed = self._store.get_sealed(study_pseudonym)
        if sealed is None:
            raise NotFound("the vault holds no identity of this study")
        return self._opened(study_pseudonym, sealed)

    def _bound_to(self, study: str) -> bytes:
        return _FORMAT + self._key_id + study.encode("ascii")

    def _sealed(self, identity: Identity) -> bytes:
        study = identity.study_pseudonym
        text = json.dumps({"uids": dict(identity.uids), "attributes": dict(identity.attributes)})
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = self._cipher.encrypt(nonce, zlib.compress(text.encode()), self._bound_to(study))
        return _FORMAT + self._key_id + nonce + box

    def _opened(self, study: str, sealed: bytes) -> Identity:
        if sealed[:4] != _FORMAT or len(sealed) < _HEAD_BYTES:
            raise VaultLocked("a sealed identity is damaged or of an unknown format")
        if sealed[4 : 4 + _KEY_ID_BYTES] != self._key_id:
            raise VaultLocked("a sealed identity needs another key than the one at hand")
        nonce, box = sealed[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES], sealed[_HEAD_BYTES:]
        try:
            text = self._cipher.decrypt(nonce, box, self._bound_to(study))
        except InvalidTag:
            raise VaultLocked("a sealed identity was changed since it was written") from None
        content = json.loads(zlib.decompress(text))
        return Identity(study, content["uids"], content["attributes"])


# --- keys ---------------------------------------------------------------------------------------


def vault_key(master: bytes) -> bytes:
    """Return the key that seals identities, from the master key."""
    return _derived(master, b"radloop vault v1")


def pseudonym_key(master: bytes, project: str = NODE_PROJECT) -> bytes:
    """Return the key that one project's pseudonyms come from.

    Two projects get keys, and so pseudonyms, that nobody without the master key can link.
    """
    return _derived(master, b"radloop pseudonyms v1\0" + project.encode())


def _derived(master: bytes, info: bytes) -> bytes:
    if len(master) != KEY_BYTES:
        raise ValueError(f"a master key has {KEY_BYTES} bytes")
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)


def load_or_create_master_key(path: Path, *, may_create: bool) -> bytes:
    """Return the master key; make one at the first start.

    Parameters
    ----------
    path : Path
        32 random bytes; made with mode 0600, its folder with 0700.
    may_create : bool
        False when the database holds sealed identities already: a new key could never open them.

    Raises
    ------
    VaultLocked
        When the file is absent and must not be made, cannot be read, or is no key.
    """
    try:
        return _read_key(path)
    except FileNotFoundError:
        if not may_create:
            raise VaultLocked("the key file is absent, and identities are sealed with it") from None
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a mode from the first byte on
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(fresh)  # appears whole; where another process was first, its key stands
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except PermissionError:
        raise VaultLocked("the key file cannot be read by this user") from None
    if len(key) != KEY_BYTES:
        raise VaultLocked("the key file is damaged: it does not hold 32 bytes")
    return key
