"""Datasets to learn from: read from the layouts that people have, frozen, versioned, compared.

One file a layout. A layout yields :class:`Found` cases one after the other, so that a dataset of
any size passes through the memory of one case.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Final

from dicom.errors import Conflict, InvalidDataset, InvalidRequest, NotFound
from models.learning.cases import (
    Dataset,
    DatasetFolder,
    check_dataset_name,
    read_dataset,
    write_dataset,
)
from models.learning.deriving import Derivation, derive
from pipelines.datasets.checking import (
    classes_of,
    coded,
    segments_of,
    selection_of,
    splits_of,
    written_case,
)
from pipelines.datasets.found import Found, FoundBox, Layout, Outline, Wanted

__all__ = [
    "LAYOUTS",
    "Found",
    "FoundBox",
    "Layout",
    "Outline",
    "Shelf",
    "Wanted",
    "check_patients",
    "get_layout",
]

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
        InvalidRequest
            When the name is none.
        Conflict
            When it is the newest version already, voxel for voxel.
        """
        check_dataset_name(wanted.name)
        outline = layout.outline(source, patient=wanted.patient)
        classes = classes_of(outline, wanted)
        wanted = replace(wanted, mapping=selection_of(outline, wanted))
        splits = splits_of(outline, wanted)
        versions = [_version(each) for each in self.names() if each.split("@")[0] == wanted.name]
        number = max(versions, default=0) + 1
        half = self._root / f".{wanted.name}@{number}.part"
        shutil.rmtree(half, ignore_errors=True)
        try:
            cases = []
            for found in layout.read(source, patient=wanted.patient):
                cases.append(written_case(half, found, splits, classes, outline, wanted))
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
                segments=segments_of(wanted.segments or outline.segments, classes)
                if outline.task == "segmentation"
                else (),
                findings=coded(wanted.findings, classes),
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

        Where that is the newest version already, voxel for voxel, it is that one.

        Raises
        ------
        InvalidRequest
            When the name is none.
        InvalidDataset
            When nothing can be made of it so.
        """
        check_dataset_name(name)
        older = [each for each in self.names() if each.split("@")[0] == name]
        number = str(max((_version(each) for each in older), default=0) + 1)
        made = derive(of, self._root / f"{name}@{number}", name, number, how)
        if older:
            newest = self.get(older[-1])
            if _is_same(newest.dataset, made.dataset):
                shutil.rmtree(made.root)
                return newest
        return made

    def _refuse_twice(self, dataset: Dataset) -> None:
        older = [each for each in self.names() if each.split("@")[0] == dataset.name]
        if not older:
            return
        newest = self.get(older[-1]).dataset
        if _is_same(newest, dataset):
            raise Conflict(f"{newest.identity} is the same already")


def _is_same(newest: Dataset, dataset: Dataset) -> bool:
    return newest.model_copy(update={"version": dataset.version}).sha256 == dataset.sha256


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
