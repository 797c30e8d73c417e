"""Studies, series and instances as frozen values.

A :class:`Study` is what the workflow passes around: identifiers and file paths, never pixel data.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TYPE_2_KEYWORDS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Patient and study attributes that every object has, be they empty (PS3.3 C.7.1.1, C.7.2.1)."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance in a file (PS3.3 A.1.2)."""

    sop_instance_uid: str
    sop_class_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class Series:
    """One series: instances of one modality; order is the archive's, not the geometry's."""

    series_uid: str
    modality: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """One study and those of its series that are at hand."""

    study_uid: str
    series: tuple[Series, ...]

    def series_of(self, series_uid: str) -> Series:
        """Return the series with that UID.

        Raises
        ------
        KeyError
            When the study has no such series.
        """
        for series in self.series:
            if series.series_uid == series_uid:
                return series
        raise KeyError("no such series in this study")
