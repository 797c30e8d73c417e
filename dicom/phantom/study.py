"""A head as a study of one classic MR series on disk."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom.phantom.head import Head, Plane, head_mr
from dicom.phantom.people import Person, item, uid, write_person, write_private, write_visit
from dicom.study import Instance, Series, Study


@dataclass(frozen=True, slots=True, eq=False)
class WrittenHead:
    """A phantom's study on disk, with the truth that it was made from."""

    study: Study
    head: Head
    person: Person

    @property
    def series(self) -> Series:
        """The one series of the study."""
        return self.study.series[0]


def write_head_study(
    folder: Path,
    *,
    seed: int = 1,
    head: Head | None = None,
    slices: int = 160,
    size: int = 256,
    plane: Plane = "sagittal",
    person: Person | None = None,
    visit: int = 1,
) -> WrittenHead:
    """Write one head as a study of one classic MR series, with a fake identity everywhere.

    Parameters
    ----------
    folder : Path
        Made when absent; files are ``IM0001.dcm`` and on, in the order of the slices.
    seed : int
        Of the head and, without `person`, of the patient. The same arguments write the same
        bytes.
    head : Head, optional
        What to write; made by ``head_mr(seed, slices=slices, size=size, plane=plane)`` if absent.
    slices, size, plane
        As for :func:`head_mr`; not used with `head`.
    person : Person, optional
        The patient; give one person to several calls for several studies of one patient.
    visit : int
        Another visit is another study, with other UIDs and dates, of the same patient.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    head = head or head_mr(seed, slices=slices, size=size, plane=plane)
    person = person or Person.drawn(seed)
    folder.mkdir(parents=True, exist_ok=True)
    key = (seed, visit, person.patient_id, head.voxels_kji.shape, head.affine_lps.round(3).tolist())
    common = _common_header(head, person, visit, key)
    instances = []
    for k, voxels in enumerate(head.voxels_kji):
        ds = _slice_header(common, head, k, key)
        ds.PixelData = voxels.astype("<u2").tobytes()
        path = folder / f"IM{k + 1:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        instances.append(Instance(ds.SOPInstanceUID, ds.SOPClassUID, path))
    series = Series(common.SeriesInstanceUID, "MR", tuple(instances))
    return WrittenHead(Study(common.StudyInstanceUID, (series,)), head, person)


def _common_header(head: Head, person: Person, visit: int, key: tuple[object, ...]) -> Dataset:
    """Return the attributes that all slices share."""
    day = dt.datetime(2024, 3, 5, 8, 41, 17, tzinfo=dt.UTC)
    day += dt.timedelta(days=37 * visit, minutes=11 * visit)
    date, time = day.strftime("%Y%m%d"), day.strftime("%H%M%S.%f")
    family = person.name.split("^")[0]
    number = int(uid("number", *key)[-6:])
    _, rows, columns = head.voxels_kji.shape
    slice_mm, row_mm, column_mm = head.spacing_mm
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    write_person(ds, person, day, family)
    write_visit(ds, person, day, number, key)
    ds.StudyInstanceUID = uid("study", *key)
    ds.SeriesInstanceUID = uid("series", *key)
    ds.FrameOfReferenceUID = uid("frame", *key)
    ds.PositionReferenceIndicator = ""
    ds.SOPClassUID = MRImageStorage
    ds.Modality = "MR"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.InstanceCreationDate, ds.InstanceCreationTime = date, time
    ds.SeriesNumber = 3
    ds.AcquisitionNumber = 1
    ds.StudyDescription = "MR head"
    ds.SeriesDescription = "T1 3D gradient echo"
    ds.ProtocolName = f"T1_3D {family}"
    ds.BodyPartExamined = "HEAD"
    ds.PatientPosition = "HFS"
    ds.ImageComments = f"Phantom of {person.name.replace('^', ' ')}"

    ds.Manufacturer = "radloop"
    ds.ManufacturerModelName = "procedural head"
    ds.SoftwareVersions = "1"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.ScanningSequence = ["GR", "IR"]
    ds.SequenceVariant = ["SP", "MP"]
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "3D"
    ds.RepetitionTime, ds.EchoTime, ds.InversionTime, ds.FlipAngle = "2300", "2.98", "900", "9"
    ds.EchoTrainLength = 1
    ds.MagneticFieldStrength = "3"
    ds.ImagingFrequency = "123.2"
    ds.ImagedNucleus = "1H"
    ds.SliceThickness = f"{slice_mm:.6g}"
    ds.SpacingBetweenSlices = f"{slice_mm:.6g}"
    ds.PixelSpacing = [f"{row_mm:.10g}", f"{column_mm:.10g}"]
    directions = head.affine_lps[:3, :3] / head.spacing_mm
    ds.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in (*directions[:, 2], *directions[:, 1])]

    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = "650", "1300"
    write_private(ds, person, date)
    return ds


def _slice_header(common: Dataset, head: Head, k: int, key: tuple[object, ...]) -> Dataset:
    """Return the shared header with which slice it is and where it lies."""
    ds = Dataset(common)
    ds.SOPInstanceUID = uid("slice", k, *key)
    ds.InstanceNumber = k + 1
    ds.ImagePositionPatient = [f"{v:.10f}"[:16] for v in head.affine_lps @ (k, 0, 0, 1)][:3]
    normal = np.cross(head.affine_lps[:3, 2], head.affine_lps[:3, 1])
    place = head.affine_lps[:3, 3] + k * head.affine_lps[:3, 0]
    ds.SliceLocation = f"{place @ normal / np.linalg.norm(normal):.6f}"
    ds.ReferencedImageSequence = [
        item(ReferencedSOPClassUID=MRImageStorage, ReferencedSOPInstanceUID=uid("localiser", *key))
    ]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds
