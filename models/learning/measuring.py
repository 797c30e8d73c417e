"""A candidate and the current version on the same cases: every figure, pictures of the worst.

Pieces of the truth count as lesions where a class has several: a model that misses a small one
loses nearly nothing of its Dice.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import scipy

from dicom.errors import InvalidDataset
from models.bundle import Bundle, read_bundle
from models.learning.cases import DatasetFolder
from models.learning.comparison import (
    FIGURES,
    OF_BOXES,
    Calibration,
    Comparison,
    Group,
    Lesions,
    Side,
    Span,
)
from models.learning.evaluating import (
    CaseScore,
    Evaluation,
    Interval,
    Pairs,
    evaluate,
    gain,
    interval,
)
from models.learning.orders import MeasureOrder
from models.learning.worst import Gallery
from models.prediction import Prediction
from models.predictor import open_predictor
from models.registry import Registry

_TAGS: Final = ("scanner", "slice_thickness", "age", "sex")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one case adds to the figures."""

    patient: str
    pieces: int
    touched: int
    said: float | None
    held: float | None


@dataclass(slots=True, eq=False)
class _Watcher:
    """Looks at each case while it is measured; with a gallery, it keeps pictures of the worst."""

    gallery: Gallery | None = None
    seen: list[_Seen] = field(default_factory=list)

    def look(self, score: CaseScore, prediction: Prediction, pairs: Pairs) -> None:
        """Count lesions, compare sureness with truth."""
        pieces = touched = 0
        for found, true in pairs.values():
            labelled, count = scipy.ndimage.label(true)
            pieces += count
            touched += len(set(np.unique(labelled[found])) - {0}) if count else 0
        if score.boxes is not None:
            pieces = len(score.boxes.true)
            touched = sum(hit.is_right for hit in score.boxes.hits)
        said, held = _sureness(score, prediction, pairs)
        self.seen.append(_Seen(score.case.patient, pieces, touched, said, held))
        if self.gallery is not None:
            self.gallery.look(score, prediction, pairs)


def measure_both(folder: DatasetFolder, order: MeasureOrder, *, pictures: Path) -> Comparison:
    """Predict a split with the candidate, and with what is current, and compare.

    Parameters
    ----------
    pictures : Path
        Where the pictures of the worst cases are written.

    Raises
    ------
    InvalidDataset
        When the split holds no case, or one of the two does not know the dataset's classes.
    """
    registry = Registry(order.bundles)
    bundle = read_bundle(order.bundle)
    gallery = Gallery(folder)
    ours = _Watcher(gallery)
    candidate = _evaluated(bundle, folder, order, registry, ours)
    incumbent, theirs, note = None, None, ""
    if order.against is not None:
        theirs = _Watcher()
        current = read_bundle(order.against)
        try:
            incumbent = _evaluated(current, folder, order, registry, theirs)
        except InvalidDataset as error:  # it has other classes, say
            note = f"not comparable with {current.identity}: {error.message}"
    names = folder.dataset.classes
    figures = _figures(candidate)
    return Comparison(
        dataset=candidate.dataset,
        dataset_sha256=candidate.dataset_sha256,
        split=candidate.split,
        cases=len(candidate.cases),
        patients=len({score.case.patient for score in candidate.cases}),
        candidate=_side(candidate, ours, names),
        incumbent=None if incumbent is None or theirs is None else _side(incumbent, theirs, names),
        gain={}
        if incumbent is None
        else {figure: _span(gain(candidate, incumbent, figure)) for figure in figures},
        groups=tuple(_groups(candidate, incumbent, figures[0])),
        worst=gallery.write(pictures),
        note=note,
        unit=candidate.unit,
    )


def _evaluated(
    bundle: Bundle,
    folder: DatasetFolder,
    order: MeasureOrder,
    registry: Registry,
    watcher: _Watcher,
) -> Evaluation:
    predictor = open_predictor(bundle, lambda: registry, device=order.device, threads=order.threads)
    return evaluate(predictor, folder, split=order.split, seen=watcher.look)


def _figures(evaluation: Evaluation) -> tuple[str, ...]:
    if evaluation.cases[0].boxes is not None:
        return OF_BOXES
    return ("correct",) if evaluation.cases[0].probability is not None else FIGURES


def _side(evaluation: Evaluation, watcher: _Watcher, names: Mapping[int, str]) -> Side:
    figures = _figures(evaluation)
    return Side(
        bundle=evaluation.bundle,
        sha256=evaluation.bundle_sha256,
        figures={figure: _span(evaluation.interval(figure)) for figure in figures},
        classes={
            name: {figure: _span(evaluation.interval(figure, number)) for figure in figures}
            for number, name in names.items()
        },
        lesions=_lesions(watcher.seen),
        calibration=_calibration(watcher.seen),
    )


def _groups(candidate: Evaluation, incumbent: Evaluation | None, figure: str) -> Iterator[Group]:
    for tag in _TAGS:
        groups = candidate.groups(tag)
        if set(groups) <= {""}:
            continue
        theirs = {} if incumbent is None else incumbent.groups(tag)
        for value, scores in groups.items():
            part = _part(candidate, scores)
            other = None if incumbent is None else _part(incumbent, theirs[value])
            yield Group(
                tag=tag,
                value=value or "not recorded",
                cases=len(scores),
                candidate=_span(part.interval(figure)),
                gain=None if other is None else _span(gain(part, other, figure)),
            )


def _part(whole: Evaluation, scores: tuple[CaseScore, ...]) -> Evaluation:
    return Evaluation(
        whole.bundle,
        whole.bundle_sha256,
        whole.dataset,
        whole.dataset_sha256,
        whole.split,
        scores,
    )


def _lesions(seen: Sequence[_Seen]) -> Lesions | None:
    pieces = sum(one.pieces for one in seen)
    if not pieces:
        return None
    by_patient: dict[str, list[float]] = defaultdict(list)
    for one in seen:
        if one.pieces:
            by_patient[one.patient].append(one.touched / one.pieces)
    return Lesions(
        pieces=pieces,
        found=sum(one.touched for one in seen),
        sensitivity=_span(interval(by_patient)),
    )


def _calibration(seen: Sequence[_Seen]) -> Calibration | None:
    pairs = [(one.said, one.held) for one in seen if one.said is not None and one.held is not None]
    if not pairs:
        return None
    return Calibration(
        said=statistics.fmean(said for said, _ in pairs),
        held=statistics.fmean(held for _, held in pairs),
        error=statistics.fmean(abs(said - held) for said, held in pairs),
        cases=len(pairs),
    )


def _sureness(
    score: CaseScore, prediction: Prediction, pairs: Pairs
) -> tuple[float | None, float | None]:
    """Return how probable a model thought what it found, and how much of that is true."""
    if score.probability is not None:
        return score.probability, float(score.said == score.case.finding)
    if score.boxes is not None:
        hits = score.boxes.hits
        if not hits:
            return None, None
        right = sum(hit.is_right for hit in hits) / len(hits)
        return statistics.fmean(hit.score for hit in hits), right
    sure = [one.probability for one in prediction.confidence or ()]
    found = sum(int(mask.sum()) for mask, _ in pairs.values())
    if not sure or not found:
        return None, None
    true = sum(int((mask & truth).sum()) for mask, truth in pairs.values())
    return statistics.fmean(sure), true / found


def _span(one: Interval | None) -> Span | None:
    return None if one is None else Span(**{name: getattr(one, name) for name in Span.model_fields})
