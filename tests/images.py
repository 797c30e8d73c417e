"""Small images of any transfer syntax, and their codestreams."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)


def written(path: Path, pixels: bytes, syntax: UID = ExplicitVRLittleEndian, **attributes) -> Path:
    """Write an image of 4 rows and 6 columns, 16 bits unsigned where nothing else is said."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = 4, 6
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OW" if syntax == ImplicitVRLittleEndian or ds.BitsAllocated > 8 else "OB"
    ds["PixelData"].is_undefined_length = syntax.is_encapsulated
    ds.save_as(path, enforce_file_format=True)
    return path


def ramp(dtype: str = "<u2", frames: int = 1, start: int = 0, step: int = 37) -> np.ndarray:
    """Return frames whose values all differ."""
    return (start + step * np.arange(24 * frames)).reshape(frames, 4, 6).astype(dtype)


COMPRESSED = {
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda frame: imagecodecs.jpeg2k_encode(frame, level=0, reversible=True),
    JPEGLosslessSV1: imagecodecs.ljpeg_encode,
    HTJ2KLossless: lambda frame: imagecodecs.htj2k_encode(frame, level=0, reversible=True),
}


def compressed(frame: np.ndarray, syntax: UID) -> bytes:
    """Return one frame as a codestream without loss."""
    return bytes(COMPRESSED[syntax](np.ascontiguousarray(frame)))
