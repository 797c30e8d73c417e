"""A folder of DICOM files as studies and series, in whatever order and names they lie there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom.errors import NotDicom
from dicom.study import Instance, Series, Study

_TAGS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality"]


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds.

    Attributes
    ----------
    studies : tuple of Study
        By StudyInstanceUID; series and instances by their UIDs.
    passed_over : int
        Files that are no DICOM instance (a viewer, a PDF, a DICOMDIR).
    """

    studies: tuple[Study, ...]
    passed_over: int


def read_folder(folder: Path) -> Folder:
    """Return the studies below a folder (or of one file), from the headers alone.

    Raises
    ------
    NotDicom
        When there is no DICOM instance at all.
    """
    found: dict[str, dict[tuple[str, str], list[Instance]]] = defaultdict(lambda: defaultdict(list))
    passed_over = 0
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        try:
            ds = dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
            study, series = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
            instance = Instance(str(ds.SOPInstanceUID), str(ds.SOPClassUID), path)
        except (InvalidDicomError, AttributeError, EOFError):
            passed_over += 1
            continue
        found[study][series, str(ds.get("Modality", ""))].append(instance)
    if not found:
        raise NotDicom("there is no DICOM file")
    studies = tuple(
        Study(
            study_uid,
            tuple(
                Series(
                    series_uid,
                    modality,
                    tuple(sorted(instances, key=lambda i: i.sop_instance_uid)),
                )
                for (series_uid, modality), instances in sorted(series_of.items())
            ),
        )
        for study_uid, series_of in sorted(found.items())
    )
    return Folder(studies, passed_over)
