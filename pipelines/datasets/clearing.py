"""Markers painted over in every image of a dataset, before anything learns from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dicom.errors import InvalidSettings
from models.clearing import without_boxes
from models.prediction import Boxes, Image
from models.predictor import Predictor
from models.tasks import Detection
from pipelines.datasets import Found


def clearing(predictor: Predictor, margin: float) -> Callable[[Found], Found]:
    """Return what paints over, in a case that was read, all that a detection finds in it.

    Parameters
    ----------
    margin : float
        How much further than its box a place reaches on each side, as a share of the box.

    Raises
    ------
    InvalidSettings
        When the bundle finds no boxes.
    """
    bundle = predictor.bundle
    if not isinstance(bundle.task, Detection):
        raise InvalidSettings(f"{bundle.identity} finds no boxes that could be painted over")
    name = bundle.inputs[0].name

    def cleared(found: Found) -> Found:
        affine = found.affine_lps if found.affine_lps is not None else np.eye(4)[[2, 1, 0, 3]]
        first = Image(found.image[0], affine)
        boxes = predictor.predict_images({name: first}).answer
        assert isinstance(boxes, Boxes)  # a detection's answer
        channels = [
            without_boxes(Image(channel, affine), boxes, margin=margin).voxels
            for channel in found.image
        ]
        return replace(found, image=np.stack(channels))

    return cleared
