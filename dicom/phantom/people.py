"""Invented patients, and the identity that they leave all over a header."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

_FAMILY = ("Müllerová", "Okonkwo-Testa", "Ångström", "Fernández", "Phantomsen", "Delacroix")
_GIVEN = ("Ottilie", "Chidi", "Saga", "Inés", "Runa", "Amélie")
_STREETS = ("Lindengasse", "Rue du Fantôme", "Harbour Lane", "Calle Mayor", "Storgata")
_TOWNS = ("Beispielstadt", "Villeneuve-l'Essai", "Port Sample", "Ejemplo de Mar", "Prøvevik")
_DOCTORS = ("Grünwald^Theodor", "Nakamura^Emi", "O'Beirne^Fionn", "Szymańska^Halina")


@dataclass(frozen=True, slots=True)
class Person:
    """An invented patient; every string of it is identity that must not leave."""

    name: str  # PN: family^given^middle
    patient_id: str
    birth_date: dt.date
    sex: Literal["F", "M"]
    address: str
    telephone: str
    mother: str
    physician: str

    @classmethod
    def drawn(cls, seed: int) -> Person:
        """Return the patient of that seed, always the same."""
        rng = np.random.default_rng([seed, 0x706174])

        def one(names: tuple[str, ...]) -> str:
            return names[int(rng.integers(len(names)))]

        number = int(rng.integers(10_000_000, 99_999_999))
        return cls(
            name=f"{one(_FAMILY)}^{one(_GIVEN)}^{one(_GIVEN)}",
            patient_id=f"PHX-{number}",
            birth_date=dt.date(1940, 1, 1) + dt.timedelta(days=int(rng.integers(27_000))),
            sex="F" if rng.random() < 0.5 else "M",
            address=f"{one(_STREETS)} {int(rng.integers(1, 180))}, {one(_TOWNS)}",
            telephone=f"+99 555 {int(rng.integers(100_000, 999_999))}",
            mother=f"{one(_FAMILY)}^{one(_GIVEN)}",
            physician=one(_DOCTORS),
        )


def uid(*parts: object) -> str:
    """Return a UID that depends on `parts` alone (PS3.5 B.2: 2.25 and a 128-bit number)."""
    digest = hashlib.sha256("|".join(map(str, ("phantom", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def item(**attributes: object) -> Dataset:
    """Return an item of a sequence."""
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a coded entry (PS3.3 8.8)."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def write_person(ds: Dataset, person: Person, day: dt.datetime, family: str) -> None:
    """Patient module, and everything about people that a real header may hold."""
    years = (day.date() - person.birth_date).days // 365
    ds.PatientName = person.name
    ds.PatientID = person.patient_id
    ds.IssuerOfPatientID = "PHANTOM GENERAL HOSPITAL"
    ds.PatientBirthDate = person.birth_date.strftime("%Y%m%d")
    ds.PatientBirthTime = "043000"
    ds.PatientSex = person.sex
    ds.PatientAge = f"{years:03d}Y"
    ds.PatientSize, ds.PatientWeight = "1.71", "68.5"
    ds.PatientAddress = person.address
    ds.PatientTelephoneNumbers = person.telephone
    ds.PatientMotherBirthName = person.mother
    ds.PatientBirthName = f"{person.mother.split('^')[0]}^{person.name.split('^')[1]}"
    ds.OtherPatientNames = f"{family}^O."
    ds.EthnicGroup = "invented"
    ds.Occupation = "Keeper of boats"
    ds.MilitaryRank = "none"
    ds.PatientReligiousPreference = "none"
    ds.CountryOfResidence = "Nowhere"
    ds.AdditionalPatientHistory = f"{family} fell on {day:%d.%m.%Y}; lives at {person.address}"
    ds.PatientComments = f"Call {person.telephone}, ask for {person.mother.replace('^', ' ')}"
    ds.PregnancyStatus = 4
    ds.MedicalAlerts = f"Pacemaker of {family}: no"
    ds.OtherPatientIDsSequence = [
        item(
            PatientID=f"INS-{person.patient_id[4:]}",
            IssuerOfPatientID="PHANTOM INSURANCE",
            TypeOfPatientID="TEXT",
        )
    ]


def write_visit(
    ds: Dataset, person: Person, day: dt.datetime, number: int, key: tuple[object, ...]
) -> None:
    """Study, equipment and request: physicians, places, numbers, nested names."""
    doctor = person.physician
    ds.StudyID = f"{number % 10_000}"
    ds.AccessionNumber = f"ACC{number}"
    ds.AdmissionID = f"ADM{number}"
    ds.ReferringPhysicianName = doctor
    ds.ReferringPhysicianAddress = f"Practice of {doctor.replace('^', ' ')}, {person.address}"
    ds.ReferringPhysicianIdentificationSequence = [
        item(
            InstitutionName="Practice by the Bridge",
            InstitutionAddress=person.address,
            PersonTelephoneNumbers=person.telephone,
            PersonIdentificationCodeSequence=[code("LANR-7788", "99PHANTOM", doctor)],
        )
    ]
    ds.PhysiciansOfRecord = doctor
    ds.PerformingPhysicianName = "Reader^Rita"
    ds.NameOfPhysiciansReadingStudy = "Reader^Rita"
    ds.OperatorsName = "Tech^Tomas"
    ds.RequestingPhysician = doctor
    ds.RequestingService = "Neurology, ward of Dr Imaginary"
    ds.InstitutionName = "Phantom General Hospital"
    ds.InstitutionAddress = "1 Nowhere Square, Beispielstadt"
    ds.InstitutionalDepartmentName = "Radiology of Prof. Schatten"
    ds.StationName = "MR2-BASEMENT"
    ds.DeviceSerialNumber = f"SN{number}"
    ds.DeviceUID = uid("device", number)
    ds.AcquisitionDateTime = f"{day:%Y%m%d%H%M%S.%f}+0000"
    ds.PerformedProcedureStepStartDate = f"{day:%Y%m%d}"
    ds.PerformedProcedureStepStartTime = f"{day:%H%M%S}"
    ds.PerformedProcedureStepID = f"PPS{number}"
    ds.PerformedProcedureStepDescription = f"MR head for {doctor.replace('^', ' ')}"
    ds.ProcedureCodeSequence = [code("MRHEAD", "99PHANTOM", "MR of head")]
    ds.ReferencedStudySequence = [
        item(
            ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
            ReferencedSOPInstanceUID=uid("referenced study", *key),
        )
    ]
    ds.RequestAttributesSequence = [
        item(
            RequestedProcedureID=f"RP{number}",
            AccessionNumber=f"ACC{number}",
            ScheduledProcedureStepID=f"SPS{number}",
            RequestedProcedureDescription="MR head",
            ReasonForTheRequestedProcedure=f"{person.name.split('^')[0]}: headache",
            ScheduledProtocolCodeSequence=[code("T1", "99PHANTOM", f"for {doctor}")],
        )
    ]


def write_private(ds: Dataset, person: Person, date: str) -> None:
    """Private blocks with identity in plain elements, in a sequence and in bytes."""
    block = ds.private_block(0x0029, "RADLOOP PHANTOM", create=True)
    block.add_new(0x01, "LO", f"Exam of {person.name.replace('^', ' ')}")
    block.add_new(0x02, "DA", date)
    block.add_new(0x03, "SQ", [item(PatientName=person.name, PatientID=person.patient_id)])
    block.add_new(0x04, "OB", person.name.encode().ljust(64, b"\0"))
    block.add_new(0x05, "UI", uid("private", person.patient_id))
    other = ds.private_block(0x0051, "PHANTOM CSA HEADER", create=True)
    other.add_new(0x08, "UN", f"{person.patient_id} {person.telephone} ".encode()[:40].ljust(40))
