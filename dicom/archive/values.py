"""What an archive tells of itself: changes, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["patients", "studies", "series", "instances"]

LEVEL_OF_CHANGE: Mapping[str, Level] = {
    "Patient": "patients",
    "Study": "studies",
    "Series": "series",
    "Instance": "instances",
}
KIND_OF_LEVEL: Mapping[Level, str] = {level: kind for kind, level in LEVEL_OF_CHANGE.items()}


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
