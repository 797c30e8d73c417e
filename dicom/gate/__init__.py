"""The geometry gate: a result leaves only if it lies in the patient where the model put it.

A segmentation that is flipped, shifted by a slice, called by another's name or on the wrong side
harms a patient. So what is about to be stored is looked at once more, by code that shares nothing
with the readers and writers that made it: pydicom's own decoding, a small reader of the gate's own
that is held against pydicom each time, the object's own plane positions, and the headers of the
source images one by one. Six questions:

- :func:`check_voxels`: did the model see what the files hold, slice by slice?
- :func:`check_sides`: are structures that are coded left and right on their sides?
- :func:`check_placed`: does each frame of the encoded object lie, pixel for pixel, where the
  source image of that slice lies, and refer to that image?
- :func:`check_described`: does it call its segments what the model found?
- :func:`check_figures`, :func:`check_findings`: does the report speak of that object and of those
  images, and are its figures what was measured?
- :func:`check_belongs`: is it of the patient and the study that the images came from?
"""

from dicom.gate.belongs import Names, check_belongs, names_of
from dicom.gate.described import check_described
from dicom.gate.placed import Placed, check_placed
from dicom.gate.report import check_figures, check_findings
from dicom.gate.sides import check_sides
from dicom.gate.voxels import check_voxels

__all__ = [
    "Names",
    "Placed",
    "check_belongs",
    "check_described",
    "check_figures",
    "check_findings",
    "check_placed",
    "check_sides",
    "check_voxels",
    "names_of",
]
