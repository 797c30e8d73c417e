"""A folder of DICOM files as studies and series, in whatever order and names they lie there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dicom.errors import NotDicom
from dicom.header import read_header
from dicom.study import Instance, Series, Study

_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
)


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
            header = read_header(path, _KEYWORDS)
        except NotDicom:
            passed_over += 1
            continue
        study, series, sop_instance, sop_class, modality = map(header.text, _KEYWORDS)
        if not (study and series and sop_instance and sop_class):
            passed_over += 1
            continue
        instance = Instance(sop_instance, sop_class, path)
        found[study][series, modality or ""].append(instance)
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
