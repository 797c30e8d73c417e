"""Pseudonyms that need no table: the same input and key always give the same output.

Everything here is a keyed HMAC-SHA256 with its own label, so that a UID's pseudonym, a patient's
pseudonym and a date shift say nothing about each other, and nobody without the key can test a
guess. :func:`derived_uid` alone has no key: it names results, which are ours, and must come out the
same when a step runs twice.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode

KEY_BYTES = 32

# One label for each purpose, never reused for another (domain separation).
_UID = b"radloop uid v1"
_PATIENT = b"radloop patient v1"
_DATE_SHIFT = b"radloop date shift v1"
_LABEL = b"radloop label v1"
_RESULT = b"radloop result uid v1"

_LONGEST_SHIFT_DAYS = 3650


def _joined(parts: tuple[str, ...]) -> bytes:
    """Join texts so that no two different tuples give the same bytes (length before each part)."""
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _mac(key: bytes, label: bytes, *parts: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a pseudonym key has {KEY_BYTES} bytes")
    return hmac.digest(key, label + b"\0" + _joined(parts), "sha256")


def _oid(digest: bytes) -> str:
    """Return 128 bits as a UID under the UUID arc: at most 44 characters (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def pseudonym_uid(key: bytes, uid: str) -> str:
    """Return the UID that stands for `uid` wherever it is de-identified with `key`.

    Parameters
    ----------
    key : bytes
        32 secret bytes.
    uid : str
        Any text; padding is the caller's to strip.

    Returns
    -------
    str
        ``2.25.`` and 128 bits in decimal; a valid UID (PS3.5 9.1, B.2).

    Raises
    ------
    ValueError
        When the key does not have 32 bytes: a bug, not bad input.
    """
    return _oid(_mac(key, _UID, uid))


def derived_uid(*parts: str) -> str:
    """Return a UID made from `parts` alone, the same in every run; for results, not a secret."""
    return _oid(hashlib.sha256(_RESULT + b"\0" + _joined(parts)).digest())


def patient_pseudonym(key: bytes, patient_id: str, issuer: str) -> str:
    """Return the PatientID that stands for a patient: ``RL-`` and 80 bits in base 32.

    Parameters
    ----------
    key : bytes
        32 secret bytes.
    patient_id, issuer : str
        PatientID (0010,0020) and IssuerOfPatientID (0010,0021), stripped of padding.

    Raises
    ------
    ValueError
        When the key does not have 32 bytes.
    """
    return "RL-" + b32encode(_mac(key, _PATIENT, patient_id, issuer)[:10]).decode("ascii")


def date_shift_days(key: bytes, patient_id: str, issuer: str) -> int:
    """Return the days by which every date of one patient moves: from -3650 to -1.

    One shift for a patient keeps every interval (PS3.15 E.3.6); it is never zero.

    Raises
    ------
    ValueError
        When the key does not have 32 bytes.
    """
    digest = _mac(key, _DATE_SHIFT, patient_id, issuer)
    return -1 - int.from_bytes(digest[:8], "big") % _LONGEST_SHIFT_DAYS


def label_pseudonym(key: bytes, text: str) -> str:
    """Return six hexadecimal digits that stand for a short label, such as a local code.

    Raises
    ------
    ValueError
        When the key does not have 32 bytes.
    """
    return _mac(key, _LABEL, text)[:3].hex().upper()
