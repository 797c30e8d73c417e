"""Whose instance it is, as far as the decisions on its attributes depend on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement

from dicom.descriptors import words_of
from dicom.elements import Attributes, bytes_of, is_parsable_sequence, text_of
from dicom.uids import date_shift_days, patient_pseudonym

_PATIENT_ID, _ISSUER, _STUDY = 0x00100020, 0x00100021, 0x0020000D
CONCEPT_NAME, CODE_VALUE, CODING_SCHEME = 0x0040A043, 0x00080100, 0x00080102

# PS3.16 TID 1006 ff.: DCM concepts that say who the subject is.
_SUBJECT_CONCEPTS: Final = frozenset({"121029", "121030", "121031", "121032", "121033"})

NAMING_TAGS: Final = (
    0x00100010,  # PatientName
    _PATIENT_ID,
    0x00100030,  # PatientBirthDate
    0x00101000,  # OtherPatientIDs
    0x00101001,  # OtherPatientNames
    0x00101005,  # PatientBirthName
    0x00101060,  # PatientMotherBirthName
    0x00101040,  # PatientAddress
    0x00102154,  # PatientTelephoneNumbers
    0x00102297,  # ResponsiblePerson
    0x00080050,  # AccessionNumber
    0x00080090,  # ReferringPhysicianName
    0x0008009C,  # ConsultingPhysicianName
    0x00081048,  # PhysiciansOfRecord
    0x00081050,  # PerformingPhysicianName
    0x00081060,  # NameOfPhysiciansReadingStudy
    0x00081070,  # OperatorsName
    0x00321032,  # RequestingPhysician
    0x00400006,  # ScheduledPerformingPhysicianName
    0x00700084,  # ContentCreatorName
)
"""Top-level attributes whose words must not stay in any description."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who an instance is about.

    Parameters
    ----------
    pseudonym : str
        The PatientID after de-identification.
    shift : timedelta
        By which every date of the patient moves.
    words : frozenset of str
        Words of the object's own names and identifiers, in lower case
        (:func:`dicom.descriptors.words_of`).
    """

    pseudonym: str
    shift: timedelta
    words: frozenset[str]

    @classmethod
    def of(cls, ds: Attributes, key: bytes) -> Subject:
        """Return whom an instance is about.

        Parameters
        ----------
        ds : Attributes
            The original.
        key : bytes
            32 secret bytes: pseudonym and shift come from them.
        """
        found: list[object] = [ds.get_item(tag) for tag in NAMING_TAGS if tag in ds]
        return cls.named(
            text_of(ds, _PATIENT_ID),
            text_of(ds, _ISSUER),
            study_uid=text_of(ds, _STUDY),
            names=[bytes_of(one) for one in found if isinstance(one, RawDataElement | DataElement)],
            key=key,
        )

    @classmethod
    def named(
        cls, patient_id: str, issuer: str, *, study_uid: str, names: list[bytes], key: bytes
    ) -> Subject:
        """Return whom an instance is about, from its raw values.

        Parameters
        ----------
        patient_id, issuer, study_uid : str
            Stripped of padding. Without an id, the study stands for the patient: two patients
            without one are not taken for each other.
        names : list of bytes
            The values of :data:`NAMING_TAGS`.
        key : bytes
            32 secret bytes.
        """
        if not patient_id:
            issuer = f"study {study_uid}"
        words: frozenset[str] = frozenset()
        for name in names:
            words |= words_of(name.decode("latin-1"))
        shift = timedelta(days=date_shift_days(key, patient_id, issuer))
        return cls(patient_pseudonym(key, patient_id, issuer), shift, words)


def is_subject_concept(code: str, scheme: str) -> bool:
    """Return whether a concept name says that its item is about who the subject is."""
    return code in _SUBJECT_CONCEPTS and scheme == "DCM"


def names_the_subject(item: Dataset) -> bool:
    """Return whether a content item says who the subject is (PS3.16 TID 1006 ff.)."""
    if CONCEPT_NAME not in item or not is_parsable_sequence(item, CONCEPT_NAME):
        return False
    return any(
        is_subject_concept(text_of(concept, CODE_VALUE), text_of(concept, CODING_SCHEME))
        for concept in item[CONCEPT_NAME].value or ()
    )
