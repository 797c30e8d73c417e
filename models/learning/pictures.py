"""Pictures of cases for people: grey values with what is drawn in them, many on a sheet.

No torch here: pages make such pictures, too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from models.learning.cases import Dataset

Rgb = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]
"""Shape (rows, columns, 3)."""

PALETTE: Final[tuple[Rgb, ...]] = (
    (230, 97, 74),
    (76, 160, 224),
    (240, 190, 60),
    (112, 190, 112),
    (186, 128, 216),
    (64, 190, 180),
)
"""For labels that nobody gave a colour."""

_TINT: Final = 0.35
_GROUND: Final = 24  # of a sheet between its pictures
_GAP: Final = 4
_PERCENTILES: Final = (0.5, 99.5)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One slice of a case that is not learnt from, with what is true and what was found.

    Attributes
    ----------
    case : str
    image : ndarray, shape (channels, rows, columns)
    truth, found : ndarray, uint8, shape (rows, columns), or None
        Labels; None of a classification.
    true, said : int or None
        Of a classification: the classes.
    """

    case: str
    image: npt.NDArray[np.float32]
    truth: npt.NDArray[np.uint8] | None = None
    found: npt.NDArray[np.uint8] | None = None
    true: int | None = None
    said: int | None = None


def colours_of(dataset: Dataset) -> dict[int, Rgb]:
    """Return each label's colour: its segment's, else one of the palette."""
    known = {row.number: row.rgb for row in dataset.segments}
    return {
        number: known.get(number, PALETTE[at % len(PALETTE)])
        for at, number in enumerate(sorted(dataset.classes))
    }


def painted(
    image: npt.NDArray[Any],
    label: npt.NDArray[Any] | None,
    colours: dict[int, Rgb],
    *,
    side: int = 0,
) -> Pixels:
    """Return an image as pixels, its labels tinted with a firm edge.

    Parameters
    ----------
    image : ndarray, shape (channels, rows, columns)
        Three channels are a colour image; else the first is shown.
    label : ndarray, shape (rows, columns), or (labels, rows, columns) where they overlap; or None
    side : int
        The picture's longer side; 0: as many pixels as the image has.
    """
    pixels = _grey(image)
    rows, columns = pixels.shape[:2]
    if side:
        scale = side / max(rows, columns)
        rows, columns = (max(1, round(n * scale)) for n in (rows, columns))
        pixels = np.asarray(
            Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR)
        )
    if label is None:
        return pixels
    drawn = pixels.astype(np.float32)
    for number, mask in _masks(label):
        inside = np.asarray(
            Image.fromarray(mask).resize((columns, rows), Image.Resampling.NEAREST), bool
        )
        colour = np.array(colours.get(number, PALETTE[number % len(PALETTE)]), np.float32)
        drawn[inside] = drawn[inside] * (1 - _TINT) + colour * _TINT
        drawn[_edge(inside)] = colour
    return np.rint(drawn).astype(np.uint8)


def pictured(
    image: npt.NDArray[Any],
    label: npt.NDArray[Any] | None,
    rows: npt.NDArray[np.float64],
    colours: dict[int, Rgb],
    *,
    side: int,
) -> Pixels:
    """Return the slice of a case on which most is to be seen, with its labels or its boxes.

    Parameters
    ----------
    image : ndarray, shape (channels, slices, rows, columns)
    label : ndarray, shape ([labels,] slices, rows, columns), or None
    rows : ndarray, shape (boxes, 7)
        Class, low edges (k, j, i), high edges; voxel n reaches from n to n + 1.
    """
    if not len(rows):
        at = slice_to_show(label, image.shape[1])
        flat = None if label is None else label[..., at, :, :]
        return painted(image[:, at], flat, colours, side=side)
    on = [(rows[:, 1] < k + 1) & (rows[:, 4] > k) for k in range(image.shape[1])]
    at = int(np.argmax([one.sum() for one in on]))
    picture = Image.fromarray(painted(image[:, at], None, colours, side=side))
    pen, scale = ImageDraw.Draw(picture), picture.width / image.shape[3]
    for row in rows[on[at]]:
        top, left, bottom, right = (round(float(row[n]) * scale) for n in (2, 3, 5, 6))
        number = int(row[0])
        colour = colours.get(number, PALETTE[number % len(PALETTE)])
        ends = (left, top, max(right - 1, left + 1), max(bottom - 1, top + 1))
        pen.rectangle(ends, outline=colour, width=2)
    return np.asarray(picture)


def painted_look(
    look: Look, colours: dict[int, Rgb], names: Mapping[int, str], *, side: int = 256
) -> Pixels:
    """Return what is true and what was found side by side; of a classification in words."""
    if look.truth is None:
        image = painted(look.image, None, colours, side=side)
        true, said = (names.get(-1 if one is None else one, "?") for one in (look.true, look.said))
        return captioned(image, f"is {true}; it says {said}", letters=13)
    pictures = [
        painted(look.image, label, colours, side=side) for label in (look.truth, look.found)
    ]
    return sheet(pictures, columns=2)


def captioned(
    pixels: Pixels, words: str, *, colour: Rgb = (230, 230, 230), letters: int = 14
) -> Pixels:
    """Return a picture with a line of words under it, cut where it is too narrow for them."""
    strip = Image.new("RGB", (pixels.shape[1], letters + 8), (_GROUND,) * 3)
    font = ImageFont.load_default(letters)
    ImageDraw.Draw(strip).text((4, 2), words, fill=colour, font=font)
    return np.concatenate([pixels, np.asarray(strip)])


def sheet(pictures: Sequence[Pixels], *, columns: int) -> Pixels:
    """Return pictures on a grid, each in the middle of its field."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    high = max((one.shape[0] for one in pictures), default=1) + _GAP
    wide = max((one.shape[1] for one in pictures), default=1) + _GAP
    whole = np.full((rows * high - _GAP, columns * wide - _GAP, 3), _GROUND, np.uint8)
    for at, one in enumerate(pictures):
        top = at // columns * high + (high - _GAP - one.shape[0]) // 2
        left = at % columns * wide + (wide - _GAP - one.shape[1]) // 2
        whole[top : top + one.shape[0], left : left + one.shape[1]] = one
    return whole


def slice_to_show(label: npt.NDArray[Any] | None, slices: int) -> int:
    """Return the slice with most labelled voxels, of a label map whose third last axis is k."""
    if label is None or not label.any():
        return slices // 2
    whole = label.any(axis=0) if label.ndim == 4 else label != 0
    return int(np.argmax(whole.sum(axis=(1, 2))))


def as_png(pixels: Pixels) -> bytes:
    """Return pixels as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=6)
    return out.getvalue()


def _grey(image: npt.NDArray[Any]) -> Pixels:
    channels = np.asarray(image, np.float32)
    low, high = (float(one) for one in np.percentile(channels, _PERCENTILES))
    scaled = np.clip((channels - low) / max(high - low, 1e-6), 0, 1) * 255
    shown = scaled if len(channels) == 3 else np.repeat(scaled[:1], 3, axis=0)
    return np.ascontiguousarray(np.rint(np.moveaxis(shown, 0, -1)).astype(np.uint8))


def _masks(label: npt.NDArray[Any]) -> list[tuple[int, npt.NDArray[np.uint8]]]:
    if label.ndim == 3:
        return [(at + 1, (one != 0).astype(np.uint8)) for at, one in enumerate(label)]
    numbers = [int(number) for number in np.unique(label) if number]
    return [(number, (label == number).astype(np.uint8)) for number in numbers]


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.pad(inside, 1)
    middle = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~middle
