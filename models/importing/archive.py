"""What a person hands over, as a folder: a folder itself, or a zip archive that is unpacked.

An archive is unpacked to files only, below the folder that it is given, and not beyond a size.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from dicom.errors import CannotImport, WrongHash

SUMS = "SHA256SUMS"
# The largest models of the zoo have some 3 GB.
_MOST_BYTES = 32 << 30
_MOST_FILES = 20_000
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a zip archive into `target`; return the one folder in it, or `target` itself.

    Raises
    ------
    CannotImport
        When it is no zip archive, leads out of the folder, holds links, or is too large.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > _MOST_FILES or sum(m.file_size for m in members) > _MOST_BYTES:
                raise CannotImport("the archive is larger than any model")
            for member in members:
                _unpack(opened, member, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CannotImport(f"the zip archive cannot be read: {error}") from None
    found = [path for path in target.iterdir() if path.name not in ("__MACOSX", ".DS_Store")]
    return found[0] if len(found) == 1 and found[0].is_dir() else target


def check_hash(file: Path, expected: str) -> None:
    """Compare the sha256 of a file with the one that a person was told.

    Raises
    ------
    WrongHash
        When it is another.
    """
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected.strip().lower():
        raise WrongHash(f"{file.name} has the sha256 {found}, not the one that was named")


def check_sums(folder: Path) -> None:
    """Compare the files of a folder with its list SHA256SUMS, where it has one.

    Raises
    ------
    CannotImport
        When the list cannot be read, or names a file that is not there.
    WrongHash
        Naming the first file that is another.
    """
    sums = folder / SUMS
    if not sums.is_file():
        return
    for line in sums.read_text("utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise CannotImport(f"{SUMS} holds a line that is no hash and name")
        expected, name = match.groups()
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise CannotImport(f"{name} is missing: {SUMS} names it")
        check_hash(file, expected)


def _unpack(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
        raise CannotImport(f"the archive leads out of its folder: {member.filename!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise CannotImport(f"the archive holds a link: {member.filename!r}")
    place = target.joinpath(*parts)
    if member.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, place.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
