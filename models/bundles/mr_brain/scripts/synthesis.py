"""Training samples drawn at random: heads of many shapes and contrasts, and things that are none.

Four kinds of sample, so that the edge of the brain is the only thing that stays true:

phantom   a phantom's tissues, each with a random signal
rebuilt   a real brain in a phantom's head: its outside is random in shape and signal
real      a real image, its signal bent by a random curve
nothing   no head at all: fruit, bottles, lumps; the mask is empty

Each is then turned, stretched, bent, cut, blurred, shaded and made noisy.

Axes: ``_xyz`` is (R, A, S), 2 mm, but real heads, which are 1 mm until they are sampled; tensors
say their axes as ``_bcxyz``. Images are signal with 0 for air; masks are 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from dicom.phantom import (
    BRAIN,
    T1_SIGNAL,
    Anatomy,
    Tissue,
    Waves,
    brain_of,
    head_around,
    head_tissues,
)
from models.bundles.mr_brain.scripts.heads import LPS_TO_RAS, RealHead, resampled

SPACING_MM = 2.0
GRID = (112, 128, 128)  # 224 x 256 x 256 mm
PATCHES = ((96, 112, 96), (96, 96, 112), (80, 112, 112), (112, 96, 80), (96, 128, 128))
Array = NDArray[np.float32]
Labels = NDArray[np.uint8]


def grid_affine_lps(centre_s_mm: float = -26.0) -> NDArray[np.float64]:
    """Return GRID's affine in the phantom's space: axes R, A, S, 2 mm."""
    affine: NDArray[np.float64] = LPS_TO_RAS @ np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = [GRID[0] - 1, GRID[1] - 1 - 6, centre_s_mm - (GRID[2] - 1)]
    return affine


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """Tissues on a 2 mm grid, from which an image of any contrast can be painted."""

    tissues_xyz: Labels
    texture_xyz: Array | None  # a real brain's own signal (white matter = 1), where it has one


class Library:
    """All shapes that samples are drawn from; made once, kept in memory.

    Parameters
    ----------
    heads : sequence of RealHead
        The real heads that may be learnt from.
    phantoms, rebuilt, nothing : int
        How many phantoms, heads around each real brain, and things that are no head.
    seed : int
        Of their shapes. Phantoms of training have seeds from 100 000 on; those below are for tests.
    """

    def __init__(
        self,
        heads: Sequence[RealHead],
        *,
        phantoms: int,
        rebuilt: int,
        nothing: int,
        seed: int,
        processes: int = 2,
    ) -> None:
        first = seed * 10_000
        with ProcessPoolExecutor(processes) as pool:
            made = pool.map(_phantom, range(100_000 + first, 100_000 + first + phantoms))
            jobs = [(head, first + n) for head in heads for n in range(rebuilt)]
            around = pool.map(_rebuilt, *zip(*jobs, strict=True)) if jobs else ()
            none = pool.map(_nothing, range(first, first + nothing))
            self.phantoms, self.rebuilt, self.nothing = list(made), list(around), list(none)
        self.real = [(_scaled(head), head.brain_xyz.astype(np.float32)) for head in heads]
        rng = np.random.default_rng([seed, 1])
        self.textures = [_texture(rng, float(wavelength)) for wavelength in range(6, 26, 2)]


def _phantom(seed: int) -> LabelMap:
    rng = np.random.default_rng([seed, 3])
    anatomy = Anatomy.drawn(rng, variety=float(rng.uniform(0.5, 2.0)))
    affine = grid_affine_lps(float(rng.uniform(-32, -12)))
    return LabelMap(head_tissues(seed, GRID, affine, anatomy=anatomy), None)


def _rebuilt(head: RealHead, seed: int) -> LabelMap:
    """Return a random head around a real brain, whose inside is sorted into three by brightness."""
    rng = np.random.default_rng([seed, 4])
    centre = np.array(ndimage.center_of_mass(head.brain_xyz))
    onto = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    onto[:3, 3] = head.affine_ras[:3, :3] @ centre + head.affine_ras[:3, 3]
    onto[:3, 3] -= SPACING_MM * np.array([GRID[0], GRID[1], GRID[2] * 1.24]) / 2
    brain = resampled(head.brain_xyz.astype(np.float32), head.affine_ras, GRID, onto) > 0.5
    signal = resampled(_scaled(head), head.affine_ras, GRID, onto)
    anatomy = Anatomy.drawn(rng, variety=float(rng.uniform(0.5, 2.0)))
    tissues = head_around(seed, brain, LPS_TO_RAS @ onto, anatomy=anatomy)
    dark, middle = np.percentile(signal[brain], [12, 58])
    inside = np.where(signal < middle, Tissue.GREY_MATTER, Tissue.WHITE_MATTER)
    inside[signal < dark] = Tissue.SULCAL_CSF
    tissues[brain] = inside[brain]
    return LabelMap(tissues, signal * brain)


def _scaled(head: RealHead) -> Array:
    """Return the image with its white matter at about 1."""
    return cast(Array, head.voxels_xyz / np.percentile(head.voxels_xyz[head.brain_xyz], 85))


# --- samples ------------------------------------------------------------------------------------


def samples(
    library: Library, seed: int, shares: Mapping[str, float]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (image_bcxyz, mask_bcxyz) without end: float32, image 0 .. 1, mask 0 or 1.

    `shares` says how often each of the four kinds is drawn; they add up to 1.
    """
    rng = np.random.default_rng([seed, 2])
    generator = torch.Generator().manual_seed(seed)
    while True:
        kind = rng.choice(list(shares), p=list(shares.values()))
        if kind == "real":
            image, mask = library.real[rng.integers(len(library.real))]
            image, spacing = _bent(image, rng), 1.0
        elif kind == "nothing":
            image = _bent(library.nothing[rng.integers(len(library.nothing))], rng)
            mask, spacing = np.zeros(GRID, np.float32), SPACING_MM
        else:
            shapes = library.phantoms if kind == "phantom" else library.rebuilt
            shape = shapes[rng.integers(len(shapes))]
            texture = library.textures[rng.integers(len(library.textures))]
            image, mask = _painted(shape, texture, rng)
            spacing = SPACING_MM
        pair = torch.from_numpy(np.stack([image, mask]))[None]
        pair = _moved(pair, spacing, rng, generator)
        image_bcxyz, mask_bcxyz = pair[:, :1], (pair[:, 1:] > 0.5).float()
        image_bcxyz, mask_bcxyz = _cut(image_bcxyz, mask_bcxyz, rng)
        yield normalised(_imaged(image_bcxyz, rng, generator)), mask_bcxyz


