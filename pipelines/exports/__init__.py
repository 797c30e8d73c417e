"""Export formats: how de-identified cases are written for other tools. One file each.

Other packages add theirs under the entry point group `radloop.exports`; built-ins go through the
same door. Formats do not know each other. A format sees :class:`Case` values: pseudonyms, files
that were de-identified, and nothing that leads back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol

from dicom.errors import InvalidSettings
from dicom.study import Instance, Series

BUILT_IN = ("dicom", "nifti", "nnunet", "decathlon")
GROUP = "radloop.exports"
MANIFEST = "manifest.json"
"""In every export: the hash of every other file."""

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Label:
    """One structure of a dataset: the same number in every case.

    Attributes
    ----------
    number : int
        1 and up, without gaps, in the whole dataset.
    name : str
        Letters, digits and underscores, after the segment's label.
    code : tuple of str
        Type, anatomic region and laterality as ``scheme:value``; what makes two segments of two
        cases the same structure.
    """

    number: int
    name: str
    code: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One image series of the dataset, with its label where it has one.

    Attributes
    ----------
    number : int
        1 and up; cases of one patient follow each other.
    patient : str
        Pseudonymised PatientID.
    study_uid : str
        Pseudonymised StudyInstanceUID.
    session : int
        Which study of the patient, 1 and up.
    series : Series
        De-identified image instances.
    seg : Instance or None
        The de-identified Segmentation of that series: the newest.
    split : {'train', 'validation', 'test'}
        The same for all cases of a patient.
    related : tuple of Instance
        What else was drawn or measured on the series: older segmentations, structure sets,
        reports. Formats of one label map leave them out.
    """

    number: int
    patient: str
    study_uid: str
    session: int
    series: Series
    seg: Instance | None
    split: Split
    related: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """What an export is about.

    Attributes
    ----------
    name : str
        Letters, digits, underscores, dashes.
    cases : tuple of Case
    labels : tuple of Label
        Structures of all cases.
    licence, description : str
        As the person who exports gives them; may be empty.
    """

    name: str
    cases: tuple[Case, ...]
    labels: tuple[Label, ...]
    licence: str = ""
    description: str = ""

    def number_of(self) -> Mapping[tuple[str, ...], int]:
        """Return a label's number by its code."""
        return {label.code: label.number for label in self.labels}


class ExportFormat(Protocol):
    """What a module of an export format offers."""

    def check(self, dataset: Dataset) -> None:
        """Refuse a dataset that this format cannot hold, before anything is written."""
        ...

    def write(self, case: Case, dataset: Dataset, folder: Path) -> Sequence[Path]:
        """Write one case below `folder`; return its files. A second time writes the same.

        What lies in a top folder whose name begins with a dot is gone after `finish`.
        """
        ...

    def finish(self, dataset: Dataset, folder: Path) -> Sequence[Path]:
        """Write what the whole dataset needs, once every case is there; return those files."""
        ...


def format_names() -> tuple[str, ...]:
    """Return the names of all export formats: the built-in ones, then those of other packages."""
    others = {entry.name for entry in entry_points(group=GROUP)} - set(BUILT_IN)
    return (*BUILT_IN, *sorted(others))


def get_format(name: str) -> ExportFormat:
    """Return the export format of that name.

    Raises
    ------
    InvalidSettings
        When there is none.
    """
    if name in BUILT_IN:
        return import_module(f"{__name__}.{name}")
    for entry in entry_points(group=GROUP, name=name):
        found: ExportFormat = entry.load()
        return found
    raise InvalidSettings(
        f"there is no export format {name!r}; there are: {', '.join(format_names())}"
    )
