"""The pass itself: rules, then a search for text, then every box masked in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom.burned_in.boxes import Box, mask_of, without_doubles
from dicom.burned_in.films import Film
from dicom.burned_in.finding import TextFinder
from dicom.burned_in.reading import TextReader
from dicom.burned_in.rules import Course, is_marker, judge
from dicom.burned_in.views import searched_views
from dicom.deid.pixels import Undeclared
from dicom.elements import text_of
from dicom.errors import BurnedInText, UnreadablePixels
from dicom.frames.painting import Canvas
from dicom.part10 import PARSER_ERRORS, quiet_pydicom

_SURE_OF_A_MARKER: Final = 0.9
_SURE_OF_OTHERS: Final = 0.6
_INSETS: Final = (0.0, 0.125, 0.25)  # of the shorter side
_BURNED_IN: Final = 0x00280301
_PIXELS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)


@dataclass(frozen=True, slots=True)
class PixelPolicy:
    """What is masked.

    Attributes
    ----------
    keep_markers : bool
        Words that name a side or a view (L, R, PA ...) stay, where nothing else stands beside them
        and they are read surely.
    outside_regions : bool
        Of ultrasound, all that lies outside the regions that the device declares is masked unseen.
    skip_primary : bool
        Reconstructed CT, MR and PET are not looked at.
    """

    keep_markers: bool = False
    outside_regions: bool = True
    skip_primary: bool = True


@dataclass(frozen=True, slots=True)
class PixelsCleaned:
    """What became of an object's pixels.

    Attributes
    ----------
    ds : Dataset
        The object, masked; the very one that was given where nothing was.
    course : Course
        What the rules said of it.
    boxes : tuple of Box
        What was masked, in every frame.
    kept : int
        Boxes that stayed, since they name a side or a view.
    doubts : int
        Boxes among those masked that may be a piece of a text that was not found.
    """

    ds: Dataset
    course: Course
    boxes: tuple[Box, ...] = ()
    kept: int = 0
    doubts: int = 0

    @property
    def looked(self) -> bool:
        """Whether the pixels were searched."""
        return self.course is Course.LOOK


class PixelCleaner:
    """Masks text that is burned into pixels; a :data:`dicom.deid.PixelPass`.

    The networks are loaded by the first object that is looked at.

    Parameters
    ----------
    policy : PixelPolicy
    threads : int, optional
        For the networks; as many as there are cores by default.
    """

    def __init__(self, policy: PixelPolicy | None = None, *, threads: int | None = None) -> None:
        self._policy = policy or PixelPolicy()
        self._threads = threads
        self._finder: TextFinder | None = None
        self._reader: TextReader | None = None

    def __call__(self, ds: Dataset) -> Dataset | Undeclared | None:
        """Return the object without text in its pixels, None where the rules skip it.

        Where something may be a piece of a text that was not found, it is masked as well, and the
        object is not called clean.

        Raises
        ------
        InputError, MissingPackage
            As :meth:`clean`.
        """
        cleaned = self.clean(ds)
        if not cleaned.looked:
            return None
        return Undeclared(cleaned.ds) if cleaned.doubts else cleaned.ds

    def clean(self, ds: Dataset) -> PixelsCleaned:
        """Return the object with all text in its pixels masked, and what was found.

        Parameters
        ----------
        ds : Dataset
            The original with its pixels and file meta information; it is left as it is.

        Raises
        ------
        UnreadablePixels, UnsupportedPixelFormat, UnsupportedTransferSyntax
            When the pixels cannot be decoded, or not be written again: nobody could say what
            stands in them.
        BurnedInText
            When the object says that text is burned in, and none was found.
        MissingPackage
            When the networks are not installed.
        """
        with quiet_pydicom():
            return self._cleaned(ds)

    def _cleaned(self, ds: Dataset) -> PixelsCleaned:
        if not any(tag in ds for tag in _PIXELS):
            return PixelsCleaned(ds, Course.NO_PICTURE)
        size = _size_of(ds)
        judgement = judge(
            ds,
            *size,
            outside_regions=self._policy.outside_regions,
            skip_primary=self._policy.skip_primary,
        )
        if judgement.course is not Course.LOOK:
            return PixelsCleaned(ds, judgement.course)
        canvas = Canvas(ds)
        found, kept, doubts = self._found(canvas, judgement.boxes)
        if judgement.says_so and not (found or kept or judgement.boxes):
            raise BurnedInText("text is said to be burned into the pixels, and none was found")
        boxes = without_doubles([*judgement.boxes, *found, *doubts])
        mask = mask_of(boxes, *size)
        painted = canvas.painted(lambda _: mask, clear_unused=bool(judgement.overlays))
        if judgement.overlays:
            for tag in [tag for tag in painted.keys() if tag.group in judgement.overlays]:  # noqa: SIM118
                del painted[tag]
        if doubts and text_of(painted, _BURNED_IN) != "YES":
            painted.pop(_BURNED_IN, None)  # nobody's word is taken for it that there is no text
        return PixelsCleaned(painted, Course.LOOK, boxes, kept, len(doubts))

    def _found(
        self, canvas: Canvas, known: Sequence[Box]
    ) -> tuple[tuple[Box, ...], int, tuple[Box, ...]]:
        """Return what is text in any frame, how much may stay, and what may be text.

        What is masked anyway is not searched.
        """
        masked = mask_of(known, canvas.form.rows, canvas.form.columns)
        found: list[Box] = []
        markers: set[Box] = set()
        doubted: list[Box] = []
        film = Film()
        for frame in range(canvas.form.frames):
            picture = canvas.picture(frame)
            part = film.changed(picture)
            if part is None:
                continue
            boxes, kept, doubts = self._in_picture(part.of(picture), part.of(masked))
            found += map(part.in_frame, boxes)
            markers.update(map(part.in_frame, kept))
            doubted += map(part.in_frame, doubts)
        return without_doubles(found), len(without_doubles(markers)), without_doubles(doubted)

    def _in_picture(
        self, picture: npt.NDArray[Any], masked: npt.NDArray[np.bool_]
    ) -> tuple[list[Box], list[Box], list[Box]]:
        """Return what is text, what may stay, and what may be text, of one picture."""
        finder = self._finder = self._finder or TextFinder(threads=self._threads)
        found: list[Box] = []
        kept: list[Box] = []
        doubts: list[Box] = []
        for view in searched_views(picture, masked):
            seen = finder.search(view)
            doubts += seen.doubts
            for box in seen.boxes:
                (kept if self._may_stay(view, box) else found).append(box)
        kept = [box for box in kept if not any(map(box.common, found))]
        return found, kept, [box for box in doubts if not any(map(box.common, [*found, *kept]))]

    def _may_stay(self, view: npt.NDArray[np.uint8], box: Box) -> bool:
        """Return whether a box surely says a side or a view, and nothing else."""
        if not self._policy.keep_markers:
            return False
        reader = self._reader = self._reader or TextReader(threads=self._threads)
        told = False
        for inset in _INSETS:  # many markers have a frame, which would be read with them
            edge = int(min(box.width, box.height) * inset)
            inner = Box(box.left + edge, box.top + edge, box.right - edge, box.bottom - edge)
            for reading in reader.readings(view, inner):
                if is_marker(reading.text):
                    told |= reading.confidence >= _SURE_OF_A_MARKER
                elif reading.confidence >= _SURE_OF_OTHERS and _letters(reading.text) > 2:
                    return False
        return told


def _size_of(ds: Dataset) -> tuple[int, int]:
    """Return rows and columns; an image that does not say them is refused when it is decoded."""
    try:
        return int(ds.get("Rows") or 0), int(ds.get("Columns") or 0)
    except PARSER_ERRORS:
        raise UnreadablePixels("the size of an image cannot be read") from None


def _letters(text: str) -> int:
    """Return how many Latin letters and digits a text has: a frame is read as another sign."""
    return sum(one.isascii() and one.isalnum() for one in text)
