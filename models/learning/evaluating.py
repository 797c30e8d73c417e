"""How good a bundle is on a dataset's cases: on the images' own grid, as the clinic uses it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom.agreement import Likeness, likeness
from dicom.errors import InvalidDataset
from models.bundle import Bundle
from models.learning.cases import COLOUR, Case, DatasetFolder, Split
from models.learning.preparing import affine_of
from models.prediction import Answer, Classes, Image, Labels, Masks, Prediction
from models.predictor import Predictor

Mask = npt.NDArray[np.bool_]
Pairs = Mapping[int, tuple[Mask, Mask]]
"""What was found and what is true of each class, shape (slices, rows, columns)."""

_RESAMPLED = 2000  # bootstrap
_CONFIDENCE = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One case's figures.

    Attributes
    ----------
    segments : mapping of int to Likeness
        By class; of a classification empty.
    said : int or None
        The class that a classification gave.
    probability : float or None
        That it gave it.
    """

    case: Case
    segments: Mapping[int, Likeness]
    said: int | None = None
    probability: float | None = None

    @property
    def mean_dice(self) -> float | None:
        """Over the classes for which it has a meaning."""
        values = [one.dice for one in self.segments.values() if one.dice is not None]
        return statistics.fmean(values) if values else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over patients, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    patients: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A bundle on a dataset's split."""

    bundle: str
    bundle_sha256: str
    dataset: str
    dataset_sha256: str
    split: Split
    cases: tuple[CaseScore, ...]

    def interval(self, figure: str, number: int | None = None) -> Interval | None:
        """Return a figure's mean over patients.

        Parameters
        ----------
        figure : str
            An attribute of Likeness, or ``correct`` of a classification.
        number : int or None
            The class; None for the mean over the classes.
        """
        return interval(_by_patient(self.cases, figure, number))

    def worst(self, count: int = 5) -> tuple[CaseScore, ...]:
        """Return the cases with the lowest mean Dice (the surest mistakes of a classification)."""
        return tuple(sorted(self.cases, key=_badness)[:count])

    def groups(self, tag: str) -> dict[str, tuple[CaseScore, ...]]:
        """Return the cases by a tag's value: scanners, sexes, ages."""
        found: dict[str, list[CaseScore]] = {}
        for score in self.cases:
            found.setdefault(score.case.tags.get(tag, ""), []).append(score)
        return {value: tuple(scores) for value, scores in sorted(found.items())}


def evaluate(
    predictor: Predictor,
    folder: DatasetFolder,
    *,
    split: Split = "test",
    told: Callable[[int, int], None] | None = None,
    seen: Callable[[CaseScore, Prediction, Pairs], None] | None = None,
) -> Evaluation:
    """Predict every case of a split, and compare.

    Parameters
    ----------
    told : callable or None
        Told how many cases are done, and of how many.
    seen : callable or None
        Shown each case's score, the prediction, and the masks that were compared: who wants more
        figures, or a picture, need not predict again.

    Raises
    ------
    InvalidDataset
        When the split holds no case, or the bundle has not the dataset's classes.
    """
    dataset, bundle = folder.dataset, predictor.bundle
    cases = dataset.of(split)
    if not cases:
        raise InvalidDataset(f"{dataset.identity} has no case in its {split} split")
    numbers = _numbers(bundle, dataset.classes)
    scores = []
    for at, case in enumerate(cases):
        images = _images(bundle, folder, case)
        prediction = predictor.predict_images(images)
        pairs = _pairs(case, prediction.answer, folder, numbers)
        scores.append(_score(case, prediction.answer, folder, numbers, pairs))
        if seen is not None:
            seen(scores[-1], prediction, pairs)
        if told is not None:
            told(at + 1, len(cases))
    return Evaluation(
        bundle=bundle.identity,
        bundle_sha256=bundle.sha256,
        dataset=dataset.identity,
        dataset_sha256=dataset.sha256,
        split=split,
        cases=tuple(scores),
    )


def interval(by_patient: Mapping[str, Sequence[float]], *, seed: int = 0) -> Interval | None:
    """Return the mean over patients and its 95 % bootstrap interval, patients drawn with return.

    None where there is no value.
    """
    means = np.array([statistics.fmean(values) for values in by_patient.values() if values])
    if not means.size:
        return None
    draw = np.random.default_rng(seed)
    drawn = means[draw.integers(0, means.size, (_RESAMPLED, means.size))].mean(axis=1)
    low, high = np.percentile(drawn, _CONFIDENCE)
    return Interval(float(means.mean()), float(low), float(high), int(means.size))


