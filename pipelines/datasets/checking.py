"""Whether what a layout found makes a dataset: classes, splits, and each case, written down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidDataset, LabelsDoNotMatch
from dicom.vocabulary import named, unnamed
from models.learning.cases import IMAGE, LABEL, Box, Case, Split, write_array
from models.table import SegmentRow
from pipelines.datasets.found import Found, FoundBox, Outline, Row, Wanted
from pipelines.exports.cases import split_patients

_FEWEST_CLASSES: Final = 2
_MOST_UNNAMED: Final = 255


def classes_of(outline: Outline, wanted: Wanted) -> dict[int, str]:
    """Return names by number.

    Raises
    ------
    InvalidDataset
        When nobody names them, or images show one class alone, which tells nothing apart.
    LabelsDoNotMatch
        When the layout names one that is not among those that were asked for.
    """
    if outline.selects and wanted.classes:
        return dict(wanted.classes)
    if outline.named and wanted.classes:
        classes = _renumbered(outline, wanted)
    elif wanted.segments and not outline.segments:  # a recipe's names, whatever the layout calls it
        classes = {**outline.classes, **wanted.classes}
    else:
        classes = dict(outline.classes or wanted.classes)
    if not classes and outline.numbers is not None:
        classes = {number: f"Class {number}" for number in sorted(outline.numbers()) if number}
        if len(classes) > _MOST_UNNAMED:
            raise InvalidDataset(f"the labels hold {len(classes)} values: these are no classes")
        if not classes:
            raise InvalidDataset("the labels hold nothing but background")
    if not classes:
        raise InvalidDataset(
            'the layout does not name its classes: say what they are, such as --class "1=Liver"'
        )
    if outline.task == "classification" and len(classes) < _FEWEST_CLASSES:
        raise InvalidDataset(f"all images are {classes[0]}: one class alone tells nothing apart")
    gone = wanted.mapping.keys() - set(wanted.mapping.values())
    return {number: name for number, name in classes.items() if number not in gone}


def selection_of(outline: Outline, wanted: Wanted) -> Mapping[int, int]:
    """Return what becomes of a layout's label values: the numbers of those that are wanted.

    Raises
    ------
    InvalidDataset
        When none of them is.
    """
    if not outline.selects or not wanted.classes:
        return wanted.mapping
    numbers = {name.casefold(): number for number, name in wanted.classes.items()}
    selection = {n: numbers.get(name.casefold(), 0) for n, name in outline.classes.items()}
    if not any(selection.values()):
        raise InvalidDataset(
            f"none of the structures is {' or '.join(wanted.classes.values())}; there are: "
            f"{', '.join(list(outline.classes.values())[:20])}"
        )
    return {n: wanted.mapping.get(becomes, becomes) for n, becomes in selection.items()}


def _renumbered(outline: Outline, wanted: Wanted) -> dict[int, str]:
    """Return the wanted numbers of names that a layout gives; a class that nothing is goes."""
    asked = {name.casefold(): name for name in wanted.classes.values()}
    unknown = [name for name in outline.classes.values() if name.casefold() not in asked]
    if unknown:
        raise LabelsDoNotMatch(
            f"{unknown[0]!r} is no class; there are: {', '.join(wanted.classes.values())}"
        )
    if outline.task != "classification":
        return dict(wanted.classes)
    there = {name.casefold() for name in outline.classes.values()}
    kept = [name for _, name in sorted(wanted.classes.items()) if name.casefold() in there]
    return dict(enumerate(kept))


def coded(rows: tuple[Row, ...], classes: Mapping[int, str]) -> tuple[Row, ...]:
    """Return the codes of a dataset's classes, under its numbers; none where one lacks."""
    by_name = {row.label.casefold(): row for row in rows}
    if not all(name.casefold() in by_name for name in classes.values()):
        return ()
    return tuple(
        by_name[name.casefold()].model_copy(update={"number": number})
        for number, name in sorted(classes.items())
    )


def segments_of(rows: tuple[SegmentRow, ...], classes: Mapping[int, str]) -> tuple[SegmentRow, ...]:
    """Return the codes of what is segmented: by the rows, else by the vocabulary's own names.

    A class that neither knows is a body structure, and no more is said of it than its label.
    """
    by_name = {row.label.casefold(): row for row in rows}
    made = []
    for number, name in sorted(classes.items()):
        row = by_name.get(name.casefold())
        if row is None:
            term = named(name) or unnamed(name)
            row = SegmentRow(
                number=number, label=name, category=term.category, type=term.type, rgb=term.rgb
            )
        made.append(row.model_copy(update={"number": number}))
    return tuple(made)


