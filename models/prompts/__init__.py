"""Prompts: a few clicks of a reader on an image become a mask, or change one.

Arrays in, arrays out; nothing is learnt and nothing is kept. Masks are boolean, axes (slices, rows,
columns), spacings in mm in the same order. Everything works on the part of the image that matters,
so that an answer comes within a second on the volumes of daily work.
"""

from dicom.masks import Mask
from models.prompts.grow import Grown, grow, suggested_tolerance
from models.prompts.promptable import Asked, is_for, refine_by_bundle
from models.prompts.refine import refine
from models.prompts.shape import fill_holes, interpolate, largest, margin, smooth
from models.prompts.values import Box, Point

__all__ = [
    "Asked",
    "Box",
    "Grown",
    "Mask",
    "Point",
    "fill_holes",
    "grow",
    "interpolate",
    "is_for",
    "largest",
    "margin",
    "refine",
    "refine_by_bundle",
    "smooth",
    "suggested_tolerance",
]
