"""Files and folders: what is written where, and what is held back."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from dicom.deid.identity import Identity
from dicom.errors import CannotDeidentify, InputError, NotDicom
from dicom.part10 import Extent, write_whole
from dicom.study import Instance

EngineName = Literal["fast", "careful"]


@dataclass(frozen=True, slots=True)
class Clean:
    """One instance without its identity, ready to be written.

    Parameters
    ----------
    patient_id, study_uid, series_uid, sop_instance_uid, sop_class_uid : str
        As they stand in `header`: pseudonyms.
    header : bytes
        Preamble, file meta information and data set, up to the pixel element.
    pixels : Extent
        Where the pixel element lies in the source; it is copied as it stands.
    identity : Identity
        What was taken away.
    engine : str
        Which engine did it.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    header: bytes
    pixels: Extent
    identity: Identity
    engine: EngineName


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A file that was de-identified, and by which engine."""

    source: Path
    instance: Instance
    identity: Identity
    engine: EngineName


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was not, and why; nothing of it was written."""

    source: Path
    error: InputError


class Engine(ABC):
    """Takes the identity off files, the same way each time."""

    @abstractmethod
    def clean(self, file: BinaryIO) -> Clean:
        """Return a file's instance without its identity; nothing is written.

        Parameters
        ----------
        file : BinaryIO
            A DICOM Part 10 file, at its beginning.

        Raises
        ------
        CannotDeidentify
            When it holds something that no rule judges.
        NotDicom
            When its bytes end too early or cannot be parsed.
        UnsupportedTransferSyntax
            When the transfer syntax is private or unknown.
        """

    def deidentify_file(self, source: Path, target_folder: Path) -> tuple[Instance, Identity]:
        """Write the de-identified copy of a file, named by its pseudonym.

        The file appears whole or not at all. Memory holds the header, not the pixels (a deflated
        file is the exception).

        Parameters
        ----------
        source : Path
            A DICOM Part 10 file.
        target_folder : Path
            Made when absent; gets ``<pseudonymised SOP Instance UID>.dcm``.

        Raises
        ------
        NotDicom, CannotDeidentify, UnsupportedTransferSyntax
            As :meth:`clean`.
        DiskFull
            When the target folder has no room.
        """
        with source.open("rb") as file:
            clean = self.clean(file)
            target = target_folder / f"{clean.sop_instance_uid}.dcm"
            write_whole(target, clean.header, file, clean.pixels)
        return Instance(clean.sop_instance_uid, clean.sop_class_uid, target), clean.identity

    def deidentify_folder(
        self, source: Path, target_folder: Path
    ) -> Iterator[Cleaned | Quarantined]:
        """De-identify a file, or every file below a folder, and yield what became of each.

        Written to ``<patient>/<study>/<series>/<instance>.dcm`` below `target_folder`, each name a
        pseudonym. A second file with the same SOP Instance UID is quarantined, not written over.

        Parameters
        ----------
        source : Path
            A file, or a folder that is searched to any depth, in order of names.
        target_folder : Path
            Made when absent; must not lie within `source`.

        Raises
        ------
        ValueError
            When `target_folder` lies within `source`.
        DiskFull
            When there is no room left.
        """
        inside = source.resolve()
        if target_folder.resolve() == inside or inside in target_folder.resolve().parents:
            raise ValueError("the target folder must not lie within the source folder")
        found = [source] if source.is_file() else sorted(source.rglob("*"))
        written: set[Path] = set()
        for path in found:
            if not path.is_file():
                continue
            try:
                yield self._filed(path, target_folder, written)
            except InputError as error:
                yield Quarantined(path, error)

    def _filed(self, path: Path, target_folder: Path, written: set[Path]) -> Cleaned:
        if not os.access(path, os.R_OK):
            raise NotDicom("the file cannot be read")
        with path.open("rb") as file:
            clean = self.clean(file)
            folder = target_folder / clean.patient_id / clean.study_uid / clean.series_uid
            target = folder / f"{clean.sop_instance_uid}.dcm"
            if target in written:
                raise CannotDeidentify("another file has the same SOP Instance UID")
            write_whole(target, clean.header, file, clean.pixels)
        written.add(target)
        instance = Instance(clean.sop_instance_uid, clean.sop_class_uid, target)
        return Cleaned(path, instance, clean.identity, clean.engine)
