"""A procedural head: tissue labels, a T1-like MR volume, and a DICOM study with a fake identity.

The head is a function of patient space (LPS, mm; origin inside the cranial cavity), not of a
grid: one seed is one head, however finely, in whichever plane and of how many slices it is
sampled. Shapes are signed depths in mm, positive inside. Every irregularity (folds, bias field,
uneven skull) is a sum of plane waves, which on a regular grid is one matrix product per slice.

Everybody here is invented. The header is full of identity on purpose: de-identification, the
demo and the tests are to find something to remove. A fiducial sticks to the left of the forehead,
so that an image shown or stored the wrong way round can be told.

Axes: ``_kji`` is (slices, rows, columns); ``affine_lps`` maps (k, j, i, 1) to LPS mm.

===========  =====================================================================================
`tissues`    what it is made of, and how bright that is
`anatomy`    its measures, and what makes it uneven
`sculptor`   which tissue lies where
`head`       a head on a grid, and its image
`people`     invented patients and what they leave in a header
`study`      files
===========  =====================================================================================
"""

from dicom.phantom.anatomy import Anatomy, Waves
from dicom.phantom.head import (
    Head,
    Plane,
    brain_of,
    head_affine,
    head_around,
    head_mr,
    head_tissues,
)
from dicom.phantom.people import Person
from dicom.phantom.study import WrittenHead, write_head_study
from dicom.phantom.tissues import BRAIN, T1_SIGNAL, Tissue

__all__ = [
    "BRAIN",
    "T1_SIGNAL",
    "Anatomy",
    "Head",
    "Person",
    "Plane",
    "Tissue",
    "Waves",
    "WrittenHead",
    "brain_of",
    "head_affine",
    "head_around",
    "head_mr",
    "head_tissues",
    "write_head_study",
]
