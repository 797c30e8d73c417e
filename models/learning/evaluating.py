"""How good a bundle is on a dataset's cases: on the images' own grid, as the clinic uses it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dicom.agreement import Likeness, likeness
from dicom.errors import InvalidDataset
from models.bundle import Bundle
from models.learning.cases import COLOUR, Case, DatasetFolder, Split
from models.learning.comparison import Unit
from models.learning.detecting import Detected, average_precision, matched
from models.learning.preparing import affine_of
from models.prediction import Answer, Boxes, Classes, Image, Labels, Masks, Prediction
from models.predictor import Predictor

Mask = npt.NDArray[np.bool_]
Pairs = Mapping[int, tuple[Mask, Mask]]
"""What was found and what is true of each class, shape (slices, rows, columns)."""

AP50 = "ap50"
"""Average precision of a detection, boxes being right that overlap by half."""

_RESAMPLED = 2000  # bootstrap
_RESAMPLED_BOXES = 400  # ... of a figure that takes longer
_CONFIDENCE = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One case's figures.

    Attributes
    ----------
    segments : mapping of int to Likeness
        By class; of a classification empty.
    said : int or None
        The class that a classification gave; None also where the dataset has no such class.
    probability : float or None
        That it gave it.
    boxes : Detected or None
        Of a detection: which boxes are right, and what there is to find.
    """

    case: Case
    segments: Mapping[int, Likeness]
    said: int | None = None
    probability: float | None = None
    boxes: Detected | None = None

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

    @property
    def unit(self) -> Unit:
        """Return that of lengths: an image that says no spacing is measured in its pixels."""
        spaced = {score.case.spacing_kji is not None for score in self.cases}
        if len(spaced) > 1:
            return "mm or pixels"
        return "mm" if True in spaced else "pixels"

    def interval(self, figure: str, number: int | None = None) -> Interval | None:
        """Return a figure's mean over patients.

        Parameters
        ----------
        figure : str
            An attribute of Likeness; ``correct`` of a classification; of a detection ``ap50``,
            ``found`` (the share of things that are found) and ``right`` (of boxes that are right).
        number : int or None
            The class; None for the mean over the classes.
        """
        if figure == AP50:
            return _precision_interval([self], number)
        return interval(_by_patient(self.cases, figure, number))

    def worst(self, count: int = 5) -> tuple[CaseScore, ...]:
        """Return the cases with the lowest mean Dice (the surest mistakes of a classification)."""
        return tuple(sorted(self.cases, key=badness)[:count])

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
    if figure == AP50:
        return _precision_interval([candidate, incumbent], number)
    ours = _by_patient(candidate.cases, figure, number)
    theirs = _by_patient(incumbent.cases, figure, number)
    return interval(
        {
            patient: [statistics.fmean(ours[patient]) - statistics.fmean(theirs[patient])]
            for patient in ours.keys() & theirs.keys()
            if ours[patient] and theirs[patient]
        }
    )


def _precision_interval(
    one_or_two: Sequence[Evaluation], number: int | None, *, seed: int = 0
) -> Interval | None:
    """Return average precision at half overlap over all images, or by how much it is better.

    It is no mean over patients: the interval is of drawing the patients anew, for both the same
    ones.
    """
    images = [_boxes_by_patient(one.cases) for one in one_or_two]
    patients = sorted(set.intersection(*(set(one) for one in images)))
    whole = _difference(images, patients, number)
    if whole is None:
        return None
    draw = np.random.default_rng(seed)
    places = draw.integers(0, len(patients), (_RESAMPLED_BOXES, len(patients)))
    drawn = [_difference(images, [patients[at] for at in each], number) for each in places]
    low, high = np.percentile([one for one in drawn if one is not None], _CONFIDENCE)
    return Interval(whole, float(low), float(high), len(patients))


