"""Letters as they are burned into radiographs, made up: for a detector of L and R to learn from.

Every one is drawn anew: typed (the face that comes with Pillow, in many widths and weights), typed
coarsely (its bitmap face), or drawn of strokes as lead letters are; slanted and turned a little;
bright, seldom dark; plain, in a circle, in a frame, or on a plate; sharp or soft. What is no marker
is drawn as well: other letters, words and digits, and letters that are mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.float64]
"""How much of a pixel is ink, 0 to 1; shape (rows, columns)."""

_FINE: Final = 64  # pixels, the height at which a letter is drawn before it is made small
_STROKES: Final[Mapping[str, tuple[tuple[tuple[float, float], ...], ...]]] = {
    "L": (((0.0, 0.0), (0.0, 1.0), (0.6, 1.0)),),
    "R": (
        ((0.0, 1.0), (0.0, 0.0), (0.4, 0.0), (0.6, 0.1), (0.6, 0.4), (0.4, 0.5), (0.0, 0.5)),
        ((0.25, 0.5), (0.6, 1.0)),
    ),
}
"""Letters as lead is cast: lines through (right, down), as shares of the height."""

_OTHERS: Final = "ABCDEFGHIJKMNOPQSTUVWXYZ0123456789"
_WORDS: Final = ("AP", "PA", "pa", "ap", "LL", "ERECT", "cm", "kV", "TL", "RT", "LT", "12", "78%")
_SAME_MIRRORED: Final = frozenset("AHIMOTUVWXY")
_TRIES: Final = 8  # places, until a letter lies on no other
_SOFT: Final = 0.3  # pixels; less is sharp
_BEYOND: Final = 0.6
_LEAST_CONTRAST: Final = 0.35  # of the picture's range


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A letter with what is around it: the ink, and where in it the letter itself is.

    Attributes
    ----------
    ink : ndarray, shape (rows, columns)
    box : tuple of int
        First row and column of the letter, and those after its last.
    plate : ndarray or None
        What lies under the ink, where there is a plate.
    """

    ink: Mask
    box: tuple[int, int, int, int]
    plate: Mask | None = None


def paint_markers(
    image: npt.NDArray[np.float32],
    draw: np.random.Generator,
    *,
    letters: Mapping[str, int],
    count: tuple[int, int] = (1, 1),
    height: tuple[float, float] = (9.0, 40.0),
    others: float = 0.5,
) -> tuple[npt.NDArray[np.float32], Floats]:
    """Return an image with letters painted in, and their boxes.

    Parameters
    ----------
    image : ndarray, float32, shape (channels, slices, rows, columns)
        Painted on in place. Of a volume one slice is painted.
    letters : mapping of str to int
        The class of each.
    count : tuple of int
        How many are painted: a range, both ends included.
    height : tuple of float
        Pixels: a range; small ones are as frequent as large ones are, ratio for ratio.
    others : float
        Probability that things which are no marker are painted too.

    Returns
    -------
    image : ndarray
    rows : ndarray, shape (letters, 7)
        Class, low edges (k, j, i), high edges; voxel n reaches from n to n + 1.
    """
    low, high = (float(end) for end in np.percentile(image, (0.5, 99.5)))
    rows: list[tuple[float, ...]] = []
    taken = np.zeros(image.shape[2:], np.bool_)
    k = int(draw.integers(image.shape[1]))

    def put(drawn: Drawn) -> tuple[int, int, int, int] | None:
        place = _free_place(drawn, taken, draw)
        if place is None:
            return None
        _blend(image[:, k], drawn, place, (low, high), draw)
        (j, i), (top, left, bottom, right) = place, drawn.box
        taken[j : j + drawn.ink.shape[0], i : i + drawn.ink.shape[1]] = True
        return j + top, i + left, j + bottom, i + right

    for _ in range(int(draw.integers(count[0], count[1] + 1))):
        letter = str(draw.choice(sorted(letters)))
        box = put(_framed(_letter(letter, _drawn_height(height, draw), draw), draw))
        if box is not None:
            j0, i0, j1, i1 = box
            rows.append((letters[letter], k, j0, i0, k + 1, j1, i1))
    if draw.random() < others:
        for _ in range(int(draw.integers(1, 4))):
            put(_framed(_no_marker(sorted(letters), _drawn_height(height, draw), draw), draw))
    return image, np.array(rows, np.float64).reshape(-1, 7)


def _drawn_height(height: tuple[float, float], draw: np.random.Generator) -> int:
    return max(5, round(float(np.exp(draw.uniform(*np.log(height))))))


def _letter(letter: str, height: int, draw: np.random.Generator) -> Mask:
    """Return one letter, tightly cut, of about that height."""
    way = draw.random()
    if letter in _STROKES and way < 0.3:
        fine = _of_strokes(letter, draw)
    elif way < 0.4:
        fine = _typed(letter, _coarse_face(), draw)
    else:
        fine = _typed(letter, _face(_FINE), draw)
    return _made_small(fine, height, draw)


def _no_marker(letters: list[str], height: int, draw: np.random.Generator) -> Mask:
    """Return something that looks like a marker and is none."""
    kind = draw.random()
    mirrored = [letter for letter in letters if letter not in _SAME_MIRRORED]
    if kind < 0.4 and mirrored:
        return _letter(str(draw.choice(mirrored)), height, draw)[:, ::-1]
    if kind < 0.7:
        return _letter(str(draw.choice(list(_OTHERS))), height, draw)
    return _made_small(_typed(str(draw.choice(_WORDS)), _face(_FINE), draw), height, draw)


# --- drawing --------------------------------------------------------------------------------------


