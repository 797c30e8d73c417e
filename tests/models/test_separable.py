"""Resampling axis by axis says what MONAI's dense grid says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing, SpatialResample
from monai.transforms.spatial import functional

from models.separable import SeparableAffine, quick_resampling

SHAPE = (20, 31, 17)
SPACING = (0.45, 0.9, 1.3)


def image(channels: int = 2, directions: tuple[float, ...] = (1, 1, 1)) -> MetaTensor:
    torch.manual_seed(1)
    affine = torch.diag(torch.tensor([*np.multiply(SPACING, directions), 1.0]))
    affine[:3, 3] = torch.tensor([3.0, -7.0, 11.0])
    return MetaTensor(torch.rand(channels, *SHAPE), affine=affine.double())


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("pixdim", [(1.0, 1.0, 1.0), (0.3, 1.7, 0.7), (2.0, 2.0, 5.0)])
def test_linear_resampling_agrees_there_and_back(
    pixdim: tuple[float, float, float], padding: str
) -> None:
    spacing = Spacing(pixdim=pixdim, padding_mode=padding, dtype=torch.float64)
    expected = spacing(image())
    with quick_resampling():
        made = spacing(image())
        back = spacing.inverse(made.clone())
    assert made.shape == expected.shape
    torch.testing.assert_close(made.affine, expected.affine)
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=1e-6, rtol=0)
    expected_back = spacing.inverse(expected.clone())
    torch.testing.assert_close(back.as_tensor(), expected_back.as_tensor(), atol=1e-6, rtol=0)


def test_nearest_resampling_agrees_where_it_is_no_toss_up() -> None:
    # grids on which no voxel lies half-way between two
    spacing = Spacing(pixdim=(0.49, 0.74, 0.94), mode="nearest", dtype=torch.float64)
    expected = spacing(image())
    with quick_resampling():
        made = spacing(image())
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=0, rtol=0)


@pytest.mark.parametrize("directions", [(-1, 1, 1), (1, -1, -1)])
def test_mirrored_axes_are_parallel_too(directions: tuple[float, ...]) -> None:
    resample = SpatialResample(padding_mode="zeros", dtype=torch.float64)
    target = {"dst_affine": image().affine, "spatial_size": SHAPE}
    expected = resample(image(directions=directions), **target)
    with quick_resampling():
        made = resample(image(directions=directions), **target)
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=1e-6, rtol=0)


def test_axes_that_turn_go_monais_way(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = image().affine.clone()
    turned[0, 1] = 0.2
    resample = SpatialResample(dtype=torch.float64)
    expected = resample(image(), dst_affine=turned)
    monkeypatch.setattr(SeparableAffine, "_along", None)  # would be called axis by axis
    with quick_resampling():
        made = resample(image(), dst_affine=turned)
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor())


def test_pictures_are_resampled_too() -> None:
    picture = MetaTensor(torch.rand(1, 12, 9), affine=torch.eye(4).double())
    spacing = Spacing(pixdim=(0.7, 1.9), dtype=torch.float64)
    expected = spacing(picture)
    with quick_resampling():
        made = spacing(picture)
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=1e-6, rtol=0)


def test_monai_is_left_as_it_was() -> None:
    before = functional.AffineTransform  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError), quick_resampling():
        raise ZeroDivisionError
    assert functional.AffineTransform is before  # type: ignore[attr-defined]
