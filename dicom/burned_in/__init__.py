"""Text that is burned into pixels: found, masked, and nothing else touched.

`rules`     what is known before one looks, as data: kinds of objects, regions, devices
`views`     a frame as pictures of 8 bits
`films`     what of a frame was not searched in another one
`finding`   where text stands, by a network from an installed wheel, offline
`reading`   what a line says: for side markers, and for the second look
`cleaning`  the pass over one object
"""

from dicom.burned_in.boxes import Box, mask_of
from dicom.burned_in.cleaning import PixelCleaner, PixelPolicy, PixelsCleaned
from dicom.burned_in.networks import is_installed
from dicom.burned_in.rules import Course, Judgement, judge

__all__ = [
    "Box",
    "Course",
    "Judgement",
    "PixelCleaner",
    "PixelPolicy",
    "PixelsCleaned",
    "is_installed",
    "judge",
    "mask_of",
]