@cache
def _face(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the face that Pillow brings: Aileron, which is in the public domain."""
    return ImageFont.load_default(height * 1.35)


@cache
def _coarse_face() -> ImageFont.ImageFont:
    return ImageFont.load_default_imagefont()


def _typed(
    text: str,
    face: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    draw: np.random.Generator,
) -> Image.Image:
    is_fine = isinstance(face, ImageFont.FreeTypeFont)
    stroke = int(draw.integers(0, 6)) if is_fine else 0  # bold faces are what consoles use
    left, top, right, bottom = face.getbbox(text)
    picture = Image.new("L", (round(right - left) + 20, round(bottom - top) + 20))
    pen = ImageDraw.Draw(picture)
    if is_fine:
        pen.text((10 - left, 10 - top), text, 255, font=face, stroke_width=stroke)
    else:
        pen.text((10 - left, 10 - top), text, 255, font=face)
    return picture


def _of_strokes(letter: str, draw: np.random.Generator) -> Image.Image:
    picture = Image.new("L", (_FINE, _FINE + 20))
    pen = ImageDraw.Draw(picture)
    width = int(draw.integers(4, 15))
    wide = draw.uniform(0.7, 1.1) * _FINE
    for line in _STROKES[letter]:
        points = [(10 + right * wide, 10 + down * _FINE) for right, down in line]
        pen.line(points, 255, width, joint="curve")
    return picture


def _made_small(fine: Image.Image, height: int, draw: np.random.Generator) -> Mask:
    """Return a drawing slanted and turned a little, tightly cut, at its height."""
    turned = fine.rotate(float(draw.normal(0, 4)), Image.Resampling.BICUBIC, expand=True)
    slant = float(draw.normal(0, 0.06))
    wide = turned.width + abs(slant) * turned.height
    turned = turned.transform(
        (round(wide), turned.height),
        Image.Transform.AFFINE,
        (1, slant, min(0.0, -slant * turned.height), 0, 1, 0),
        Image.Resampling.BICUBIC,
    )
    cut = turned.crop(turned.getbbox())
    stretch = draw.uniform(0.85, 1.15)
    width = max(3, round(cut.width * height / cut.height * stretch))
    small = np.asarray(cut.resize((width, height), Image.Resampling.BOX), np.float64) / 255
    return np.clip(small * draw.uniform(1.0, 1.3), 0, 1)


def _framed(letter: Mask, draw: np.random.Generator) -> Drawn:
    """Return a letter plain, in a circle, in a frame, or on a plate."""
    rows, columns = letter.shape
    kind = draw.random()
    if kind < 0.6:
        return Drawn(letter, (0, 0, rows, columns))
    around = max(2, round(rows * draw.uniform(0.2, 0.6)))
    side = max(rows, columns) + 2 * around if kind < 0.75 else 0
    size = (side or rows + 2 * around, side or columns + 2 * around)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    ink = np.zeros(size)
    ink[top : top + rows, left : left + columns] = letter
    box = (top, left, top + rows, left + columns)
    if kind >= 0.9:
        return Drawn(ink, box, plate=np.ones(size))
    line = Image.new("L", (size[1] * 4, size[0] * 4))
    ends = (2, 2, size[1] * 4 - 3, size[0] * 4 - 3)
    width = max(3, round(4 * rows * draw.uniform(0.04, 0.12)))
    pen = ImageDraw.Draw(line)
    if kind < 0.75:
        pen.ellipse(ends, outline=255, width=width)
    else:
        pen.rectangle(ends, outline=255, width=width)
    small = line.resize((size[1], size[0]), Image.Resampling.BOX)
    return Drawn(np.maximum(ink, np.asarray(small, np.float64) / 255), box)


# --- laying it on a picture -----------------------------------------------------------------------


def _free_place(
    drawn: Drawn, taken: npt.NDArray[np.bool_], draw: np.random.Generator
) -> tuple[int, int] | None:
    rows, columns = drawn.ink.shape
    if rows > taken.shape[0] or columns > taken.shape[1]:
        return None
    for _ in range(_TRIES):
        j = int(draw.integers(taken.shape[0] - rows + 1))
        i = int(draw.integers(taken.shape[1] - columns + 1))
        if not taken[j : j + rows, i : i + columns].any():
            return j, i
    return None


def _blend(
    image_cji: npt.NDArray[np.float32],
    drawn: Drawn,
    place: tuple[int, int],
    ends: tuple[float, float],
    draw: np.random.Generator,
) -> None:
    """Lay ink on a picture: mostly bright, as lead is, and always to be seen."""
    j, i = place
    rows, columns = drawn.ink.shape
    under = image_cji[:, j : j + rows, i : i + columns]
    low, high = ends
    reach = max(high - low, 1e-6)
    bright = low + reach * draw.uniform(0.85, 1.1)
    if draw.random() < _BEYOND:  # a part of a picture seldom holds its brightest
        bright = high + reach * draw.uniform(0.0, 2.0)
    dark = low - reach * draw.uniform(0.0, 0.1)
    ink, soft = drawn.ink, draw.uniform(0.0, 0.6)
    if drawn.plate is not None:
        under[:] += drawn.plate.astype(np.float32) * (bright - under)
        level = dark + reach * draw.uniform(0.0, 0.3)
    else:
        around = float(under.mean())
        level = bright if draw.random() < 0.93 else dark
        if abs(level - around) < _LEAST_CONTRAST * reach:
            level = dark if level == bright else bright
    if soft > _SOFT:
        ink = np.clip(ndimage.gaussian_filter(ink, soft) * 1.1, 0, 1)
    strength = draw.uniform(0.75, 1.0)
    under[:] += (ink * strength).astype(np.float32) * (np.float32(level) - under)
