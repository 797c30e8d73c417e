"""What works without any server: take the identity off a folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from dicom.deid import Cleaned, Quarantined
from dicom.errors import InvalidSettings
from dicom.fast import EngineChoice
from dicom.uids import KEY_BYTES
from node.engines import open_engine
from pipelines.keyring import KeyRing
from pipelines.projects import NODE, Project


def deidentify(
    source: Path,
    target: Path,
    *,
    project: Project = NODE,
    key_file: Path | None,
    choice: EngineChoice = EngineChoice.AUTO,
) -> Iterator[Cleaned | Quarantined]:
    """De-identify a file or a folder, and yield what became of each file.

    Parameters
    ----------
    project : Project
        By whose profile; its pseudonyms are its own, also from the same key file.
    key_file : Path or None
        Holds the key of the pseudonyms, in hexadecimal digits, or the node's master keys; made when
        it is absent. None: a key that is thrown away, so that no later run gives the same
        pseudonyms, and nobody can find the way back.
    choice : EngineChoice
        Who does it; what comes out is the same.

    Raises
    ------
    InvalidSettings
        When the file holds no such key, or the project cannot be carried out here.
    """
    engine = open_engine(project, pseudonym_key(key_file, project), source=source, choice=choice)
    return engine.deidentify_folder(source, target)


def pseudonym_key(path: Path | None, project: Project) -> bytes:
    """Return the key of a project's pseudonyms from a file; see :func:`deidentify`."""
    if path is None:
        return secrets.token_bytes(KEY_BYTES)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(KEY_BYTES) + "\n")
    content = path.read_bytes()
    if content and len(content) % KEY_BYTES == 0 and not content.isascii():
        return KeyRing.read(path).pseudonym_key(project.name)
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError as error:
        raise InvalidSettings("the key file does not hold hexadecimal digits") from error
    if len(key) != KEY_BYTES:
        raise InvalidSettings(f"the key file holds {len(key)} bytes, not {KEY_BYTES}")
    return key if project == NODE else KeyRing((key,)).pseudonym_key(project.name)
