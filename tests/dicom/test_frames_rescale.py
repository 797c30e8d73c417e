"""From stored values to values with a meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dicom import errors
from dicom.frames import rescale
from tests.examples import examples
from tests.images import ramp


@examples(60)
@given(
    stored=arrays(st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.uint32]), (2, 3)),
    slopes=st.tuples(*2 * [st.sampled_from([1, 2, -1, 0.5, 3.25, 40000])]),
    intercepts=st.tuples(*2 * [st.sampled_from([0, -1024, 0.25, 31000, -40000])]),
)
def test_rescaled_values_are_exact_in_int16_or_rounded_once(stored, slopes, intercepts):
    exact = stored.astype(np.float64) * np.array(slopes)[:, None] + np.array(intercepts)[:, None]
    before = stored.copy()
    rescaled = rescale(stored, slopes, intercepts)
    np.testing.assert_array_equal(stored, before)
    np.testing.assert_array_equal(rescaled, exact.astype(rescaled.dtype))
    whole = not np.mod([*slopes, *intercepts], 1).any()
    fits = exact.min() >= -(2**15) and exact.max() < 2**15
    assert rescaled.dtype == (np.int16 if whole and fits else np.float32)
    again = rescale(stored, slopes, intercepts, overwrite=True)
    np.testing.assert_array_equal(again, rescaled)


@pytest.mark.parametrize(
    ("ends", "kind"),
    [((-(2**15), 2**15 - 1), "i2"), ((0, 2**15), "f4"), ((-(2**15) - 1, 0), "f4")],
)
@pytest.mark.parametrize("intercept", [0, -1024, 500])
def test_the_ends_of_int16_are_its_ends(ends, kind, intercept):
    stored = np.array(ends, np.int32).reshape(1, 2) - intercept
    rescaled = rescale(stored, [1], [intercept])
    assert rescaled.dtype == np.dtype(kind)
    np.testing.assert_array_equal(rescaled, [ends])


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf")])
def test_a_slope_that_loses_everything_is_refused(slope):
    with pytest.raises(errors.UnsupportedPixelFormat):
        rescale(ramp(), [slope], [0.0])
