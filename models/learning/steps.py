"""What the nodes of an augmentation graph do to a sample; the transforms are MONAI's.

Each takes its node, the sample and the draws of its own seed; image, labels and boxes move alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms.intensity.array import GaussianSmooth
from monai.transforms.spatial.array import Affine, Resize
from torch.nn.functional import grid_sample, interpolate

from models.learning.detecting import (
    cut_rows,
    mirrored_rows,
    scaled_rows,
    shifted_rows,
    turned_rows,
)
from models.learning.graph import (
    AXES,
    Blur,
    Classes,
    Crop,
    Deform,
    Flip,
    Intensity,
    Markers,
    Noise,
    Resample,
    Rotate,
    Shade,
    Zoom,
)
from models.learning.markers import paint_markers
from models.learning.sample import Labels, Sample


def _flip(node: Flip, sample: Sample, draw: np.random.Generator) -> Sample:
    axes = tuple(AXES.index(axis) - 3 for axis in node.axes)
    return replace(
        sample,
        image=np.flip(sample.image, axes),
        label=None if sample.label is None else np.flip(sample.label, axes),
        boxes=mirrored_rows(sample.boxes, [axis + 3 for axis in axes], sample.shape_kji),
    )


def _rotate(node: Rotate, sample: Sample, draw: np.random.Generator) -> Sample:
    angle = np.deg2rad(draw.uniform(*node.degrees))
    turning = [axis for axis in range(3) if axis != AXES.index(node.about)]
    if any(sample.shape_kji[axis] == 1 for axis in turning):
        return sample  # a single slice has no other side
    turn = np.eye(4)
    one, other = turning
    turn[one, one] = turn[other, other] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    to_mm = np.diag([*sample.spacing_kji, 1.0])
    matrix = np.linalg.inv(to_mm) @ turn @ to_mm
    return _warped(sample, matrix)


def _zoom(node: Zoom, sample: Sample, draw: np.random.Generator) -> Sample:
    factor = draw.uniform(*node.factor)
    # The matrix says where a voxel's value comes from; a single slice stays the one it is.
    scale = [1.0 if there == 1 else 1 / factor for there in sample.shape_kji]
    return _warped(sample, np.diag([*scale, 1.0]))


def _deform(node: Deform, sample: Sample, draw: np.random.Generator) -> Sample:
    shape = np.array(sample.shape_kji)
    most = draw.uniform(*node.share) * (shape - 1) / (node.points - 1)
    shift = _smooth_field(draw, node.points, sample.shape_kji, 3)
    shift *= most.astype(np.float32)[:, None, None, None]
    # grid_sample takes (x, y, z) = (i, j, k), from -1 at the first voxel to 1 at the last.
    ogrid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    there = [
        2 * (at + moved) / max(1, n - 1) - 1 if n > 1 else np.zeros_like(moved)
        for at, moved, n in zip(ogrid, shift, shape, strict=True)
    ]
    grid = torch.from_numpy(np.stack(there[::-1], axis=-1).astype(np.float32))[None]

    def moved(array: npt.NDArray[Any], mode: str, edge: str) -> npt.NDArray[Any]:
        found = grid_sample(_tensor(array)[None], grid, mode, edge, align_corners=True)
        return np.asarray(found[0])

    return replace(
        sample,
        image=moved(sample.image, "bilinear", "border"),
        label=_as_label(sample.label, lambda label: moved(label, "nearest", "zeros")),
        boxes=shifted_rows(sample.boxes, shift),
    )


def _smooth_field(
    draw: np.random.Generator, points: int, shape_kji: tuple[int, int, int], channels: int
) -> npt.NDArray[np.float32]:
    """Return numbers between -1 and 1 that change smoothly, shape (channels, k, j, i)."""
    size = [1 if there == 1 else points for there in shape_kji]
    coarse = torch.from_numpy(draw.uniform(-1, 1, (1, channels, *size)).astype(np.float32))
    return interpolate(coarse, shape_kji, mode="trilinear", align_corners=True)[0].numpy()


def _warped(sample: Sample, matrix: npt.NDArray[np.float64]) -> Sample:
    flat = sample.shape_kji[0] == 1
    kept = np.ix_([1, 2, 3], [1, 2, 3]) if flat else np.ix_(range(4), range(4))

    def moved(array: npt.NDArray[Any], mode: str, edge: str) -> npt.NDArray[Any]:
        channels = _tensor(array[:, 0] if flat else array)
        warp = Affine(affine=matrix[kept], mode=mode, padding_mode=edge, image_only=True)
        found: npt.NDArray[Any] = np.asarray(warp(channels))
        return found[:, None] if flat else found

    image = moved(sample.image, "bilinear", "border").astype(np.float32)
    return replace(
        sample,
        image=image,
        label=_as_label(sample.label, lambda label: moved(label, "nearest", "zeros")),
        boxes=turned_rows(sample.boxes, matrix[:3, :3], sample.shape_kji),
    )


def _crop(node: Crop, sample: Sample, draw: np.random.Generator) -> Sample:
    shape = sample.shape_kji
    if node.size is not None:
        size = [min(wanted, there) for wanted, there in zip(node.size, shape, strict=True)]
    else:
        assert node.share is not None  # one of both is given
        share = draw.uniform(*node.share)
        size = [max(1, round(there * share)) if there > 1 else 1 for there in shape]
    low = [0, 0, 0]
    high = [there - wanted for there, wanted in zip(shape, size, strict=True)]
    if draw.random() < node.label:
        places = np.argwhere(sample.labelled())
        if places.size:
            place = places[draw.integers(len(places))]
            low = [max(0, int(at) - wanted + 1) for at, wanted in zip(place, size, strict=True)]
            high = [min(most, int(at)) for at, most in zip(place, high, strict=True)]
    first = [int(draw.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]
    k, j, i = (slice(a, a + wanted) for a, wanted in zip(first, size, strict=True))
    label = sample.label
    return replace(
        sample,
        image=sample.image[..., k, j, i],
        label=None if label is None else label[..., k, j, i],
        boxes=cut_rows(sample.boxes, first, size),
    )


def _classes(node: Classes, sample: Sample, draw: np.random.Generator) -> Sample:
    if len(sample.boxes):
        numbers = [node.mapping.get(int(number), int(number)) for number in sample.boxes[:, 0]]
        rows = np.concatenate([np.array(numbers)[:, None], sample.boxes[:, 1:]], axis=1)
        return replace(sample, boxes=rows[rows[:, 0] > 0])
    if sample.label is None:
        return sample
    if sample.label.ndim == 4:
        moved = np.zeros_like(sample.label)
        for at, mask in enumerate(sample.label):
            number = node.mapping.get(at + 1, at + 1)
            if 1 <= number <= len(moved):
                moved[number - 1] |= mask
        return replace(sample, label=moved)
    table = np.arange(256, dtype=np.uint8)
    for number, becomes in node.mapping.items():
        table[number] = becomes
    return replace(sample, label=table[sample.label])


def _intensity(node: Intensity, sample: Sample, draw: np.random.Generator) -> Sample:
    image = sample.image
    scale, shift = draw.uniform(*node.scale), draw.uniform(*node.shift)
    gamma = draw.uniform(*node.gamma)
    image = image * np.float32(scale) + np.float32(shift * float(image.std()))
    if gamma != 1.0:
        low, high = float(image.min()), float(image.max())
        if high > low:  # of a constant image every power is the same
            image = ((image - low) / (high - low)) ** np.float32(gamma) * (high - low) + low
    return replace(sample, image=image.astype(np.float32))


def _shade(node: Shade, sample: Sample, draw: np.random.Generator) -> Sample:
    most = draw.uniform(*node.share) * float(sample.image.std())
    field = _smooth_field(draw, node.points, sample.shape_kji, 1)
    return replace(sample, image=sample.image + field * np.float32(most))


def _blur(node: Blur, sample: Sample, draw: np.random.Generator) -> Sample:
    sigma = draw.uniform(*node.sigma)
    flat = sample.shape_kji[0] == 1
    channels = _tensor(sample.image[:, 0] if flat else sample.image)
    smoothed = np.asarray(GaussianSmooth(sigma=sigma)(channels), np.float32)
    return replace(sample, image=smoothed[:, None] if flat else smoothed)


def _noise(node: Noise, sample: Sample, draw: np.random.Generator) -> Sample:
    spread = draw.uniform(*node.share) * float(sample.image.std())
    noise = draw.standard_normal(sample.image.shape, np.float32) * np.float32(spread)
    return replace(sample, image=sample.image + noise)


def _markers(node: Markers, sample: Sample, draw: np.random.Generator) -> Sample:
    image, rows = paint_markers(
        np.array(sample.image, np.float32),
        draw,
        letters=node.letters,
        count=node.count,
        height=node.height,
        others=node.others,
    )
    return replace(sample, image=image, boxes=np.concatenate([sample.boxes, rows]))


def resized(sample: Sample, size: tuple[int, int, int]) -> Sample:
    """Return a sample of another size in voxels, of the same place."""
    if sample.shape_kji == size:
        return sample
    draw = np.random.default_rng(0)  # nothing is drawn
    return _resample(Resample(name="size", kind="resample", from_=("it",), size=size), sample, draw)


def _resample(node: Resample, sample: Sample, draw: np.random.Generator) -> Sample:
    shape = sample.shape_kji
    if node.size is not None:
        size = node.size
    else:
        assert node.spacing_mm is not None  # one of both is given
        k, j, i = (
            max(1, round(there * step / wanted))
            for there, step, wanted in zip(shape, sample.spacing_kji, node.spacing_mm, strict=True)
        )
        size = (k, j, i)
    spacing = tuple(
        step * there / wanted
        for step, there, wanted in zip(sample.spacing_kji, shape, size, strict=True)
    )
    k_mm, j_mm, i_mm = spacing
    to_linear = Resize(size, mode="trilinear", align_corners=False, anti_aliasing=False)
    to_nearest = Resize(size, mode="nearest-exact")
    return replace(
        sample,
        image=np.asarray(to_linear(_tensor(sample.image)), np.float32),
        label=_as_label(sample.label, lambda label: np.asarray(to_nearest(_tensor(label)))),
        spacing_kji=(k_mm, j_mm, i_mm),
        boxes=scaled_rows(sample.boxes, np.array(size) / np.array(shape)),
    )


def _tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(array))  # a copy: PyTorch takes what can be written to


def _as_label(
    label: Labels | None, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
) -> Labels | None:
    """Return a changed label map in its own type and shape; `change` takes channels first."""
    if label is None:
        return None
    channels = (label if label.ndim == 4 else label[None]).astype(np.float32)
    changed: Labels = np.rint(change(channels)).astype(label.dtype)
    return changed if label.ndim == 4 else changed[0]


STEPS: Mapping[type, Callable[[Any, Sample, np.random.Generator], Sample]] = {
    Flip: _flip,
    Rotate: _rotate,
    Zoom: _zoom,
    Deform: _deform,
    Crop: _crop,
    Classes: _classes,
    Intensity: _intensity,
    Shade: _shade,
    Blur: _blur,
    Noise: _noise,
    Markers: _markers,
    Resample: _resample,
}
