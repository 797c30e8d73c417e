"""A contact sheet: what a dataset shows, at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from dicom.masks import outlines
from models.learning.cases import COLOUR, Case, DatasetFolder

_SIDE: Final = 160
_GAP: Final = 4
_COLOURS: Final = (
    (240, 90, 80),
    (90, 200, 110),
    (90, 160, 250),
    (245, 200, 80),
    (190, 120, 230),
    (90, 215, 210),
)


def contact_sheet(folder: DatasetFolder, cases: Sequence[Case] | None = None) -> bytes:
    """Return a PNG: of each case the slice with most label, grey, each class outlined in a colour.

    Parameters
    ----------
    cases : sequence of Case or None
        In the order in which they are shown; None for all, train first, test last.
    """
    order = ("train", "validation", "test")
    shown = cases or sorted(folder.dataset.cases, key=lambda c: (order.index(c.split), c.id))
    columns = max(1, math.ceil(math.sqrt(len(shown) * 1.6)))
    rows = math.ceil(len(shown) / columns)
    step = _SIDE + _GAP
    sheet = Picture.new("RGB", (columns * step + _GAP, rows * step + _GAP), (24, 28, 34))
    for at, case in enumerate(shown):
        row, column = divmod(at, columns)
        tile = Picture.fromarray(thumbnail(folder, case))
        tile.thumbnail((_SIDE, _SIDE))
        sheet.paste(tile, (_GAP + column * step, _GAP + row * step))
    file = BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def thumbnail(folder: DatasetFolder, case: Case) -> npt.NDArray[np.uint8]:
    """Return one case's picture, shape (rows, columns, 3)."""
    masks = _masks(folder, case)
    counts = np.zeros(case.shape[0], np.int64)
    for mask in masks:
        counts += mask.sum(axis=(1, 2))
    k = int(counts.argmax()) if counts.any() else case.shape[0] // 2
    image = folder.image(case)
    picture = (
        np.moveaxis(np.asarray(image[:3, k]), 0, -1).astype(np.uint8)
        if folder.dataset.channels == COLOUR
        else np.repeat(_grey(np.asarray(image[0, k], np.float64))[..., None], 3, axis=2)
    )
    for at, mask in enumerate(masks):
        picture[outlines(mask[k : k + 1])[0]] = _COLOURS[at % len(_COLOURS)]
    return picture


def _masks(folder: DatasetFolder, case: Case) -> list[npt.NDArray[np.bool_]]:
    if not case.label_sha256:
        return []
    label = np.asarray(folder.label(case))
    if label.ndim == 4:
        return [one != 0 for one in label]
    return [label == number for number in sorted(folder.dataset.classes)]


def _grey(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(pixels, (1, 99))
    scaled = np.clip((pixels - low) / max(float(high - low), 1e-9), 0, 1) * 255
    return np.asarray(scaled, np.uint8)