def splits_of(outline: Outline, wanted: Wanted) -> Mapping[str, Split]:
    """Return where each patient belongs: as it was said for all of them, or by shares.

    Raises
    ------
    InvalidDataset
        When a patient is in no split.
    """
    if not wanted.splits:
        return split_patients(outline.patients, wanted.shares)
    missing = sorted(set(outline.patients) - wanted.splits.keys())
    if missing:
        raise InvalidDataset(f"{len(missing)} patients are in no split, such as {missing[0]}")
    return wanted.splits


def written_case(
    folder: Path,
    found: Found,
    splits: Mapping[str, Split],
    classes: Mapping[int, str],
    outline: Outline,
    wanted: Wanted,
) -> Case:
    """Write a case's arrays, and return what the dataset says of it.

    Raises
    ------
    InvalidDataset
        When its image is constant, holds no numbers, or has other channels than the others.
    LabelsDoNotMatch
        When its labels, boxes or class do not fit it.
    """
    if wanted.change is not None:
        found = wanted.change(found)
    slices, rows, columns = found.image.shape[1:]
    if len(found.image) != len(outline.channels):
        raise InvalidDataset(
            f"case {found.id} has {len(found.image)} channels, others {len(outline.channels)}"
        )
    if found.image.dtype.kind == "f" and not np.isfinite(found.image).all():
        raise InvalidDataset(f"case {found.id}: its image holds values that are no numbers")
    if not found.image.size or found.image.min() == found.image.max():
        raise InvalidDataset(f"case {found.id}: its image is empty or constant")
    label_sha256 = ""
    if found.label is not None:
        label = _checked(found, classes, wanted.mapping)
        label_sha256 = write_array(folder, found.id, LABEL, label)
    affine = found.affine_lps
    return Case(
        id=found.id,
        patient=found.patient,
        split=found.split or splits[found.patient],
        shape=(slices, rows, columns),
        spacing_kji=found.spacing_kji,
        affine_lps=None if affine is None else tuple(tuple(row) for row in affine.tolist()),
        finding=_number(found.finding_name, classes, found)
        if found.finding_name
        else found.finding,
        boxes=tuple(_box(box, classes, found) for box in found.boxes),
        tags=found.tags,
        image_sha256=write_array(folder, found.id, IMAGE, _small(found.image)),
        label_sha256=label_sha256,
    )


def _number(name: str, classes: Mapping[int, str], found: Found) -> int:
    for number, known in classes.items():
        if known.casefold() == name.casefold():
            return number
    raise LabelsDoNotMatch(
        f"case {found.id}: {name!r} is no class; there are: {', '.join(classes.values())}"
    )


def _box(box: FoundBox, classes: Mapping[int, str], found: Found) -> Box:
    """Return a box that lies in its image.

    Raises
    ------
    LabelsDoNotMatch
        When it is empty or reaches out of the image, or its class is none.
    """
    shape = found.image.shape[1:]
    ends = zip(box.first, box.last, shape, strict=True)
    if not all(0 <= first <= last < there for first, last, there in ends):
        raise LabelsDoNotMatch(
            f"case {found.id}: a box from {box.first} to {box.last} (slice, row, column) in an "
            f"image of {shape}"
        )
    return Box(label=_number(box.name, classes, found), first=box.first, last=box.last)


def _checked(
    found: Found, classes: Mapping[int, str], mapping: Mapping[int, int]
) -> npt.NDArray[np.uint8]:
    """Return a label map that holds what is described, on the image's grid."""
    label = found.label
    assert label is not None  # the caller looked
    if label.shape != found.image.shape[1:]:
        raise LabelsDoNotMatch(
            f"case {found.id}: labels of {label.shape} voxels, an image of {found.image.shape[1:]}"
        )
    values = np.unique(label)
    if values.size and (values != np.rint(values)).any():
        raise LabelsDoNotMatch(f"case {found.id}: labels that are no whole numbers")
    for number, becomes in mapping.items():
        label = np.where(found.label == number, becomes, label)
    values = np.unique(label)
    unknown = sorted({int(value) for value in values} - classes.keys() - {0})
    if unknown:
        raise LabelsDoNotMatch(
            f"case {found.id}: the value {unknown[0]} is no class; there are: "
            f"{', '.join(f'{n} {name}' for n, name in classes.items())}"
        )
    return label.astype(np.uint8)


def _small(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an image in the smallest type that holds it exactly."""
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind in "iu" or (np.rint(image) == image).all():
        low, high = (int(end) for end in (image.min(initial=0), image.max(initial=0)))
        if np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
            return image.astype(np.int16)
    return image.astype(np.float32)
