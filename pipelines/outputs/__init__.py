"""Output types: how a prediction becomes a DICOM object. One file each, one name in `BUILT_IN`.

Other packages add theirs under the entry point group `radloop.outputs`; built-ins go through the
same door. Output types do not know each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom.errors import InvalidSettings
from dicom.measure import Measured
from dicom.seg import BY_CONTENT, Form
from dicom.volume import Grid, Volume
from models.bundle import Bundle
from models.prediction import Answer, labels_of

BUILT_IN = ("seg", "sr")
GROUP = "radloop.outputs"


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A prediction with all that an output type may need to write it down.

    Attributes
    ----------
    answer : Labels, Masks, Instances, Classes or Boxes
        What the model found, on the grid of `source` or in LPS, mm.
    source : Grid or Volume
        Where the voxels lie (LPS, mm), and the de-identified instance of each slice.
    bundle : Bundle
        What made the labels.
    measured : tuple of Measured
        Figures of each segment, by its number in the segmentation.
    earlier : Mapping
        What output types before this one made of the same answer, by their names.
    key : str
        Names this task: every new UID derives from it, so that writing twice gives one object.
    series_number : int
        For the new series.
    created : datetime
        When the task was made; not the clock, so that writing twice gives the same bytes.
    form : Form
        In which of its forms a Segmentation is written, as its destinations like it.
    """

    answer: Answer
    source: Grid | Volume
    bundle: Bundle
    key: str
    series_number: int
    created: datetime
    measured: tuple[Measured, ...] = ()
    earlier: Mapping[str, Dataset] = field(default_factory=dict)
    form: Form = BY_CONTENT

    @property
    def labels_kji(self) -> npt.NDArray[np.uint8]:
        """Segment number per voxel, shape (slices, rows, columns); 0 is background.

        Raises
        ------
        UnsuitableSeries
            When the model makes no segments.
        """
        return labels_of(self.answer)


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A DICOM object that refers to the de-identified series, and what to show of it.

    Attributes
    ----------
    ds : Dataset
        Valid once built.
    summary : Mapping
        For people: millilitres per segment label, for instance.
    """

    ds: Dataset
    summary: Mapping[str, float]


class Output(Protocol):
    """What a module of an output type offers."""

    def encode(self, made: Made) -> Encoded:
        """Write a prediction as a DICOM object, and make sure that it says what was predicted."""
        ...


def outputs_for(bundle: Bundle) -> tuple[str, ...]:
    """Return the output types that a model's task calls for."""
    return ("seg", "sr") if bundle.segments else ("sr",)


def get_output(name: str) -> Output:
    """Return the output type of that name.

    Raises
    ------
    InvalidSettings
        When there is none.
    """
    if name in BUILT_IN:
        return import_module(f"{__name__}.{name}")
    for entry in entry_points(group=GROUP, name=name):
        output: Output = entry.load()
        return output
    raise InvalidSettings(f"there is no output type {name!r}; there are: {', '.join(BUILT_IN)}")
