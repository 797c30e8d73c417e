"""How far the readers of a round agree: Dice, surface Dice and volumes, segment by segment."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import structlog

from dicom.archive import Archive
from dicom.errors import ArchiveMismatch, InputError, NotFound
from dicom.seg import Crop
from dicom.volume import Grid
from pipelines.corrections import SourceGrids
from pipelines.corrections.objects import DrawnObject, compare_objects, read_object
from pipelines.store import Corrections, Rounds, RoundView, Studies

log = structlog.get_logger()

_DIGITS = 4


class Agreeing:
    """Measures rounds that all readers have done.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    tolerance_mm : float
        How near two surfaces count as the same.
    """

    def __init__(
        self,
        archive: Archive,
        studies: Studies,
        corrections: Corrections,
        rounds: Rounds,
        grids: SourceGrids,
        *,
        tolerance_mm: float,
    ) -> None:
        self._archive = archive
        self._studies = studies
        self._corrections = corrections
        self._rounds = rounds
        self._grids = grids
        self._tolerance_mm = tolerance_mm

    def catch_up(self) -> int:
        """Measure every round that waits for it; return how many."""
        waiting = self._rounds.unmeasured()
        for round_id in waiting:
            self.measure(round_id)
        return len(waiting)

    def measure(self, round_id: str) -> Mapping[str, Any] | None:
        """Compare what the readers answered, every two of them, and keep the figures.

        Where fewer than two answered with a segmentation there is nothing to compare; that is kept
        too.

        Raises
        ------
        NotFound
            When there is no such round.
        PeerError
            When the archive does not answer; it is tried again when somebody looks.
        """
        row = self._rounds.round(round_id)
        answers = {one.reader: one.answer_id for one in row.readings if one.answer_id}
        found = None
        if len(answers) >= 2:
            try:
                found = self._compared(row, answers)
            except (InputError, ArchiveMismatch) as error:  # deleted, or on different images
                log.info("agreement_not_measured", code=error.code)
        self._rounds.keep_agreement(round_id, found)
        return found

    def _compared(self, row: RoundView, answers: Mapping[str, str]) -> dict[str, Any]:
        series_id = row.series_id or self._series_of(row, answers)
        archived = self._archive.series(self._studies.series(series_id).orthanc_id)
        contents = {answer: self._content(answer) for answer in set(answers.values())}
        refused: InputError | None = None
        for grid in self._grids.of(archived).grids:
            try:
                drawn = {answer: _read(content, grid) for answer, content in contents.items()}
            except InputError as error:
                refused = error
                continue
            return self._figures(answers, drawn, grid)
        raise refused or NotFound("the series holds no volume")

    def _series_of(self, row: RoundView, answers: Mapping[str, str]) -> str:
        for answer in answers.values():
            try:
                return self._corrections.correction(answer).series_id
            except NotFound:
                continue
        return self._rounds.series_of_result(next(iter(answers.values())))

    def _content(self, object_id: str) -> bytes:
        try:
            drawn = self._corrections.correction(object_id)
        except NotFound:
            return self._archive.instance_bytes(object_id)
        return self._archive.file_of(drawn.orthanc_id or "")

    def _figures(
        self, answers: Mapping[str, str], drawn: Mapping[str, DrawnObject], grid: Grid
    ) -> dict[str, Any]:
        voxel_ml = float(np.prod(grid.spacing_kji)) / 1000
        pairs = [
            self._pair(one, other, drawn[answers[one]], drawn[answers[other]], grid, voxel_ml)
            for one, other in combinations(sorted(answers), 2)
        ]
        return {
            "readers": sorted(answers),
            "tolerance_mm": self._tolerance_mm,
            "dice": _mean(pair["dice"] for pair in pairs),
            "surface_dice": _mean(pair["surface_dice"] for pair in pairs),
            "volume_difference": _mean(pair["volume_difference"] for pair in pairs),
            "segments": [segment for pair in pairs for segment in pair["segments"]],
        }

    def _pair(
        self,
        one: str,
        other: str,
        left: DrawnObject,
        right: DrawnObject,
        grid: Grid,
        voxel_ml: float,
    ) -> dict[str, Any]:
        each, total = compare_objects(
            left, right, grid.spacing_kji, tolerance_mm=self._tolerance_mm
        )
        segments: list[dict[str, Any]] = []
        for a, b, figures in each:
            ml = _volume(left, a, voxel_ml), _volume(right, b, voxel_ml)
            thing = left.things[a - 1] if a else right.things[(b or 1) - 1]
            segments.append(
                {
                    "between": [one, other],
                    "type": thing.type.meaning,
                    "dice": _round(figures.dice),
                    "surface_dice": _round(figures.surface_dice),
                    "volumes_ml": [round(volume, 2) for volume in ml],
                    "volume_difference": _difference(*ml),
                }
            )
        sums = [sum(s["volumes_ml"][side] for s in segments) for side in (0, 1)]
        return {
            "dice": _round(total.dice),
            "surface_dice": _round(total.surface_dice),
            "volume_difference": _difference(*sums),
            "segments": segments,
        }


def _read(content: bytes, grid: Grid) -> DrawnObject:
    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
        try:
            return read_object(content, grid, Path(folder))
        except InputError:
            return read_object(content, grid, Path(folder), by_place=True)


def _volume(drawn: DrawnObject, number: int | None, voxel_ml: float) -> float:
    if number is None:
        return 0.0
    crop: Crop = drawn.masks.crops[number]
    return float(np.count_nonzero(crop.voxels_kji)) * voxel_ml


def _difference(one_ml: float, other_ml: float) -> float | None:
    """Return how far two volumes are apart, by their mean; None where both are empty."""
    mean = (one_ml + other_ml) / 2
    return round(abs(one_ml - other_ml) / mean, _DIGITS) if mean > 0 else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), _DIGITS) if known else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
