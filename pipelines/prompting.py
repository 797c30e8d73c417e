"""A reader's prompt on an image: which voxels it means, answered as a labels document."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dicom.codes import Code
from dicom.errors import ForeignSegmentation, InvalidLabels, UnsuitableSeries
from dicom.volume import Grid
from models import prompts
from models.bundle import Bundle
from models.prediction import Image
from models.prompts import Box, Mask, Point
from models.registry import Registry
from pipelines.labels import (
    DrawnSegment,
    Head,
    LabelsDocument,
    SliceName,
    name_of,
    slices_of,
    write_labels,
)
from pipelines.warm import WarmImage


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Place(SliceName):
    """A pixel of one image of the series, counted from 0."""

    row: int = Field(ge=0)
    column: int = Field(ge=0)


class Corners(_Part):
    """A box, from one corner to the opposite one, both within it."""

    first: Place
    last: Place


class _Prompt(_Part):
    segment: int = Field(ge=1, le=0xFFFF, description="the segment that is drawn or changed")
    dimensions: Literal[2, 3] = Field(3, description="2: on each slice by itself")


class Grow(_Prompt):
    """What is connected with the seed and near to its value."""

    kind: Literal["grow"]
    seed: Place
    tolerance: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="in the image's unit; null: the node suggests"
    )


class Margin(_Prompt):
    """The segment, larger or smaller."""

    kind: Literal["margin"]
    mm: float = Field(ge=-100, le=100, description="below 0: smaller")


class Tidy(_Prompt):
    """The segment without its holes, without its islands, or without its rough edges."""

    kind: Literal["fill_holes", "largest", "smooth"]


class Interpolate(_Prompt):
    """The slices between those that were drawn."""

    kind: Literal["interpolate"]
    dimensions: Literal[3] = 3


class Refine(_Prompt):
    """The segment after clicks inside and outside, or from a box around it."""

    kind: Literal["refine"]
    positive: tuple[Place, ...] = Field((), max_length=2000)
    negative: tuple[Place, ...] = Field((), max_length=2000)
    box: Corners | None = None
    bundle: str | None = Field(
        None,
        max_length=200,
        description="a model that takes clicks; null: one that is for this structure on such "
        "images, where one is installed; 'none': no model",
    )


Prompt = Annotated[Grow | Margin | Tidy | Interpolate | Refine, Field(discriminator="kind")]


KINDS: Final[Mapping[str, tuple[int, ...]]] = {
    "grow": (2, 3),
    "margin": (2, 3),
    "fill_holes": (2, 3),
    "largest": (2, 3),
    "smooth": (2, 3),
    "interpolate": (3,),
    "refine": (2, 3),
}
"""The prompts, and in how many dimensions each works."""


class PromptHead(Head):
    """What a reader draws on, and what is asked for."""

    prompt: Prompt

    @property
    def named(self) -> tuple[SliceName, ...]:
        """The slices that are spoken of, which tell a series' volumes apart."""
        asked = self.prompt
        places: tuple[SliceName, ...] = ()
        if isinstance(asked, Grow):
            places = (asked.seed,)
        elif isinstance(asked, Refine):
            corners = () if asked.box is None else (asked.box.first, asked.box.last)
            places = (*asked.positive, *asked.negative, *corners)
        return places or tuple(name for layer in self.layers for name in layer)


class AnswerHead(Head):
    """What became of the segment.

    `layers` name the slices that changed, `changed` is the number of their voxels that did,
    `bundle` the model that answered, if one did.
    """

    changed: int
    seconds: float
    low: float | None = Field(None, description="of region growing: the values that were taken")
    high: float | None = None
    unit: str = ""
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Refiners:
    """The models that take clicks, and what runs them."""

    predictor: prompts.Asked
    registry: Registry

    def of(self, image: WarmImage, segment: DrawnSegment, wanted: str | None) -> Bundle | None:
        """Return the model that answers; None: none does, and the image's edges decide.

        Raises
        ------
        UnknownBundle
            When the wanted one is not there.
        UnsuitableSeries
            When it takes no clicks, or is not for such images.
        """
        if wanted == "none":
            return None
        modality = image.grid.modality
        if wanted is not None:
            bundle = self.registry.get(wanted)
            if bundle.prompts is None or modality not in bundle.modalities:
                raise UnsuitableSeries("the model takes no clicks on such images")
            return bundle
        coded = segment.type
        code = None if coded is None else Code(coded.value, coded.scheme, coded.meaning)
        fitting = [
            bundle
            for bundle in self.registry.taken()
            if prompts.is_for(bundle, modality=modality, label=segment.label, code=code)
        ]
        own = [b for b in fitting if b.prompts is not None and not b.prompts.any_structure]
        return next(iter([*own, *fitting]), None)


