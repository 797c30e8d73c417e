"""In which of its forms a Segmentation is written: chosen for a destination, or by what it holds.

BINARY is read by everyone and grows with every segment; LABELMAP is a hundredth of the size, and is
not read by 3D Slicer's core or by readers from before 2025. FRACTIONAL holds shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from dicom.errors import InvalidSegmentation, OverlappingSegments

SegmentationType = Literal["auto", "binary", "labelmap", "fractional"]
Kind = Literal["BINARY", "LABELMAP", "FRACTIONAL"]

LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")  # not in pydicom 3.0


@dataclass(frozen=True, slots=True)
class Form:
    """What is written for a destination.

    Attributes
    ----------
    segmentation_type : str
        ``auto``: fractional where shares are given; a label map for more than `binary_up_to`
        segments that do not overlap; else binary. A named type is kept to.
    binary_up_to : int
        With ``auto``: the most segments that are written as binary.
    rle : bool
        Whether label maps and fractions are compressed (RLE Lossless), as every reader of them can
        read.
    fractional_type : str
        What a share is: a probability, or the part of the voxel that is taken (PS3.3 C.8.20.2.3).
    """

    segmentation_type: SegmentationType = "auto"
    binary_up_to: int = 16
    rle: bool = True
    fractional_type: Literal["PROBABILITY", "OCCUPANCY"] = "PROBABILITY"

    def kind_for(self, segments: int, *, overlapping: bool, fractional: bool) -> Kind:
        """Return the type that so many segments are written as.

        Raises
        ------
        OverlappingSegments
            When overlapping segments shall be written as a label map.
        InvalidSegmentation
            When shares shall be written as a type without them.
        """
        wanted = self.segmentation_type
        if wanted == "auto":
            if fractional:
                return "FRACTIONAL"
            return "LABELMAP" if segments > self.binary_up_to and not overlapping else "BINARY"
        if wanted != "fractional" and fractional:
            raise InvalidSegmentation("shares of voxels are written as fractional only")
        if wanted == "labelmap" and overlapping:
            raise OverlappingSegments("overlapping segments do not fit in one label map")
        if wanted == "labelmap":
            return "LABELMAP"
        return "BINARY" if wanted == "binary" else "FRACTIONAL"

    def syntax_for(self, kind: Kind) -> UID:
        """Return the transfer syntax: one-bit pixels are never compressed."""
        return RLELossless if self.rle and kind != "BINARY" else ExplicitVRLittleEndian


BY_CONTENT = Form()
"""The form that what is written suggests by itself."""
