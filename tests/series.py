"""Small synthetic series of slices: any plane, spacing, gap, tilt, pixel format or defect.

The picture is a function of the place in the patient, so that a test knows what every voxel has to
be, whatever the grid: see :func:`picture`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.misc import is_dicom
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from dicom.study import Instance, Series
from dicom.uids import derived_uid

DATA = Path(__file__).parents[2] / "shared" / "data"

SOP_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}
AXIAL = ((1, 0, 0), (0, 1, 0))
CORONAL = ((1, 0, 0), (0, 0, -1))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
LEFT_BALL_LPS = np.array([12.0, -3.0, 4.0])
"""Centre in mm of the ball that :func:`picture` shows on the patient's left (+x in LPS)."""
BALL_RADIUS_MM = 6.0

Edit = Callable[[int, Dataset], None]


def turned(
    plane: tuple[Sequence[float], Sequence[float]], degrees: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a plane's row and column directions, turned about the x, y and z axes in turn."""
    row, column = (np.array(vector, float) for vector in plane)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        row, column = turn @ row, turn @ column
    return row, column


PLANES = {
    "axial": AXIAL,
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "axial, feet first": ((-1, 0, 0), (0, 1, 0)),
    "axial, rows upwards": ((1, 0, 0), (0, -1, 0)),
    "oblique": turned(AXIAL, (25, -14, 40)),
    "doubly oblique sagittal": turned(SAGITTAL, (-8, 12, 3)),
}
"""Planes in which left, right, up and down could be mixed up."""


def grid_affine(
    plane: tuple[Sequence[float], Sequence[float]],
    shape_kji: tuple[int, int, int],
    spacing_kji: tuple[float, float, float],
) -> np.ndarray:
    """Return (k, j, i, 1) -> LPS mm of a grid whose middle is the patient's origin."""
    row, column = (np.array(vector, float) for vector in plane)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(row, column) * spacing_kji[0]
    affine[:3, 1] = column * spacing_kji[1]
    affine[:3, 2] = row * spacing_kji[2]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape_kji) - 1) / 2)
    return affine


def picture(points_lps: np.ndarray) -> np.ndarray:
    """Return whole values at places in the patient: a slow ramp, and a bright ball on the left."""
    ramp = 100 + points_lps @ (1.0, 2.0, 3.0)
    ball = np.linalg.norm(points_lps - LEFT_BALL_LPS, axis=-1) < BALL_RADIUS_MM
    return np.where(ball, 900, np.rint(ramp)).astype(np.int32)


def picture_on(affine_lps: np.ndarray, shape_kji: tuple[int, int, int]) -> np.ndarray:
    """Return the picture on a grid, int32, shape (slices, rows, columns)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape_kji), indexing="ij"), axis=-1)
    return picture(index @ affine_lps[:3, :3].T + affine_lps[:3, 3])


def ds_text(value: float) -> str:
    """Return a number as a decimal string of at most 16 characters."""
    return f"{value:.10f}"[:16]


def write_series(
    folder: Path,
    *,
    modality: str = "CT",
    plane: tuple[Sequence[float], Sequence[float]] = AXIAL,
    shape_kji: tuple[int, int, int] = (12, 30, 34),
    spacing_kji: tuple[float, float, float] = (3.0, 1.5, 1.25),
    name: str = "a",
    transfer_syntax: UID = ExplicitVRLittleEndian,
    left_out: Sequence[int] = (),
    edit: Edit | None = None,
) -> Series:
    """Write a classic CT, MR or PET series that shows :func:`picture`, and return it.

    Parameters
    ----------
    folder : Path
        Made when absent.
    plane : pair of vectors
        Directions along a row and along a column, LPS.
    name : str
        Another name makes other UIDs.
    left_out : sequence of int
        Slices that are not written.
    edit : callable, optional
        Called with the slice's number and its dataset before it is saved; ``ds.stored`` holds the
        voxels until then (int32, rows x columns) and becomes PixelData.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = grid_affine(plane, shape_kji, spacing_kji)
    voxels = picture_on(affine, shape_kji)
    instances = []
    # File names and InstanceNumber run against the geometry: nothing may depend on them.
    for k in sorted(set(range(shape_kji[0])) - set(left_out), key=lambda k: (k * 7) % 13):
        ds = _slice(modality, plane, affine, spacing_kji, k, name)
        ds.Rows, ds.Columns = shape_kji[1:]
        ds.stored = voxels[k]
        if edit is not None:
            edit(k, ds)
        stored = ds.__dict__.pop("stored")
        if stored is not None:
            kind = "i" if ds.PixelRepresentation else "u"
            raw = stored.astype(f"<{kind}{ds.BitsAllocated // 8}").tobytes()
            ds.PixelData = raw + b"\0" * (len(raw) % 2)
            ds["PixelData"].VR = "OW"
        path = folder / f"{900 - k:04d}.dcm"
        _save(ds, path, transfer_syntax)
        instances.append(Instance(ds.SOPInstanceUID, ds.SOPClassUID, path))
    return Series(derived_uid("series", name), modality, tuple(instances))