def gain(
    candidate: Evaluation, incumbent: Evaluation, figure: str = "dice", number: int | None = None
) -> Interval | None:
    """Return by how much a candidate is better, patient by patient, on the cases of both.

    Raises
    ------
    InvalidDataset
        When they were measured on different datasets.
    """
    if candidate.dataset_sha256 != incumbent.dataset_sha256:
        raise InvalidDataset("the two were measured on different datasets")
    ours = _by_patient(candidate.cases, figure, number)
    theirs = _by_patient(incumbent.cases, figure, number)
    return interval(
        {
            patient: [statistics.fmean(ours[patient]) - statistics.fmean(theirs[patient])]
            for patient in ours.keys() & theirs.keys()
            if ours[patient] and theirs[patient]
        }
    )


def _numbers(bundle: Bundle, classes: Mapping[int, str]) -> dict[int, int]:
    """Return the bundle's number of each of the dataset's classes, by their names."""
    named = {segment.label: segment.number for segment in bundle.segments}
    named |= {finding.label: finding.number for finding in bundle.findings}
    missing = [name for name in classes.values() if name not in named]
    if missing:
        raise InvalidDataset(f"{bundle.identity} does not know: {', '.join(missing)}")
    return {number: named[name] for number, name in classes.items()}


def _images(bundle: Bundle, folder: DatasetFolder, case: Case) -> dict[str, Image]:
    channels = np.asarray(folder.image(case))
    affine = affine_of(case)
    if folder.dataset.channels == COLOUR:
        return {bundle.inputs[0].name: Image(np.moveaxis(channels, 0, -1), affine)}
    if len(bundle.inputs) != len(channels):
        raise InvalidDataset(
            f"{bundle.identity} needs {len(bundle.inputs)} images, a case has {len(channels)}"
        )
    return {
        wanted.name: Image(channel, affine)
        for wanted, channel in zip(bundle.inputs, channels, strict=True)
    }


def _score(
    case: Case,
    answer: Answer,
    folder: DatasetFolder,
    numbers: Mapping[int, int],
    pairs: Pairs,
) -> CaseScore:
    if isinstance(answer, Classes):
        ours = {theirs: number for number, theirs in numbers.items()}
        best = int(np.argmax(answer.probabilities))
        said = ours.get(answer.numbers[best])
        return CaseScore(case, {}, said, float(answer.probabilities[best]))
    spacing = folder.spacing(case)
    return CaseScore(
        case, {number: likeness(found, true, spacing) for number, (found, true) in pairs.items()}
    )


def _pairs(case: Case, answer: Answer, folder: DatasetFolder, numbers: Mapping[int, int]) -> Pairs:
    if isinstance(answer, Classes):
        return {}
    truth = np.asarray(folder.label(case))
    return {
        number: (_found(answer, theirs, case.shape), _true(truth, at, number))
        for at, (number, theirs) in enumerate(sorted(numbers.items()))
    }


def _found(answer: Answer, number: int, shape: tuple[int, int, int]) -> Mask:
    if isinstance(answer, Labels):
        return np.asarray(answer.labels_kji == number)
    if isinstance(answer, Masks) and number in answer.numbers:
        return np.asarray(answer.masks_nkji[answer.numbers.index(number)])
    return np.zeros(shape, np.bool_)


def _true(truth: npt.NDArray[np.generic], at: int, number: int) -> Mask:
    return np.asarray(truth[at] != 0 if truth.ndim == 4 else truth == number)


def _by_patient(
    scores: Sequence[CaseScore], figure: str, number: int | None
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for score in scores:
        values = found.setdefault(score.case.patient, [])
        values.extend(_values(score, figure, number))
    return found


def _values(score: CaseScore, figure: str, number: int | None) -> Iterator[float]:
    if figure == "correct":
        if number is None or score.case.finding == number:
            yield float(score.said == score.case.finding)
        return
    chosen = [one for at, one in score.segments.items() if number is None or at == number]
    values = [value for value in (getattr(one, figure) for one in chosen) if value is not None]
    if values:
        yield statistics.fmean(values)


def _badness(score: CaseScore) -> float:
    if score.said is not None:
        sure = score.probability or 0.0
        return 1.0 if score.said == score.case.finding else -sure
    return score.mean_dice if score.mean_dice is not None else 1.0
