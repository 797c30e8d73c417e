"""The drawer: what readers have not saved yet, sealed, and named without the UIDs that it is about.

Front and worker open it, and the vault's key is not the front's to have: the drawer's key comes
from the secret that both share for the audit trail, by HKDF (RFC 5869) under a label of its own.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dicom.errors import DrawerLocked

_FORMAT: Final = b"RLD1"
_NONCE_BYTES: Final = 12  # NIST SP 800-38D: 96 bits, random
_KEY_BYTES: Final = 32


class Drawer:
    """Seals and opens drafts and comments (AES-256-GCM).

    Parameters
    ----------
    secret : bytes
        Shared by all processes of a node; kept outside the database.
    """

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("a drawer without a secret hides nothing")
        self._cipher = AESGCM(_derived(secret, b"radloop drawer v1"))
        self._naming = _derived(secret, b"radloop drawer names v1")

    def name(self, uid: str) -> str:
        """Return what stands for a UID in rows: nobody without the secret can test a guess."""
        return hmac.new(self._naming, uid.encode(), sha256).hexdigest()[:32]

    def close(self, content: bytes, *, bound_to: str) -> bytes:
        """Return sealed bytes that open for the same owner only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, content, _FORMAT + bound_to.encode())

    def open(self, sealed: bytes, *, bound_to: str) -> bytes:
        """Return what was sealed.

        Raises
        ------
        DrawerLocked
            When it was sealed with another secret, for another owner, or has been changed.
        """
        start = len(_FORMAT) + _NONCE_BYTES
        if not sealed.startswith(_FORMAT):
            raise DrawerLocked("a draft or comment is of an unknown format")
        try:
            return self._cipher.decrypt(
                sealed[len(_FORMAT) : start], sealed[start:], _FORMAT + bound_to.encode()
            )
        except InvalidTag:
            raise DrawerLocked("a draft or comment cannot be opened with this node's key") from None


def _derived(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(secret)
