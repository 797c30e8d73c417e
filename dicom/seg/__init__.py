"""Labels <-> DICOM Segmentation (PS3.3 A.51, C.8.20): one direct writer, one direct reader.

:func:`encode_seg` and :func:`write_seg` write a label map, or masks that may overlap, as BINARY,
LABELMAP or FRACTIONAL; highdicom supplies and checks the header. :func:`decode_seg` reads what this
and other programs write, onto the slices of the source series. :func:`check_seg` holds one against
the other.
"""

from dicom.seg.form import BY_CONTENT, Form, SegmentationType
from dicom.seg.lattice import onto_grid
from dicom.seg.masks import Crop, Masks
from dicom.seg.read import DecodedSeg, check_seg, decode_seg
from dicom.seg.segments import Algorithm, Edited, Origin, Predecessor, ResultUids, Segment
from dicom.seg.write import encode_seg, write_seg

__all__ = [
    "BY_CONTENT",
    "Algorithm",
    "Crop",
    "DecodedSeg",
    "Edited",
    "Form",
    "Masks",
    "Origin",
    "Predecessor",
    "ResultUids",
    "Segment",
    "SegmentationType",
    "check_seg",
    "decode_seg",
    "encode_seg",
    "onto_grid",
    "write_seg",
]
