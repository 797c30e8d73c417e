"""Files and folders: what is written where, and what is held back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from dicom.deid.identity import Identity
from dicom.elements import text_of
from dicom.errors import CannotDeidentify, InputError, NotDicom
from dicom.part10 import encoded, read_header, write_whole
from dicom.study import Instance

_PATIENT_ID, _SOP_CLASS, _SOP_INSTANCE = 0x00100020, 0x00080016, 0x00080018
_STUDY, _SERIES = 0x0020000D, 0x0020000E

Deidentify = Callable[[Dataset], tuple[Dataset, Identity]]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A file that was de-identified."""

    source: Path
    instance: Instance
    identity: Identity


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was not, and why; nothing of it was written."""

    source: Path
    error: InputError


def clean_file(deidentify: Deidentify, source: Path, target_folder: Path) -> Cleaned:
    """Write one file's copy to ``<pseudonymised SOP Instance UID>.dcm``, whole or not at all."""
    with source.open("rb") as file:
        ds, pixels = read_header(file)
        clean, identity = deidentify(ds)
        sop_instance_uid = text_of(clean, _SOP_INSTANCE)
        target = target_folder / f"{sop_instance_uid}.dcm"
        write_whole(target, encoded(clean), file, pixels)
    return Cleaned(source, Instance(sop_instance_uid, text_of(clean, _SOP_CLASS), target), identity)


def clean_folder(
    deidentify: Deidentify, source: Path, target_folder: Path
) -> Iterator[Cleaned | Quarantined]:
    """Write the copies of all files below a folder; see `Deidentifier.deidentify_folder`."""
    inside = source.resolve()
    if target_folder.resolve() == inside or inside in target_folder.resolve().parents:
        raise ValueError("the target folder must not lie within the source folder")
    found = [source] if source.is_file() else sorted(source.rglob("*"))
    written: set[Path] = set()
    for path in found:
        if not path.is_file():
            continue
        try:
            yield _filed(deidentify, path, target_folder, written)
        except InputError as error:
            yield Quarantined(path, error)


def _filed(deidentify: Deidentify, path: Path, target_folder: Path, written: set[Path]) -> Cleaned:
    if not os.access(path, os.R_OK):
        raise NotDicom("the file cannot be read")
    with path.open("rb") as file:
        ds, pixels = read_header(file)
        clean, identity = deidentify(ds)
        folders = (text_of(clean, _PATIENT_ID), text_of(clean, _STUDY), text_of(clean, _SERIES))
        sop_instance_uid = text_of(clean, _SOP_INSTANCE)
        target = target_folder.joinpath(*folders) / f"{sop_instance_uid}.dcm"
        if target in written:
            raise CannotDeidentify("another file has the same SOP Instance UID")
        write_whole(target, encoded(clean), file, pixels)
    written.add(target)
    instance = Instance(sop_instance_uid, text_of(clean, _SOP_CLASS), target)
    return Cleaned(path, instance, identity)