def answer(
    document: LabelsDocument[PromptHead], image: WarmImage, refiners: Refiners | None = None
) -> bytes:
    """Return the labels document that answers a prompt.

    Parameters
    ----------
    refiners : Refiners or None
        Models that take clicks; None: there are none.

    Returns
    -------
    bytes
        One layer with the slices on which the segment changed: its number where it is now, 0
        elsewhere. What other segments do there is the viewer's to decide.

    Raises
    ------
    InvalidLabels
        When the prompt lies outside of the images, says nothing, or is about a segment that is not
        described.
    ForeignSegmentation, OtherGrid
        When the slices are not the series'.
    """
    began = time.perf_counter()
    head, asked = document.head, document.head.prompt
    segment = _described(head)
    before = _drawn(document, image.grid)
    low = high = bundle = None
    if isinstance(asked, Refine) and refiners is not None:
        bundle = refiners.of(image, segment, asked.bundle)
    if isinstance(asked, Grow):
        seed = _points((asked.seed,), image.grid)[0]
        grown = prompts.grow(
            image.voxels_kji, seed, tolerance=asked.tolerance, in_plane=asked.dimensions == 2
        )
        after, low, high = grown.mask_kji | before, grown.low, grown.high
    elif isinstance(asked, Refine):
        after = _refined(before, asked, image, bundle, refiners)
    else:
        after = _changed(before, asked, image)
    moved = np.flatnonzero((after != before).any(axis=(1, 2)))
    kind = np.uint8 if head.bits == 8 else np.uint16
    planes = [after[k].astype(kind) * kind(segment.number) for k in moved]
    answered = AnswerHead(
        study_uid=head.study_uid,
        series_uid=head.series_uid,
        rows=head.rows,
        columns=head.columns,
        bits=head.bits,
        layers=(tuple(name_of(image.grid, int(k)) for k in moved),),
        segments=(segment,),
        changed=int((after[moved] != before[moved]).sum()),
        seconds=round(time.perf_counter() - began, 3),
        low=low,
        high=high,
        unit=image.unit,
        bundle=bundle.identity if bundle is not None else None,
    )
    return write_labels(answered, planes)


def _changed(before: Mask, asked: Margin | Tidy | Interpolate, image: WarmImage) -> Mask:
    spacing, in_plane = image.grid.spacing_kji, asked.dimensions == 2
    if isinstance(asked, Margin):
        return prompts.margin(before, spacing, asked.mm, in_plane=in_plane)
    if isinstance(asked, Interpolate):
        return prompts.interpolate(before, spacing)
    if asked.kind == "fill_holes":
        return prompts.fill_holes(before, in_plane=in_plane)
    if asked.kind == "largest":
        return prompts.largest(before, in_plane=in_plane)
    return prompts.smooth(before, spacing, in_plane=in_plane)


def _refined(
    before: Mask,
    asked: Refine,
    image: WarmImage,
    bundle: Bundle | None,
    refiners: Refiners | None,
) -> Mask:
    if not asked.positive and not asked.negative and asked.box is None:
        raise InvalidLabels("nothing was clicked")
    box = None
    if asked.box is not None:
        corners = _points((asked.box.first, asked.box.last), image.grid)
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        box = Box(Point(*low.tolist()), Point(*high.tolist()))
        if asked.dimensions == 3:  # a hand draws it on one slice
            box = box.deepened(image.grid.shape_kji, image.grid.spacing_kji)
    positive, negative = _points(asked.positive, image.grid), _points(asked.negative, image.grid)
    if bundle is not None and refiners is not None:
        grid = image.grid
        return prompts.refine_by_bundle(
            refiners.predictor,
            bundle,
            Image(image.voxels_kji, grid.affine_lps, grid.frame_of_reference_uid),
            before if before.any() else None,
            positive=positive,
            negative=negative,
            box=box,
            in_plane=asked.dimensions == 2,
        )
    return prompts.refine(
        image.voxels_kji,
        image.grid.spacing_kji,
        before if before.any() else None,
        positive=positive,
        negative=negative,
        box=box,
        in_plane=asked.dimensions == 2,
    )


def _described(head: PromptHead) -> DrawnSegment:
    for segment in head.segments:
        if segment.number == head.prompt.segment:
            return segment
    raise InvalidLabels("the prompt's segment is not described")


def _drawn(document: LabelsDocument[PromptHead], grid: Grid) -> Mask:
    """Return where the segment is already."""
    labels = document.on(grid)
    place = 1 + [one.number for one in document.head.segments].index(document.head.prompt.segment)
    if isinstance(labels, np.ndarray):
        return np.asarray(labels == place)
    drawn_kji = np.zeros(grid.shape_kji, np.bool_)
    crop = labels.crops.get(place)
    if crop is not None:
        drawn_kji[crop.within()] = crop.voxels_kji
    return drawn_kji


def _points(places: Sequence[Place], grid: Grid) -> list[Point]:
    _, rows, columns = grid.shape_kji
    points = []
    for place, k in zip(places, slices_of(places, grid), strict=True):
        if k is None:
            raise ForeignSegmentation("a place of the prompt is on no slice of the series")
        if place.row >= rows or place.column >= columns:
            raise InvalidLabels("a place of the prompt lies outside of the images")
        points.append(Point(k, place.row, place.column))
    return points
