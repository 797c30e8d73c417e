"""A dataset made of another: other label values, or parts cut out about one structure.

The second of a cascade's models learns from such parts. They are cut about what is true with the
margin with which they will be cut, when predicting, about what the first model finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidDataset
from models.grids import Region, region_about
from models.learning.cases import (
    IMAGE,
    LABEL,
    Case,
    Dataset,
    DatasetFolder,
    write_array,
    write_dataset,
)
from models.table import AfterRow, SegmentRow


@dataclass(frozen=True, slots=True)
class Derivation:
    """What is made of each case.

    Attributes
    ----------
    mapping : mapping of int to int
        Other values for labels; 0 leaves one out.
    classes : mapping of int to str
        Names of what is left; empty: as they are.
    segments : tuple of SegmentRow
        Their codes; empty: as they are.
    about : frozenset of int
        Labels, by their old values, about which the parts are cut; empty: whole cases.
    margin_mm : float
        How far a part reaches beyond them, along each axis of the grid.
    after : AfterRow or None
        The bundle that will say where to look.
    recipe : str or None
        By which a model is planned that learns from it.
    """

    mapping: Mapping[int, int] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)
    segments: tuple[SegmentRow, ...] = ()
    about: frozenset[int] = frozenset()
    margin_mm: float = 0.0
    after: AfterRow | None = None
    recipe: str | None = None


def derive(
    folder: DatasetFolder, target: Path, name: str, version: str, how: Derivation
) -> DatasetFolder:
    """Write a dataset made of another; splits, patients and tags stay.

    Parameters
    ----------
    target : Path
        Its folder, which is not there yet; written whole or not at all.

    Raises
    ------
    InvalidDataset
        When its cases have no label maps, or none shows what is to be cut about.
    """
    seen = derived(folder, how)
    half = target.with_name(f".{target.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    try:
        cases = tuple(
            case.model_copy(
                update={
                    "image_sha256": _image(seen, half, case),
                    "label_sha256": write_array(half, case.id, LABEL, seen.label(case)),
                }
            )
            for case in seen.dataset.cases
        )
        made = seen.dataset.model_copy(update={"name": name, "version": version, "cases": cases})
        write_dataset(half, Dataset.model_validate(made.model_dump()))
        half.replace(target)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return DatasetFolder(target, made)


@dataclass(frozen=True, slots=True)
class Derived(DatasetFolder):
    """A dataset made of another that is not written: each array is made when it is asked for.

    It can be planned with. The hashes of its cases are still those of the other.

    Attributes
    ----------
    of : DatasetFolder
    how : Derivation
    regions : mapping of str to Region
        By case, which part of it is left; empty: whole cases.
    originals : mapping of str to Case
        By case, what it is made of.
    """

    of: DatasetFolder
    how: Derivation
    regions: Mapping[str, Region]
    originals: Mapping[str, Case]

    def image(self, case: Case) -> npt.NDArray[Any]:
        """Return a case's image, shape (channels, slices, rows, columns)."""
        whole = self.of.image(self.originals[case.id])
        region = self.regions.get(case.id)
        return whole if region is None else np.asarray(whole[:, *region])

    def label(self, case: Case) -> npt.NDArray[np.uint8]:
        """Return a case's label map, shape (slices, rows, columns)."""
        whole = self.of.label(self.originals[case.id])
        region = self.regions.get(case.id)
        part = np.asarray(whole if region is None else whole[region])
        return _mapped(part, self.how.mapping)


def derived(folder: DatasetFolder, how: Derivation) -> Derived:
    """Return a dataset made of another, of the same name; nothing is written.

    Raises
    ------
    InvalidDataset
        When its cases have no label maps, or none shows what is to be cut about.
    """
    dataset = folder.dataset
    if dataset.task != "segmentation":
        raise InvalidDataset(f"{dataset.identity} has no label maps of which parts could be made")
    cases = dataset.cases
    regions: dict[str, Region] = {}
    if how.about:
        found = ((case.id, _about(folder, case, how)) for case in cases)
        regions = {name: region for name, region in found if region is not None}
        cases = tuple(_cut(case, regions[case.id]) for case in cases if case.id in regions)
    if not cases:
        raise InvalidDataset(f"no case of {dataset.identity} shows what is to be cut about")
    gone = how.mapping.keys() - set(how.mapping.values())
    classes = how.classes or {n: c for n, c in dataset.classes.items() if n not in gone}
    made = dataset.model_copy(
        update={
            "classes": classes,
            "segments": how.segments or tuple(r for r in dataset.segments if r.number in classes),
            "after": how.after,
            "recipe": how.recipe,
            "cases": cases,
        }
    )
    checked = Dataset.model_validate(made.model_dump())
    originals = {case.id: case for case in dataset.cases}
    return Derived(folder.root, checked, folder, how, regions, originals)


def _about(folder: DatasetFolder, case: Case, how: Derivation) -> Region | None:
    """Return the part about what is to be cut about; None where a case does not show it."""
    inside = np.isin(np.asarray(folder.label(case)), list(how.about))
    return region_about(inside, folder.spacing(case), how.margin_mm) if inside.any() else None


def _cut(case: Case, region: Region) -> Case:
    affine = case.affine_lps
    return case.model_copy(
        update={
            "shape": tuple(block.stop - block.start for block in region),
            "affine_lps": None if affine is None else _moved(np.array(affine), region),
        }
    )


def _image(folder: Derived, target: Path, case: Case) -> str:
    """Write an image's part and return its hash; a whole one is the same file, where it can be."""
    if case.id in folder.regions:
        return write_array(target, case.id, IMAGE, folder.image(case))
    place = Path("cases", case.id, IMAGE)
    (target / place).parent.mkdir(parents=True, exist_ok=True)
    try:
        (target / place).hardlink_to(folder.root / place)  # frozen: neither is written to again
    except OSError:  # another file system, or one without links
        shutil.copyfile(folder.root / place, target / place)
    return case.image_sha256


def _mapped(label: npt.NDArray[Any], mapping: Mapping[int, int]) -> npt.NDArray[np.uint8]:
    table = np.arange(256, dtype=np.uint8)
    for number, becomes in mapping.items():
        table[number] = becomes
    made: npt.NDArray[np.uint8] = table[label]
    return made


def _moved(
    affine: npt.NDArray[np.float64], region: Region
) -> tuple[tuple[float, float, float, float], ...]:
    affine[:3, 3] += affine[:3, :3] @ [block.start for block in region]
    return tuple((a, b, c, d) for a, b, c, d in affine.tolist())
