"""Likeness of masks: the figures are MONAI's, and those that can be counted by hand."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from dicom.agreement import added_path_length, dice, likeness

SPACING = (3.0, 1.0, 0.8)


def ball(centre, radius, shape=(20, 40, 44)):
    places = np.indices(shape) * np.array(SPACING)[:, None, None, None]
    squares = sum((axis - c * s) ** 2 for axis, c, s in zip(places, centre, SPACING, strict=True))
    return squares <= radius**2


@pytest.fixture(scope="module")
def pair():
    rough = ball((10, 20, 22), 11.0)
    rough &= np.random.default_rng(3).random(rough.shape) > 0.05
    return rough, ball((11, 22, 21), 12.5)


def one_hot(mask):
    return torch.from_numpy(np.stack([~mask, mask]))[None]


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0, 4.0])
def test_surface_dice_is_monais(pair, tolerance):
    found, truth = pair
    expected = compute_surface_dice(
        one_hot(found), one_hot(truth), class_thresholds=[tolerance], spacing=SPACING
    )
    ours = likeness(found, truth, SPACING, tolerance_mm=tolerance)
    assert ours.surface_dice == pytest.approx(expected.item(), abs=1e-6)


def test_the_hausdorff_distance_is_monais(pair):
    found, truth = pair
    expected = compute_hausdorff_distance(
        one_hot(found), one_hot(truth), percentile=95, spacing=SPACING
    )
    assert likeness(found, truth, SPACING).hausdorff95_mm == pytest.approx(expected.item())


def test_a_box_that_moved_by_one_column():
    truth = np.zeros((4, 12, 12), np.bool_)
    truth[1:3, 2:8, 2:8] = True
    found = np.roll(truth, 1, axis=2)
    alike = likeness(found, truth, SPACING, tolerance_mm=0.8)
    assert alike.dice == dice(found, truth) == pytest.approx(5 / 6)
    assert alike.volume_error == 0
    assert alike.surface_dice == 1.0
    assert alike.hausdorff95_mm == pytest.approx(0.8)
    # Of each outline of 20 pixels the left column (6) and the right one's inner part (4) are new.
    assert alike.added_path_mm == pytest.approx(2 * 10 * np.sqrt(0.8))


def test_of_one_image_the_surface_is_the_outline():
    truth, found = np.zeros((2, 1, 40, 40), np.bool_)
    truth[0, 10:30, 10:30] = found[0, 10:30, 10:36] = True
    alike = likeness(found, truth, (1.0, 1.0, 1.0), tolerance_mm=1.0)
    expected = compute_surface_dice(
        one_hot(found[0]), one_hot(truth[0]), class_thresholds=[1.0], spacing=(1.0, 1.0)
    )
    assert alike.surface_dice == pytest.approx(expected.item())
    assert 0.5 < alike.surface_dice < 0.9
    assert alike.hausdorff95_mm == pytest.approx(6.0)


def test_what_is_alike_needs_no_work(pair):
    _, truth = pair
    alike = likeness(truth, truth.copy(), SPACING)
    assert (alike.dice, alike.surface_dice, alike.hausdorff95_mm) == (1.0, 1.0, 0.0)
    assert (alike.volume_error, alike.added_path_mm) == (0.0, 0.0)


def test_nothing_found_costs_the_whole_outline(pair):
    _, truth = pair
    missed = likeness(np.zeros_like(truth), truth, SPACING)
    assert (missed.dice, missed.surface_dice, missed.hausdorff95_mm) == (0.0, 0.0, None)
    assert missed.volume_error == -1.0
    assert missed.added_path_mm == added_path_length(np.zeros_like(truth), truth, SPACING) > 100


def test_what_should_not_be_there_costs_no_drawing(pair):
    found, _ = pair
    too_much = likeness(found, np.zeros_like(found), SPACING)
    assert (too_much.dice, too_much.volume_error, too_much.added_path_mm) == (0.0, None, 0.0)


def test_of_nothing_and_nothing_there_is_nothing_to_say():
    nothing = np.zeros((3, 4, 5), np.bool_)
    alike = likeness(nothing, nothing, SPACING)
    assert (alike.dice, alike.surface_dice, alike.hausdorff95_mm) == (None, None, None)
    assert dice(nothing, nothing) is None


def test_masks_on_two_grids_are_a_bug(pair):
    with pytest.raises(ValueError, match="shapes"):
        likeness(pair[0], pair[1][:-1], SPACING)
