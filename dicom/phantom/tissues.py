"""What a phantom is made of, and how bright it is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Tissue(IntEnum):
    """What a voxel of the phantom is made of."""

    AIR = 0
    WHITE_MATTER = 1
    GREY_MATTER = 2
    SULCAL_CSF = 3
    VENTRICLE = 4
    CEREBELLAR_CORTEX = 5
    BRAIN_STEM = 6
    DEEP_GREY = 7
    FALX = 8
    OUTER_CSF = 9
    DURA = 10
    BONE = 11
    MARROW = 12
    FAT = 13
    MUSCLE = 14
    SKIN = 15
    VITREOUS = 16
    NERVE = 17
    MUCOSA = 18
    DISC = 19
    CORD = 20
    CAVITY = 21
    FIDUCIAL = 22


#: Inside the brain's hull: what a brain mask covers, sulci and ventricles filled.
BRAIN = frozenset(
    {
        Tissue.WHITE_MATTER,
        Tissue.GREY_MATTER,
        Tissue.SULCAL_CSF,
        Tissue.VENTRICLE,
        Tissue.CEREBELLAR_CORTEX,
        Tissue.BRAIN_STEM,
        Tissue.DEEP_GREY,
        Tissue.FALX,
    }
)

#: Mean signal in a T1-weighted gradient echo, white matter = 1.
T1_SIGNAL: Mapping[Tissue, float] = {
    Tissue.AIR: 0.0,
    Tissue.WHITE_MATTER: 1.0,
    Tissue.GREY_MATTER: 0.68,
    Tissue.SULCAL_CSF: 0.26,
    Tissue.VENTRICLE: 0.2,
    Tissue.CEREBELLAR_CORTEX: 0.72,
    Tissue.BRAIN_STEM: 0.94,
    Tissue.DEEP_GREY: 0.8,
    Tissue.FALX: 0.4,
    Tissue.OUTER_CSF: 0.24,
    Tissue.DURA: 0.42,
    Tissue.BONE: 0.06,
    Tissue.MARROW: 0.75,
    Tissue.FAT: 1.3,
    Tissue.MUSCLE: 0.48,
    Tissue.SKIN: 0.62,
    Tissue.VITREOUS: 0.2,
    Tissue.NERVE: 0.7,
    Tissue.MUCOSA: 0.58,
    Tissue.DISC: 0.4,
    Tissue.CORD: 0.88,
    Tissue.CAVITY: 0.01,
    Tissue.FIDUCIAL: 1.5,
}
