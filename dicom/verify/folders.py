"""The second look at whole folders, whoever wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom.errors import InputError, NotDicom
from dicom.profile import Profile
from dicom.verify.look import Finding, SecondLook
from dicom.verify.pixels import PixelLook
from dicom.verify.reading import bodies_of, pixel_span, read_file
from dicom.verify.tokens import Before, Originals

_OTHER_FILES = frozenset({".json", ".txt", ".tsv", ".csv", ".md", ".xml", ".html", ""})


@dataclass(frozen=True, slots=True)
class Looked:
    """What the second look said of one file.

    Attributes
    ----------
    path : Path
    findings : tuple of Finding
        Nothing is how it should be.
    compared : bool
        Whether its original was known, so that values were compared where they stood.
    error : InputError or None
        Why it could not be looked at; such a file is not clean.
    """

    path: Path
    findings: tuple[Finding, ...]
    compared: bool
    error: InputError | None = None


def verify_folders(
    originals: Path, outputs: Path, profile: Profile, *, pixels: bool = False
) -> Iterator[Looked]:
    """Look for anything of the originals in the outputs.

    The tokens of all originals are searched in every output. An output's own original is the file
    at the same place in the other folder, or the one with the same pixels; both arguments may be
    files.

    Parameters
    ----------
    originals, outputs : Path
        A file or a folder each.
    profile : Profile
        By which the outputs should have been de-identified.
    pixels : bool
        Read what stands in the outputs' pictures, too: seconds a megapixel.

    Raises
    ------
    NotDicom
        When there is no original that can be read: then nothing could be found.
    MissingPackage
        When pixels are to be read, and the networks are not installed.
    """
    reader = Originals(profile)
    by_place: dict[Path, Before] = {}
    by_pixels: dict[bytes, Before | None] = {}
    for path in _files(originals):
        try:
            before = reader.read(path)
            digest = _pixel_digest(path)
        except InputError:
            continue
        by_place[_place(path, originals)] = before
        if digest is not None:  # two images of the same pixels: then neither is known
            by_pixels[digest] = None if digest in by_pixels else before
    if not by_place:
        raise NotDicom("there is no original that can be read")
    look = SecondLook(profile, reader.tokens)
    read = PixelLook(reader.tokens).look if pixels else _no_look
    for path in _files(outputs):
        try:
            own = by_place.get(_place(path, outputs)) or by_pixels.get(_pixel_digest(path) or b"")
            yield Looked(path, (*look.look(path, own), *read(path)), own is not None)
        except InputError as error:
            if path.suffix.lower() in _OTHER_FILES and path.name != "DICOMDIR":
                yield _text(look, path)
            else:
                yield Looked(path, (), False, error)


def _no_look(_: Path) -> tuple[Finding, ...]:
    return ()


def _text(look: SecondLook, path: Path) -> Looked:
    try:
        look.check_text(path.read_bytes() + b"\0" + path.name.encode())
    except InputError as error:
        return Looked(path, (), False, error)
    return Looked(path, (), False)


def _files(root: Path) -> list[Path]:
    return [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())


def _place(path: Path, root: Path) -> Path:
    return Path() if root.is_file() else path.relative_to(root)


def _pixel_digest(path: Path) -> bytes | None:
    """Return a digest of the pixel values as they are encoded; None without any."""
    ds = read_file(path)
    _, body = bodies_of(path.read_bytes(), ds)
    begin, end = pixel_span(body, ds)
    return hashlib.sha256(body[begin:end]).digest() if begin < end else None