def normalised(image: torch.Tensor) -> torch.Tensor:
    """Scale the 0.5th and 99.5th percentile to 0 and 1 and clip, as inference.json does."""
    values = image.flatten()
    low, high = (torch.kthvalue(values, max(1, int(q * len(values))))[0] for q in (0.005, 0.995))
    return ((image - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _painted(shape: LabelMap, texture: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Give each tissue a signal: near T1 weighting two times in three, else anything."""
    signal = np.zeros(256, np.float32)
    t1 = rng.random() < 0.67
    for tissue in Tissue:
        if t1:
            spread = 0.1 if tissue in BRAIN else 0.45
            signal[tissue] = T1_SIGNAL[tissue] * np.exp(rng.normal() * spread)
        elif tissue not in (Tissue.AIR, Tissue.CAVITY):
            signal[tissue] = rng.uniform(0.02, 1.2)
    if t1:  # CSF, marrow and fat differ most between ages, sequences and coils
        signal[Tissue.MARROW] = rng.uniform(0.05, 1.4)
        signal[Tissue.OUTER_CSF] = rng.uniform(0.05, 0.45)
        signal[Tissue.DURA] = rng.uniform(0.1, 0.9)
    if rng.random() < 0.7:
        signal[Tissue.BONE] = rng.uniform(0, 0.15)
    signal[Tissue.CORD] = signal[Tissue.BRAIN_STEM] * np.exp(rng.normal() * 0.05)
    image = signal[shape.tissues_xyz]
    mask = brain_of(shape.tissues_xyz)
    if shape.texture_xyz is not None and t1 and rng.random() < 0.7:
        own = _bent(shape.texture_xyz, rng) * signal[Tissue.WHITE_MATTER]
        image = np.where(mask, own, image)
    else:
        image = image * (1 + float(rng.uniform(0, 0.08)) * texture)
    return image.astype(np.float32), mask.astype(np.float32)


def _texture(rng: np.random.Generator, wavelength_mm: float) -> Array:
    """Return a smooth random function of unit variance on GRID."""
    at = Waves.drawn(rng, wavelength_mm, 12).on(grid_affine_lps(), GRID[1], GRID[2])
    return np.stack([at(k) for k in range(GRID[0])])


def _bent(image: Array, rng: np.random.Generator) -> Array:
    """Send signal through a random rising curve: another sequence's contrast, order kept."""
    steps = rng.dirichlet(np.full(6, float(rng.choice([1.5, 4.0, 20.0]))))
    heights = np.concatenate([[0], np.cumsum(steps)]) * 1.6
    bent = np.interp(image, np.linspace(0, 1.6, 7), heights)
    return cast(Array, bent.astype(np.float32))


def _nothing(seed: int) -> Array:
    """Return things that are no head: round bodies with shells, wedges, stones, folds."""
    rng = np.random.default_rng([seed, 5])
    if rng.random() < 0.15:  # a coil that heard nothing
        noise = ndimage.gaussian_filter(rng.random(GRID, np.float32), float(rng.uniform(0, 1.2)))
        return cast(Array, noise)
    axes = np.ogrid[tuple(slice(-n / 2, n / 2) for n in GRID)]
    image = np.zeros(GRID, np.float32)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        centre = rng.normal(size=3) * 10
        half = rng.uniform(14, 48) * np.exp(rng.normal(size=3) * 0.2)
        x, y, z = ((a - c) / h for a, c, h in zip(axes, centre, half, strict=True))
        power = float(rng.choice([2, 2, 2, 4]))
        r = (np.abs(x) ** power + np.abs(y) ** power + np.abs(z) ** power) ** (1 / power)
        r = r * (1 + 0.05 * rng.random() * _texture(rng, float(rng.uniform(30, 90))))
        edges = np.sort(np.concatenate([[0, 1], rng.uniform(0, 1, rng.integers(0, 6))]))
        if rng.random() < 0.6:  # a thin rind
            edges = np.sort(np.append(edges, rng.uniform(0.86, 0.97)))
        shells = rng.uniform(0.1, 1.2, len(edges))
        body = shells[np.clip(np.searchsorted(edges, r) - 1, 0, len(edges) - 1)]
        if rng.random() < 0.35:  # segments, as of an orange
            angle = np.arctan2(y, x) * int(rng.integers(3, 8))
            wall = np.abs(np.sin(angle)) * r < rng.uniform(0.02, 0.12)
            body = np.where(wall & (r < 0.9), rng.uniform(0, 1.2), body)
        if rng.random() < 0.4:  # hollow, as a melon or a pepper: thick flesh, a cavity, seeds
            wall = r * (1 + 0.15 * rng.random() * _texture(rng, float(rng.uniform(20, 60))))
            hollow = wall < rng.uniform(0.3, 0.75)
            body = np.where(
                hollow, rng.uniform(0, 0.15), body.mean() if rng.random() < 0.5 else body
            )
            seeds = hollow & (_texture(rng, float(rng.uniform(8, 20))) > rng.uniform(0.9, 1.7))
            body = np.where(seeds, rng.uniform(0.5, 1.6), body)
        if rng.random() < 0.4:  # folds, as of a cabbage
            folds = np.abs(_texture(rng, float(rng.uniform(12, 40))))
            body = np.where(folds < rng.uniform(0.05, 0.4), rng.uniform(0, 1.2), body)
        if rng.random() < 0.4:  # stones and bubbles
            body = np.where(
                _texture(rng, float(rng.uniform(10, 40))) > 1.6, rng.uniform(0, 1.3), body
            )
        if rng.random() < 0.35:  # a dark hollow, with seeds or without
            seeds = _texture(rng, float(rng.uniform(7, 14))) > rng.uniform(0.9, 1.8)
            seeds &= rng.random() < 0.7
            inner = np.where(seeds, rng.uniform(0.8, 3.0), rng.uniform(0, 0.25))
            body = np.where(r < rng.uniform(0.3, 0.7), inner, body)
        if rng.random() < 0.5:  # grainy flesh
            body = body * (1 + rng.uniform(0.05, 0.4) * _texture(rng, float(rng.uniform(4, 7))))
        body = body * (1 + rng.uniform(0, 0.15) * _texture(rng, float(rng.uniform(5, 20))))
        image = np.where(r < 1, body, image)
    return image.astype(np.float32)


# --- what happens to every sample ---------------------------------------------------------------


def _moved(
    pair_bcxyz: torch.Tensor,
    spacing_mm: float,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> torch.Tensor:
    """Sample a patch at 2 mm under a random affine and elastic map, mirrored half of the time."""
    patch = PATCHES[rng.integers(len(PATCHES))]
    turn = np.eye(3)
    for first, second in ((1, 2), (2, 0), (0, 1)):
        angle = np.radians(rng.normal() * 10)
        one = np.eye(3)
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    scale = np.exp(rng.normal() * 0.1 + rng.normal(size=3) * 0.06)
    shear = np.eye(3) + np.triu(rng.normal(size=(3, 3)) * 0.04, 1)
    matrix = turn @ shear @ np.diag(scale) * SPACING_MM
    if rng.random() < 0.5:
        matrix[:, 0] = -matrix[:, 0]

    size = np.array(pair_bcxyz.shape[2:]) * spacing_mm
    span = np.array(patch) * SPACING_MM
    # Patches look around the middle of the brain where there is one.
    focus = np.zeros(3)
    points = pair_bcxyz[0, 1, ::4, ::4, ::4].nonzero().float()
    if len(points):
        focus = points.mean(dim=0).numpy() * 4 * spacing_mm - size / 2
    shift = np.array([0, 0, -12]) + rng.normal(size=3) * (0.1 * span)
    if rng.random() < 0.08:  # seldom elsewhere: face and neck alone
        shift = shift + np.array([0, 20, -110]) * rng.uniform(0.5, 1)

    axes = [torch.linspace(-(n - 1) / 2, (n - 1) / 2, n) for n in patch]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([x, y, z], dim=-1) @ torch.tensor(matrix.T, dtype=torch.float32)
    places += torch.tensor(focus + shift, dtype=torch.float32)
    if rng.random() < 0.8:
        coarse = torch.randn(1, 3, *(int(rng.integers(4, 8)),) * 3, generator=generator)
        bend = functional.interpolate(coarse, size=patch, mode="trilinear", align_corners=True)
        places += bend[0].permute(1, 2, 3, 0) * float(rng.uniform(1, 5))
    # grid_sample wants (z, y, x) in -1 .. 1
    places = (places / torch.tensor(size / 2, dtype=torch.float32)).flip(-1)[None]
    return functional.grid_sample(pair_bcxyz, places, align_corners=False)


def _cut(
    image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take away what a smaller field of view would not have seen."""
    for axis in (2, 3, 4):
        for end in (0, 1):
            if rng.random() < 0.12:
                n = int(image.shape[axis] * rng.uniform(0.02, 0.22))
                start = 0 if end == 0 else image.shape[axis] - n
                image.narrow(axis, start, n).zero_()
                mask.narrow(axis, start, n).zero_()
    return image, mask


def _imaged(
    image: torch.Tensor, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    """Blur, thicken slices, shade, and add Rician noise."""
    image = image / image.amax().clamp_min(1e-6)
    if rng.random() < 0.4:
        image = _blurred(image, float(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.3:  # thick slices along one axis
        axis = int(rng.integers(3))
        coarse = list(image.shape[2:])
        thin = coarse[axis]
        coarse[axis] = max(8, int(thin / rng.uniform(1.3, 3.5)))
        image = functional.interpolate(image, size=coarse, mode="area")
        coarse[axis] = thin
        image = functional.interpolate(image, size=coarse, mode="trilinear")
    if rng.random() < 0.8:
        coarse_bias = torch.randn(1, 1, *(int(rng.integers(2, 5)),) * 3, generator=generator)
        bias = functional.interpolate(
            coarse_bias, size=image.shape[2:], mode="trilinear", align_corners=True
        )
        image = image * torch.exp(bias * float(rng.uniform(0, 0.35)))
    if rng.random() < 0.5:
        image = image ** float(np.exp(rng.normal() * 0.25))
    if rng.random() < 0.8:
        sigma = float(rng.exponential(0.025))
        real = image + sigma * torch.randn(image.shape, generator=generator)
        imaginary = sigma * torch.randn(image.shape, generator=generator)
        image = torch.sqrt(real * real + imaginary * imaginary)
    return image


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolve with a Gaussian of `sigma` voxels, one axis after the other."""
    reach = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (reach / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = 5
        padding = [2 if axis == a else 0 for a in range(3)]
        image = functional.conv3d(image, kernel.view(shape), padding=padding)
    return image
