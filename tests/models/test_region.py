"""A model on a part of an image: what it answers lies where it looked."""

import numpy as np
import pytest

from dicom.errors import InvalidRequest
from models.prediction import Classes, Image, Instances, Labels, Masks
from models.region import Region, cut, put_back
from tests.series import PLANES, grid_affine

SHAPE = (6, 9, 8)
REGION = Region((1, 2, 3), (4, 6, 5))
BOX = (slice(1, 5), slice(2, 7), slice(3, 6))


@pytest.fixture(params=["axial", "oblique"])
def image(request) -> Image:
    affine_lps = grid_affine(PLANES[request.param], SHAPE, (3.0, 1.5, 1.25))
    return Image(np.arange(np.prod(SHAPE)).reshape(SHAPE), affine_lps, "1.2.3")


def test_a_part_lies_where_it_lay(image):
    part = cut(image, REGION)
    assert np.array_equal(part.voxels, image.voxels[BOX])
    assert part.frame_of_reference_uid == "1.2.3"
    inside = np.array([2, 1, 1, 1.0])  # (k, j, i) of the part
    whole = inside + np.array([1, 2, 3, 0])
    assert np.allclose(part.affine_lps @ inside, image.affine_lps @ whole)


def test_an_answer_comes_home(image):
    part = cut(image, REGION).voxels
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[BOX] = part % 3
    labels = put_back(Labels((part % 3).astype(np.uint8)), REGION, image)
    assert np.array_equal(labels.labels_kji, wanted)
    masks = put_back(Masks((1, 2), np.stack([part % 3 == 1, part % 3 == 2])), REGION, image)
    assert np.array_equal(masks.masks_nkji, np.stack([wanted == 1, wanted == 2]))
    found = put_back(Instances((part % 3).astype(np.uint16), (1, 1)), REGION, image)
    assert np.array_equal(found.instances_kji, wanted)
    said = Classes((1,), np.array([0.5]))
    assert put_back(said, REGION, image) is said


def test_colours_are_cut_too():
    colours = Image(np.zeros((*SHAPE, 3), np.uint8), np.eye(4))
    assert cut(colours, REGION).voxels.shape == (4, 5, 3, 3)


def test_over_all_rows(image):
    assert cut(image, REGION.along_rows()).shape_kji == (4, 9, 3)


def test_beyond_the_image_is_cut_off_and_outside_is_refused(image):
    assert cut(image, Region((4, 0, 0), (99, 99, 99))).shape_kji == (2, 9, 8)
    with pytest.raises(InvalidRequest, match="outside"):
        cut(image, Region((6, 0, 0), (7, 1, 1)))
    for first, last in (((2, 2, 2), (1, 3, 3)), ((-1, 0, 0), (1, 1, 1))):
        with pytest.raises(InvalidRequest, match="before"):
            Region(first, last)
