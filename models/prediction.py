"""What a model is asked and what it answers, for those who ask and those who make it; no torch.

One kind of answer a kind of task, each a type of its own: :class:`Labels` and :class:`Masks` of a
segmentation, :class:`Instances`, :class:`Classes`, :class:`Boxes`. All of them lie on the grid of
the bundle's first input, or in LPS, mm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom.errors import NoGeometry, UnsuitableSeries

Progress: TypeAlias = Callable[[float], None]
"""Told the share of the network's windows that are done, 0 to 1, never less than before."""

Canceled: TypeAlias = Callable[[], bool]
"""Asked between two windows; True ends the prediction."""

Floats: TypeAlias = NDArray[np.float64]


# --- what is asked ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image that a model is given.

    Attributes
    ----------
    voxels : ndarray, shape (slices, rows, columns) or (slices, rows, columns, 3)
        Real numbers in the modality's unit; the last axis, where there is one, is red, green, blue.
    affine_lps : ndarray, float64, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.
    frame_of_reference_uid : str
        Images of one frame of reference lie where their affines say, relative to each other; empty
        where that is not known.

    Raises
    ------
    UnsuitableSeries
        When the voxels have other axes, an empty one, or values that are not finite numbers.
    NoGeometry
        When the affine is not finite or not invertible.
    """

    voxels: NDArray[np.generic]
    affine_lps: Floats
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine_lps", np.asarray(self.affine_lps, dtype=np.float64))
        check_volume(self.voxels, self.affine_lps)

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.voxels.shape[:3]
        return slices, rows, columns

    @property
    def is_colour(self) -> bool:
        """Whether each voxel is red, green and blue."""
        return self.voxels.ndim == 4


def check_volume(voxels: NDArray[np.generic], affine_lps: Floats) -> None:
    """Refuse what no model can make sense of; see :class:`Image`."""
    axes = voxels.shape[:3] if voxels.ndim == 4 and voxels.shape[3] == 3 else voxels.shape
    if len(axes) != 3 or 0 in axes:
        raise UnsuitableSeries(f"a volume has three axes and no empty one, not {voxels.shape}")
    if voxels.dtype.kind not in "uif":
        raise UnsuitableSeries(f"a volume holds real numbers, not {voxels.dtype}")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise UnsuitableSeries("the volume holds values that are no numbers (NaN or infinite)")
    if (
        affine_lps.shape != (4, 4)
        or not np.isfinite(affine_lps).all()
        or abs(np.linalg.det(affine_lps[:3, :3])) < 1e-9
    ):
        raise NoGeometry("the volume's affine is no invertible 4 x 4 matrix")


# --- what is answered ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """One segment, or none, for each voxel.

    Attributes
    ----------
    labels_kji : ndarray, uint8, shape (slices, rows, columns)
        Segment number per voxel; 0 is background.
    """

    labels_kji: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Segments that may overlap: a voxel can be in several.

    Attributes
    ----------
    numbers : tuple of int
        Segment number of each mask.
    masks_nkji : ndarray, bool, shape (masks, slices, rows, columns)
        Where each segment is.
    """

    numbers: tuple[int, ...]
    masks_nkji: NDArray[np.bool_]

    def labels_kji(self) -> NDArray[np.uint8]:
        """Return one label map; of segments that overlap, the smallest shows."""
        labels_kji = np.zeros(self.masks_nkji.shape[1:], np.uint8)
        sizes = self.masks_nkji.sum(axis=(1, 2, 3))
        for n in np.argsort(-sizes, kind="stable"):
            labels_kji[self.masks_nkji[n]] = self.numbers[n]
        return labels_kji


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Single things of a kind, told from each other: each lesion, each cell.

    Attributes
    ----------
    instances_kji : ndarray, uint16, shape (slices, rows, columns)
        Instance 1, 2, 3 ... per voxel; 0 is background.
    numbers : tuple of int
        Segment number, that is the kind, of instance 1, 2, 3 ...
    """

    instances_kji: NDArray[np.uint16]
    numbers: tuple[int, ...]

    def labels_kji(self) -> NDArray[np.uint8]:
        """Return the kind of each voxel, as :class:`Labels` has it."""
        return np.array((0, *self.numbers), dtype=np.uint8)[self.instances_kji]


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """How probable each finding of a classification is.

    Attributes
    ----------
    numbers : tuple of int
        Finding number of each probability.
    probabilities : ndarray, float64, shape (findings,)
        For the series, 0 to 1.
    by_slice_kn : ndarray, float64, shape (slices, findings), or None
        For each slice, from a model that looks at slices; the series' are made of them.
    """

    numbers: tuple[int, ...]
    probabilities: Floats
    by_slice_kn: Floats | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """One detected thing: an upright box in the patient.

    Attributes
    ----------
    number : int
        Finding number.
    score : float
        0 to 1.
    low_lps, high_lps : tuple of float
        Opposite corners, mm; every coordinate of `low_lps` is the smaller one.
    """

    number: int
    score: float
    low_lps: tuple[float, float, float]
    high_lps: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a detection found, the surest first."""

    boxes: tuple[Box, ...]


