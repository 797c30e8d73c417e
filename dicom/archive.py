"""Our own Orthanc by its REST API: what changed, what is there, get it, store it.

One :class:`Archive` stands for one Orthanc and keeps its connections open. Where the archive's
storage folder is on this machine, files are used where they lie, without a copy: 4,000 a second
against 645 by HTTP.

Orthanc's own identifiers are hashes of the patient's id and the UIDs. They are as secret as those,
so no error text of this file carries one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx

from dicom.errors import (
    ArchiveMismatch,
    DiskFull,
    InvalidSettings,
    NotDicom,
    PeerRefused,
    PeerUnreachable,
)
from dicom.study import Instance, Series

Level = Literal["patients", "studies", "series", "instances"]

_DOWNLOADS_AT_ONCE = 4
_LEVEL_OF_CHANGE: Mapping[str, Level] = {
    "Patient": "patients",
    "Study": "studies",
    "Series": "series",
    "Instance": "instances",
}
_KIND_OF_LEVEL: Mapping[Level, str] = {level: kind for kind, level in _LEVEL_OF_CHANGE.items()}


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the archive's change feed.

    `kind` is Orthanc's word: `NewInstance`, `NewSeries`, `NewStudy`, `Deleted`, ... (`Stable...`
    never comes when Orthanc is killed in the quiet time before it: nothing may wait for that).
    `level` says what `resource_id` names.
    """

    seq: int
    kind: str
    level: Level
    resource_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes after a cursor, the next cursor, and whether the feed ends here."""

    changes: tuple[Change, ...]
    last: int
    done: bool


@dataclass(frozen=True, slots=True)
class ArchivedInstance:
    """One stored instance; `file_uuid` names its file in the storage area, `size` in bytes."""

    orthanc_id: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    sop_class_uid: str
    file_uuid: str
    size: int


@dataclass(frozen=True, slots=True)
class ArchivedName:
    """What an instance is called by those who open it in a viewer."""

    orthanc_id: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    series_description: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ArchivedSeries:
    """One stored series with all of its instances, sorted by SOP Instance UID."""

    orthanc_id: str = field(repr=False)
    study_orthanc_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    modality: str
    instances: tuple[ArchivedInstance, ...]


@dataclass(frozen=True, slots=True)
class ArchivedStudy:
    """One stored study as a worklist shows it: **identity**, for clinical roles only.

    Values are the DICOM text (dates `YYYYMMDD`, names with carets), empty where absent.
    """

    orthanc_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    patient_name: str = field(repr=False)
    patient_id: str = field(repr=False)
    patient_birth_date: str = field(repr=False)
    patient_sex: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str = field(repr=False)
    study_time: str = field(repr=False)
    study_description: str = field(repr=False)
    series: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """A series as a study's list shows it: `instances` is how many it has."""

    series_uid: str = field(repr=False)
    modality: str
    instances: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the archive holds."""

    patients: int
    studies: int
    series: int
    instances: int
    disk_bytes: int


class Archive:
    """One Orthanc; safe to use from several threads.

    Parameters
    ----------
    url : str
        Address of the REST API.
    user, password : str
        An account of the archive.
    storage : Path or None
        Orthanc's storage folder when this process can read it; None: files come by HTTP.
    timeout_s : float
        For connecting, and for each silence within an answer.

    Notes
    -----
    Every method raises :class:`PeerUnreachable` when the archive does not answer and
    :class:`PeerRefused` when it says no.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        *,
        storage: Path | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._storage = storage
        self._http = httpx.Client(
            base_url=url,
            auth=(user, password),
            # Orthanc would compress pixels: 60 files of 525 KB a second instead of 600.
            headers={"Accept-Encoding": "identity"},
            timeout=timeout_s,
            trust_env=False,  # the machine's proxy is not for our archive
            # Orthanc closes an idle connection after 1 s: leave it before it does.
            limits=httpx.Limits(max_connections=16, keepalive_expiry=0.5),
        )

    def __enter__(self) -> Self:
        """Return the archive itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- what changed ---------------------------------------------------------------------------

    def changes(self, since: int, *, limit: int = 1000) -> ChangePage:
        """Return the changes after the cursor `since`, oldest first, `limit` at most.

        The feed survives a crash of Orthanc; `last` of the page is the next cursor.
        """
        page = self._get("/changes", params={"since": since, "limit": limit}).json()
        changes = tuple(
            Change(
                seq=entry["Seq"],
                kind=entry["ChangeType"],
                level=_LEVEL_OF_CHANGE[entry["ResourceType"]],
                resource_id=entry["ID"],
            )
            for entry in page["Changes"]
        )
        return ChangePage(changes=changes, last=page["Last"], done=page["Done"])

    def last_change(self) -> int:
        """Return the cursor at the end of the feed (0 for an archive that never held anything)."""
        return int(self._get("/changes?last").json()["Last"])

    def series_of(self, instance_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the Orthanc ids of the series that hold these instances, each once.

        Parameters
        ----------
        instance_ids : iterable of str
            Orthanc ids of instances, as the change feed names them. Those that were deleted
            meanwhile are passed over.
        """
        query = {"Resources": list(instance_ids), "Level": "Series", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        return tuple(sorted(series["ID"] for series in found))

    # --- what is there --------------------------------------------------------------------------

    def series(self, orthanc_id: str) -> ArchivedSeries:
        """Return one series with its instances.

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold it (any longer).
        """
        answer = self._get_held(f"/series/{orthanc_id}").json()
        study = self._get_held(f"/studies/{answer['ParentStudy']}").json()
        query = {"Resources": [orthanc_id], "Level": "Instance", "Short": True, "Metadata": True}
        found = self._post("/tools/bulk-content", json=query).json()
        instances = (
            ArchivedInstance(
                orthanc_id=entry["ID"],
                sop_instance_uid=entry["MainDicomTags"]["0008,0018"],
                sop_class_uid=entry["Metadata"]["SopClassUid"],
                file_uuid=entry["FileUuid"],
                size=entry["FileSize"],
            )
            for entry in found
        )
        return ArchivedSeries(
            orthanc_id=orthanc_id,
            study_orthanc_id=answer["ParentStudy"],
            study_uid=study["MainDicomTags"]["StudyInstanceUID"],
            series_uid=answer["MainDicomTags"]["SeriesInstanceUID"],
            modality=answer["MainDicomTags"].get("Modality", ""),
            instances=tuple(sorted(instances, key=lambda instance: instance.sop_instance_uid)),
        )

    def study(self, orthanc_id: str) -> ArchivedStudy:
        """Return one study as a worklist shows it (identity).

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold it (any longer).
        """
        answer = self._get_held(f"/studies/{orthanc_id}").json()
        tags = {**answer["PatientMainDicomTags"], **answer["MainDicomTags"]}
        return ArchivedStudy(
            orthanc_id=orthanc_id,
            study_uid=tags["StudyInstanceUID"],
            patient_name=tags.get("PatientName", ""),
            patient_id=tags.get("PatientID", ""),
            patient_birth_date=tags.get("PatientBirthDate", ""),
            patient_sex=tags.get("PatientSex", ""),
            accession_number=tags.get("AccessionNumber", ""),
            study_date=tags.get("StudyDate", ""),
            study_time=tags.get("StudyTime", ""),
            study_description=tags.get("StudyDescription", ""),
            series=tuple(answer["Series"]),
        )

    def lookup(self, level: Level, uid: str) -> tuple[str, ...]:
        """Return the Orthanc ids of what has this DICOM UID at that level (patients: PatientID).

        Orthanc tells studies of one StudyInstanceUID apart by PatientID, hence more than one.
        """
        found = self._post("/tools/lookup", content=uid.encode()).json()
        return tuple(entry["ID"] for entry in found if entry["Type"] == _KIND_OF_LEVEL[level])

    def studies_of(self, patient_orthanc_id: str) -> tuple[str, ...]:
        """Return the Orthanc ids of a patient's studies.

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold the patient (any longer).
        """
        return tuple(self._get_held(f"/patients/{patient_orthanc_id}").json()["Studies"])

    def holds(self, sop_instance_uid: str) -> bool:
        """Return whether an instance of that UID is stored."""
        return bool(self.lookup("instances", sop_instance_uid))

    def find_studies(self, patient_name: str, *, limit: int) -> tuple[str, ...]:
        """Return the Orthanc ids of studies whose patient's name has that in it, `limit` at most.

        Upper and lower case are the same; what DICOM has as a wild card stands for nothing here.
        """
        plain = re.sub(r"[*?\\^=]+", " ", patient_name).strip()
        if not plain:
            return ()
        query = {
            "Level": "Study",
            "Limit": limit,
            "Query": {"PatientName": f"*{plain}*"},
        }
        return tuple(self._post("/tools/find", json=query).json())

    def series_uids(self, study_orthanc_id: str) -> dict[str, str]:
        """Return the UIDs of a study's series, by their Orthanc ids."""
        query = {"Resources": [study_orthanc_id], "Level": "Series", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        return {entry["ID"]: entry["MainDicomTags"]["0020,000e"] for entry in found}

    def listed_series(self, study_orthanc_id: str) -> tuple[ListedSeries, ...]:
        """Return what a study's series are; one question, however many there are."""
        query = {"Resources": [study_orthanc_id], "Level": "Series", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        return tuple(
            ListedSeries(
                entry["MainDicomTags"]["0020,000e"],
                entry["MainDicomTags"].get("0008,0060", ""),
                len(entry["Instances"]),
            )
            for entry in found
        )

    def names(self, instance_ids: Sequence[str]) -> dict[str, ArchivedName]:
        """Return what instances are called, by their Orthanc ids; those that are gone are left out.

        Two questions, however many there are.
        """
        if not instance_ids:
            return {}
        query = {"Resources": list(instance_ids), "Level": "Instance", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        parents = {entry["ParentSeries"] for entry in found}
        query = {"Resources": sorted(parents), "Level": "Series", "Short": True}
        series = {
            entry["ID"]: entry["MainDicomTags"]
            for entry in (self._post("/tools/bulk-content", json=query).json() if parents else ())
        }
        return {
            entry["ID"]: ArchivedName(
                orthanc_id=entry["ID"],
                series_uid=series[entry["ParentSeries"]]["0020,000e"],
                sop_instance_uid=entry["MainDicomTags"]["0008,0018"],
                series_description=series[entry["ParentSeries"]].get("0008,103e", ""),
            )
            for entry in found
            if entry["ParentSeries"] in series
        }

    def statistics(self) -> Statistics:
        """Return how much is stored."""
        answer = self._get("/statistics").json()
        return Statistics(
            patients=answer["CountPatients"],
            studies=answer["CountStudies"],
            series=answer["CountSeries"],
            instances=answer["CountInstances"],
            disk_bytes=int(answer["TotalDiskSize"]),
        )

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

    # --- get it ---------------------------------------------------------------------------------

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

    # --- store, delete --------------------------------------------------------------------------

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
        return str(_accepted(answer).json()["ID"])

    def delete(self, level: Level, orthanc_id: str) -> None:
        """Delete a resource with all below it; one that is not there is no error."""
        answer = self._request("DELETE", f"/{level}/{orthanc_id}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            _accepted(answer)

    # --- below ----------------------------------------------------------------------------------

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
            with self._http.stream("GET", f"/instances/{instance.orthanc_id}/file") as answer:
                _held(answer)
                with partial.open("wb") as file:
                    for chunk in answer.iter_bytes(1 << 20):
                        file.write(chunk)
        except httpx.TransportError as error:
            raise _unreachable(error) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFull("no room to fetch a series from the archive") from None
            raise
        _check_size(partial, instance)
        return partial.replace(path)

    def _get(self, path: str, params: Mapping[str, int] | None = None) -> httpx.Response:
        return _accepted(self._request("GET", path, params=params))

    def _get_held(self, path: str) -> httpx.Response:
        return _held(self._request("GET", path))

    def _post(
        self,
        path: str,
        *,
        json: Mapping[str, object] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        return _accepted(self._request("POST", path, json=json, content=content))

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, int] | None = None,
        json: Mapping[str, object] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        asks = method == "GET" or path.startswith("/tools/")
        for last_try in (not asks, True):
            try:
                return self._http.request(method, path, params=params, json=json, content=content)
            except (httpx.RemoteProtocolError, httpx.ReadError) as error:
                # An idle connection that Orthanc closed at this very moment: a question is asked
                # once more, on a new one.
                if last_try:
                    raise _unreachable(error) from None
            except httpx.TransportError as error:
                # `from None`: httpx's own text and request carry the path: it holds identifiers.
                raise _unreachable(error) from None
        raise AssertionError("the loop returns or raises")


def _check_size(path: Path, instance: ArchivedInstance) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise ArchiveMismatch("a stored file is not where the archive keeps it") from None
    if size != instance.size:
        raise ArchiveMismatch(f"a file of {instance.size} bytes came with {size}")


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise PeerRefused("the archive refused our user and password")
    if answer.is_error:
        raise PeerRefused(f"the archive refused with HTTP {answer.status_code}")
    return answer


def _held(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ArchiveMismatch("the archive does not hold it any longer")
    return _accepted(answer)


def _unreachable(error: httpx.TransportError) -> PeerUnreachable:
    return PeerUnreachable(f"the archive did not answer ({type(error).__name__})")
