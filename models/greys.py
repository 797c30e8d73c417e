"""Grey values in short: what a model was taught with, and how unlike that an image is.

A handful of percentiles says which numbers an image holds: another unit, a window that was baked
in, another kind of series move them far. It says nothing of what the image shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FILE: Final = "greys.json"
"""In a bundle's `docs`."""

_PERCENTS: Final = (1, 5, 25, 50, 75, 95, 99)
_SAMPLED: Final = 50_000
_LOW, _HIGH = 1, 5  # of `_PERCENTS`: the span that distances are shares of
_LEAST_USUAL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Taught:
    """The images that a model learnt from.

    Attributes
    ----------
    percentiles : tuple of float
        Medians over the images of their 1st, 5th, 25th, 50th, 75th, 95th and 99th percentile.
    usual : float
        How unlike those nine in ten of the images are at most.
    """

    percentiles: tuple[float, ...]
    usual: float

    @classmethod
    def of(cls, greys: Sequence[Sequence[float]]) -> Taught:
        """Return what images of these percentiles teach; there is one at least."""
        middle = tuple(float(value) for value in np.median(greys, axis=0))
        far = [_distance(one, middle) for one in greys]
        return cls(middle, max(_LEAST_USUAL, float(np.percentile(far, 90))))

    def unlikeness(self, percentiles: Sequence[float]) -> float:
        """Return how far an image's percentiles lie off, as a share of the span that was taught."""
        return _distance(percentiles, self.percentiles)


def greys_of(voxels: npt.NDArray[Any]) -> tuple[float, ...]:
    """Return the percentiles of an image's values, of 50 000 of them where there are more.

    Parameters
    ----------
    voxels : ndarray of any shape
        In the modality's unit.
    """
    flat = voxels.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLED)]
    return tuple(round(float(value), 4) for value in np.percentile(sample, _PERCENTS))


def taught_by(images: Iterable[npt.NDArray[Any]]) -> Taught:
    """Return what these images teach; there is one at least."""
    return Taught.of([greys_of(image) for image in images])


def write_taught(folder: Path, taught: Taught) -> None:
    """Write it into a folder."""
    beside = folder / f".{FILE}.part"
    beside.write_text(json.dumps(asdict(taught)) + "\n", encoding="utf-8")
    beside.replace(folder / FILE)


def read_taught(folder: Path) -> Taught | None:
    """Return what lies in a folder; None where nothing does, or nothing that can be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        percentiles = tuple(float(value) for value in content["percentiles"])
        taught = Taught(percentiles, float(content["usual"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return taught if len(percentiles) == len(_PERCENTS) else None


def _distance(one: Sequence[float], reference: Sequence[float]) -> float:
    span = reference[_HIGH] - reference[_LOW]
    off = float(np.mean(np.abs(np.subtract(one, reference))))
    return off / span if span > 0 else float(off > 0)
