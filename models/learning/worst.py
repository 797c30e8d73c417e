"""Pictures of the cases on which a model does worst: what it says beside what is true.

A segmentation is shown on the slice where most is wrong, a detection on one of its wrong boxes, a
classification with both answers written under it. Shape says what colour says: what was missed is
dashed, and each box has its word.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from models.learning.cases import Case, DatasetFolder
from models.learning.comparison import Worst
from models.learning.evaluating import CaseScore, Pairs, badness
from models.learning.pictures import Pixels, Rgb, captioned, painted
from models.learning.preparing import affine_of
from models.prediction import Box, Boxes, Prediction

PICTURES: Final = 5
TRUTH: Final[Rgb] = (60, 210, 90)
WRONG: Final[Rgb] = (240, 70, 60)
MISSED: Final[Rgb] = (245, 190, 40)

_SIDE: Final = 448
_DASH: Final = 7
_LINE: Final = 2
_LETTERS: Final = 13
_DEEP_GREY: Final[Rgb] = (20, 20, 20)


@dataclass(slots=True, eq=False)
class Gallery:
    """Keeps a picture of a case as long as it is among the worst.

    Parameters
    ----------
    folder : DatasetFolder
        Whose cases are measured.
    """

    folder: DatasetFolder
    _kept: list[tuple[float, str, str, Pixels]] = field(default_factory=list, init=False)

    def look(self, score: CaseScore, prediction: Prediction, pairs: Pairs) -> None:
        """Draw a case, where it is among the worst so far and something can be seen of it."""
        value = badness(score)
        if score.boxes is not None and value >= 1.0:
            return  # every box is right, and none is missing
        if pairs and score.mean_dice is None:
            return  # nothing is there, and nothing was found
        if len(self._kept) >= PICTURES and value >= self._kept[-1][0]:
            return
        pixels, words = self._drawn(score, prediction, pairs)
        bisect.insort(self._kept, (value, score.case.id, words, pixels), key=lambda one: one[0])
        del self._kept[PICTURES:]

    def write(self, folder: Path) -> tuple[Worst, ...]:
        """Write the pictures as ``worst-1.png`` and so on, and return what each shows."""
        written = []
        for number, (value, case, words, pixels) in enumerate(self._kept, 1):
            name = f"worst-{number}.png"
            Picture.fromarray(pixels).save(folder / name)
            written.append(Worst(case=case, score=value, picture=name, words=words))
        return tuple(written)

    def _drawn(self, score: CaseScore, prediction: Prediction, pairs: Pairs) -> tuple[Pixels, str]:
        case, names = score.case, self.folder.dataset.classes
        image = np.asarray(self.folder.image(case))
        if pairs:
            return _masks_drawn(image, pairs), f"Dice {score.mean_dice:.3f}"
        if score.boxes is not None:
            answer = prediction.answer
            assert isinstance(answer, Boxes)  # the score was made of it
            return _boxes_drawn(image, self._boxes(score, answer.boxes)), _counted(score)
        middle = painted(image[:, case.shape[0] // 2], None, {}, side=_SIDE)
        words = said_and_true(score, names)
        return captioned(middle, words, colour=TRUTH if _is_right(score) else WRONG), words

    def _boxes(self, score: CaseScore, found: Sequence[Box]) -> list[_Drawn]:
        """Return each box that was found or missed, in voxels, with its word."""
        assert score.boxes is not None
        names = self.folder.dataset.classes
        drawn = []
        for hit in score.boxes.hits:
            low, high = _in_voxels(score.case, found[hit.box])
            word = f"{names[hit.label]} {hit.score:.2f}"
            colour = TRUTH if hit.is_right else WRONG
            drawn.append(_Drawn(low, high, word if hit.is_right else f"{word}, false", colour))
        rows = self.folder.boxes(score.case)
        for at in score.boxes.missed:
            low, high = rows[at, 1:4], rows[at, 4:7]
            drawn.append(_Drawn(low, high, f"{names[int(rows[at, 0])]} missed", MISSED, True))
        return drawn


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A box in a picture; edges (k, j, i), voxel n reaches from n to n + 1."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    word: str
    colour: Rgb
    is_dashed: bool = False


def said_and_true(score: CaseScore, names: Mapping[int, str]) -> str:
    """Return what a classification says of a case and how sure it is; and what it is, if another.

    Its answer may be a class that the dataset has not.
    """
    said = names.get(score.said, "another class") if score.said is not None else "another class"
    sure = f"says {said}, {score.probability or 0.0:.2f} sure"
    if _is_right(score):
        return f"{sure}: right"
    return f"{sure}: it is {names.get(score.case.finding or 0, '?')}"


def _is_right(score: CaseScore) -> bool:
    return score.said == score.case.finding


def _counted(score: CaseScore) -> str:
    assert score.boxes is not None
    right = sum(hit.is_right for hit in score.boxes.hits)
    false = len(score.boxes.hits) - right
    return f"{right} found, {len(score.boxes.missed)} missed, {false} false"


def _in_voxels(case: Case, box: Box) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a box's edges (k, j, i) on the case's grid."""
    back = np.linalg.inv(affine_of(case))
    ends = np.array([box.low_lps, box.high_lps])
    corners = np.array([[ends[n, axis] for axis, n in enumerate(at)] for at in np.ndindex(2, 2, 2)])
    places = corners @ back[:3, :3].T + back[:3, 3] + 0.5
    return places.min(axis=0), places.max(axis=0)


