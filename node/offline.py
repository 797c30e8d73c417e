"""What works without any server: take the identity off a folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from dicom.deid import Cleaned, Deidentifier, Quarantined
from dicom.errors import InvalidSettings
from dicom.profile import node_profile
from dicom.uids import KEY_BYTES


def deidentify(
    source: Path, target: Path, *, key_file: Path | None
) -> Iterator[Cleaned | Quarantined]:
    """De-identify a file or a folder, and yield what became of each file.

    Parameters
    ----------
    key_file : Path or None
        Holds the key of the pseudonyms; made when it is absent. None: a key that is thrown away,
        so that no later run gives the same pseudonyms, and nobody can find the way back.

    Raises
    ------
    InvalidSettings
        When the file holds no such key.
    """
    engine = Deidentifier(node_profile(), _pseudonym_key(key_file))
    return engine.deidentify_folder(source, target)


def _pseudonym_key(path: Path | None) -> bytes:
    if path is None:
        return secrets.token_bytes(KEY_BYTES)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        key = bytes.fromhex(path.read_text())
    except ValueError as error:
        raise InvalidSettings("the key file does not hold hexadecimal digits") from error
    if len(key) != KEY_BYTES:
        raise InvalidSettings(f"the key file holds {len(key)} bytes, not {KEY_BYTES}")
    return key
