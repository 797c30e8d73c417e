"""What people see of cases: the slice on which most is to be seen, with labels or boxes."""

import numpy as np

from models.learning.graph import half_read
from models.learning.pictures import pictured

COLOURS = {1: (230, 97, 74), 2: (76, 160, 224)}


def test_boxes_are_drawn_on_the_slice_with_most_of_them():
    image = np.zeros((1, 6, 30, 40), np.float32)
    rows = np.array(
        [[1, 4, 5, 10, 6, 15, 25], [2, 4, 18, 2, 5, 25, 9], [1, 0, 0, 0, 1, 5, 5]], float
    )
    pixels = pictured(image, None, rows, COLOURS, side=80)
    for number, (top, left, bottom, right) in ((1, (5, 10, 15, 25)), (2, (18, 2, 25, 9))):
        j, i = np.nonzero(np.all(pixels == COLOURS[number], axis=2))
        assert (j.min(), i.min(), j.max() + 1, i.max() + 1) == (
            2 * top,
            2 * left,
            2 * bottom,
            2 * right,
        )


def test_labels_are_drawn_on_the_slice_with_most_of_them():
    image, label = np.zeros((1, 4, 20, 20), np.float32), np.zeros((4, 20, 20), np.uint8)
    label[1, 2:4, 2:4], label[2, 5:15, 5:15] = 1, 2
    pixels = pictured(image, label, np.zeros((0, 7)), COLOURS, side=20)
    assert np.all(pixels[5, 5] == COLOURS[2]) and not np.all(pixels[2, 2] == COLOURS[1])


def test_what_can_be_read_of_a_graph_that_is_none():
    text = (
        '[[node]]\nname = "a"\nkind = "source"\n[[node]]\nname = "b"\nfrom = ["a:x", 3]\n[[node]]\n'
    )
    assert half_read(text) == (("a", "source", ()), ("b", "?", ("a",)))
    assert half_read("nothing") == () and half_read('{"node": 3}') == ()
