"""Frames of DICOM images as arrays of stored values, whatever the transfer syntax.

Axes: frames, rows (downwards), columns (rightwards), and for colour the samples red, green, blue.
"""

from dicom.frames.format import PixelFormat, format_of
from dicom.frames.modality import mirrored, rescale
from dicom.frames.read import FrameSource, read_frames

__all__ = ["FrameSource", "PixelFormat", "format_of", "mirrored", "read_frames", "rescale"]
