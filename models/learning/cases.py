"""A dataset on disk: arrays, what they mean, and who may learn from which.

::

    DATASET/dataset.json               everything below but the voxels; frozen by its own hash
    DATASET/cases/ID/image.npy         (channels, slices, rows, columns), int16, uint8 or float32
    DATASET/cases/ID/label.npy         (slices, rows, columns) uint8; of several labels a voxel,
                                       (labels, slices, rows, columns) bool

A 2D image has one slice. Arrays are NumPy's own format, so that they are mapped into memory, not
read: a case that is looked at in patches is never loaded whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom.codes import Code
from dicom.errors import InvalidDataset, InvalidRequest, PatientInTwoSplits, WrongHash
from models.table import AfterRow, FindingRow, SegmentRow, WithoutRow

MANIFEST: Final = "dataset.json"
IMAGE: Final = "image.npy"
LABEL: Final = "label.npy"
_SELDOM: Final = ("question", "after", "without", "recipe")
COLOUR: Final = ("red", "green", "blue")
"""The channels of a colour image."""

Image = npt.NDArray[Any]
"""Shape (channels, slices, rows, columns)."""
Labels = npt.NDArray[Any]
"""Shape (slices, rows, columns), uint8; or (labels, slices, rows, columns), bool."""
TaskKind = Literal["segmentation", "multilabel", "classification", "detection"]
Split = Literal["train", "validation", "test"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DATASET_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
Name = Annotated[str, Field(pattern=DATASET_NAME.pattern)]


def check_dataset_name(name: str) -> None:
    """Refuse what cannot be a dataset's name: it is that of a folder, too.

    Raises
    ------
    InvalidRequest
    """
    if not DATASET_NAME.fullmatch(name):
        raise InvalidRequest(
            "a dataset's name begins with a letter or digit and has letters, digits, _ . and -"
        )


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(_Part):
    """A thing in a case: its class, and its first and last voxel (k, j, i), both within."""

    label: int = Field(ge=1)
    first: tuple[int, int, int]
    last: tuple[int, int, int]

    @model_validator(mode="after")
    def _is_none_empty(self) -> Box:
        if any(not 0 <= a <= b for a, b in zip(self.first, self.last, strict=True)):
            raise ValueError("a box begins at voxel 0 or after, and before it ends")
        return self


class Case(_Part):
    """One image with what is known of it.

    Attributes
    ----------
    id : str
        Unique in the dataset; the name of its folder.
    patient : str
        A pseudonym: cases of one patient are in one split.
    shape : tuple of int
        Slices, rows, columns.
    spacing_kji : tuple of float, or None
        mm; None where the image does not say it.
    affine_lps : tuple, or None
        (k, j, i, 1) -> LPS mm, four rows of four; None where the image has no place.
    finding : int or None
        Of a classification: the class.
    boxes : tuple of Box
        Of a detection.
    tags : mapping
        What cases are grouped by: scanner, sex, age, author of the label, route.
    image_sha256, label_sha256 : str
        Of the files; the second is empty where there is no label map.
    """

    id: Name
    patient: Annotated[str, Field(min_length=1, max_length=64)]
    split: Split
    shape: tuple[int, int, int]
    spacing_kji: tuple[float, float, float] | None = None
    affine_lps: tuple[tuple[float, float, float, float], ...] | None = None
    finding: int | None = None
    boxes: tuple[Box, ...] = ()
    tags: Mapping[str, str] = Field(default_factory=dict)
    image_sha256: Sha256
    label_sha256: Sha256 | Literal[""] = ""


class Dataset(_Part):
    """Cases that are frozen together.

    Attributes
    ----------
    name, version : str
    task : str
        What the labels are good for.
    classes : mapping of int to str
        Name of each label; of a classification 0 is a class like the others, else 0 is background
        and not named.
    channels : tuple of str
        Of every image; red, green and blue are one colour image.
    modalities : tuple of str
        DICOM's, of the images.
    segments, findings : tuple
        The codes of the classes, as a bundle's table writes them: a model that learns from the
        dataset writes its results in them. Empty where nobody has said them yet.
    question : Code or None
        Of a classification: what its classes answer.
    after : AfterRow or None
        Its cases are cut out about a segment that another bundle finds: so will be what a model
        that learns from them is given.
    without : WithoutRow or None
        What another bundle finds was painted over in its images, and will be before a model that
        learns from them predicts.
    recipe : str or None
        By which it was imported, and a model is planned that learns from it.
    licence, source : str
        Of the data; a model that learns from them inherits the terms.
    """

    format: Literal["radloop-dataset-1"] = "radloop-dataset-1"
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+$")]
    task: TaskKind
    classes: Mapping[int, str]
    channels: tuple[str, ...] = Field(min_length=1)
    modalities: tuple[str, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    question: Code | None = None
    after: AfterRow | None = None
    without: WithoutRow | None = None
    recipe: str | None = None
    licence: str = ""
    source: str = ""
    cases: tuple[Case, ...]

    @property
    def sha256(self) -> str:
        """Over everything: the same hash is the same cases with the same voxels."""
        return hashlib.sha256(_canonical(self)).hexdigest()

    @property
    def identity(self) -> str:
        """Name and version, such as ``retina@3``."""
        return f"{self.name}@{self.version}"

    @property
    def dimensions(self) -> Literal[2, 3]:
        """2 where every image is one slice."""
        return 2 if all(case.shape[0] == 1 for case in self.cases) else 3

    def of(self, split: Split) -> tuple[Case, ...]:
        """Return the cases of one split."""
        return tuple(case for case in self.cases if case.split == split)

    @model_validator(mode="after")
    def _ids_differ(self) -> Dataset:
        if len({case.id for case in self.cases}) < len(self.cases):
            raise ValueError("two cases have one id")
        return self

    @model_validator(mode="after")
    def _codes_fit(self) -> Dataset:
        for coded in (self.segments, self.findings):
            if coded and {row.number for row in coded} != set(self.classes):
                raise ValueError("not every class has a code, or a code has no class")
        return self

    def check_apart(self) -> None:
        """See that no patient is in two splits.

        Raises
        ------
        PatientInTwoSplits
        """
        splits: dict[str, str] = {}
        for case in self.cases:
            if splits.setdefault(case.patient, case.split) != case.split:
                raise PatientInTwoSplits(f"the patient of case {case.id} is in two splits")


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A dataset and where its arrays are."""

    root: Path
    dataset: Dataset

    def image(self, case: Case) -> Image:
        """Return a case's image, mapped, shape (channels, slices, rows, columns); read-only.

        Raises
        ------
        InvalidDataset
            When the file is missing or has not the shape that the dataset says.
        """
        return self._array(case, IMAGE, (len(self.dataset.channels), *case.shape))

    def label(self, case: Case) -> Labels:
        """Return a case's label map, mapped; read-only.

        Raises
        ------
        InvalidDataset
            As :meth:`image`; or when the case has none.
        """
        if not case.label_sha256:
            raise InvalidDataset(f"case {case.id} has no label map")
        several = self.dataset.task == "multilabel"
        shape = (len(self.dataset.classes), *case.shape) if several else case.shape
        return self._array(case, LABEL, shape)

    def boxes(self, case: Case) -> npt.NDArray[np.float64]:
        """Return a case's boxes, a row each: class, low edges (k, j, i), high edges, in voxels.

        Voxel n reaches from n to n + 1.
        """
        rows = [(box.label, *box.first, *(end + 1 for end in box.last)) for box in case.boxes]
        return np.array(rows, np.float64).reshape(-1, 7)

    def spacing(self, case: Case) -> tuple[float, float, float]:
        """Return the distance between voxels (k, j, i), mm; ones where the case does not say it."""
        return case.spacing_kji or (1.0, 1.0, 1.0)

    def check(self) -> None:
        """Read every file and compare its hash.

        Raises
        ------
        WrongHash
            When a file is not what was frozen.
        InvalidDataset
            When one is missing.
        """
        for case in self.dataset.cases:
            wanted = {IMAGE: case.image_sha256, LABEL: case.label_sha256}
            for name, sha256 in wanted.items():
                if sha256 and file_sha256(self._path(case, name)) != sha256:
                    raise WrongHash(f"case {case.id}: {name} is not what was frozen")

    def _array(self, case: Case, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = np.load(
                self._path(case, name), mmap_mode="r", allow_pickle=False
            )
        except (OSError, ValueError) as error:
            raise InvalidDataset(f"case {case.id}: {name} cannot be read") from error
        if array.shape != shape:
            raise InvalidDataset(f"case {case.id}: {name} has another shape than was frozen")
        return array

    def _path(self, case: Case, name: str) -> Path:
        return self.root / "cases" / case.id / name


def read_dataset(folder: Path) -> DatasetFolder:
    """Read a dataset's manifest; arrays are looked at when they are asked for.

    Raises
    ------
    InvalidDataset
        When there is none, or it is not whole: the message names the place.
    PatientInTwoSplits
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise InvalidDataset(f"the folder holds no {MANIFEST}") from error
    try:
        dataset = Dataset.model_validate_json(content)
    except ValidationError as error:
        raise InvalidDataset(f"{MANIFEST}: {_places(error)}") from None
    dataset.check_apart()
    return DatasetFolder(folder, dataset)


def write_array(folder: Path, case_id: str, name: str, array: npt.NDArray[Any]) -> str:
    """Write one array of a case and return its hash; written beside, then renamed."""
    path = folder / "cases" / case_id / name
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    digest = file_sha256(beside)
    beside.replace(path)
    return digest


def write_dataset(folder: Path, dataset: Dataset) -> None:
    """Write the manifest, last and whole: a folder without it is no dataset.

    Raises
    ------
    PatientInTwoSplits
    """
    dataset.check_apart()
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{MANIFEST}.part"
    beside.write_bytes(_canonical(dataset))
    beside.replace(folder / MANIFEST)


def file_sha256(path: Path) -> str:
    """Return a file's hash.

    Raises
    ------
    InvalidDataset
        When it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidDataset(f"{path.parent.name}/{path.name} cannot be read") from error


@dataclass(frozen=True, slots=True)
class Difference:
    """What lies between two versions of a dataset: ids of cases, and names of fields."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    image_changed: tuple[str, ...]
    label_changed: tuple[str, ...]
    split_changed: tuple[str, ...]
    fields: tuple[str, ...]


def difference(old: Dataset, new: Dataset) -> Difference:
    """Return what changed from one version to another."""
    before, after = ({case.id: case for case in one.cases} for one in (old, new))
    both = sorted(before.keys() & after.keys())

    def changed(attribute: str) -> tuple[str, ...]:
        return tuple(
            one for one in both if getattr(before[one], attribute) != getattr(after[one], attribute)
        )

    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        image_changed=changed("image_sha256"),
        label_changed=tuple(one for one in both if _known(before[one]) != _known(after[one])),
        split_changed=changed("split"),
        fields=tuple(name for name in _SAID if getattr(old, name) != getattr(new, name)),
    )


def first_channels(folder: DatasetFolder) -> Iterator[Image]:
    """Yield each training image's first channel; of a colour image, all three."""
    for case in folder.dataset.of("train"):
        image = folder.image(case)
        yield image if folder.dataset.channels == COLOUR else image[0]


_SAID: Final = (
    "task",
    "classes",
    "channels",
    "segments",
    "findings",
    "question",
    "after",
    "without",
    "recipe",
    "licence",
    "source",
)


def class_counts(folder: DatasetFolder, cases: Iterable[Case]) -> dict[int, int]:
    """Return how many voxels (images, boxes) each class has; classes without any are 0."""
    counts = dict.fromkeys(folder.dataset.classes, 0)
    for case in cases:
        for number, count in _counted(folder, case):
            counts[number] = counts.get(number, 0) + count
    return counts


def _counted(folder: DatasetFolder, case: Case) -> Sequence[tuple[int, int]]:
    task = folder.dataset.task
    if task == "classification":
        return [] if case.finding is None else [(case.finding, 1)]
    if task == "detection":
        return [(box.label, 1) for box in case.boxes]
    label = folder.label(case)
    if task == "multilabel":
        numbers = list(folder.dataset.classes)
        return [(number, int(label[at].sum())) for at, number in enumerate(numbers)]
    found = np.bincount(np.asarray(label).reshape(-1), minlength=1)
    return [(number, int(count)) for number, count in enumerate(found) if number and count]


def _known(case: Case) -> tuple[object, ...]:
    return case.label_sha256, case.finding, case.boxes


def _canonical(dataset: Dataset) -> bytes:
    content = dataset.model_dump(mode="json")
    for name in _SELDOM:  # a dataset without them has the hash that it always had
        if content[name] is None:
            del content[name]
    return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()


def _places(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'dataset'}: {one['msg']}"
        for one in error.errors()[:5]
    )
