"""Pictures of the worst cases: what is wrong is seen on them, and said in words."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from dicom.agreement import likeness
from models.learning.cases import Box, Case, Dataset, read_dataset, write_array, write_dataset
from models.learning.detecting import Detected, Hit
from models.learning.evaluating import CaseScore, Pairs
from models.learning.worst import MISSED, TRUTH, WRONG, Gallery
from models.prediction import Answer, Boxes, Classes, Prediction
from models.prediction import Box as Found
from models.table import FindingRow

SHAPE = (6, 32, 40)
AFFINE = ((0.0, 0.0, -1.5, 9.0), (0.0, 1.0, 0.0, -4.0), (3.0, 0.0, 0.0, 2.0), (0.0, 0.0, 0.0, 1.0))
SCALE = 448 / 40


def dataset(folder: Path, task: str, *, count: int = 1, boxes: tuple[Box, ...] = ()):
    first = 0 if task == "classification" else 1
    rows = [
        {"number": n, "label": label, "code": {"value": v, "scheme": "SCT", "meaning": label}}
        for n, label, v in ((first, "Left", "7771000"), (first + 1, "Right", "24028007"))
    ]
    cases = tuple(
        Case(
            id=f"c{n}",
            patient=f"p{n}",
            split="test",
            shape=SHAPE,
            affine_lps=AFFINE,
            finding=n % 2 if task == "classification" else None,
            boxes=boxes,
            image_sha256=write_array(folder, f"c{n}", "image.npy", np.zeros((1, *SHAPE), "f4")),
        )
        for n in range(count)
    )
    write_dataset(
        folder,
        Dataset(
            name="few",
            version="1",
            task=task,
            classes={first: "Left", first + 1: "Right"},
            findings=tuple(FindingRow.model_validate(row) for row in rows),
            channels=("grey",),
            cases=cases,
        ),
    )
    return read_dataset(folder)


def answered(answer: Answer) -> Prediction:
    return Prediction(answer, forward_s=0.1, total_s=0.1, device="cpu", bundle_sha256="")


def of_colour(picture: Path, colour: tuple[int, int, int]) -> np.ndarray:
    return np.all(np.asarray(Picture.open(picture)) == colour, axis=2)


def found(number: int, score: float, first: tuple[int, ...], last: tuple[int, ...]) -> Found:
    """A box in the patient, of first and last voxel."""
    ends = np.array([[*(n - 0.5 for n in first), 1], [*(n + 0.5 for n in last), 1]])
    places = (ends @ np.array(AFFINE).T)[:, :3]
    low, high = places.min(axis=0).tolist(), places.max(axis=0).tolist()
    return Found(number, score, tuple(low), tuple(high))


def test_boxes_are_drawn_where_they_lie_found_missed_and_false(tmp_path: Path):
    there = (
        Box(label=1, first=(1, 4, 20), last=(3, 11, 31)),
        Box(label=2, first=(2, 20, 4), last=(4, 27, 11)),
    )
    folder = dataset(tmp_path, "detection", boxes=there)
    answer = Boxes(
        (
            found(7, 0.99, (2, 0, 0), (2, 1, 1)),  # of a class that the dataset has not
            found(1, 0.93, (1, 4, 20), (3, 11, 31)),
            found(2, 0.81, (2, 16, 22), (4, 25, 35)),
            found(1, 0.70, (5, 0, 0), (5, 3, 3)),  # on another slice
        )
    )
    hits = (Hit(1, 0.93, True, 1), Hit(2, 0.81, False, 2), Hit(1, 0.7, False, 3))
    gallery = Gallery(folder)
    score = CaseScore(folder.dataset.cases[0], {}, boxes=Detected(hits, (1, 2), (1,)))
    gallery.look(score, answered(answer), {})
    whole = Detected((Hit(1, 0.9, True, 1),), (1,))
    gallery.look(CaseScore(folder.dataset.cases[0], {}, boxes=whole), answered(answer), {})
    (worst,) = gallery.write(tmp_path)  # what is wholly right is none of the worst
    assert worst.caption == "c0: 1 found, 1 missed, 2 false"
    for colour, (top, left, bottom, right) in (
        (TRUTH, (4, 20, 12, 32)),
        (WRONG, (16, 22, 26, 36)),
        (MISSED, (20, 4, 28, 12)),
    ):
        drawn = of_colour(tmp_path / worst.picture, colour)
        columns = np.flatnonzero(drawn[round((top + 3) * SCALE) :].any(axis=0))
        assert abs(columns.min() - left * SCALE) < 3
        assert abs(columns.max() - right * SCALE) < 3
        inner = slice(round(top * SCALE) + 6, round(bottom * SCALE) - 6)
        side = drawn[inner, round(left * SCALE) - 1 : round(left * SCALE) + 2].any(axis=1)
        assert side.all() is np.bool_(colour != MISSED)  # dashes have gaps


def test_the_surest_mistakes_of_a_classification_come_first_and_say_both(tmp_path: Path):
    folder = dataset(tmp_path, "classification", count=7)
    gallery = Gallery(folder)
    for case, said, sure in zip(
        folder.dataset.cases,
        (0, 1, 1, 0, 0, 1, 0),  # c2 and c3 are wrong
        (0.9, 0.8, 0.6, 0.95, 0.55, 0.99, 0.7),
        strict=True,
    ):
        answer = Classes((0, 1), np.array([1 - sure, sure]))
        gallery.look(CaseScore(case, {}, said, sure), answered(answer), {})
    written = gallery.write(tmp_path)
    assert [one.case for one in written] == ["c3", "c2", "c4", "c6", "c1"]
    assert written[0].words == "says Left, 0.95 sure: it is Right"
    assert written[2].words == "says Left, 0.55 sure: right"
    assert of_colour(tmp_path / "worst-1.png", WRONG).any()
    assert of_colour(tmp_path / "worst-3.png", TRUTH).any()


@pytest.mark.parametrize("at", [1, 4])
def test_masks_are_shown_where_most_is_wrong(tmp_path: Path, at: int):
    folder = dataset(tmp_path, "detection")
    true, said = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    true[:, 4:20, 4:20] = said[:, 4:20, 4:20] = True
    said[at, 4:20, 20:36] = True
    pairs: Pairs = {1: (said, true)}
    score = CaseScore(folder.dataset.cases[0], {1: likeness(said, true, (3.0, 1.0, 1.5))})
    gallery = Gallery(folder)
    gallery.look(score, answered(Boxes(())), pairs)
    (worst,) = gallery.write(tmp_path)
    assert worst.words.startswith("Dice 0.9")
    red = np.flatnonzero(of_colour(tmp_path / worst.picture, WRONG).any(axis=0))
    green = np.flatnonzero(of_colour(tmp_path / worst.picture, TRUTH).any(axis=0))
    assert abs(red.max() - 36 * SCALE) < 3 and abs(green.max() - 20 * SCALE) < 3
