"""An MR slice with an identity, and tokens planted in it that occur nowhere else."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom import Dataset, config, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom.deid import Deidentifier, Identity
from dicom.profile import table_rules

KEY = bytes(range(32))
MR_CLASS = "1.2.840.10008.5.1.4.1.1.4"
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]

# Content Sequence holds itself to any depth, so that whatever is planted in it must be judged.
NEST = (0x0040A730,) * 4


def slice_of_mr(**attributes: object) -> Dataset:
    """Return one MR slice, explicit VR little endian, with a plain fake identity."""
    ds = Dataset()
    ds.SOPClassUID = MR_CLASS
    ds.SOPInstanceUID = "1.2.826.77.1.1"
    ds.StudyInstanceUID = "1.2.826.77.2"
    ds.SeriesInstanceUID = "1.2.826.77.3"
    ds.FrameOfReferenceUID = "1.2.826.77.4"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.Modality = "MR"
    ds.PatientName = "Wagner^Johanna"
    ds.PatientID = "MRN-4711"
    ds.IssuerOfPatientID = "St. Elsewhere"
    ds.PatientBirthDate = "19500102"
    ds.PatientSex = "F"
    ds.PatientAge = "093Y"
    ds.PatientWeight = "61.5"
    ds.StudyDate = "20240229"
    ds.StudyTime = "101500"
    ds.AccessionNumber = "ACC-9"
    ds.ReferringPhysicianName = "House^Gregory"
    ds.StudyID = "S1"
    ds.StudyDescription = "MR Brain"
    ds.SeriesNumber = "3"
    ds.InstanceNumber = "1"
    ds.ImagePositionPatient = [-1.5, 2, 3]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.9, 0.9]
    ds.Rows, ds.Columns = 4, 6
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.arange(24, dtype="<u2").tobytes()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.SourceApplicationEntityTitle = "SCANNER-7"
    ds.file_meta.ImplementationClassUID = "1.2.826.77.9"
    ds.file_meta.MediaStorageSOPClassUID = MR_CLASS
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def as_file(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    ds.file_meta.TransferSyntaxUID = syntax
    ds.preamble = b"WAGNER JOHANNA".ljust(128, b"\0")
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def clean_file(engine: Deidentifier, source: Path, tmp_path: Path) -> tuple[Path, Identity]:
    folder = tmp_path / "clean"
    folder.mkdir(exist_ok=True)
    instance, identity = engine.deidentify_file(source, folder)
    return instance.path, identity


def add(ds: Dataset, number: int, vr: str, value: object) -> None:
    """Put a value in unchecked: real files hold what no standard allows."""
    if vr == "UN":
        assert isinstance(value, bytes)
        padded = value + b"\0" * (len(value) % 2)
        ds[number] = RawDataElement(BaseTag(number), vr, len(padded), padded, 0, False, True)
    else:
        ds[number] = DataElement(number, vr, value, validation_mode=config.IGNORE)


def nested(ds: Dataset, depth: int) -> Dataset:
    """Return the item at that depth of NEST, made when absent."""
    for number in NEST[:depth]:
        if number not in ds:
            ds[number] = DataElement(number, "SQ", Sequence([Dataset()]))
        ds = ds[number].value[0]
    return ds


class Planter:
    """Makes a value for a VR that occurs nowhere else, and knows how to look for it."""

    def __init__(self) -> None:
        self.count = 0
        self.days = 0
        self.tokens: dict[bytes, str] = {}

    def value(self, vr: str, where: str) -> object | None:
        """Return a value with a token in it; None for a VR that is too short to hold one."""
        self.count += 1
        n = self.count
        if vr in ("OB", "UN", "OW", "OB or OW"):
            return self._look_for(f"QZXB{n:06d}", where).encode()
        if vr == "DA":
            return self._look_for(self._next_day(), where)
        if vr == "DT":
            return self._look_for(f"{self._next_day()}101112", where)
        if vr == "TM":
            return "101112"  # kept: a time of day without its date
        if vr == "UI":
            return self._look_for(f"1.2.826.99.{n:06d}", where)
        if vr in ("DS", "IS"):
            return self._look_for(f"77{n:06d}", where)
        if vr == "AS":
            return "101Y"
        if vr in ("US", "SS", "UL", "SL", "FL", "FD", "AT"):
            return None
        if vr == "CS":
            return self._look_for(f"QZX{n:06d}", where)
        return self._look_for(f"Qzx{n:06d}", where)

    def _look_for(self, token: str, where: str) -> str:
        self.tokens[token.encode()] = where
        return token

    def _next_day(self) -> str:
        """Return days of a block that is shorter than the tests' shift: no two ever meet."""
        self.days += 1
        day = date(1801, 1, 1) + timedelta(days=self.days)
        return f"{day.year:04}{day.month:02}{day.day:02}"

    def found(self, content: bytes) -> list[str]:
        return [where for token, where in self.tokens.items() if token in content]


def plant_table(ds: Dataset, planter: Planter, where: str) -> int:
    """Plant a token in every attribute of the table; return how many."""
    planted = 0
    for number, rule in sorted(table_rules().items()):
        if number >> 16 in (0x0000, 0x0002, 0x7FE0, 0xFFFA, 0xFFFC):  # not in a data set's header
            continue
        try:
            vr = dictionary_VR(number)
        except KeyError:
            vr = "LO"  # newer than the dictionary
        name = f"{where} {rule.name}"
        if vr == "SQ":
            item = Dataset()
            add(item, 0x00080104, "LO", planter.value("LO", name))
            add(item, 0x0040A160, "UT", planter.value("UT", name))
            add(item, 0x00081155, "UI", planter.value("UI", name))
            add(item, 0x00100010, "PN", planter.value("PN", name))
            ds[number] = DataElement(number, "SQ", Sequence([item]))
        elif number in (0x00080016, 0x0020000D, 0x0020000E, 0x00080018):
            continue
        elif (value := planter.value(vr, name)) is not None:
            add(ds, number, vr, value)
        else:
            continue
        planted += 1
    return planted
