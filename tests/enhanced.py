"""Enhanced multi-frame CT, MR and PET that show the same picture as :mod:`tests.series`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
)

from dicom.study import Instance, Series
from dicom.uids import derived_uid
from tests.series import AXIAL, ds_text, grid_affine, picture_on

SOP_CLASSES = {
    "CT": EnhancedCTImageStorage,
    "MR": EnhancedMRImageStorage,
    "PT": EnhancedPETImageStorage,
}


@dataclass(frozen=True)
class Frame:
    """One frame: the slice that it shows, and what its values are raised by.

    `groups` are further functional groups: the macro's keyword -> its attributes.
    """

    k: int
    raised: int = 0
    slope: float = 1.0
    groups: dict[str, dict[str, object]] = field(default_factory=dict)


def item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def write_enhanced(
    folder: Path,
    *,
    modality: str = "CT",
    plane: tuple[Sequence[float], Sequence[float]] = AXIAL,
    shape_kji: tuple[int, int, int] = (12, 30, 34),
    spacing_kji: tuple[float, float, float] = (3.0, 1.5, 1.25),
    frames: Sequence[Frame] | None = None,
    name: str = "e",
    shared_orientation: bool = True,
    transfer_syntax: UID = ExplicitVRLittleEndian,
    edit: Callable[[Dataset], None] | None = None,
) -> Series:
    """Write one enhanced instance and return its series.

    Parameters
    ----------
    frames : sequence of Frame, optional
        In the order of the file; one for each slice from below by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    affine = grid_affine(plane, shape_kji, spacing_kji)
    voxels = picture_on(affine, shape_kji)
    frames = [Frame(k) for k in range(shape_kji[0])] if frames is None else frames
    ds = _instance(modality, name)
    ds.Rows, ds.Columns = shape_kji[1:]
    ds.NumberOfFrames = len(frames)
    orientation = item(ImageOrientationPatient=[ds_text(v) for vector in plane for v in vector])
    measures = item(PixelSpacing=[ds_text(v) for v in spacing_kji[1:]], SliceThickness="7.7")
    shared = item(PixelMeasuresSequence=Items([measures]))
    if shared_orientation:
        shared.PlaneOrientationSequence = Items([orientation])
    ds.SharedFunctionalGroupsSequence = Items([shared])
    ds.PerFrameFunctionalGroupsSequence = Items([])
    for number, frame in enumerate(frames, 1):
        position = [ds_text(v) for v in (affine @ (frame.k, 0, 0, 1))[:3]]
        group = item(
            PlanePositionSequence=Items([item(ImagePositionPatient=position)]),
            FrameContentSequence=Items([item(DimensionIndexValues=[number])]),
            PixelValueTransformationSequence=Items(
                [item(RescaleSlope=ds_text(frame.slope), RescaleIntercept="0", RescaleType="HU")]
            ),
        )
        if not shared_orientation:
            group.PlaneOrientationSequence = Items([orientation])
        for macro, attributes in frame.groups.items():
            if macro in group:
                for keyword, value in attributes.items():
                    setattr(group[macro].value[0], keyword, value)
            else:
                setattr(group, macro, Items([item(**attributes)]))
        ds.PerFrameFunctionalGroupsSequence.append(group)
    stored = np.stack([voxels[frame.k] + frame.raised for frame in frames]).astype("<i2")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    if edit is not None:
        edit(ds)
    path = folder / f"{name}.dcm"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if transfer_syntax.is_encapsulated:
        ds.compress(transfer_syntax, generate_instance_uid=False)
    else:
        ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.save_as(path, enforce_file_format=True)
    instance = Instance(ds.SOPInstanceUID, ds.SOPClassUID, path)
    return Series(ds.SeriesInstanceUID, modality, (instance,))


def _instance(modality: str, name: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = SOP_CLASSES[modality]
    ds.SOPInstanceUID = derived_uid("instance", name)
    ds.StudyInstanceUID = derived_uid("study", name)
    ds.SeriesInstanceUID = derived_uid("series", name)
    ds.FrameOfReferenceUID = derived_uid("frame", name)
    ds.Modality = modality
    ds.PatientName, ds.PatientID = "Test^Person", "T-1"
    ds.PatientBirthDate, ds.PatientSex = "19500101", "O"
    ds.StudyDate, ds.StudyTime = "20260102", "030405"
    ds.SeriesNumber, ds.InstanceNumber = 2, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds
