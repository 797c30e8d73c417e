"""The files of an archive: used where they lie, or downloaded; stored, and deleted."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx

from dicom.archive.holdings import Holdings
from dicom.archive.rest import CLOSED_AMID, accepted, held, unreachable
from dicom.archive.values import ArchivedInstance, ArchivedSeries, Level
from dicom.errors import ArchiveMismatch, DiskFull, InvalidSettings, NotDicom
from dicom.study import Instance, Series

_DOWNLOADS_AT_ONCE = 4


class Files(Holdings):
    """Get it, store it, delete it."""

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        storage: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        super().__init__(url, user, password, timeout_s=timeout_s)
        self._storage = storage

    def digests(
        self, series: ArchivedSeries, known: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the MD5 of each file of a series, by its uuid, without asking for those known.

        Orthanc gives each version of a file a uuid of its own, so that a digest never ages.

        Raises
        ------
        ArchiveMismatch
            When an instance vanished meanwhile.
        """
        found = {
            instance.file_uuid: known[instance.file_uuid]
            for instance in series.instances
            if known and instance.file_uuid in known
        }
        asked = [one for one in series.instances if one.file_uuid not in found]
        if asked:
            with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
                uuids = (one.file_uuid for one in asked)
                found |= zip(uuids, pool.map(self._md5, asked), strict=True)
        return found

    def fingerprint(self, series: ArchivedSeries, known: Mapping[str, str] | None = None) -> str:
        """Return a digest of the content of a series: which instances, and the bytes of each.

        Independent of the order in which they came; a re-send of the same bytes leaves it as it
        is. `known` is what :meth:`digests` said before.

        Raises
        ------
        ArchiveMismatch
            When an instance vanished meanwhile.
        """
        digests = self.digests(series, known)
        lines = (
            f"{instance.sop_instance_uid} {digests[instance.file_uuid]}\n"
            for instance in series.instances
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def is_in_place(self) -> bool:
        """Whether its files are used where they lie, without a download."""
        return self._storage is not None

    def stored_at(self, series: ArchivedSeries) -> datetime | None:
        """Return when the newest file of a series was written; None where that is not known.

        That is the time of the storage area's file system; the change feed's own times are whole
        seconds.
        """
        if self._storage is None:
            return None
        try:
            newest = max(self._place(instance).stat().st_mtime for instance in series.instances)
        except (OSError, ValueError):  # not ours to read, gone again, or no instance left
            return None
        return datetime.fromtimestamp(newest, UTC)

    def fetch(self, series: ArchivedSeries, folder: Path) -> Series:
        """Return the series as files: in the storage area where that is here, else downloaded.

        Parameters
        ----------
        series : ArchivedSeries
            From :meth:`series`.
        folder : Path
            Where downloads go; what lies there complete from an earlier try is used again. Files
            in the storage area are Orthanc's: read them, never write.

        Raises
        ------
        ArchiveMismatch
            When an instance vanished meanwhile, or a file has not the size that was announced.
        InvalidSettings
            When the storage folder is not on this machine, or not ours to read.
        DiskFull
            When a download finds no room.
        """
        if self._storage is not None:
            if not os.access(self._storage, os.R_OK | os.X_OK):
                raise InvalidSettings("the archive's storage folder cannot be read from here")
            paths = [self._stored_file(instance) for instance in series.instances]
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
                paths = list(pool.map(lambda i: self._download(i, folder), series.instances))
        return Series(
            series_uid=series.series_uid,
            modality=series.modality,
            instances=tuple(
                Instance(instance.sop_instance_uid, instance.sop_class_uid, path)
                for instance, path in zip(series.instances, paths, strict=True)
            ),
        )

    def instance_bytes(self, sop_instance_uid: str) -> bytes:
        """Return the Part 10 file of one instance.

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold it.
        """
        found = self.lookup("instances", sop_instance_uid)
        if not found:
            raise ArchiveMismatch("the archive does not hold the instance (any longer)")
        return self._get_held(f"/instances/{found[0]}/file").content

    def file_of(self, orthanc_id: str) -> bytes:
        """Return the Part 10 file of the instance with that Orthanc id.

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold it (any longer).
        """
        return self._get_held(f"/instances/{orthanc_id}/file").content

    def store(self, dicom: bytes | Path) -> str:
        """Store one Part 10 file and return its Orthanc id; one that is there already is left.

        Raises
        ------
        NotDicom
            When the archive cannot read it.
        """
        content = dicom.read_bytes() if isinstance(dicom, Path) else dicom
        answer = self._request("POST", "/instances", content=content)
        if answer.status_code == httpx.codes.BAD_REQUEST:
            raise NotDicom("the archive could not read what it was given to store")
        return str(accepted(answer).json()["ID"])

    def delete(self, level: Level, orthanc_id: str) -> None:
        """Delete a resource with all below it; one that is not there is no error."""
        answer = self._request("DELETE", f"/{level}/{orthanc_id}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            accepted(answer)

    def _md5(self, instance: ArchivedInstance) -> str:
        # Orthanc keeps the sum that it made on arrival: 1,600 answers a second, and no file is
        # read. Hashing the files here is no faster, even when they are in memory already.
        return self._get_held(f"/instances/{instance.orthanc_id}/attachments/dicom/md5").text

    def _place(self, instance: ArchivedInstance) -> Path:
        assert self._storage is not None
        uuid = instance.file_uuid
        return self._storage / uuid[0:2] / uuid[2:4] / uuid

    def _stored_file(self, instance: ArchivedInstance) -> Path:
        path = self._place(instance)
        _check_size(path, instance)
        return path

    def _download(self, instance: ArchivedInstance, folder: Path) -> Path:
        path = folder / f"{instance.file_uuid}.dcm"
        if path.exists() and path.stat().st_size == instance.size:
            return path
        partial = path.with_suffix(".part")
        try:
            try:
                self._stream(instance, partial)
            except CLOSED_AMID:
                self._stream(instance, partial)
        except httpx.TransportError as error:
            raise unreachable(error) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull("no room to fetch a series from the archive") from None
            raise
        _check_size(partial, instance)
        return partial.replace(path)

    def _stream(self, instance: ArchivedInstance, path: Path) -> None:
        with self._http.stream("GET", f"/instances/{instance.orthanc_id}/file") as answer:
            held(answer)
            with path.open("wb") as file:
                for chunk in answer.iter_bytes(1 << 20):
                    file.write(chunk)


def _check_size(path: Path, instance: ArchivedInstance) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise ArchiveMismatch("a stored file is not where the archive keeps it") from None
    if size != instance.size:
        raise ArchiveMismatch(f"a file of {instance.size} bytes came with {size}")
