"""What a plan is made from: how large and how bright a dataset's cases are, and what they show."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from dicom.errors import CannotTrain
from models.learning.cases import DatasetFolder, class_counts

_FEWEST_PATIENTS: Final = 2
_SAMPLED: Final = 200_000


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a plan is made from; axes are (k, j, i).

    Attributes
    ----------
    shape_kji : tuple of int
        The median case.
    spacing_kji : tuple of float, or None
        The median of those that say one; None where not all do.
    low, high : float
        The 0.5th and 99.5th percentile of all images; of labelled voxels alone where there are any.
    cases, patients : int
        That may be learnt from, and of how many people.
    shares : mapping of int to float
        Of each class among all voxels (cases) of the training split.
    """

    shape_kji: tuple[int, int, int]
    spacing_kji: tuple[float, float, float] | None
    low: float
    high: float
    cases: int
    patients: int
    shares: Mapping[int, float]


def fingerprint(folder: DatasetFolder, *, painted: Collection[int] = frozenset()) -> Fingerprint:
    """Look at the training split.

    Parameters
    ----------
    painted : collection of int
        Classes that need not occur: the augmentation paints them in.

    Raises
    ------
    CannotTrain
        When there are too few patients, an image is constant, or a class never occurs.
    """
    cases = folder.dataset.of("train")
    patients = len({case.patient for case in cases})
    if patients < _FEWEST_PATIENTS:
        raise CannotTrain(
            f"{patients} {'patient' if patients == 1 else 'patients'} to learn from; at least "
            f"{_FEWEST_PATIENTS} are needed"
        )
    values = []
    for case in cases:
        image = folder.image(case)
        sample = image.reshape(-1)[:: max(1, image.size * len(cases) // _SAMPLED)]
        if sample.size and sample.min() == sample.max() and image.min() == image.max():
            raise CannotTrain(f"the image of case {case.id} is constant")
        values.append(np.asarray(sample, np.float64))
    low, high = np.percentile(np.concatenate(values), (0.5, 99.5))
    counts = class_counts(folder, cases)
    missing = [
        folder.dataset.classes[number]
        for number, count in counts.items()
        if not count and number not in painted
    ]
    if missing:
        raise CannotTrain(f"no case to learn from shows: {', '.join(missing)}")
    spacings = [case.spacing_kji for case in cases]
    known = [spacing for spacing in spacings if spacing is not None]
    k, j, i = (int(n) for n in np.median([case.shape for case in cases], axis=0))
    whole = (
        len(cases)
        if folder.dataset.task in ("classification", "detection")
        else sum(math.prod(case.shape) for case in cases)
    )
    spacing = None
    if len(known) == len(spacings):
        a, b, c = (float(n) for n in np.median(known, axis=0))
        spacing = (a, b, c)
    return Fingerprint(
        shape_kji=(k, j, i),
        spacing_kji=spacing,
        low=float(low),
        high=float(high),
        cases=len(cases),
        patients=patients,
        shares={number: count / whole for number, count in counts.items()},
    )