def _boxes_by_patient(scores: Sequence[CaseScore]) -> dict[str, list[Detected]]:
    found: dict[str, list[Detected]] = {}
    for score in scores:
        if score.boxes is not None:
            found.setdefault(score.case.patient, []).append(score.boxes)
    return found


def _difference(
    images: Sequence[Mapping[str, Sequence[Detected]]], patients: Sequence[str], number: int | None
) -> float | None:
    found = []
    for one in images:
        chosen = [image for patient in patients for image in one[patient]]
        labels = {label for image in chosen for label in image.true} if number is None else {number}
        values = [average_precision(chosen, label) for label in sorted(labels)]
        known = [value for value in values if value is not None]
        if not known:
            return None
        found.append(statistics.fmean(known))
    return found[0] if len(found) == 1 else found[0] - found[1]


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
    if isinstance(answer, Boxes):
        return CaseScore(case, {}, boxes=_matched(case, answer, folder, numbers))
    spacing = folder.spacing(case)
    return CaseScore(
        case, {number: likeness(found, true, spacing) for number, (found, true) in pairs.items()}
    )


def _matched(
    case: Case, answer: Boxes, folder: DatasetFolder, numbers: Mapping[int, int]
) -> Detected:
    """Return which of the boxes are right, in the patient, where both lie."""
    ours = {theirs: number for number, theirs in numbers.items()}
    places_of_known = [at for at, box in enumerate(answer.boxes) if box.number in ours]
    known = [answer.boxes[at] for at in places_of_known]
    rows = folder.boxes(case)
    affine = affine_of(case)
    corners = np.stack(
        [
            np.stack([rows[:, 1 + axis + 3 * side] for axis, side in enumerate(at)], axis=1)
            for at in np.ndindex(2, 2, 2)
        ]
    )
    places = (corners - 0.5) @ affine[:3, :3].T + affine[:3, 3]
    found = matched(
        np.array([(*box.low_lps, *box.high_lps) for box in known]).reshape(-1, 6),
        [ours[box.number] for box in known],
        [box.score for box in known],
        np.concatenate([places.min(axis=0), places.max(axis=0)], axis=1),
        rows[:, 0].astype(int).tolist(),
    )
    hits = tuple(replace(hit, box=places_of_known[hit.box]) for hit in found.hits)
    return replace(found, hits=hits)


def _pairs(case: Case, answer: Answer, folder: DatasetFolder, numbers: Mapping[int, int]) -> Pairs:
    if isinstance(answer, Classes | Boxes):
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
    if score.boxes is not None:
        yield from _share(score.boxes, figure, number)
        return
    chosen = [one for at, one in score.segments.items() if number is None or at == number]
    values = [value for one in chosen if (value := getattr(one, figure, None)) is not None]
    if values:
        yield statistics.fmean(values)


def _share(boxes: Detected, figure: str, number: int | None) -> Iterator[float]:
    """Yield the share of things that were found, or of boxes that are right, where it has one."""
    hits = [hit for hit in boxes.hits if number is None or hit.label == number]
    things = [label for label in boxes.true if number is None or label == number]
    right = sum(hit.is_right for hit in hits)
    if figure == "found" and things:
        yield right / len(things)
    if figure == "right" and hits:
        yield right / len(hits)


def badness(score: CaseScore) -> float:
    """Return what cases are sorted by, the worst first; at most 1, of a case that is wholly right.

    Mean Dice; of a detection the share of right boxes among those that were found and those that
    there are; of a classification how sure it is, below 0 where it is wrong.
    """
    if score.boxes is not None:
        right = sum(hit.is_right for hit in score.boxes.hits)
        all_of_them = len(score.boxes.hits) + len(score.boxes.true)
        return 2 * right / all_of_them if all_of_them else 1.0
    if score.probability is not None:
        is_right = score.said == score.case.finding
        return score.probability if is_right else -score.probability
    return score.mean_dice if score.mean_dice is not None else 1.0
