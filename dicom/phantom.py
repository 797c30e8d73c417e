"""A procedural head: tissue labels, a T1-like MR volume, and a DICOM study with a fake identity.

The head is a function of patient space (LPS, mm; origin inside the cranial cavity), not of a
grid: one seed is one head, however finely, in whichever plane and of how many slices it is
sampled. Shapes are signed depths in mm, positive inside. Every irregularity (folds, bias field,
uneven skull) is a sum of plane waves, which on a regular grid is one matrix product per slice.

Everybody here is invented. The header is full of identity on purpose: de-identification, the
demo and the tests are to find something to remove. A fiducial sticks to the left of the forehead,
so that an image shown or stored the wrong way round can be told.

Axes: ``_kji`` is (slices, rows, columns); ``affine_lps`` maps (k, j, i, 1) to LPS mm.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from scipy import ndimage

from dicom.study import Instance, Series, Study

Plane = Literal["sagittal", "axial", "coronal"]
Field = NDArray[np.float32]  # one value per voxel of one slice: (rows, columns)
_Point = tuple[float, float, float]  # L, P, S in mm
_SliceValues = Callable[[int], Field]
_Mask = NDArray[np.bool_]


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


# --- the shape of a head ------------------------------------------------------------------------


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

    def on(self, affine_lps: NDArray[np.float64], rows: int, columns: int) -> _SliceValues:
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


def _ellipsoid(x: Field, y: Field, z: Field, centre: _Point, half: _Point) -> Field:
    """Depth inside an ellipsoid, in mm: exact in sign, close to the distance near the surface."""
    u, v, w = ((a - c) / h for a, c, h in zip((x, y, z), centre, half, strict=True))
    u2, v2, w2 = u * u, v * v, w * w
    k0 = np.sqrt(u2 + v2 + w2)
    k1 = np.sqrt(u2 / half[0] ** 2 + v2 / half[1] ** 2 + w2 / half[2] ** 2)
    depth: Field = k0 * (1 - k0) / np.maximum(k1, np.float32(1e-6))
    return depth


def _capsule(
    x: Field,
    y: Field,
    z: Field,
    top: _Point,
    end: _Point,
    radii: tuple[float, float],
) -> Field:
    """Depth inside a rod from `top` to `end` whose radius goes from the first to the second."""
    axis = np.subtract(end, top).astype(np.float32)
    t = ((x - top[0]) * axis[0] + (y - top[1]) * axis[1] + (z - top[2]) * axis[2]) / (axis @ axis)
    t = np.clip(t, 0, 1)
    away = (x - top[0] - t * axis[0]) ** 2 + (y - top[1] - t * axis[1]) ** 2
    away = away + (z - top[2] - t * axis[2]) ** 2
    depth: Field = radii[0] + t * (radii[1] - radii[0]) - np.sqrt(away)
    return depth


def _join(a: Field, b: Field, softness: float) -> Field:
    """Depth inside the union of two shapes, with a fillet of about `softness` mm."""
    h = np.maximum(softness - np.abs(a - b), 0)
    joined: Field = np.maximum(a, b) + h * h * np.float32(0.25 / softness)
    return joined


class _Sculptor:
    """One head on one grid: knows the tissue of every voxel of slice k."""

    def __init__(
        self,
        anatomy: Anatomy,
        rng: np.random.Generator,
        affine_lps: NDArray[np.float64],
        rows: int,
        columns: int,
        given_kji: NDArray[np.float32] | None = None,
    ) -> None:
        self.given_kji = given_kji  # depth inside a brain that is not the phantom's own
        a = self.anatomy = anatomy
        s = a.size
        waves = partial(Waves.drawn, rng)
        drawn = {
            "warp_x": waves(150.0 * s),
            "warp_y": waves(150.0 * s),
            "warp_z": waves(150.0 * s),
            "hull": waves(45.0 * s),
            "folds": waves(a.sulcus_spacing, 64),
            "folia": waves(9.0, 48),
            "csf": waves(60.0 * s),
            "diploe": waves(50.0 * s),
            "soft": waves(28.0 * s),
            "grain": waves(7.0 * s),
        }
        self.fields = {name: w.on(affine_lps, rows, columns) for name, w in drawn.items()}
        self.affine = affine_lps
        self.j = np.arange(rows, dtype=np.float32)[:, None]
        self.i = np.arange(columns, dtype=np.float32)[None, :]
        self.side = 1.0 if rng.random() < 0.5 else -1.0  # of the deviated septum

    def _places(self, k: int) -> tuple[Field, Field, Field]:
        """Patient coordinates of the slice, warped and scaled to the average head."""
        axes: list[Field] = []
        for row, name in zip(self.affine, ("warp_x", "warp_y", "warp_z"), strict=False):
            plain = np.float32(row[0] * k + row[3]) + np.float32(row[1]) * self.j
            plain = plain + np.float32(row[2]) * self.i
            warp = np.float32(self.anatomy.warp) * self.fields[name](k)
            axes.append(((plain + warp) / np.float32(self.anatomy.size)).astype(np.float32))
        return axes[0], axes[1], axes[2]

    def _hull(self, k: int, x: Field, y: Field, z: Field) -> tuple[Field, Field, Field]:
        """Depth inside the brain with the cord; inside cerebellum; inside brain stem."""
        a = self.anatomy
        side = np.abs(x)
        cerebrum = _ellipsoid(x, y, z, (0, 0, 0), (a.brain_width, a.brain_length, a.brain_height))
        # The base rises towards the front; the soft minimum rounds the edge.
        base = z + a.base + 0.12 * y
        cerebrum = -_join(-cerebrum, -base, 14)
        temporal = _ellipsoid(
            side, y, z, (0.58 * a.brain_width, -6, -28), (0.37 * a.brain_width, 44, a.temporal)
        )
        cerebellum = _ellipsoid(
            x, y, z, (0, 0.56 * a.brain_length, -40), (0.76 * a.brain_width, 31, a.cerebellum)
        )
        stem = _capsule(x, y, z, (0, 10, -18), (0, 30, -78), (14, 8))
        stem = _join(stem, _capsule(x, y, z, (0, 30, -78), (0, 46, -260), (7, 6)), 4)
        if self.given_kji is not None:
            return _join(self.given_kji[k], np.where(z < -50, stem, -99), 6), cerebellum, stem
        hull = _join(_join(cerebrum, temporal, 10), cerebellum, 5)
        hull = hull + np.float32(a.bumps) * self.fields["hull"](k)
        hull = _join(hull, stem, 6)
        return hull, cerebellum, stem

    def tissues(self, k: int) -> NDArray[np.uint8]:
        """Return the tissue of each voxel of slice `k`, shape (rows, columns)."""
        a = self.anatomy
        x, y, z = self._places(k)
        hull, cerebellum, stem = self._hull(k, x, y, z)
        out = self._outside(k, x, y, z, -hull)
        if self.given_kji is not None:
            out[hull > 0] = Tissue.CORD
            out[self.given_kji[k] > 0] = Tissue.WHITE_MATTER
            return out
        self._inside(k, out, x, y, z, hull, cerebellum, stem)
        below = (hull > 0) & (z < -a.stem_end)
        out[below] = Tissue.CORD
        return out

    def _outside(self, k: int, x: Field, y: Field, z: Field, away: Field) -> NDArray[np.uint8]:
        """Everything around the brain; `away` is the distance from its hull in mm."""
        a = self.anatomy
        side = np.abs(x)
        csf = a.outer_csf * np.exp(a.csf_unevenness * self.fields["csf"](k))
        diploe = np.maximum(a.diploe + a.diploe_unevenness * self.fields["diploe"](k), 0)
        soft, grain = self.fields["soft"](k), self.fields["grain"](k)
        inner = csf + a.dura
        outer = inner + a.inner_table + diploe + a.outer_table
        scalp = outer + a.fat + a.skin - away

        f = a.face
        face = _ellipsoid(x, y, z, (0, -50 * f, -62), (57 * f, 50 * f, 62 * f))
        nose = _ellipsoid(x, y, z, (0, -100 * f, -66), (13 * f, 17 * f, 22 * f))
        neck = _capsule(x, y, z, (0, 22, -60), (0, 34, -260), (58 * a.neck, 62 * a.neck))
        ears = _ellipsoid(side, y, z, (a.brain_width + 9, 14, -38), (9, 17, 27))
        head = _join(_join(scalp, face, 12), neck, 14)
        head = _join(_join(head, nose, 8), ears, 9)

        out = np.zeros(x.shape, np.uint8)
        fat = np.where(head > scalp + 2, 2 * a.fat, a.fat) * np.exp(0.25 * soft)
        out[head > 0] = Tissue.SKIN
        out[head > a.skin] = Tissue.FAT
        flesh = head > a.skin + fat
        out[flesh] = np.where(soft[flesh] + 0.4 * grain[flesh] > 1.2, Tissue.FAT, Tissue.MUSCLE)

        # Skull: two tables with marrow between; around the cord the same ring is the spine.
        bone = away < outer
        out[bone] = Tissue.BONE
        marrow = bone & (away > inner + a.inner_table) & (away < outer - a.outer_table)
        spine = z < -a.stem_end - 8
        out[marrow] = Tissue.MARROW
        disc = spine & bone & (np.mod(z, 21) < 6) & (y < 38)
        out[disc] = Tissue.DISC
        vertebra = spine & ~bone & (_capsule(x, y, z, (0, 12, -84), (0, 26, -260), (15, 17)) > 0)
        out[vertebra] = np.where(np.mod(z[vertebra], 21) < 6, Tissue.DISC, Tissue.MARROW)

        self._face(out, x, y, z, grain, reachable=(away > inner + 1.2) & (head > 2.5))
        out[away < inner] = Tissue.DURA
        out[away < csf] = Tissue.OUTER_CSF
        spot = (x - 34) ** 2 + (z - 6) ** 2 < 64
        out[spot & (y < 0) & (head < 0) & (head > -8)] = Tissue.FIDUCIAL
        return out

    def _face(
        self,
        out: NDArray[np.uint8],
        x: Field,
        y: Field,
        z: Field,
        grain: Field,
        *,
        reachable: _Mask,
    ) -> None:
        """Eyes, air, tongue and jaw, where the skull's inside and the skin leave room."""
        a = self.anatomy
        f, c = a.face, a.cavities ** (1 / 3)
        side = np.abs(x)

        def put(tissue: Tissue, depth: Field, symmetric_hole: Field | None = None) -> None:
            here = (depth > 0) & reachable
            if symmetric_hole is not None:
                here &= symmetric_hole > 0
            out[here] = tissue

        jaw = _ellipsoid(x, y, z, (0, -46 * f, -108), (46 * f, 46 * f, 17 * f))
        put(Tissue.BONE, jaw)
        put(Tissue.MARROW, jaw - 2.5)
        put(Tissue.MUSCLE, _ellipsoid(x, y, z, (0, -42 * f, -104), (34 * f, 38 * f, 22 * f)))
        put(Tissue.MUCOSA, _ellipsoid(x, y, z, (0, -60 * f, -84), (24 * f, 30 * f, 12 * f)))
        put(Tissue.CAVITY, _ellipsoid(x, y, z, (0, -72 * f, -92), (18 * c, 20 * c, 3 * c)))
        put(Tissue.FAT, _ellipsoid(side, y, z, (30 * f, -66 * f, -46), (17, 27, 16)))
        eye = _ellipsoid(
            side, y, z, (32 * f, -80 * f, -47), (12 * a.eyes, 12.5 * a.eyes, 12 * a.eyes)
        )
        put(Tissue.NERVE, _capsule(side, y, z, (32 * f, -72 * f, -47), (10, -38, -42), (2, 2)))
        put(Tissue.MUSCLE, eye + 1.2)
        put(Tissue.VITREOUS, eye)
        put(Tissue.NERVE, _ellipsoid(side, y, z, (32 * f, -89 * f, -47), (4.5, 2.2, 4.5)))
        air = _ellipsoid(x, y, z, (0, -70 * f, -48), (10 * c, 20 * c, 11 * c))
        put(Tissue.CAVITY, air, grain + 0.5)
        put(Tissue.CAVITY, _ellipsoid(x, y, z, (0, -92 * f, -27), (17 * c, 6 * c, 10 * c)))
        put(Tissue.CAVITY, _ellipsoid(x, y, z, (2, -36, -52), (11 * c, 11 * c, 8 * c)))
        put(Tissue.CAVITY, _ellipsoid(side, y, z, (26 * f, -64 * f, -74), (13 * c, 15 * c, 14 * c)))
        nose = _ellipsoid(x, y, z, (0, -76 * f, -72), (12 * c, 28 * c, 17 * c))
        put(Tissue.MUCOSA, nose)
        put(Tissue.CAVITY, nose - 1.5, np.abs(side - 5) - 1.8)
        put(Tissue.BONE, np.where(nose > 0, 1.2 - np.abs(x - 2 * self.side), -1).astype(np.float32))
        put(Tissue.CAVITY, _capsule(x, y, z, (0, -26, -76), (0, -14, -260), (8 * c, 9 * c)))
        cells = _ellipsoid(side, y, z, (56, 28, -52), (11 * c, 11 * c, 15 * c))
        put(Tissue.BONE, cells + 2)
        put(Tissue.CAVITY, cells, grain)

    def _inside(
        self,
        k: int,
        out: NDArray[np.uint8],
        x: Field,
        y: Field,
        z: Field,
        hull: Field,
        cerebellum: Field,
        stem: Field,
    ) -> None:
        """Write the brain itself into `out`, where `hull` is positive."""
        a = self.anatomy
        inside = hull > 0
        if not inside.any():
            return
        side = np.abs(x)
        folds = np.abs(self.fields["folds"](k)) * np.float32(a.sulcus_spacing / 4.2)
        folds = folds + 0.8 * np.maximum(hull - a.sulcus_depth, 0)
        cortical = np.minimum(hull, folds) < a.cortex
        brain = np.where(cortical, Tissue.GREY_MATTER, Tissue.WHITE_MATTER)
        brain[folds < a.sulcus_width] = Tissue.SULCAL_CSF

        folia = np.abs(self.fields["folia"](k))
        small = (cerebellum > 0) & (z < -16)
        cortex = np.minimum(folia * 2.4, hull) < 1.3
        brain[small] = np.where(
            cortex[small] | (cerebellum[small] < 4), Tissue.CEREBELLAR_CORTEX, Tissue.WHITE_MATTER
        )
        brain[(stem > 0) & (z < -16)] = Tissue.BRAIN_STEM

        # The two halves: a fissure down to the corpus callosum, with the falx in its middle.
        middle = np.abs(x + 1.2 * self.fields["hull"](k))
        callosum = _ellipsoid(x, y, z, (0, 2, 4), (60, 40, 27))
        gap = (callosum < 0) & (z > -30) & ~small
        bank = gap & (middle < a.fissure + a.cortex) & (brain == Tissue.WHITE_MATTER)
        brain[bank] = Tissue.GREY_MATTER
        brain[gap & (middle < a.fissure)] = Tissue.SULCAL_CSF
        brain[gap & (middle < 0.5) & (z > 8)] = Tissue.FALX
        brain[(callosum > 0) & (callosum < 6) & (middle < 9)] = Tissue.WHITE_MATTER

        deep = _ellipsoid(side, y, z, (12, 10, 0), (9, 15, 9))
        deep = np.maximum(deep, _ellipsoid(side, y, z, (26, -4, 1), (6, 20, 12)))
        deep = np.maximum(deep, _ellipsoid(side, y, z, (14, -18, 9), (6, 12, 9)))
        brain[deep > 0] = Tissue.DEEP_GREY
        v = a.ventricles ** (1 / 3)
        lateral = _ellipsoid(
            (side - 0.15 * np.abs(y)).astype(np.float32),
            y,
            z,
            (8 * v, 3, 13),
            (6 * v, 34 * v, 8 * v),
        )
        third = _ellipsoid(x, y, z, (0, 4, -4), (2.5 * v, 14 * v, 10 * v))
        fourth = _ellipsoid(x, y, z, (0, 34, -38), (7 * v, 5 * v, 9 * v))
        brain[np.maximum(np.maximum(lateral, third), fourth) > 0] = Tissue.VENTRICLE
        out[inside] = brain[inside]


