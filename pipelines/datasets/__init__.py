"""Datasets to learn from: read from the layouts that people have, frozen, versioned, compared.

One file a layout. A layout yields :class:`Found` cases one after the other, so that a dataset of
any size passes through the memory of one case.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dicom.codes import Code
from dicom.errors import Conflict, InvalidDataset, InvalidRequest, LabelsDoNotMatch, NotFound
from models.learning.cases import (
    IMAGE,
    LABEL,
    Box,
    Case,
    Dataset,
    DatasetFolder,
    Split,
    TaskKind,
    read_dataset,
    write_array,
    write_dataset,
)
from models.learning.deriving import Derivation, derive
from models.learning.recipe import TrainingRecipe
from models.table import FindingRow, SegmentRow, WithoutRow
from pipelines.exports.cases import Shares, split_patients

LAYOUTS: Final = (
    "pairs",
    "nnunet",
    "decathlon",
    "dicom",
    "rtstruct",
    "folders",
    "table",
    "boxes",
    "coco",
)
_FEWEST_CLASSES: Final = 2


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box as a layout found it: the name of its class, its first and last voxel (k, j, i)."""

    name: str
    first: tuple[int, int, int]
    last: tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One case as a layout found it.

    Attributes
    ----------
    id : str
        Letters, digits, dots, dashes.
    patient : str
        Whose; a pseudonym.
    image : ndarray, shape (channels, slices, rows, columns)
    label : ndarray or None
        Shape (slices, rows, columns).
    affine_lps : ndarray or None
        (k, j, i, 1) -> LPS mm; None where the image has no place.
    spacing_kji : tuple of float, or None
        mm.
    finding : int or None
        Of a classification: the class, where the layout numbers them.
    finding_name : str
        ... or its name.
    boxes : tuple of FoundBox
        Of a detection.
    split : str or None
        Where the layout says it.
    """

    id: str
    patient: str
    image: npt.NDArray[Any]
    label: npt.NDArray[Any] | None
    affine_lps: npt.NDArray[np.float64] | None = None
    spacing_kji: tuple[float, float, float] | None = None
    finding: int | None = None
    finding_name: str = ""
    boxes: tuple[FoundBox, ...] = ()
    split: Split | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outline:
    """What a layout says of the whole, before a voxel is read.

    Attributes
    ----------
    task : str
    classes : mapping of int to str
        Empty where the layout does not name them.
    channels : tuple of str
    patients : tuple of str
        In any order, each once.
    cases : int
    named : bool
        Its cases say their classes by name; their numbers are as good as others.
    selects : bool
        Its label maps may hold more than is wanted: what nobody asks for is background.
    """

    task: TaskKind
    classes: Mapping[int, str]
    channels: tuple[str, ...]
    patients: tuple[str, ...]
    cases: int
    named: bool = False
    selects: bool = False
    modalities: tuple[str, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    licence: str = ""
    source: str = ""


Row = TypeVar("Row", SegmentRow, FindingRow)


class Layout(Protocol):
    """What a module of a layout offers."""

    def outline(self, folder: Path, *, patient: str) -> Outline:
        """Look at names and descriptions alone; `patient` is a pattern for a case's patient."""
        ...

    def read(self, folder: Path, *, patient: str) -> Iterator[Found]:
        """Yield the cases, read."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a dataset shall be made.

    Attributes
    ----------
    name : str
    shares : Shares
        How patients are shared out, where the layout and `splits` do not say it.
    splits : mapping of str to str
        Patient to split, for all of them; empty: by `shares`.
    classes : mapping of int to str
        Names, where the layout has none or does not number them.
    segments, findings : tuple
        The codes of the classes.
    question : Code or None
        What the classes of a classification answer.
    without : WithoutRow or None
        The bundle whose boxes `change` paints over.
    recipe : str or None
        By which a model is planned that learns from it.
    mapping : mapping of int to int
        Other values for labels: ``{3: 0}`` leaves the third out.
    change : callable or None
        Given each case as it was read, for what has to be done to every image before.
    patient : str
        A regular expression; its first group in a case's name is its patient. Empty: each case is
        a patient of its own.
    modality, modalities : str, tuple of str
        DICOM's, where the layout does not say them: the one there is, or all that a recipe is for.
    """

    name: str
    shares: Shares = field(default_factory=Shares)
    splits: Mapping[str, Split] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)
    segments: tuple[SegmentRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    question: Code | None = None
    without: WithoutRow | None = None
    recipe: str | None = None
    mapping: Mapping[int, int] = field(default_factory=dict)
    change: Callable[[Found], Found] | None = None
    patient: str = ""
    modality: str = ""
    modalities: tuple[str, ...] = ()
    licence: str = ""
    source: str = ""

    @classmethod
    def by_recipe(cls, recipe: TrainingRecipe, name: str, **other: Any) -> Wanted:  # noqa: ANN401
        """Return what a recipe wants: its classes, codes and modalities; `other` goes before."""
        fields = {
            "classes": recipe.classes,
            "segments": recipe.segment,
            "findings": recipe.finding,
            "question": recipe.question,
            "recipe": recipe.name or None,
            "modalities": recipe.modalities,
        }
        return cls(name, **{**fields, **other})


def get_layout(name: str) -> Layout:
    """Return the layout of that name.

    Raises
    ------
    InvalidRequest
        When there is none.
    """
    if name not in LAYOUTS:
        raise InvalidRequest(f"there is no layout {name!r}; there are: {', '.join(LAYOUTS)}")
    return import_module(f"{__name__}.{name}")


class Shelf:
    """The datasets of a node: ``NAME@VERSION``, each frozen.

    Parameters
    ----------
    root : Path
        Made with the first dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Return every ``NAME@VERSION``, the newest of a name last."""
        found = [path.name for path in self._root.glob("[!.]*@*") if path.is_dir()]
        return sorted(found, key=lambda each: (each.split("@")[0], _version(each)))

    def get(self, name: str) -> DatasetFolder:
        """Return the dataset of that name: of a version, or the newest.

        Raises
        ------
        NotFound
        InvalidDataset
        """
        wanted = name.split("@")[0]
        known = [each for each in self.names() if each == name or each.split("@")[0] == wanted]
        if "@" in name:
            known = [each for each in known if each == name]
        if not known:
            raise NotFound(
                f"there is no dataset {name}; `radloop datasets list` shows what is here"
            )
        return read_dataset(self._root / known[-1])

    def freeze(
        self,
        layout: Layout,
        source: Path,
        wanted: Wanted,
        *,
        told: Callable[[int, int], None] | None = None,
    ) -> DatasetFolder:
        """Read a folder as the next version of a dataset: whole, or not at all.

        Raises
        ------
        InvalidDataset, LabelsDoNotMatch, PatientInTwoSplits
            What the folder has wrong; nothing is kept then.
        Conflict
            When it is the newest version already, voxel for voxel.
        """
        outline = layout.outline(source, patient=wanted.patient)
        classes = _classes(outline, wanted)
        wanted = replace(wanted, mapping=_selection(outline, wanted))
        splits = _splits(outline, wanted)
        versions = [_version(each) for each in self.names() if each.split("@")[0] == wanted.name]
        number = max(versions, default=0) + 1
        half = self._root / f".{wanted.name}@{number}.part"
        shutil.rmtree(half, ignore_errors=True)
        try:
            cases = []
            for found in layout.read(source, patient=wanted.patient):
                cases.append(_case(half, found, splits, classes, outline, wanted))
                if told is not None:
                    told(len(cases), outline.cases)
            dataset = Dataset(
                name=wanted.name,
                version=str(number),
                task=outline.task,
                classes=classes,
                channels=outline.channels,
                modalities=outline.modalities
                or ((wanted.modality,) if wanted.modality else wanted.modalities),
                segments=_coded(wanted.segments or outline.segments, classes),
                findings=_coded(wanted.findings, classes),
                question=wanted.question,
                without=wanted.without,
                recipe=wanted.recipe,
                licence=wanted.licence or outline.licence,
                source=wanted.source or outline.source,
                cases=tuple(sorted(cases, key=lambda case: case.id)),
            )
            self._refuse_twice(dataset)
            write_dataset(half, dataset)
            half.replace(self._root / dataset.identity)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return DatasetFolder(self._root / dataset.identity, dataset)

    def derive(self, of: DatasetFolder, name: str, how: Derivation) -> DatasetFolder:
        """Make the next version of a dataset of another one: parts of it, or other labels.

        Raises
        ------
        InvalidDataset
            When nothing can be made of it so.
        """
        versions = [_version(each) for each in self.names() if each.split("@")[0] == name]
        number = str(max(versions, default=0) + 1)
        return derive(of, self._root / f"{name}@{number}", name, number, how)

    def _refuse_twice(self, dataset: Dataset) -> None:
        older = [each for each in self.names() if each.split("@")[0] == dataset.name]
        if not older:
            return
        newest = self.get(older[-1]).dataset
        if newest.model_copy(update={"version": dataset.version}).sha256 == dataset.sha256:
            raise Conflict(f"{newest.identity} is the same already")


def _classes(outline: Outline, wanted: Wanted) -> dict[int, str]:
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
    if not classes:
        raise InvalidDataset(
            'the layout does not name its classes: say what they are, such as --class "1=Liver"'
        )
    if outline.task == "classification" and len(classes) < _FEWEST_CLASSES:
        raise InvalidDataset(f"all images are {classes[0]}: one class alone tells nothing apart")
    gone = wanted.mapping.keys() - set(wanted.mapping.values())
    return {number: name for number, name in classes.items() if number not in gone}


def _selection(outline: Outline, wanted: Wanted) -> Mapping[int, int]:
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


def _coded(rows: tuple[Row, ...], classes: Mapping[int, str]) -> tuple[Row, ...]:
    """Return the codes of a dataset's classes, under its numbers; none where one lacks."""
    by_name = {row.label.casefold(): row for row in rows}
    if not all(name.casefold() in by_name for name in classes.values()):
        return ()
    return tuple(
        by_name[name.casefold()].model_copy(update={"number": number})
        for number, name in sorted(classes.items())
    )


def _splits(outline: Outline, wanted: Wanted) -> Mapping[str, Split]:
    if not wanted.splits:
        return split_patients(outline.patients, wanted.shares)
    missing = sorted(set(outline.patients) - wanted.splits.keys())
    if missing:
        raise InvalidDataset(f"{len(missing)} patients are in no split, such as {missing[0]}")
    return wanted.splits


def _case(
    folder: Path,
    found: Found,
    splits: Mapping[str, Split],
    classes: Mapping[int, str],
    outline: Outline,
    wanted: Wanted,
) -> Case:
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


def _version(name: str) -> int:
    _, _, version = name.partition("@")
    return int(version) if version.isdigit() else 0


def check_patients(patients: Iterable[str]) -> tuple[str, ...]:
    """Return patients once each, sorted.

    Raises
    ------
    InvalidDataset
        When there is none.
    """
    found = tuple(sorted(set(patients)))
    if not found:
        raise InvalidDataset("the folder holds no case")
    return found
