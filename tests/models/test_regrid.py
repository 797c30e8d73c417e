"""Linear interpolation between grids, beside SimpleITK's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from models.regrid import Along, Padding, interpolated, largest_at


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


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_largest_channel_is_that_of_all_of_them_interpolated(
    channels: int, padding: Padding, turned: bool
) -> None:
    rng = np.random.default_rng(channels)
    values = rng.normal(size=(channels, 18, 14, 16)).astype(np.float32)
    values[0] += 3  # background, but for a small box of each other channel, somewhere else
    for channel in range(1, channels):
        k, j, i = rng.integers(0, 10, 3)
        values[channel, k : k + 5, j : j + 4, i : i + 3] += 5
    places = [np.arange(int(n / 0.45)) * 0.45 - 0.7 for n in values.shape[1:]]
    slices, rows, columns = (
        Along.at(at, count, padding) for at, count in zip(places, values.shape[1:], strict=True)
    )
    axes = (slices, rows.backwards(), columns) if turned else (slices, rows, columns)
    whole = np.stack([interpolated(channel, axes, threads=1) for channel in values])
    expected = whole.argmax(axis=0)
    found = largest_at(values, axes, threads=2)
    close = np.sort(whole, axis=0)
    clear = close[-1] - close[-2] > 1e-5  # two channels are compared by their difference
    assert clear.mean() > (0.7 if padding == "zeros" else 0.99)
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert set(np.unique(found)) == set(range(channels))
