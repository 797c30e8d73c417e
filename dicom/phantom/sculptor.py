"""Which tissue lies where: shapes as signed depths in mm, positive inside."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from dicom.phantom.anatomy import Anatomy, Field, Waves
from dicom.phantom.tissues import Tissue

_Point = tuple[float, float, float]  # L, P, S in mm
_Mask = NDArray[np.bool_]


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


class Sculptor:
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
