"""The measures of a head, and the smooth random functions that make it uneven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # one value per voxel of one slice: (rows, columns)
SliceValues = Callable[[int], Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Measures of one head, in mm unless said otherwise; the defaults are an average adult's."""

    size: float = 1.0  # of everything, a factor
    brain_width: float = 67.0  # half axes of the cerebrum
    brain_length: float = 84.0
    brain_height: float = 63.0
    base: float = 34.0  # of the frontal lobes, below the origin
    temporal: float = 26.0  # half height of the temporal lobes
    cerebellum: float = 27.0  # its half height
    stem_end: float = 72.0  # where the brain ends and the cord begins, below the origin
    bumps: float = 0.9  # unevenness of the brain's hull
    warp: float = 3.0  # smooth deformation of the whole head
    sulcus_spacing: float = 21.0  # wavelength of the folds
    sulcus_depth: float = 16.0
    sulcus_width: float = 0.8  # half width of the CSF in a fold
    cortex: float = 2.9
    ventricles: float = 1.0  # a factor
    fissure: float = 1.1  # half width of the longitudinal fissure
    outer_csf: float = 2.2
    csf_unevenness: float = 0.6
    dura: float = 0.8
    inner_table: float = 1.6
    diploe: float = 2.6
    outer_table: float = 1.6
    diploe_unevenness: float = 1.2
    fat: float = 3.2  # of the scalp; the face and neck have twice as much
    skin: float = 2.0
    face: float = 1.0  # factors of face, eyes, air cavities, neck
    eyes: float = 1.0
    cavities: float = 1.0
    neck: float = 1.0

    @classmethod
    def drawn(cls, rng: np.random.Generator, variety: float = 1.0) -> Anatomy:
        """Return a random head's measures.

        Parameters
        ----------
        rng : numpy.random.Generator
        variety : float
            Standard deviation as a factor: 0 is the average adult, 1 is a population of adults
            and children, 2 goes beyond what lives (for training on).
        """
        wild = {"bumps", "outer_csf", "csf_unevenness", "dura", "diploe", "diploe_unevenness"}
        wild |= {"fat", "ventricles", "warp", "sulcus_width", "cavities", "fissure"}
        measures = {}
        for field in fields(cls):
            spread = 0.3 if field.name in wild else 0.06
            average: float = getattr(cls(), field.name)
            measures[field.name] = average * float(np.exp(rng.normal() * spread * variety))
        # Half of the spread of the whole: children's brains are nearly of an adult's size.
        measures["size"] = measures["size"] ** 0.7
        return cls(**measures)


@dataclass(frozen=True, slots=True)
class Waves:
    """A smooth random function of patient space: a sum of plane waves of unit variance."""

    wave_vectors: NDArray[np.float64]  # (n, 3), rad per mm
    phases: NDArray[np.float64]  # (n,)

    @classmethod
    def drawn(cls, rng: np.random.Generator, wavelength_mm: float, n: int = 24) -> Waves:
        """Return waves of random directions, with wavelengths within 30 % of the given one."""
        directions = rng.normal(size=(n, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = wavelength_mm * rng.uniform(0.7, 1.3, size=(n, 1))
        return cls(directions * 2 * np.pi / lengths, rng.uniform(0, 2 * np.pi, size=n))

    def on(self, affine_lps: NDArray[np.float64], rows: int, columns: int) -> SliceValues:
        """Return a function of the slice index k that yields the values on that slice."""
        along_k, along_j, along_i = (self.wave_vectors @ affine_lps[:3, :3]).T
        start = self.wave_vectors @ affine_lps[:3, 3] + self.phases
        across = np.outer(along_i, np.arange(columns))
        right = np.concatenate([np.cos(across), np.sin(across)]).astype(np.float32)
        down = np.outer(np.arange(rows), along_j)
        scale = np.sqrt(2 / len(start))

        def slice_values(k: int) -> Field:
            angle = down + start + along_k * k
            left = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
            values: Field = (left * scale).astype(np.float32) @ right
            return values

        return slice_values
