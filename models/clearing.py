"""Things painted over in a picture: a marker that would tell a network what it ought to see itself.

What is painted goes smoothly from side to side of the place; grey values elsewhere stay exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.prediction import Boxes, Image

Rectangle = tuple[slice, slice, slice]


def without_boxes(image: Image, boxes: Boxes, *, margin: float = 0.15) -> Image:
    """Return an image with what lies in boxes painted over.

    Parameters
    ----------
    boxes : Boxes
        In LPS, mm, as a detection gives them.
    margin : float
        How much further than its box a place reaches on each side, as a share of the box.
    """
    if not boxes.boxes:
        return image
    inverse = np.linalg.inv(image.affine_lps)
    places = []
    for box in boxes.boxes:
        ends = np.array(list(np.ndindex(2, 2, 2)))
        corners = np.where(ends, box.high_lps, box.low_lps)
        index = corners @ inverse[:3, :3].T + inverse[:3, 3] + 0.5  # edges: voxel n is n to n + 1
        low, high = index.min(axis=0), index.max(axis=0)
        wide = margin * (high - low)
        wide[0] = 0.0  # a slice's neighbours show other things
        low, high = np.floor(low - wide + 1e-3), np.ceil(high + wide - 1e-3)
        begin = np.maximum(low, 0).astype(int)
        end = np.minimum(high, image.shape_kji).astype(int)
        k, j, i = (slice(int(a), int(b)) for a, b in zip(begin, end, strict=True))
        places.append((k, j, i))
    return replace(image, voxels=painted_over(image.voxels, places))


def painted_over(
    voxels: npt.NDArray[np.generic], places: Iterable[Rectangle]
) -> npt.NDArray[np.generic]:
    """Return voxels with rectangles filled from their borders, slice by slice.

    Parameters
    ----------
    voxels : ndarray, shape (slices, rows, columns) or (slices, rows, columns, 3)
    places : iterable of (slice, slice, slice)
        Of slices, rows, columns.
    """
    filled = np.array(voxels)
    for slices, rows, columns in places:
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        for k in range(slices.start, slices.stop):
            _fill(filled[k], rows, columns)
    return filled


def _fill(picture: npt.NDArray[np.generic], rows: slice, columns: slice) -> None:
    """Fill a rectangle from the pixels around it, each the more the nearer it is."""
    sides = []  # (values along the rectangle, distance of each of its pixels)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    down, right = np.arange(1.0, height + 1)[:, None], np.arange(1.0, width + 1)[None]
    if rows.start > 0:
        sides.append((picture[rows.start - 1, columns][None], down))
    if rows.stop < picture.shape[0]:
        sides.append((picture[rows.stop, columns][None], height + 1 - down))
    if columns.start > 0:
        sides.append((picture[rows, columns.start - 1][:, None], right))
    if columns.stop < picture.shape[1]:
        sides.append((picture[rows, columns.stop][:, None], width + 1 - right))
    if not sides:  # the whole picture: nothing is known of what lies under it
        picture[rows, columns] = 0
        return
    total = np.zeros((height, width, *picture.shape[2:]))
    weights = np.zeros((height, width))
    for values, distance in sides:
        weight = np.broadcast_to(1.0 / distance**2, (height, width))
        shown = weight.reshape(*weight.shape, *[1] * (picture.ndim - 2))
        total += shown * values.astype(np.float64)
        weights += weight
    made = total / weights.reshape(*weights.shape, *[1] * (picture.ndim - 2))
    if picture.dtype.kind in "iu":
        made = np.rint(made)
    picture[rows, columns] = made.astype(picture.dtype)
