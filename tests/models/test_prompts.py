"""Prompts on a noisy ellipsoid whose outline is known, and beside independent computations."""

import numpy as np
import pytest
from scipy import ndimage

from models.prompts import (
    Box,
    Point,
    fill_holes,
    grow,
    interpolate,
    largest,
    margin,
    refine,
    smooth,
    suggested_tolerance,
)

SHAPE_KJI = (36, 72, 64)
SPACING = (2.0, 1.0, 1.0)
CENTRE = Point(18, 36, 32)
NOISE = 12.0


def ellipsoid(radii=(11, 22, 17), centre=CENTRE):
    k, j, i = np.indices(SHAPE_KJI)
    return sum(((at - c) / r) ** 2 for at, c, r in zip((k, j, i), centre, radii, strict=True)) <= 1


@pytest.fixture(scope="module")
def organ():
    return ellipsoid()


@pytest.fixture(scope="module")
def image(organ):
    noise = np.random.default_rng(20240).normal(0, NOISE, SHAPE_KJI)
    return (200 + 100 * organ + noise).astype(np.int16)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


class TestGrow:
    def test_it_is_the_connected_part_of_the_threshold_that_holds_the_seed(self, image):
        grown = grow(image, CENTRE, tolerance=45)
        value = int(image[CENTRE])
        labels, _ = ndimage.label((image >= value - 45) & (image <= value + 45))
        assert (grown.mask_kji == (labels == labels[CENTRE])).all()
        assert (grown.low, grown.high) == (value - 45, value + 45)

    def test_in_the_plane_it_stays_on_its_slice(self, image, organ):
        grown = grow(image, CENTRE, tolerance=60, in_plane=True).mask_kji
        assert np.flatnonzero(grown.any(axis=(1, 2))).tolist() == [CENTRE.k]
        assert dice(grown[CENTRE.k], organ[CENTRE.k]) > 0.98

    def test_the_suggested_tolerance_follows_the_noise_at_the_seed(self, image, organ):
        assert 1.5 * NOISE < suggested_tolerance(image, CENTRE) < 4 * NOISE
        assert dice(grow(image, CENTRE).mask_kji, organ) > 0.8

    @pytest.mark.parametrize("edge", [Point(18, 36, 48), Point(18, 15, 32), Point(8, 36, 32)])
    def test_from_an_edge_it_does_not_flood_what_lies_beyond(self, image, organ, edge):
        assert organ[edge]
        grown = grow(image, edge).mask_kji
        assert dice(grown, organ) > 0.7 and (grown & ~organ).sum() < 0.1 * organ.sum()

    def test_a_wider_tolerance_never_loses_a_voxel(self, image):
        narrow, wide = (grow(image, CENTRE, tolerance=t).mask_kji for t in (20, 40))
        assert (wide | narrow == wide).all()
        assert wide.sum() > narrow.sum()

    def test_values_that_are_no_integers(self, image, organ):
        scaled = image.astype(np.float32) * 0.013 - 7
        assert dice(grow(scaled, CENTRE, tolerance=60 * 0.013).mask_kji, organ) > 0.97

    def test_a_constant_image_is_one_part(self):
        assert grow(np.zeros((3, 4, 5), np.int16), Point(0, 0, 0)).mask_kji.all()

    def test_a_seed_outside_is_an_error(self, image):
        for outside in (Point(SHAPE_KJI[0], 0, 0), Point(0, -1, 0)):
            with pytest.raises(IndexError):
                grow(image, outside)


