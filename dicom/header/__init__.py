"""A fast scan of a Part 10 header: the attributes asked for, and where the pixel data lies.

Elements that nobody asked for are stepped over, not parsed: a CT header of 300 elements takes a
tenth of pydicom's time. What the scan cannot judge (a value representation that PS3.5 does not
know, a length past the end of the file, an odd sequence) is read again by pydicom, so that both
give the same values. Memory is bounded by the size of the file.
"""

from dicom.header.read import PIXEL_KEYWORDS, read_header, read_inflated
from dicom.header.values import Header, PixelSpan

__all__ = ["PIXEL_KEYWORDS", "Header", "PixelSpan", "read_header", "read_inflated"]