Answer: TypeAlias = Labels | Masks | Instances | Classes | Boxes


@dataclass(frozen=True, slots=True)
class SegmentConfidence:
    """What a network's probabilities say of one segment that it found (:mod:`models.confidence`).

    Attributes
    ----------
    number : int
        The segment, by the bundle's number.
    probability : float
        Mean probability inside, 0 to 1.
    border_entropy : float or None
        Mean normalised entropy at its border, 0 to 1; None where no border was seen.
    """

    number: int
    probability: float
    border_entropy: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An answer, and how it came about.

    Attributes
    ----------
    answer : Labels, Masks, Instances, Classes or Boxes
        What was found.
    forward_s : float
        Seconds in the network's forward passes.
    total_s : float
        Seconds in all, loading the model not included.
    device : str
        Where the network ran: ``cpu``, ``cuda:0``.
    bundle_sha256 : str
        :attr:`models.bundle.Bundle.sha256` of the model that ran.
    run_by : str
        How the network was run, and why so: ``openvino (torch: 0.311 s; openvino: 0.102 s)``.
    choosing_s : float
        Seconds that finding that out took, on top of `forward_s`; 0 where it was known.
    confidence : tuple of SegmentConfidence, or None
        Of the segments that were found; None where the network gives no probabilities of them.
    """

    answer: Answer
    forward_s: float
    total_s: float
    device: str
    bundle_sha256: str
    run_by: str = "torch"
    choosing_s: float = 0.0
    confidence: tuple[SegmentConfidence, ...] | None = None

    @property
    def labels_kji(self) -> NDArray[np.uint8]:
        """Segment number per voxel, shape (slices, rows, columns); 0 is background.

        Raises
        ------
        UnsuitableSeries
            When the model does not segment.
        """
        return labels_of(self.answer)


def labels_of(answer: Answer) -> NDArray[np.uint8]:
    """Return the label map of a segmentation, whatever its kind.

    Raises
    ------
    UnsuitableSeries
        When the answer is a classification or a detection: it has no labels.
    """
    match answer:
        case Labels(labels_kji=labels_kji):
            return labels_kji
        case Masks() | Instances():
            return answer.labels_kji()
        case _:
            raise UnsuitableSeries("the model classifies or detects; it makes no segments")


# --- answers as arrays: for another process, for a file ------------------------------------------


def to_arrays(answer: Answer) -> dict[str, NDArray[np.generic]]:
    """Return an answer as named arrays, from which :func:`from_arrays` makes it again."""
    match answer:
        case Labels(labels_kji=labels_kji):
            return {"labels_kji": labels_kji}
        case Masks(numbers=numbers, masks_nkji=masks_nkji):
            return {"masks_nkji": masks_nkji, "numbers": np.array(numbers, np.int64)}
        case Instances(instances_kji=instances_kji, numbers=numbers):
            return {"instances_kji": instances_kji, "numbers": np.array(numbers, np.int64)}
        case Classes(numbers=numbers, probabilities=probabilities, by_slice_kn=by_slice_kn):
            arrays: dict[str, NDArray[np.generic]] = {
                "probabilities": probabilities,
                "numbers": np.array(numbers, np.int64),
            }
            return arrays if by_slice_kn is None else {**arrays, "by_slice_kn": by_slice_kn}
        case Boxes(boxes=boxes):
            rows = [(box.number, box.score, *box.low_lps, *box.high_lps) for box in boxes]
            return {"boxes": np.array(rows, np.float64).reshape(-1, 8)}


def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> Answer:
    """Return the answer that :func:`to_arrays` took apart.

    Raises
    ------
    ValueError
        When they are not the arrays of an answer.
    """
    names = set(arrays)
    if names == {"labels_kji"}:
        return Labels(arrays["labels_kji"].astype(np.uint8, copy=False))
    if names == {"boxes"}:
        return Boxes(tuple(_box(row) for row in arrays["boxes"].astype(float).tolist()))
    numbers = tuple(arrays["numbers"].astype(int).tolist()) if "numbers" in names else ()
    if names == {"masks_nkji", "numbers"}:
        return Masks(numbers, arrays["masks_nkji"].astype(np.bool_, copy=False))
    if names == {"instances_kji", "numbers"}:
        return Instances(arrays["instances_kji"].astype(np.uint16, copy=False), numbers)
    if names in ({"probabilities", "numbers"}, {"probabilities", "numbers", "by_slice_kn"}):
        by_slice_kn = arrays.get("by_slice_kn")
        return Classes(
            numbers,
            arrays["probabilities"].astype(np.float64, copy=False),
            None if by_slice_kn is None else by_slice_kn.astype(np.float64, copy=False),
        )
    raise ValueError("no answer has these arrays")


def _box(row: list[float]) -> Box:
    number, score, *corners = row
    low, high = corners[:3], corners[3:]
    return Box(int(number), score, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
