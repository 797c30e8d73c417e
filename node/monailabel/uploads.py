"""Files that a client uploads to be looked at, and not to be kept: a session.

They lie in a folder of their own under the system's temporary folder, which this process alone may
read, and go when the session ends, when nobody asked for it for an hour, or when the process ends.
"""

from __future__ import annotations

import io
import secrets
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicom.errors import Conflict, InvalidRequest, NotFound, TooLarge
from models.nifti import is_nifti
from models.nrrd import read_nrrd
from models.prediction import Image
from models.sources import Source

_EXPIRY_S: Final = 3600
_MOST_SESSIONS: Final = 64
_MOST_BYTES: Final = 2 << 30
_MOST_FILES: Final = 20_000


@dataclass(slots=True)
class Session:
    """What one upload holds; `last_used` moves whenever it is asked for."""

    id: str
    owner: str
    folder: tempfile.TemporaryDirectory[str]
    files: int
    created: float
    last_used: float
    expiry_s: int
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def info(self) -> Mapping[str, object]:
        """What is told of it; paths on this machine are nobody's affair."""
        return {
            "name": self.id,
            "path": "",
            "image": "",
            "meta": dict(self.meta),
            "create_ts": int(self.created),
            "last_access_ts": int(self.last_used),
            "expiry": self.expiry_s,
        }

    def source(self) -> Source:
        """Return what models are given: an image, or a folder of DICOM files.

        Raises
        ------
        InputError
            When the one file is no image.
        """
        (*files,) = sorted(Path(self.folder.name).iterdir())
        return source_of(files[0]) if len(files) == 1 else Path(self.folder.name)


class Uploads:
    """The sessions of this process."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self, files: Mapping[str, bytes], *, owner: str, expiry_s: int = 0, unpack: bool = False
    ) -> Session:
        """Keep files; a ZIP archive is unpacked where that is asked for.

        Raises
        ------
        InvalidRequest, TooLarge
            When there is nothing in it, or too much.
        Conflict
            When there are too many sessions already.
        """
        plain: list[tuple[str, bytes]] = []
        for name, content in files.items():
            if unpack and zipfile.is_zipfile(io.BytesIO(content)):
                plain += _unpacked(content)
            else:
                plain.append((name, content))
        if not plain:
            raise InvalidRequest("nothing was uploaded")
        self._drop_old()
        folder = tempfile.TemporaryDirectory(prefix="radloop-")
        for number, (name, content) in enumerate(plain):
            # names may hold a patient's: of them only the kind of file stays
            Path(folder.name, f"{number:06d}{_kind(name)}").write_bytes(content)
        now = time.time()
        expiry = min(expiry_s, _EXPIRY_S) if expiry_s > 0 else _EXPIRY_S
        session = Session(secrets.token_hex(16), owner, folder, len(plain), now, now, expiry)
        with self._lock:
            if len(self._sessions) >= _MOST_SESSIONS:
                folder.cleanup()
                raise Conflict("too many sessions are open; close one, or wait an hour")
            self._sessions[session.id] = session
        return session

    def get(self, session_id: str, *, owner: str) -> Session:
        """Return a session of its owner.

        Raises
        ------
        NotFound
        """
        self._drop_old()
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or session.owner != owner:
                raise NotFound("there is no such session, or it has ended")
            session.last_used = time.time()
            return session

    def drop(self, session_id: str, *, owner: str) -> Session:
        """End a session and throw its files away; return what it was.

        Raises
        ------
        NotFound
        """
        session = self.get(session_id, owner=owner)
        with self._lock:
            self._sessions.pop(session_id, None)
        session.folder.cleanup()
        return session

    def close(self) -> None:
        """End all sessions."""
        with self._lock:
            sessions, self._sessions = list(self._sessions.values()), OrderedDict()
        for session in sessions:
            session.folder.cleanup()

    def _drop_old(self) -> None:
        now = time.time()
        with self._lock:
            old = [s for s in self._sessions.values() if s.last_used + s.expiry_s < now]
            for session in old:
                del self._sessions[session.id]
        for session in old:
            session.folder.cleanup()


def source_of(path: Path) -> Source:
    """Return what models are given of one file: an NRRD is read here, the rest by them.

    Raises
    ------
    InputError
        When an NRRD file is damaged, or holds several layers.
    """
    if not path.name.lower().endswith(".nrrd"):
        return path
    found = read_nrrd(path.read_bytes())
    if len(found.layers_nkji) != 1:
        raise InvalidRequest("the NRRD file holds several layers, not one image")
    return Image(found.layers_nkji[0], found.affine_lps)


def _kind(name: str) -> str:
    lower = name.lower()
    if is_nifti(Path(lower)):
        return ".nii.gz" if lower.endswith(".gz") else ".nii"
    return ".nrrd" if lower.endswith(".nrrd") else ".dcm"


def _unpacked(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        entries = [entry for entry in packed.infolist() if not entry.is_dir()]
        if sum(e.file_size for e in entries) > _MOST_BYTES or len(entries) > _MOST_FILES:
            raise TooLarge(f"a ZIP archive of more than {_MOST_BYTES >> 30} GiB, or too many files")
        return [(entry.filename, packed.read(entry)) for entry in entries]
