"""Linear interpolation between grids, beside SimpleITK's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from models.regrid import Along, interpolated


@pytest.mark.parametrize("step", [(1.5, 1.5, 1.5), (0.4, 2.7, 1.0), (3.0, 0.7, 0.5)])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
@pytest.mark.parametrize("shift", [0.0, -0.4, 2.25])
def test_values_are_those_of_simpleitk(
    step: tuple[float, float, float], kind: type[np.generic], shift: float
) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (21, 26, 31)).astype(kind)
    size = [
        int((n - 1 - max(shift, 0)) / each) + 1 for n, each in zip(voxels.shape, step, strict=True)
    ]
    places = [shift + np.arange(n) * each for n, each in zip(size, step, strict=True)]
    slices, rows, columns = (
        Along.at(at, count, "zeros") for at, count in zip(places, voxels.shape, strict=True)
    )
    found = interpolated(voxels, (slices, rows, columns), threads=2)

    image = SimpleITK.GetImageFromArray(voxels.astype(np.float64))
    reference = SimpleITK.Image(size[::-1], SimpleITK.sitkFloat64)
    reference.SetSpacing(step[::-1])
    reference.SetOrigin([shift] * 3)
    expected: NDArray[np.float64] = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, reference, interpolator=SimpleITK.sitkLinear, defaultPixelValue=0)
    )
    # beyond the outermost voxels' middles SimpleITK repeats them for half a voxel; MONAI does not
    within = [(at >= 0) & (at <= n - 1) for at, n in zip(places, voxels.shape, strict=True)]
    inside = np.ix_(*within)
    assert found[inside].size > 500
    assert np.abs(found[inside] - expected[inside]).max() <= 1e-2  # of 2000
