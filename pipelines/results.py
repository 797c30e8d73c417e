"""From a model's answer to the objects that are stored: what is measured, written, looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dicom.deid import Identity
from dicom.errors import NoGeometry
from dicom.gate import (
    check_belongs,
    check_described,
    check_figures,
    check_findings,
    check_placed,
    check_sides,
    names_of,
)
from dicom.measure import Measured, masks_of, measure, measure_pictures
from dicom.seg import Crop, Masks, Segment
from dicom.seg.lattice import grid_of
from dicom.study import Series
from dicom.volume import Grid, SliceSource, Volume, read_grid, read_pictures
from models.bundle import Bundle
from models.prediction import Answer, Boxes, Classes, SegmentConfidence
from models.segments import as_segments
from pipelines.outputs import BUILT_IN, Encoded, Made, get_output
from pipelines.outputs.sr import findings_of


def look_at(
    bundle: Bundle, answer: Answer, volume: Volume | None, series: Series
) -> tuple[Measured, ...]:
    """Measure an answer's segments on the image that the model saw; see that sides are right.

    Parameters
    ----------
    volume : Volume or None
        Of the first input; None where that has no place in a patient.
    series : Series
        The first input: where it makes no volume, its pictures are measured.

    Raises
    ------
    WrongGeometry
        When a left structure lies on the right.
    """
    if isinstance(answer, Classes | Boxes):
        return ()
    voxels, segments = as_segments(bundle, answer)
    masks = voxels if isinstance(voxels, Masks) else masks_of(voxels)
    every = _every_number(masks, segments)
    if volume is None:
        return measure_pictures(every, read_pictures(series))
    check_sides(masks, segments, volume.affine_lps, volume)
    return measure(every, volume)


def _every_number(masks: Masks, segments: Sequence[Segment]) -> Masks:
    """Return masks of all: a segment that was looked for and not found is measured as nothing."""
    nothing = Crop((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
    crops = {one.number: masks.crops.get(one.number, nothing) for one in segments}
    return Masks(masks.shape_kji, crops)


def confidence_by_label(
    bundle: Bundle, confidence: Sequence[SegmentConfidence] | None
) -> dict[str, dict[str, float | None]] | None:
    """Return how sure a network was of each segment, by its label; None where it does not say."""
    if confidence is None:
        return None
    labels = {each.number: each.label for each in bundle.segments}
    return {
        labels[each.number]: {
            "probability": round(each.probability, 4),
            "border_entropy": None
            if each.border_entropy is None
            else round(each.border_entropy, 4),
        }
        for each in confidence
    }


def source_of(series: Series, bundle: Bundle, answer: Answer) -> Grid:
    """Return where an answer lies: the series' slices, or its pictures where they have no place.

    Raises
    ------
    InvalidSegmentation
        When segments or boxes were found on a film: nothing tells its frames apart.
    """
    try:
        return read_grid(series, mend=bundle.mending)
    except NoGeometry:
        pass  # a radiograph, a colour picture: they have pixels, and no place in the patient
    sources = tuple(SliceSource(instance) for instance in series.instances)
    if isinstance(answer, Classes):
        shape_kji = (len(sources), 1, 1)
        return Grid(shape_kji, np.eye(4), sources, series.series_uid, "", series.modality)
    grids = [grid_of(picture) for picture in read_pictures(series)]
    _, rows, columns = grids[0].shape_kji
    return replace(grids[0], shape_kji=(len(grids), rows, columns), sources=sources)


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


def check_results(paths: Mapping[str, Path], made: Made, identity: Identity) -> None:
    """See that what is about to be stored lies where the model put it, and says what it found.

    Every object has to belong to its study. The node's own segmentation and report are compared
    with the prediction; of a segmentation of another origin frames and references are looked at.

    Parameters
    ----------
    paths : Mapping
        Each output's object, pointed back at its study.
    made : Made
        What they were made of.
    identity : Identity
        Of the study.

    Raises
    ------
    SourceMismatch
        When an object names another patient or study, or refers to what was not in it.
    WrongGeometry
        When a segmentation lies elsewhere, or holds something else.
    WrongLabels
        When it calls its segments something else.
    InvalidReport
        When the report does not say what was measured, or speaks of something else.
    """
    source, names = grid_of(made.source), identity.uids
    kinds = {name: names_of(path) for name, path in paths.items()}
    beside = {uid for kind in kinds.values() for uid in (kind.sop_instance_uid, kind.series_uid)}
    for name, path in paths.items():
        check_belongs(path, identity, beside=beside)
        if name not in BUILT_IN and kinds[name].is_segmentation:
            check_placed(path, None, source, names=names)
    if isinstance(made.answer, Classes | Boxes):
        if "sr" in paths:
            check_findings(paths["sr"], findings_of(made), source, names=names)
        return
    if "seg" in paths:
        voxels, segments = as_segments(made.bundle, made.answer)
        check_described(paths["seg"], segments)
        placed = check_placed(paths["seg"], voxels, source, names=names)
        if "sr" in paths:
            check_figures(paths["sr"], paths["seg"], placed, made.measured, names=names)
