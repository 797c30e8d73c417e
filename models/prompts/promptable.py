"""Bundles that take clicks: what they are given, and the mask that they make of it.

A bundle says in its table (:mod:`models.table`) which of its inputs the node makes of a reader's
clicks, on the grid of the image, the one input that is left::

    "inputs": [{"name": "image"}, {"name": "positive", "key": "positive"},
               {"name": "negative", "key": "negative"}, {"name": "before", "key": "before"}],
    "prompts": {"positive": "positive", "negative": "negative", "previous": "before",
                "sigma_mm": 2.0, "reach_mm": 40.0, "any_structure": true}

========== ======================================================================================
a map      holds
========== ======================================================================================
positive   a Gaussian of `sigma_mm` at each click inside, 1 at its middle; of two the larger
negative   the same of clicks outside
previous   1 where the mask is so far, else 0
box        1 within the box around the structure, else 0
========== ======================================================================================

That is the input of MONAI's DeepGrow and DeepEdit: the image's channels and guidance beside them.
The maps go through the bundle's own preprocessing like any other image (Spacingd and the like name
their keys). The bundle has one segment; its answer is the mask, whatever the segment is called.

The network is shown what lies within `reach_mm` of clicks, box and mask, so that an answer takes
the same time in a large volume; what is farther stays as it was. A click means what it says: its
own voxel is inside, or outside, of the answer whatever the network thinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dicom.codes import Code
from dicom.masks import Mask, Spacing, Within
from models.bundle import Bundle
from models.prediction import Image, Prediction, labels_of
from models.prompts.values import Box, Point, voxels_in
from models.tasks import Prompted

_FADED = 3.0  # sigmas after which a click's Gaussian is nothing


class Asked(Protocol):
    """What runs bundles: :class:`models.process.PredictorProcess`."""

    def predict_images(self, bundle: str, images: Mapping[str, Image]) -> Prediction:
        """Return the answer for the images that a bundle needs."""
        ...


def is_for(bundle: Bundle, *, modality: str, label: str, code: Code | None) -> bool:
    """Return whether a bundle takes clicks on such an image, for such a structure."""
    if bundle.prompts is None or modality not in bundle.modalities:
        return False
    own = bundle.segments[0]
    same_code = code is not None and (own.type.scheme, own.type.value) == (code.scheme, code.value)
    return bundle.prompts.any_structure or same_code or own.label.casefold() == label.casefold()


def refine_by_bundle(
    predictor: Asked,
    bundle: Bundle,
    image: Image,
    mask_kji: Mask | None = None,
    *,
    positive: Sequence[Point] = (),
    negative: Sequence[Point] = (),
    box: Box | None = None,
    in_plane: bool = False,
) -> Mask:
    """Return the mask that a bundle makes of clicks; see the top of this file.

    Parameters
    ----------
    predictor : Asked
        Where it runs.
    bundle : Bundle
        One whose `prompts` are not None.
    image : Image
        Grey values, shape (slices, rows, columns).
    mask_kji : ndarray of bool or None
        What there is already.
    in_plane : bool
        Only the slices of the clicks (of the box) change.

    Raises
    ------
    ValueError
        When there is neither a click nor a box, or the bundle takes none.
    RadloopError
        What running a bundle raises.
    """
    asked = bundle.prompts
    if asked is None or not (positive or negative or box is not None):
        raise ValueError("nothing was clicked, or the bundle takes no clicks")
    if box is not None and not positive and not asked.box:
        positive = [_middle(box)]
    before = np.zeros(image.shape_kji, np.bool_) if mask_kji is None else mask_kji
    spacing = _spacing(image)
    part = _part(before, spacing, asked, positive, negative, box)
    corner = Point(*(side.start for side in part))
    cut = Image(
        np.ascontiguousarray(image.voxels[part]),
        _moved(image.affine_lps, corner),
        image.frame_of_reference_uid,
    )
    shape = cut.shape_kji
    maps = {
        asked.positive: gaussians(shape, [_from(p, corner) for p in positive], spacing, asked),
        asked.negative: gaussians(shape, [_from(p, corner) for p in negative], spacing, asked),
        asked.previous: before[part].astype(np.float32),
        asked.box: _box_map(shape, box, corner),
    }
    given = {name: _beside(cut, map_kji) for name, map_kji in maps.items() if name}
    (own,) = (each.name for each in bundle.inputs if each.name not in given)
    prediction = predictor.predict_images(bundle.identity, {own: cut, **given})
    after = before.copy()
    after[part] = labels_of(prediction.answer) == bundle.segments[0].number
    for points, inside in ((positive, True), (negative, False)):
        for point in points:
            after[point] = inside
    if in_plane:
        ks = {point.k for point in (*positive, *negative)}
        ks |= set(range(box.first.k, box.last.k + 1)) if box is not None else set()
        others = [k for k in range(len(after)) if k not in ks]
        after[others] = before[others]
    return after


def gaussians(
    shape_kji: tuple[int, int, int], points: Sequence[Point], spacing_kji: Spacing, asked: Prompted
) -> npt.NDArray[np.float32]:
    """Return a map with a Gaussian at each point, 1 at its middle; trainings make them so too."""
    made = np.zeros(shape_kji, np.float32)
    reach = voxels_in(_FADED * asked.sigma_mm, spacing_kji)
    for point in points:
        sides = [
            np.arange(max(0, at - far), min(size, at + far + 1))
            for at, far, size in zip(point, reach, shape_kji, strict=True)
        ]
        k, j, i = (
            np.exp(-0.5 * ((side - at) * step / asked.sigma_mm) ** 2)
            for side, at, step in zip(sides, point, spacing_kji, strict=True)
        )
        within = tuple(slice(side[0], side[-1] + 1) for side in sides)
        bump = (k[:, None, None] * j[:, None] * i).astype(np.float32)
        made[within] = np.maximum(made[within], bump)
    return made


def _part(
    mask_kji: Mask,
    spacing_kji: Spacing,
    asked: Prompted,
    positive: Sequence[Point],
    negative: Sequence[Point],
    box: Box | None,
) -> Within:
    """Return what the network is shown: all that lies within reach of what was said."""
    shape = mask_kji.shape
    if asked.reach_mm is None:
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    corners = [*positive, *negative, *((box.first, box.last) if box is not None else ())]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        held = np.flatnonzero(mask_kji.any(axis=others))
        if held.size:
            low[axis], high[axis] = min(low[axis], held[0]), max(high[axis], held[-1])
    far = voxels_in(asked.reach_mm, spacing_kji)
    k, j, i = (
        slice(max(0, int(a) - pad), min(size, int(b) + pad + 1))
        for a, b, pad, size in zip(low, high, far, shape, strict=True)
    )
    return k, j, i


def _beside(image: Image, map_kji: npt.NDArray[np.float32]) -> Image:
    return Image(map_kji, image.affine_lps, image.frame_of_reference_uid)


def _box_map(
    shape_kji: tuple[int, int, int], box: Box | None, corner: Point
) -> npt.NDArray[np.float32]:
    made = np.zeros(shape_kji, np.float32)
    if box is not None:
        made[Box(_from(box.first, corner), _from(box.last, corner)).within()] = 1
    return made


def _spacing(image: Image) -> Spacing:
    k, j, i = np.linalg.norm(image.affine_lps[:3, :3], axis=0).tolist()
    return k, j, i


def _moved(affine_lps: npt.NDArray[np.float64], corner: Point) -> npt.NDArray[np.float64]:
    moved = affine_lps.copy()
    moved[:3, 3] = affine_lps[:3, :3] @ np.array(corner) + affine_lps[:3, 3]
    return moved


def _from(point: Point, corner: Point) -> Point:
    return Point(point.k - corner.k, point.j - corner.j, point.i - corner.i)


def _middle(box: Box) -> Point:
    return Point(*((a + b) // 2 for a, b in zip(box.first, box.last, strict=True)))
