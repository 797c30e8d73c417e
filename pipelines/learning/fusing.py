"""Several readings of one series as one label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.learning.rules import Fusion

Labels = npt.NDArray[np.uint8]
"""Shape (slices, rows, columns)."""

_SURE = 0.5  # of STAPLE's probability


def fuse(readings: Sequence[Labels], way: Fusion) -> Labels:
    """Return one label map.

    `majority`: the class that most readers gave a voxel; none where they are even. `staple`: each
    class by Warfield's expectation maximisation (IEEE TMI 2004), which weighs readers by how well
    they agree; the likeliest class where several are.

    Parameters
    ----------
    readings : sequence of ndarray, uint8, shape (slices, rows, columns)
        One or more, on one grid.
    """
    if len(readings) == 1:
        return readings[0]
    if way == "majority" or len(readings) == 2:  # two readers weigh the same
        return _majority(readings)
    return _staple(readings)


def _majority(readings: Sequence[Labels]) -> Labels:
    best = np.zeros(readings[0].shape, np.uint8)
    most = np.zeros(readings[0].shape, np.uint8)
    even = np.zeros(readings[0].shape, np.bool_)
    for number in sorted({int(value) for one in readings for value in np.unique(one)}):
        votes = np.sum([one == number for one in readings], axis=0, dtype=np.uint8)
        even = np.where(votes > most, False, even | ((votes == most) & (votes > 0)))
        best = np.where(votes > most, np.uint8(number), best)
        most = np.maximum(most, votes)
    return np.where(even, np.uint8(0), best).astype(np.uint8)


def _staple(readings: Sequence[Labels]) -> Labels:
    import SimpleITK as sitk  # 80 MB, and only double readings need them

    label = np.zeros(readings[0].shape, np.uint8)
    likeliest = np.full(readings[0].shape, _SURE, np.float64)
    for number in sorted({int(value) for one in readings for value in np.unique(one)} - {0}):
        masks = [sitk.GetImageFromArray((one == number).astype(np.uint8)) for one in readings]
        sure = sitk.GetArrayFromImage(sitk.STAPLE(masks, 1.0))
        better = sure > likeliest
        label[better], likeliest[better] = number, sure[better]
    return label
