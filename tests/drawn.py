"""Pictures with text drawn into them, whose every pixel is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

FONTS = Path("/usr/share/fonts/truetype/dejavu")
NAMES = ("MUSTERMANN^ERIKA", "Smith, John", "GRUENWALD J", "O'Neill Siobhan", "DOE^JANE^Q")
IDS = ("MRN 00471193", "ID: 4711-0815", "ACC2024-55431", "PAT-99/1234", "12.08.1961", "1961/08/12")


@dataclass(frozen=True)
class Drawn:
    """A picture, and where the letters of each text lie in it."""

    picture: np.ndarray
    letters: tuple[np.ndarray, ...]


def background(kind: str, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Return a grey picture without text: black, noise, speckle, or soft anatomy."""
    if kind == "black":
        return np.zeros((rows, columns), np.uint8)
    if kind == "noise":
        return rng.normal(90, 25, (rows, columns)).clip(0, 255).astype(np.uint8)
    if kind == "speckle":
        grains = ndimage.gaussian_filter(rng.rayleigh(1.0, (rows, columns)), 1.2)
        return (grains / grains.max() * 170).astype(np.uint8)
    soft = ndimage.gaussian_filter(rng.normal(0, 1, (rows, columns)), min(rows, columns) / 12)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return (40 + 170 * soft + rng.normal(0, 4, (rows, columns))).clip(0, 255).astype(np.uint8)


def stamp(text: str, height: int, turn: int, font: str = "DejaVuSans.ttf") -> np.ndarray:
    """Return how much ink each pixel of a text has, 0 to 1; letters of that height in pixels."""
    face = ImageFont.truetype(str(FONTS / font), max(6, round(height / 0.73)))
    left, top, right, bottom = face.getbbox(text)
    sheet = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(sheet).text((2 - left, 2 - top), text, fill=255, font=face)
    return np.asarray(sheet.rotate(turn, expand=True, resample=Image.Resampling.BILINEAR)) / 255.0


def with_texts(
    picture: np.ndarray,
    texts: list[tuple[str, int, int]],
    rng: np.random.Generator,
    *,
    ink: int | tuple[int, int, int] = 255,
    font: str = "DejaVuSans.ttf",
) -> Drawn:
    """Draw texts of (words, letter height, degrees) where none stands yet.

    A text that finds no room is left out.
    """
    drawn = picture.astype(np.float32)
    taken = np.zeros(picture.shape[:2], bool)
    letters = []
    for text, height, turn in texts:
        shape = stamp(text, height, turn, font)
        rows, columns = shape.shape
        if rows + 8 > taken.shape[0] or columns + 8 > taken.shape[1]:
            continue
        for _ in range(200):
            top = int(rng.integers(2, taken.shape[0] - rows - 2))
            left = int(rng.integers(2, taken.shape[1] - columns - 2))
            where = (slice(top, top + rows), slice(left, left + columns))
            if not taken[where].any():
                break
        else:
            continue
        taken[max(0, top - 12) : top + rows + 12, max(0, left - 12) : left + columns + 12] = True
        cover = shape[..., None] if drawn.ndim == 3 else shape
        drawn[where] = drawn[where] * (1 - cover) + np.array(ink, np.float32) * cover
        own = np.zeros(taken.shape, bool)
        own[where] = shape > 0.4
        letters.append(own)
    return Drawn(drawn.clip(0, 255).astype(picture.dtype), tuple(letters))


def faintly(
    picture: np.ndarray,
    texts: list[tuple[str, int, int]],
    rng: np.random.Generator,
    *,
    contrast: float,
) -> Drawn:
    """Draw texts as :func:`with_texts` does, lighter than what lies below by `contrast` levels.

    Where that would be more than white, darker.
    """
    sharp = with_texts(np.zeros(picture.shape, np.uint8), texts, rng, ink=255)
    ink = np.zeros(picture.shape, np.float32)
    for letters in sharp.letters:
        rows, columns = (slice(max(0, at.min() - 2), at.max() + 3) for at in np.nonzero(letters))
        lighter = float(picture[rows, columns].mean()) + contrast <= 255
        ink[rows, columns] = contrast if lighter else -contrast
    drawn = picture + ink * (sharp.picture / 255.0)
    return Drawn(drawn.clip(0, 255).astype(picture.dtype), sharp.letters)


def covered(letters: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a text's pixels that a mask covers."""
    return float((letters & mask).sum() / letters.sum())
