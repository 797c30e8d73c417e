"""Whether a result is of the patient and the study of its images, and of them alone."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from dicom.deid import Identity
from dicom.errors import SourceMismatch
from dicom.gate.reading import opened, tag_of
from dicom.part10 import PARSER_ERRORS, quiet_pydicom

_OF_PATIENT: Final = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
)
_MARKS: Final = ("PatientIdentityRemoved", "DeidentificationMethod")
_SOP_INSTANCE = tag_of("SOPInstanceUID")
_SERIES = tag_of("SeriesInstanceUID")
_SOP_CLASS = tag_of("SOPClassUID")
_SEGMENTATIONS: Final = (SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")  # and label maps
_REFERENCES: Final = (
    "ReferencedSOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceUID",
)
_UID: Final = re.compile(rb"[0-9]+(?:\.[0-9]+){2,}")
# In Explicit VR Little Endian a reference looks the same however deep it is nested.
_REFERENCE: Final = re.compile(
    b"(?:%s)UI(..)"
    % b"|".join(
        re.escape(struct.pack("<HH", tag >> 16, tag & 0xFFFF)) for tag in map(tag_of, _REFERENCES)
    ),
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Names:
    """What an object calls itself."""

    sop_instance_uid: str
    series_uid: str
    is_segmentation: bool


def names_of(path: Path) -> Names:
    """Return what an object calls itself.

    Raises
    ------
    WrongGeometry
        When it cannot be read.
    """
    with opened(path) as item:
        return Names(
            item.text(_SOP_INSTANCE), item.text(_SERIES), item.text(_SOP_CLASS) in _SEGMENTATIONS
        )


def check_belongs(path: Path, identity: Identity, *, beside: Collection[str]) -> None:
    """Make sure that a result that was pointed back belongs to its study, and to nothing else.

    Whatever kind of object it is: patient and study read as in the originals, no pseudonym is left
    anywhere in its header, and every instance, series, study and frame of reference that it names
    is one of the originals, or was made beside it.

    Parameters
    ----------
    path : Path
        The object as it is about to be stored.
    identity : Identity
        What de-identification took from the study.
    beside : collection of str
        SOP instance and series UIDs of this object and of the others of the same task.

    Raises
    ------
    SourceMismatch
        When it names another patient or study, or refers to what was not in this one.
    """
    study_uid = identity.uids.get(identity.study_pseudonym)
    with quiet_pydicom():
        try:
            tags = [*_OF_PATIENT, *_MARKS, "StudyInstanceUID"]
            ds = dcmread(path, stop_before_pixels=True, specific_tags=tags)
            original = Dataset.from_json(dict(identity.attributes))
            told = [
                str(uid)
                for element in original.iterall()
                if element.VR == "UI" and element.value
                for uid in (element.value if element.VM > 1 else [element.value])
            ]
            same = all(_text(ds, keyword) == _text(original, keyword) for keyword in _OF_PATIENT)
        except PARSER_ERRORS:
            raise SourceMismatch("the result cannot be read again") from None
    if not same or ds.get("StudyInstanceUID") != study_uid:
        raise SourceMismatch("the result names another patient or study than its images")
    if any(_text(ds, keyword) != _text(original, keyword) for keyword in _MARKS):
        raise SourceMismatch("the result still says that its identity was removed")
    with opened(path, explicit=True) as item:
        header = item.data[: max(end for _, end in item.spans.values())]
    replaced = {old.encode() for old, new in identity.uids.items() if old != new}
    # The byte behind a UID of even length belongs to the next tag, and may look like a digit.
    if any(not replaced.isdisjoint((uid, uid[:-1])) for uid in set(_UID.findall(header))):
        raise SourceMismatch("the result still holds pseudonyms")
    known = {uid.encode() for uid in (*identity.uids.values(), *told, *beside)}
    if not known.issuperset(_references(header)):
        raise SourceMismatch("the result refers to what was not in its study")


def _references(header: bytes) -> Iterator[bytes]:
    for found in _REFERENCE.finditer(header):
        length = int.from_bytes(found[1], "little")
        yield header[found.end() : found.end() + length].rstrip(b"\0 ")


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "").rstrip(" \0^")
