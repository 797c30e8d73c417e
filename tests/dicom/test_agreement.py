"""How far two segmentations are apart: figures that can be counted by hand."""

import numpy as np
import pytest

from dicom.agreement import compare, likeness
from dicom.seg import Masks

SPACING = (3.0, 1.0, 1.0)


def crops(*masks: np.ndarray):
    return Masks.of(masks).crops


def square(size: int, *, at: int = 5, shape=(4, 30, 30)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[1, at : at + size, at : at + size] = True
    return mask


def test_what_was_not_touched_is_the_same():
    (crop,) = crops(square(6)).values()
    (one,), total = compare([(crop, crop)], SPACING, tolerance_mm=1)
    assert (one.changed_voxels, one.added_path_mm) == (0, 0.0)
    assert one.surface_dice == one.dice == total.surface_dice == 1.0


def test_a_square_that_grows_by_a_voxel():
    before, after = crops(square(6, at=5), square(8, at=4)).values()
    (one,), total = compare([(before, after)], SPACING, tolerance_mm=0.5)
    assert one.changed_voxels == total.changed_voxels == 64 - 36
    assert one.added_path_mm == 28.0  # the whole new outline, 1 mm a pixel
    assert one.dice == pytest.approx(2 * 36 / 100)
    # On a single slice each voxel is surface: the 36 that both have are within the tolerance.
    assert one.surface_dice == pytest.approx(72 / 100)
    (near,), _ = compare([(before, after)], SPACING, tolerance_mm=1.5)
    assert near.surface_dice == 1.0


def test_path_is_added_only_where_the_outline_is_new():
    after = square(6)
    after[1, 5:8, 11] = True  # a bump of three voxels on one side
    before, after = crops(square(6), after).values()
    (one,), _ = compare([(before, after)], SPACING, tolerance_mm=1)
    assert (one.changed_voxels, one.added_path_mm) == (3, 3.0)


def test_a_voxel_that_changes_its_segment_is_one_changed_voxel():
    first = crops(square(6), square(3, at=20))
    second_a, second_b = square(6), square(3, at=20)
    second_a[1, 5, 5], second_b[1, 5, 5] = False, True
    second = crops(second_a, second_b)
    each, total = compare([(first[1], second[1]), (first[2], second[2])], SPACING, tolerance_mm=1)
    assert [one.changed_voxels for one in each] == [1, 1]
    assert total.changed_voxels == 1


def test_a_segment_that_is_new_or_gone():
    (crop,) = crops(square(6)).values()
    (new, gone, nothing), total = compare(
        [(None, crop), (crop, None), (None, None)], SPACING, tolerance_mm=1
    )
    assert (new.changed_voxels, gone.changed_voxels) == (36, 36)
    assert (new.surface_dice, gone.surface_dice, nothing.surface_dice) == (0.0, 0.0, None)
    assert (new.added_path_mm, gone.added_path_mm) == (20.0, 0.0)
    assert total.changed_voxels == 36  # the same voxels, lost by one and won by the other


@pytest.mark.parametrize("slices", [1, 7])
def test_a_box_and_a_whole_mask_say_the_same(slices):
    shape = (slices, 40, 44)
    rng = np.random.default_rng(4)
    before, after = np.zeros((2, *shape), bool)
    before[:, 8:25, 10:30] = rng.random((slices, 17, 20)) > 0.05
    after[:, 10:28, 9:28] = True
    spacing = (3.0, 0.7, 0.9)
    pair = tuple(crops(before, after).values())
    (one,), _ = compare([pair], spacing, tolerance_mm=1.2, flat=slices == 1)
    whole = likeness(before, after, spacing, tolerance_mm=1.2)
    assert one.dice == pytest.approx(whole.dice)
    assert one.surface_dice == pytest.approx(whole.surface_dice)
    assert one.added_path_mm == pytest.approx(whole.added_path_mm) != 0
    assert 0.3 < one.surface_dice < 0.99