# --- grids and images ---------------------------------------------------------------------------

_AXES: Mapping[Plane, tuple[tuple[float, ...], ...]] = {
    # direction of growing k, j, i in LPS, as scanners write them (k along the slice normal)
    "sagittal": ((-1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}
_TOP_MM = 96.0  # just above the skin of the vertex


def head_affine(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    *,
    plane: Plane = "sagittal",
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NDArray[np.float64]:
    """Return the grid that a technician would lay over the phantom.

    Parameters
    ----------
    shape : tuple of int
        (slices, rows, columns).
    spacing_mm : tuple of float
        Of neighbouring slices, rows and columns.
    plane : {"sagittal", "axial", "coronal"}
    tilt_deg : tuple of float
        Turns of the grid about the patient's L, P and S axes: an oblique acquisition.

    Returns
    -------
    ndarray, float64, shape (4, 4)
        Maps (k, j, i, 1) to LPS mm; right-handed in (i, j, k) as PS3.3 C.7.6.2 has it.
    """
    about_x, about_y, about_z = np.radians(tilt_deg)
    turn = np.eye(3)
    for first, second, angle in ((1, 2, about_x), (2, 0, about_y), (0, 1, about_z)):
        one = np.eye(3)
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    directions = np.array(_AXES[plane]).T
    extent = np.abs(directions @ (np.array(spacing_mm) * shape))
    centre = np.array([0.0, -6.0, _TOP_MM - extent[2] / 2])
    affine = np.eye(4)
    affine[:3, :3] = turn @ directions * spacing_mm
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def head_tissues(
    seed: int,
    shape: tuple[int, int, int],
    affine_lps: NDArray[np.float64],
    *,
    anatomy: Anatomy | None = None,
) -> NDArray[np.uint8]:
    """Return the tissue of every voxel of one head.

    Parameters
    ----------
    seed : int
        Of the folds and all other irregularities and, without `anatomy`, of the measures.
    shape : tuple of int
        (slices, rows, columns).
    affine_lps : ndarray, shape (4, 4)
        Where the grid lies; see :func:`head_affine`.
    anatomy : Anatomy, optional
        The head's measures; drawn from `seed` when not given.

    Returns
    -------
    ndarray, uint8, shape `shape`
        Values of :class:`Tissue`.
    """
    rng = np.random.default_rng([seed, 0x6865616D])
    drawn = Anatomy.drawn(rng, variety=0.6)
    sculptor = _Sculptor(anatomy or drawn, rng, affine_lps, shape[1], shape[2])
    return np.stack([sculptor.tissues(k) for k in range(shape[0])])


def head_around(
    seed: int,
    brain_kji: NDArray[np.bool_],
    affine_lps: NDArray[np.float64],
    *,
    anatomy: Anatomy | None = None,
) -> NDArray[np.uint8]:
    """Return a head that is built by the phantom's rules around the brain of somebody else.

    Parameters
    ----------
    seed : int
        Of skull, scalp, face and neck.
    brain_kji : ndarray, bool, shape (slices, rows, columns)
        The brain, in one piece, sulci and ventricles filled.
    affine_lps : ndarray, float64, shape (4, 4)
        Where it lies.
    anatomy : Anatomy, optional
        The head's measures, those of the brain left aside; drawn from `seed` when not given.

    Returns
    -------
    ndarray, uint8, shape of `brain_kji`
        Values of :class:`Tissue`; the whole of the brain is WHITE_MATTER.
    """
    rng = np.random.default_rng([seed, 0x61726F])
    anatomy = anatomy or Anatomy.drawn(rng, variety=0.6)
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    depth = ndimage.distance_transform_edt(brain_kji, sampling=spacing)
    depth -= ndimage.distance_transform_edt(~brain_kji, sampling=spacing)
    # Lay the brain's box over the box of the phantom's brain, so that face and neck find it.
    places = np.argwhere(brain_kji) @ affine_lps[:3, :3].T + affine_lps[:3, 3]
    low, high = places.min(axis=0), places.max(axis=0)
    own_high = np.array([anatomy.brain_width, anatomy.brain_length, anatomy.brain_height])
    own_low = np.array([-anatomy.brain_width, -anatomy.brain_length, -anatomy.stem_end])
    onto = np.eye(4)
    onto[:3, :3] = np.diag((own_high - own_low) / (high - low)) * anatomy.size
    onto[:3, 3] = own_low * anatomy.size - onto[:3, :3] @ low
    _, rows, columns = brain_kji.shape
    given = depth.astype(np.float32)
    sculptor = _Sculptor(anatomy, rng, onto @ affine_lps, rows, columns, given)
    return np.stack([sculptor.tissues(k) for k in range(len(brain_kji))])


def brain_of(tissues_kji: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the brain mask of a tissue map: the filled hull, sulci and ventricles included."""
    inside = np.zeros(256, bool)
    inside[sorted(BRAIN)] = True
    return inside[tissues_kji]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """One imaged phantom; all arrays share one grid."""

    voxels_kji: NDArray[np.uint16]  # 0 .. 4095
    tissues_kji: NDArray[np.uint8]  # values of Tissue
    brain_kji: NDArray[np.bool_]
    affine_lps: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances of neighbouring slices, rows and columns."""
        k, j, i = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(k), float(j), float(i)


def head_mr(
    seed: int = 1,
    *,
    slices: int = 160,
    size: int = 256,
    spacing_mm: tuple[float, float, float] | None = None,
    plane: Plane = "sagittal",
    tilt_deg: tuple[float, float, float] = (2.0, -1.5, 3.0),
    anatomy: Anatomy | None = None,
    signal: Mapping[Tissue, float] = T1_SIGNAL,
    noise: float = 0.03,
    bias: float = 0.15,
) -> Head:
    """Return a T1-weighted MR volume of one head, with its brain mask.

    Parameters
    ----------
    seed : int
        One seed is one head; the noise, and nothing else of it, depends on the grid too.
    slices, size : int
        Slices, and rows and columns of each.
    spacing_mm : tuple of float, optional
        Of slices, rows and columns. When not given the whole head is covered: 176 mm from side
        to side (or 176 mm downwards, 230 mm from front to back), 256 mm within a slice.
    plane : {"sagittal", "axial", "coronal"}
    tilt_deg : tuple of float
        About the patient's L, P, S axes; the default is slightly oblique.
    anatomy : Anatomy, optional
        The head's measures; drawn from `seed` when not given.
    signal : mapping of Tissue to float
        Mean signal; 1 becomes about 1100 in the image.
    noise : float
        Standard deviation in each channel of the Rician noise, as a part of white matter.
    bias : float
        Standard deviation of the logarithm of the bias field.
    """
    if spacing_mm is None:
        spacing_mm = ((230.0 if plane == "coronal" else 176.0) / slices, 256.0 / size, 256.0 / size)
    shape = (slices, size, size)
    affine = head_affine(shape, spacing_mm, plane=plane, tilt_deg=tilt_deg)
    tissues = head_tissues(seed, shape, affine, anatomy=anatomy)

    rng = np.random.default_rng([seed, 0x6D72])
    bias_at = Waves.drawn(rng, 260.0, 12).on(affine, size, size)
    texture_at = Waves.drawn(rng, 11.0, 24).on(affine, size, size)
    means = np.zeros(256, np.float32)
    for tissue, mean in signal.items():
        means[tissue] = mean * np.exp(rng.normal() * 0.04)
    image = means[tissues]
    # Partial volume: a point spread of about a millimetre, whatever the grid.
    blur = tuple(0.45 / s for s in spacing_mm)
    image = ndimage.gaussian_filter(image, blur, truncate=2.0, output=np.float32)
    voxels = np.empty(shape, np.uint16)
    for k, flat in enumerate(image):
        clean = flat * np.exp(bias * bias_at(k)) * (1 + 0.025 * texture_at(k))
        real = clean + noise * rng.standard_normal(clean.shape, dtype=np.float32)
        imaginary = noise * rng.standard_normal(clean.shape, dtype=np.float32)
        voxels[k] = np.clip(1100 * np.hypot(real, imaginary), 0, 4095)
    return Head(voxels, tissues, brain_of(tissues), affine)


# --- the study ----------------------------------------------------------------------------------

_FAMILY = ("Müllerová", "Okonkwo-Testa", "Ångström", "Fernández", "Phantomsen", "Delacroix")
_GIVEN = ("Ottilie", "Chidi", "Saga", "Inés", "Runa", "Amélie")
_STREETS = ("Lindengasse", "Rue du Fantôme", "Harbour Lane", "Calle Mayor", "Storgata")
_TOWNS = ("Beispielstadt", "Villeneuve-l'Essai", "Port Sample", "Ejemplo de Mar", "Prøvevik")
_DOCTORS = ("Grünwald^Theodor", "Nakamura^Emi", "O'Beirne^Fionn", "Szymańska^Halina")


@dataclass(frozen=True, slots=True)
class Person:
    """An invented patient; every string of it is identity that must not leave."""

    name: str  # PN: family^given^middle
    patient_id: str
    birth_date: dt.date
    sex: Literal["F", "M"]
    address: str
    telephone: str
    mother: str
    physician: str

    @classmethod
    def drawn(cls, seed: int) -> Person:
        """Return the patient of that seed, always the same."""
        rng = np.random.default_rng([seed, 0x706174])

        def one(names: tuple[str, ...]) -> str:
            return names[int(rng.integers(len(names)))]

        number = int(rng.integers(10_000_000, 99_999_999))
        return cls(
            name=f"{one(_FAMILY)}^{one(_GIVEN)}^{one(_GIVEN)}",
            patient_id=f"PHX-{number}",
            birth_date=dt.date(1940, 1, 1) + dt.timedelta(days=int(rng.integers(27_000))),
            sex="F" if rng.random() < 0.5 else "M",
            address=f"{one(_STREETS)} {int(rng.integers(1, 180))}, {one(_TOWNS)}",
            telephone=f"+99 555 {int(rng.integers(100_000, 999_999))}",
            mother=f"{one(_FAMILY)}^{one(_GIVEN)}",
            physician=one(_DOCTORS),
        )


@dataclass(frozen=True, slots=True, eq=False)
class WrittenHead:
    """A phantom's study on disk, with the truth that it was made from."""

    study: Study
    head: Head
    person: Person

    @property
    def series(self) -> Series:
        """The one series of the study."""
        return self.study.series[0]


def _uid(*parts: object) -> str:
    """Return a UID that depends on `parts` alone (PS3.5 B.2: 2.25 and a 128-bit number)."""
    digest = hashlib.sha256("|".join(map(str, ("phantom", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def write_head_study(
    folder: Path,
    *,
    seed: int = 1,
    head: Head | None = None,
    slices: int = 160,
    size: int = 256,
    plane: Plane = "sagittal",
    person: Person | None = None,
    visit: int = 1,
) -> WrittenHead:
    """Write one head as a study of one classic MR series, with a fake identity everywhere.

    Parameters
    ----------
    folder : Path
        Made when absent; files are ``IM0001.dcm`` and on, in the order of the slices.
    seed : int
        Of the head and, without `person`, of the patient. The same arguments write the same
        bytes.
    head : Head, optional
        What to write; made by ``head_mr(seed, slices=slices, size=size, plane=plane)`` if absent.
    slices, size, plane
        As for :func:`head_mr`; not used with `head`.
    person : Person, optional
        The patient; give one person to several calls for several studies of one patient.
    visit : int
        Another visit is another study, with other UIDs and dates, of the same patient.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    head = head or head_mr(seed, slices=slices, size=size, plane=plane)
    person = person or Person.drawn(seed)
    folder.mkdir(parents=True, exist_ok=True)
    key = (seed, visit, person.patient_id, head.voxels_kji.shape, head.affine_lps.round(3).tolist())
    common = _common_header(head, person, visit, key)
    instances = []
    for k, voxels in enumerate(head.voxels_kji):
        ds = _slice_header(common, head, k, key)
        ds.PixelData = voxels.astype("<u2").tobytes()
        path = folder / f"IM{k + 1:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        instances.append(Instance(ds.SOPInstanceUID, ds.SOPClassUID, path))
    series = Series(common.SeriesInstanceUID, "MR", tuple(instances))
    return WrittenHead(Study(common.StudyInstanceUID, (series,)), head, person)


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _common_header(head: Head, person: Person, visit: int, key: tuple[object, ...]) -> Dataset:
    """Return the attributes that all slices share."""
    day = dt.datetime(2024, 3, 5, 8, 41, 17, tzinfo=dt.UTC)
    day += dt.timedelta(days=37 * visit, minutes=11 * visit)
    date, time = day.strftime("%Y%m%d"), day.strftime("%H%M%S.%f")
    family = person.name.split("^")[0]
    number = int(_uid("number", *key)[-6:])
    _, rows, columns = head.voxels_kji.shape
    slice_mm, row_mm, column_mm = head.spacing_mm
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    _write_person(ds, person, day, family)
    _write_visit(ds, person, day, number, key)
    ds.StudyInstanceUID = _uid("study", *key)
    ds.SeriesInstanceUID = _uid("series", *key)
    ds.FrameOfReferenceUID = _uid("frame", *key)
    ds.PositionReferenceIndicator = ""
    ds.SOPClassUID = MRImageStorage
    ds.Modality = "MR"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time
    ds.TimezoneOffsetFromUTC = "+0000"
    ds.InstanceCreationDate, ds.InstanceCreationTime = date, time
    ds.SeriesNumber = 3
    ds.AcquisitionNumber = 1
    ds.StudyDescription = "MR head"
    ds.SeriesDescription = "T1 3D gradient echo"
    ds.ProtocolName = f"T1_3D {family}"
    ds.BodyPartExamined = "HEAD"
    ds.PatientPosition = "HFS"
    ds.ImageComments = f"Phantom of {person.name.replace('^', ' ')}"

    ds.Manufacturer = "radloop"
    ds.ManufacturerModelName = "procedural head"
    ds.SoftwareVersions = "1"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.ScanningSequence = ["GR", "IR"]
    ds.SequenceVariant = ["SP", "MP"]
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "3D"
    ds.RepetitionTime, ds.EchoTime, ds.InversionTime, ds.FlipAngle = "2300", "2.98", "900", "9"
    ds.EchoTrainLength = 1
    ds.MagneticFieldStrength = "3"
    ds.ImagingFrequency = "123.2"
    ds.ImagedNucleus = "1H"
    ds.SliceThickness = f"{slice_mm:.6g}"
    ds.SpacingBetweenSlices = f"{slice_mm:.6g}"
    ds.PixelSpacing = [f"{row_mm:.10g}", f"{column_mm:.10g}"]
    directions = head.affine_lps[:3, :3] / head.spacing_mm
    ds.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in (*directions[:, 2], *directions[:, 1])]

    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = "650", "1300"
    _write_private(ds, person, date)
    return ds


def _write_person(ds: Dataset, person: Person, day: dt.datetime, family: str) -> None:
    """Patient module, and everything about people that a real header may hold."""
    years = (day.date() - person.birth_date).days // 365
    ds.PatientName = person.name
    ds.PatientID = person.patient_id
    ds.IssuerOfPatientID = "PHANTOM GENERAL HOSPITAL"
    ds.PatientBirthDate = person.birth_date.strftime("%Y%m%d")
    ds.PatientBirthTime = "043000"
    ds.PatientSex = person.sex
    ds.PatientAge = f"{years:03d}Y"
    ds.PatientSize, ds.PatientWeight = "1.71", "68.5"
    ds.PatientAddress = person.address
    ds.PatientTelephoneNumbers = person.telephone
    ds.PatientMotherBirthName = person.mother
    ds.PatientBirthName = f"{person.mother.split('^')[0]}^{person.name.split('^')[1]}"
    ds.OtherPatientNames = f"{family}^O."
    ds.EthnicGroup = "invented"
    ds.Occupation = "Keeper of boats"
    ds.MilitaryRank = "none"
    ds.PatientReligiousPreference = "none"
    ds.CountryOfResidence = "Nowhere"
    ds.AdditionalPatientHistory = f"{family} fell on {day:%d.%m.%Y}; lives at {person.address}"
    ds.PatientComments = f"Call {person.telephone}, ask for {person.mother.replace('^', ' ')}"
    ds.PregnancyStatus = 4
    ds.MedicalAlerts = f"Pacemaker of {family}: no"
    ds.OtherPatientIDsSequence = [
        _item(
            PatientID=f"INS-{person.patient_id[4:]}",
            IssuerOfPatientID="PHANTOM INSURANCE",
            TypeOfPatientID="TEXT",
        )
    ]


def _write_visit(
    ds: Dataset, person: Person, day: dt.datetime, number: int, key: tuple[object, ...]
) -> None:
    """Study, equipment and request: physicians, places, numbers, nested names."""
    doctor = person.physician
    ds.StudyID = f"{number % 10_000}"
    ds.AccessionNumber = f"ACC{number}"
    ds.AdmissionID = f"ADM{number}"
    ds.ReferringPhysicianName = doctor
    ds.ReferringPhysicianAddress = f"Practice of {doctor.replace('^', ' ')}, {person.address}"
    ds.ReferringPhysicianIdentificationSequence = [
        _item(
            InstitutionName="Practice by the Bridge",
            InstitutionAddress=person.address,
            PersonTelephoneNumbers=person.telephone,
            PersonIdentificationCodeSequence=[_code("LANR-7788", "99PHANTOM", doctor)],
        )
    ]
    ds.PhysiciansOfRecord = doctor
    ds.PerformingPhysicianName = "Reader^Rita"
    ds.NameOfPhysiciansReadingStudy = "Reader^Rita"
    ds.OperatorsName = "Tech^Tomas"
    ds.RequestingPhysician = doctor
    ds.RequestingService = "Neurology, ward of Dr Imaginary"
    ds.InstitutionName = "Phantom General Hospital"
    ds.InstitutionAddress = "1 Nowhere Square, Beispielstadt"
    ds.InstitutionalDepartmentName = "Radiology of Prof. Schatten"
    ds.StationName = "MR2-BASEMENT"
    ds.DeviceSerialNumber = f"SN{number}"
    ds.DeviceUID = _uid("device", number)
    ds.AcquisitionDateTime = f"{day:%Y%m%d%H%M%S.%f}+0000"
    ds.PerformedProcedureStepStartDate = f"{day:%Y%m%d}"
    ds.PerformedProcedureStepStartTime = f"{day:%H%M%S}"
    ds.PerformedProcedureStepID = f"PPS{number}"
    ds.PerformedProcedureStepDescription = f"MR head for {doctor.replace('^', ' ')}"
    ds.ProcedureCodeSequence = [_code("MRHEAD", "99PHANTOM", "MR of head")]
    ds.ReferencedStudySequence = [
        _item(
            ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
            ReferencedSOPInstanceUID=_uid("referenced study", *key),
        )
    ]
    ds.RequestAttributesSequence = [
        _item(
            RequestedProcedureID=f"RP{number}",
            AccessionNumber=f"ACC{number}",
            ScheduledProcedureStepID=f"SPS{number}",
            RequestedProcedureDescription="MR head",
            ReasonForTheRequestedProcedure=f"{person.name.split('^')[0]}: headache",
            ScheduledProtocolCodeSequence=[_code("T1", "99PHANTOM", f"for {doctor}")],
        )
    ]


def _write_private(ds: Dataset, person: Person, date: str) -> None:
    """Private blocks with identity in plain elements, in a sequence and in bytes."""
    block = ds.private_block(0x0029, "RADLOOP PHANTOM", create=True)
    block.add_new(0x01, "LO", f"Exam of {person.name.replace('^', ' ')}")
    block.add_new(0x02, "DA", date)
    block.add_new(0x03, "SQ", [_item(PatientName=person.name, PatientID=person.patient_id)])
    block.add_new(0x04, "OB", person.name.encode().ljust(64, b"\0"))
    block.add_new(0x05, "UI", _uid("private", person.patient_id))
    other = ds.private_block(0x0051, "PHANTOM CSA HEADER", create=True)
    other.add_new(0x08, "UN", f"{person.patient_id} {person.telephone} ".encode()[:40].ljust(40))


def _slice_header(common: Dataset, head: Head, k: int, key: tuple[object, ...]) -> Dataset:
    """Return the shared header with which slice it is and where it lies."""
    ds = Dataset(common)
    ds.SOPInstanceUID = _uid("slice", k, *key)
    ds.InstanceNumber = k + 1
    ds.ImagePositionPatient = [f"{v:.10f}"[:16] for v in head.affine_lps @ (k, 0, 0, 1)][:3]
    normal = np.cross(head.affine_lps[:3, 2], head.affine_lps[:3, 1])
    place = head.affine_lps[:3, 3] + k * head.affine_lps[:3, 0]
    ds.SliceLocation = f"{place @ normal / np.linalg.norm(normal):.6f}"
    ds.ReferencedImageSequence = [
        _item(
            ReferencedSOPClassUID=MRImageStorage, ReferencedSOPInstanceUID=_uid("localiser", *key)
        )
    ]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds
