"""A structure that a client's reader clicks on, or scribbles in; on the archive's images or others.

`clicks` is DeepGrow's way to ask: places inside, places outside, a box. `scribbles` is a label map
in which two segments, `foreground_scribbles` and `background_scribbles`, say the same, and the
segment that is named is what there is so far. Both are answered by the edges of the image; a
bundle that takes clicks answers under its own name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dicom.errors import InvalidRequest, UnsuitableSeries
from models import prompts
from models.nifti import is_nifti, read_nifti
from models.prediction import Image
from models.prompts import Box, Mask, Point
from models.sources import Source
from node.monailabel.labels import image_of
from node.parts import FrontParts
from pipelines.labelfiles import LabelFile

CLICKS: Final = "clicks"
"""The model that needs no training: the watershed from the reader's clicks."""
SCRIBBLES: Final = "scribbles"
"""The same, from strokes of a brush."""

_STROKES: Final = {"foreground_scribbles": True, "background_scribbles": False}
_MOST_POINTS: Final = 400  # of each kind: more of them say no more, and each takes its time

Triple = tuple[int, int, int]


class NumberedLabel(BaseModel):
    """What a client says of a value of its label map."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(max_length=64)
    id: int = Field(ge=1, le=0xFFFF)


class InferParams(BaseModel):
    """What is understood of a client's params; places are column, row, slice, from 0."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    result_extension: str = ".nii.gz"
    label: str = Field("", max_length=64)
    foreground: tuple[Triple, ...] = Field((), max_length=2000)
    background: tuple[Triple, ...] = Field((), max_length=2000)
    roi: tuple[int, ...] = Field((), max_length=6)
    label_info: tuple[NumberedLabel, ...] = Field((), max_length=4096)
    selected_label_name: str = Field("", max_length=64)


@dataclass(frozen=True, slots=True, eq=False)
class Clickable:
    """An image that can be clicked on; `modality` is empty where nobody knows it."""

    image: Image
    modality: str

    @property
    def affine_lps(self) -> npt.NDArray[np.float64]:
        """From index (k, j, i, 1) to LPS, mm."""
        return self.image.affine_lps

    @property
    def shape_kji(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return self.image.shape_kji

    @property
    def spacing_kji(self) -> tuple[float, float, float]:
        """Distances between voxels, mm."""
        k, j, i = np.linalg.norm(self.affine_lps[:3, :3], axis=0).tolist()
        return k, j, i


def takes_clicks(parts: FrontParts, model: str) -> bool:
    """Return whether clicks or scribbles are for that model.

    Raises
    ------
    UnknownBundle
    """
    return model in (CLICKS, SCRIBBLES) or parts.registry.get(model).prompts is not None


def in_archive(parts: FrontParts, image: str) -> Clickable:
    """Return an image of the archive, which stays in memory for the next click.

    Raises
    ------
    NotFound, PeerError
    """
    _, archived = image_of(parts, image)
    warm = parts.warm.image(archived.study_uid, archived.series_uid)
    grid = warm.grid
    voxels = Image(warm.voxels_kji, grid.affine_lps, grid.frame_of_reference_uid)
    return Clickable(voxels, grid.modality)


def uploaded(source: Source) -> Clickable:
    """Return an image that a client uploaded.

    Raises
    ------
    InvalidRequest
        When it is not one volume.
    """
    if isinstance(source, Path) and is_nifti(source):
        return Clickable(Image(*read_nifti(source)), "")
    if not isinstance(source, Image) or source.is_colour:
        raise InvalidRequest("clicks are for one volume: an NRRD or NIfTI file of grey values")
    return Clickable(source, "")


def refined(
    parts: FrontParts, model: str, image: Clickable, wanted: InferParams, drawn: LabelFile | None
) -> tuple[str, Mask]:
    """Return the structure's name and its mask after all clicks, which come with each request.

    Raises
    ------
    InvalidRequest
        When nothing was clicked, or outside of the image.
    OtherGrid
        When scribbles lie on other voxels than the image.
    UnsuitableSeries
        When the model takes no clicks on such images.
    """
    positive = _points(wanted.foreground, image.shape_kji)
    negative = _points(wanted.background, image.shape_kji)
    box = _box(wanted.roi, image.shape_kji)
    before: Mask | None = None
    if model == SCRIBBLES:
        if drawn is None:
            raise InvalidRequest("scribbles are a label map, and there is none")
        strokes = _strokes(drawn.on(image), wanted)
        before = strokes.before
        positive, negative = [*positive, *strokes.inside], [*negative, *strokes.outside]
        box = box if before is None and not positive else None
    if not positive and not negative and box is None:
        raise InvalidRequest("nothing was clicked: params has no foreground, background or roi")
    if model in (CLICKS, SCRIBBLES):
        mask_kji = prompts.refine(
            image.image.voxels,
            image.spacing_kji,
            before,
            positive=positive,
            negative=negative,
            box=box,
        )
        return wanted.label or wanted.selected_label_name or "structure", mask_kji
    bundle = parts.registry.get(model)
    if image.modality and image.modality not in bundle.modalities:
        raise UnsuitableSeries("the model takes no clicks on such images")
    mask_kji = prompts.refine_by_bundle(
        parts.predictor, bundle, image.image, positive=positive, negative=negative, box=box
    )
    return wanted.label or bundle.segments[0].label, mask_kji


@dataclass(frozen=True, slots=True, eq=False)
class _Strokes:
    inside: tuple[Point, ...]
    outside: tuple[Point, ...]
    before: Mask | None


def _strokes(drawn: LabelFile, wanted: InferParams) -> _Strokes:
    """Return what was scribbled, and the segment as it is so far."""
    flat = drawn.layers_nkji.max(axis=0)
    numbers = {each.name: each.id for each in wanted.label_info}
    points = {
        inside: _thinned(flat == numbers[name]) if name in numbers else ()
        for name, inside in _STROKES.items()
    }
    chosen = numbers.get(wanted.selected_label_name)
    before = None if chosen is None else np.asarray(flat == chosen)
    return _Strokes(
        points[True], points[False], before if before is not None and before.any() else None
    )


def _thinned(stroke_kji: Mask) -> tuple[Point, ...]:
    """Return points all along a stroke."""
    places = np.argwhere(stroke_kji)
    step = max(1, -(-len(places) // _MOST_POINTS))
    return tuple(Point(*map(int, place)) for place in places[::step])


def _points(places: Sequence[Triple], shape_kji: tuple[int, ...]) -> list[Point]:
    points = [Point(k, j, i) for i, j, k in places]
    for point in points:
        if any(not 0 <= at < size for at, size in zip(point, shape_kji, strict=True)):
            raise InvalidRequest("a place that was clicked lies outside of the image")
    return points


def _box(roi: Sequence[int], shape_kji: tuple[int, ...]) -> Box | None:
    """Return the box of a client's region: lowest and highest column, row and slice."""
    if not roi:
        return None
    if len(roi) != 6:
        raise InvalidRequest("roi has six numbers: columns, rows and slices, from and to")
    low = [min(roi[n], roi[n + 1]) for n in (4, 2, 0)]
    high = [max(roi[n], roi[n + 1]) for n in (4, 2, 0)]
    first = [max(0, at) for at in low]
    last = [min(size - 1, at) for at, size in zip(high, shape_kji, strict=True)]
    if any(a > b for a, b in zip(first, last, strict=True)):
        raise InvalidRequest("roi lies outside of the image")
    return Box(Point(*first), Point(*last))