class TestShape:
    @pytest.mark.parametrize("mm", [3.0, 4.2, -3.0, -4.2])
    def test_a_margin_is_a_distance_in_millimetres(self, mm):
        mask = np.zeros((12, 16, 16), np.bool_)
        mask[4:8, 5:11, 5:11] = True
        places = np.argwhere(np.ones_like(mask)) * SPACING
        ends = np.argwhere(mask if mm > 0 else ~mask) * SPACING
        nearest = np.sqrt(((places[:, None] - ends) ** 2).sum(-1)).min(1).reshape(mask.shape)
        expected = nearest <= mm if mm > 0 else nearest > -mm
        assert (margin(mask, SPACING, mm) == expected).all()

    def test_a_margin_in_the_plane_leaves_other_slices_empty(self):
        mask = np.zeros((5, 9, 9), np.bool_)
        mask[2, 4, 4] = True
        grown = margin(mask, SPACING, 2.0, in_plane=True)
        assert grown[2].sum() == 13  # the pixels within 2 of the middle
        assert not grown[[0, 1, 3, 4]].any()

    def test_the_edge_of_the_image_is_no_edge_of_the_structure(self):
        mask = np.zeros((6, 10, 10), np.bool_)
        mask[:, :, :5] = True
        assert (margin(mask, SPACING, -1.0).sum(axis=2) == 4).all()
        assert margin(np.ones((3, 3, 3), np.bool_), SPACING, -1.0).all()

    def test_holes_in_the_volume_and_in_the_plane_are_two_things(self):
        mask = np.zeros((5, 7, 7), np.bool_)
        mask[1:4, 1:6, 1:6] = True
        mask[2, 3, 3] = False  # enclosed
        mask[:, 2, 2] = False  # a tunnel: open above and below
        filled = fill_holes(mask)
        assert filled[2, 3, 3]
        assert not filled[2, 2, 2]
        assert fill_holes(mask, in_plane=True)[1:4, 1:6, 1:6].all()

    def test_the_largest_part_is_kept(self, organ):
        island = organ.copy()
        island[1, 1:4, 1:4] = True
        assert (largest(island) == organ).all()
        two = np.zeros((2, 6, 6), np.bool_)
        two[0, 0, :3] = two[0, 4, :2] = two[1, 0, :2] = two[1, 4, :4] = True
        kept = largest(two, in_plane=True)
        assert [int(plane.sum()) for plane in kept] == [3, 4]

    def test_smoothing_keeps_the_size_and_drops_what_sticks_out(self, organ):
        rough = organ.copy()
        rough[18, 36, 49:60] = True  # a spike, one voxel thick
        rounded = smooth(rough, SPACING)
        assert not rounded[18, 36, 54:60].any()
        assert dice(rounded, organ) > 0.98
        assert rounded.sum() == pytest.approx(rough.sum(), rel=0.01)

    def test_slices_between_drawn_ones_are_filled_by_shape(self, organ):
        drawn = organ.copy()
        drawn[np.arange(SHAPE_KJI[0]) % 4 != 0] = False
        filled = interpolate(drawn, SPACING)
        first, *_, last = np.flatnonzero(drawn.any(axis=(1, 2)))
        assert dice(filled[first : last + 1], organ[first : last + 1]) > 0.96
        assert (filled[::4] == drawn[::4]).all()
        assert not filled[:first].any()
        assert not filled[last + 1 :].any()

    def test_an_oblique_tube_is_followed_where_its_ends_do_not_overlap(self):
        mask = np.zeros((11, 40, 40), np.bool_)
        mask[0, 4:9, 4:9] = mask[10, 30:35, 30:35] = True
        filled = interpolate(mask, SPACING)
        assert ndimage.center_of_mass(filled[5]) == pytest.approx((19, 19), abs=0.6)
        assert 20 <= filled[5].sum() <= 30

    @pytest.mark.parametrize("in_plane", [False, True])
    def test_nothing_stays_nothing(self, in_plane):
        nothing = np.zeros((3, 8, 8), np.bool_)
        for change in (fill_holes, largest):
            assert not change(nothing, in_plane=in_plane).any()
        assert not margin(nothing, SPACING, 5.0, in_plane=in_plane).any()
        assert not smooth(nothing, SPACING, in_plane=in_plane).any()
        assert not interpolate(nothing, SPACING).any()

    def test_one_slice_is_an_image_too(self, organ):
        plane = organ[CENTRE.k : CENTRE.k + 1]
        assert dice(smooth(plane, SPACING), plane) > 0.98
        assert margin(plane, SPACING, 2.0).sum() > plane.sum()
        assert margin(plane, SPACING, -2.0).sum() < plane.sum()


class TestRefine:
    def test_one_click_finds_the_structure(self, image, organ):
        assert dice(refine(image, SPACING, positive=[CENTRE]), organ) > 0.95

    def test_a_box_that_was_drawn_on_a_slice_is_as_deep_as_it_is_wide(self, image, organ):
        flat = Box(Point(18, 10, 11), Point(18, 62, 53))
        deep = flat.deepened(SHAPE_KJI, SPACING)
        assert deep == Box(Point(7, 10, 11), Point(29, 62, 53))
        assert dice(refine(image, SPACING, box=deep), organ) > 0.95
        low = Box(Point(2, 10, 11), Point(2, 62, 53)).deepened(SHAPE_KJI, SPACING)
        assert (low.first.k, low.last.k) == (0, 13)
        assert deep.deepened(SHAPE_KJI, SPACING) == deep

    @pytest.mark.parametrize("slices", [1, 2, 3])
    def test_few_slices_are_enough(self, image, organ, slices):
        few = slice(CENTRE.k, CENTRE.k + slices)
        box = Box(Point(0, 10, 11), Point(slices - 1, 62, 53))
        assert dice(refine(image[few], SPACING, box=box), organ[few]) > 0.9
        thin = Box(Point(0, 34, 11), Point(slices - 1, 36, 53))
        assert refine(image[few], SPACING, box=thin).any()

    def test_a_box_finds_it_in_the_volume_and_on_a_slice(self, image, organ):
        box = Box(Point(5, 10, 11), Point(31, 62, 53))
        assert dice(refine(image, SPACING, box=box), organ) > 0.95
        flat = Box(Point(18, 10, 11), Point(18, 62, 53))
        found = refine(image, SPACING, box=flat, in_plane=True)
        assert dice(found[18], organ[18]) > 0.95
        assert found.sum() == found[18].sum()

    def test_a_positive_click_adds_what_was_missed(self, image, organ):
        missed = organ.copy()
        missed[:, :, 36:] = False
        refined = refine(image, SPACING, missed, positive=[Point(18, 36, 42)])
        assert dice(refined, organ) > 0.95 > dice(missed, organ)
        assert (refined | missed == refined).all()  # it took nothing away

    def test_a_negative_click_takes_away_what_is_too_much(self, image, organ):
        too_much = organ.copy()
        too_much[10:27, 15:58, 47:60] = True
        refined = refine(image, SPACING, too_much, negative=[Point(18, 36, 55)])
        assert dice(refined, organ) > 0.95 > dice(too_much, organ)
        assert not (refined & ~too_much).any()  # it added nothing

    def test_what_is_far_from_the_click_stays(self, image, organ):
        far = np.zeros_like(organ)
        far[2, 2:5, 2:5] = True
        far[18, 36, 32] = True
        refined = refine(image, SPACING, far, negative=[Point(18, 36, 32)])
        assert refined[2, 2:5, 2:5].all()
        assert not refined[18, 36, 32]

    def test_a_click_that_says_what_is_so_already_changes_nothing(self, image, organ):
        assert (refine(image, SPACING, organ, positive=[CENTRE]) == organ).all()

    def test_the_masks_given_are_not_changed(self, image, organ):
        before = organ.copy()
        refine(image, SPACING, organ, negative=[CENTRE])
        assert (organ == before).all()

    def test_no_click_is_an_error(self, image):
        with pytest.raises(ValueError, match="clicked"):
            refine(image, SPACING)