def _save(ds: Dataset, path: Path, transfer_syntax: UID) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    if transfer_syntax.is_encapsulated:
        ds.compress(transfer_syntax, generate_instance_uid=False)
    else:
        meta.TransferSyntaxUID = transfer_syntax
        if not transfer_syntax.is_little_endian and "PixelData" in ds:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    ds.save_as(path, enforce_file_format=True)


def _slice(
    modality: str,
    plane: tuple[Sequence[float], Sequence[float]],
    affine: np.ndarray,
    spacing_kji: tuple[float, float, float],
    k: int,
    name: str,
) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = SOP_CLASSES[modality]
    ds.SOPInstanceUID = derived_uid("instance", name, str(k))
    ds.StudyInstanceUID = derived_uid("study", name)
    ds.SeriesInstanceUID = derived_uid("series", name)
    ds.FrameOfReferenceUID = derived_uid("frame", name)
    ds.PositionReferenceIndicator = ""
    ds.Modality = modality
    ds.PatientName, ds.PatientID = "Test^Person", "T-1"
    ds.PatientBirthDate, ds.PatientSex = "19500101", "O"
    ds.StudyDate, ds.StudyTime = "20260102", "030405"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.SeriesNumber, ds.InstanceNumber = 2, 100 - k
    ds.SeriesDescription = "synthetic"
    ds.Manufacturer = "radloop tests"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [ds_text(v) for vector in plane for v in vector]
    ds.ImagePositionPatient = [ds_text(v) for v in (affine @ (k, 0, 0, 1))[:3]]
    ds.PixelSpacing = [ds_text(v) for v in spacing_kji[1:]]
    ds.SliceThickness = "7.7"  # wrong on purpose
    ds.SpacingBetweenSlices = "9.9"  # wrong on purpose
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    if modality == "CT":
        ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
        ds.KVP, ds.AcquisitionNumber = "120", 1
    if modality == "PT":
        ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
        ds.Units = "BQML"
    if modality == "MR":
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", "NONE", ""
        ds.MRAcquisitionType, ds.EchoTime, ds.RepetitionTime = "3D", "3", "9"
        ds.EchoTrainLength = 1
    return ds


def real_series(archive: str, folder: Path) -> Series:
    """Unpack a real series, or skip where the real data is absent."""
    path = DATA / archive
    if not path.exists():
        pytest.skip("real data (shared/data) is absent")
    with tarfile.open(path) as packed:
        packed.extractall(folder, filter="data")
    headers = [
        (file, dcmread(file, stop_before_pixels=True))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and is_dicom(file)
    ]
    instances = tuple(Instance(ds.SOPInstanceUID, ds.SOPClassUID, file) for file, ds in headers)
    return Series(headers[0][1].SeriesInstanceUID, headers[0][1].Modality, instances)
