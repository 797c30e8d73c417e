"""Signed versions: which hash this node answers for, and what a registry is told of them."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from models.registry import Standing
from pipelines.store import Versions

_KEY_BYTES: Final = 32


class Signer:
    """Signs the hash of a model's version (HMAC-SHA256), so that a changed row is noticed too.

    Parameters
    ----------
    secret : bytes
        Shared by all processes of a node, and kept outside the database; its key is derived by HKDF
        (RFC 5869) under a label of its own.
    """

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("a signature without a secret says nothing")
        self._key = HKDF(
            algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"radloop model versions v1"
        ).derive(secret)

    def sign(self, identity: str, bundle_sha256: str) -> str:
        """Return the signature of a version, ``NAME@VERSION``."""
        said = f"{identity}\0{bundle_sha256}".encode()
        return hmac.new(self._key, said, sha256).hexdigest()

    def holds(self, identity: str, bundle_sha256: str, signature: str) -> bool:
        """Return whether the signature is this node's."""
        return hmac.compare_digest(self.sign(identity, bundle_sha256), signature)


def standing_of(versions: Versions, signer: Signer) -> Callable[[], Standing]:
    """Return what tells a registry how versions stand now; it reads a few rows at each call."""

    def look() -> Standing:
        rows = versions.all()
        return Standing(
            current={row.name: row.id for row in rows if row.stage == "current"},
            passed_over=frozenset(r.id for r in rows if r.stage in ("candidate", "retired")),
            withdrawn=frozenset(row.id for row in rows if row.stage == "withdrawn"),
            stopped=versions.stopped(),
            signed={
                row.id: row.sha256 if signer.holds(row.id, row.sha256, row.signature) else ""
                for row in rows
            },
        )

    return look