def _masks_drawn(image: npt.NDArray[Any], pairs: Pairs) -> Pixels:
    """Return the slice on which most is wrong, both outlines on it: the truth's is the wider."""
    wrong_kji = np.logical_or.reduce([found ^ true for found, true in pairs.values()])
    k = int(wrong_kji.sum(axis=(1, 2)).argmax())
    pixels = np.array(painted(image[:, k], None, {}, side=_SIDE))  # its own is read-only
    for at, colour, wide in ((1, TRUTH, 3), (0, WRONG, 1)):
        for pair in pairs.values():
            mask = Picture.fromarray(pair[at][k].astype(np.uint8))
            size = pixels.shape[1], pixels.shape[0]
            inside = np.asarray(mask.resize(size, Picture.Resampling.NEAREST), bool)
            inner = scipy.ndimage.binary_erosion(inside, iterations=wide, border_value=0)
            pixels[inside & ~inner] = colour
    return pixels


def _boxes_drawn(image: npt.NDArray[Any], boxes: Sequence[_Drawn]) -> Pixels:
    """Return the slice through the first wrong box, with all that lie on it."""
    first = min(boxes, key=lambda one: (one.colour == TRUTH, not one.is_dashed))
    k = int(np.clip((first.low[0] + first.high[0]) / 2, 0, image.shape[1] - 1))
    pixels = painted(image[:, k], None, {}, side=_SIDE)
    scale = pixels.shape[0] / image.shape[2]
    picture = Picture.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    for box in boxes:
        if box.low[0] < k + 1 and box.high[0] > k:
            _frame(pen, box, scale, size=picture.size)
    return np.asarray(picture)


def _frame(pen: ImageDraw.ImageDraw, box: _Drawn, scale: float, *, size: tuple[int, int]) -> None:
    """Draw a box and its word, within a picture of that size (columns, rows)."""
    font = ImageFont.load_default(_LETTERS)
    left, top, right, bottom = (
        round(float(edge) * scale) for edge in (box.low[2], box.low[1], box.high[2], box.high[1])
    )
    right, bottom = max(right - 1, left + 1), max(bottom - 1, top + 1)
    if box.is_dashed:
        for at in range(left, right + 1, 2 * _DASH):
            for line in (top, bottom):
                pen.line((at, line, min(at + _DASH, right), line), box.colour, _LINE)
        for at in range(top, bottom + 1, 2 * _DASH):
            for line in (left, right):
                pen.line((line, at, line, min(at + _DASH, bottom)), box.colour, _LINE)
    else:
        pen.rectangle((left, top, right, bottom), outline=box.colour, width=_LINE)
    wide = pen.textlength(box.word, font=font)
    x = int(max(0, min(left, size[0] - wide - 4)))
    high = _LETTERS + 4
    y = top - high if top >= high else min(bottom + 1, size[1] - high)
    pen.rectangle((x, y, x + wide + 4, y + high - 1), fill=_DEEP_GREY)
    pen.text((x + 2, y + 1), box.word, fill=box.colour, font=font)
