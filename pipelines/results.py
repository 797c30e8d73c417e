"""From a model's answer to the objects that are stored: what is measured, written, looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dicom.errors import NoGeometry
from dicom.gate import check_placed, check_sides
from dicom.measure import Measured, masks_of, measure
from dicom.seg import Masks
from dicom.study import Series
from dicom.volume import Grid, SliceSource, Volume, read_grid
from models.bundle import Bundle
from models.prediction import Answer, Boxes, Classes
from models.segments import as_segments
from pipelines.outputs import Encoded, Made, get_output


def look_at(bundle: Bundle, answer: Answer, volume: Volume | None) -> tuple[Measured, ...]:
    """Measure an answer's segments on the image that the model saw; see that sides are right.

    Parameters
    ----------
    volume : Volume or None
        Of the first input; None where it has no place in a patient, and nothing is measured.

    Raises
    ------
    WrongGeometry
        When a left structure lies on the right.
    """
    if volume is None or isinstance(answer, Classes | Boxes):
        return ()
    voxels, segments = as_segments(bundle, answer)
    masks = voxels if isinstance(voxels, Masks) else masks_of(voxels)
    check_sides(masks, segments, volume.affine_lps, volume)
    found = {one.number: one for one in measure(masks, volume)}
    unit = volume.unit if volume.suv_factor is None else "SUVbw"
    nothing = 0.0 if volume.shape_kji[0] > 1 else None
    return tuple(
        found.get(one.number)
        or Measured(one.number, 0, nothing, None, None, None, None, None, None, unit)
        for one in segments
    )


def source_of(series: Series, bundle: Bundle, answer: Answer) -> Grid:
    """Return where an answer lies: the series' slices, or its pictures where they have no place.

    Raises
    ------
    NoGeometry
        When segments were found on images that have no place in a patient.
    """
    try:
        return read_grid(series, mend=bundle.mending)
    except NoGeometry:
        if not isinstance(answer, Classes):
            raise
    sources = tuple(SliceSource(instance) for instance in series.instances)
    shape = (len(sources), 1, 1)
    return Grid(shape, np.eye(4), sources, series.series_uid, "", series.modality)


def encode_all(outputs: Sequence[str], made: Made) -> dict[str, Encoded]:
    """Write an answer in every form that is wanted, the later ones knowing the earlier.

    Raises
    ------
    InputError
        What an output type refuses.
    """
    encoded: dict[str, Encoded] = {}
    for name in outputs:
        earlier = {other: each.ds for other, each in encoded.items()}
        encoded[name] = get_output(name).encode(replace(made, earlier=earlier))
    return encoded


def check_result(
    path: Path, bundle: Bundle, answer: Answer, source: Grid, originals: Mapping[str, str]
) -> None:
    """See that a segmentation that is about to be stored lies where the model put it.

    Parameters
    ----------
    path : Path
        The object, pointed back at its study; one that is no segmentation lies nowhere.
    originals : Mapping
        From pseudonyms to original UIDs.

    Raises
    ------
    WrongGeometry
    """
    if path.stem != "seg":
        return
    voxels, _ = as_segments(bundle, answer)
    check_placed(path, voxels, source, names=originals)
