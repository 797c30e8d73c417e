"""What people drew, as a layout that a dataset is frozen from.

Images and drawings come from the clinical archive; only arrays leave this file, and tags that say
nothing of the patient but sex and decade of age.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from pydicom import Dataset as PydicomDataset
from pydicom import dcmread

from dicom.archive import Archive
from dicom.errors import ArchiveMismatch, InputError, InvalidDataset, NoGeometry, NotFound
from dicom.seg import DecodedSeg, Segment, decode_seg
from dicom.study import Series
from dicom.volume import Mending, Picture, Volume, read_pictures, read_volumes
from models.bundle import Bundle
from models.learning.cases import Split
from models.table import SegmentRow
from pipelines.datasets import Found, Outline, check_patients
from pipelines.learning.fusing import fuse
from pipelines.learning.rules import Picked
from pipelines.store import DatasetCase, SeriesView, Studies
from pipelines.store.datasets import Reading

log = structlog.get_logger()

_MENDED = frozenset({Mending.STRAYS})
_THIN_MM = 2.5
_DECADE = 10
_OLD = 90  # HIPAA's safe harbour: ages over 89 are one group
_HEADER = [
    "Manufacturer",
    "ManufacturerModelName",
    "PatientSex",
    "PatientAge",
    "SliceThickness",
]
Key = tuple[str, str, str]
"""What makes a segment's structure: the type's value and scheme, the side."""
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Where readings and their images come from.

    Attributes
    ----------
    archive : Archive
        The clinical archive.
    patient_of : callable
        The node's pseudonym of a study's patient; None where no identity is sealed.
    is_withdrawn : callable
        Whether a patient was withdrawn, by the pseudonym.
    key : bytes
        Of the pseudonyms that datasets have.
    """

    archive: Archive
    studies: Studies
    patient_of: Callable[[str], str | None]
    is_withdrawn: Callable[[str], bool]
    key: bytes

    def pseudonym(self, patient: str) -> str:
        """Return how a patient is called in a dataset: nobody without the key can link the two."""
        digest = hmac.new(self.key, f"dataset patient {patient}".encode(), hashlib.sha256)
        return f"P{digest.hexdigest()[:16]}"

    def case_id(self, series_id: str, model: str) -> str:
        """Return how a case is called: the same series has the same name in every version."""
        said = f"dataset case {series_id} {model}".encode()
        return f"case-{hmac.new(self.key, said, hashlib.sha256).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A series that is no case, and why: an error's code, or a word."""

    series_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Group:
    """The readings of one series for one model, by different people."""

    series: SeriesView
    patient: str
    model: str
    readings: tuple[Reading, ...]


@dataclass(eq=False)
class Gathered:
    """A layout of readings; see :class:`pipelines.datasets.Layout`.

    Made in two goes: first the drawings' headers, which say what classes there are; then, case by
    case, voxels.
    """

    material: Material
    picked: Picked
    groups: Sequence[Group]
    splits: Mapping[str, Split]
    base: Bundle | None
    left_out: list[LeftOut] = field(default_factory=list)
    cases: list[DatasetCase] = field(default_factory=list)

    def outline(self, folder: Path, *, patient: str) -> Outline:
        """Look at what was drawn; `folder` and `patient` are of layouts on disk."""
        self._rows = self._classes()
        names = [self.material.pseudonym(group.patient) for group in self.groups]
        return Outline(
            task="segmentation",
            classes={row.number: row.label for row in self._rows},
            channels=("image",),
            patients=check_patients(names),
            cases=len(self.groups),
            modalities=tuple(sorted({group.series.modality for group in self.groups})),
            segments=self._rows,
            source="corrections of this node's readers",
        )

    def read(self, folder: Path, *, patient: str) -> Iterator[Found]:
        """Yield the cases, one after the other; what cannot be read is left out, and why."""
        for group in self.groups:
            try:
                found = self._found(group)
            except (InputError, ArchiveMismatch) as error:
                log.info("case_left_out", series=group.series.id, code=error.code)
                self.left_out.append(LeftOut(group.series.id, error.code))
                continue
            self.cases.append(
                DatasetCase(
                    case=found.id,
                    patient=group.patient,
                    split=self.splits[group.patient],
                    study_id=group.series.study_id,
                    series_id=group.series.id,
                    label_ids=tuple(one.id for one in group.readings),
                    authors=tuple(one.author for one in group.readings),
                    route=group.readings[-1].route,
                    fused=self.picked.fusion if len(group.readings) > 1 else "",
                )
            )
            yield found
        if not self.cases:
            raise InvalidDataset("no correction could be read")

    # --- classes --------------------------------------------------------------------------------

    def _classes(self) -> tuple[SegmentRow, ...]:
        """Return the classes: the model's own where there is one, else all that was drawn."""
        if self.base is not None and self.base.segments:
            segments = list(self.base.segments)
        else:
            segments = self._drawn_segments()
        named: dict[str, Segment] = {}
        for segment in segments:
            name = self.picked.classes.get(segment.label, segment.label)
            if name != "-" and (name not in named or segment.label == name):
                named[name] = segment
        if not named:
            raise InvalidDataset("no segment is left that could be a class")
        return tuple(
            SegmentRow(
                number=number,
                label=name,
                category=segment.category,
                type=segment.type,
                region=segment.region,
                laterality=segment.laterality,
                rgb=segment.rgb,
            )
            for number, (name, segment) in enumerate(named.items(), 1)
        )

    def _drawn_segments(self) -> list[Segment]:
        found: dict[Key, Segment] = {}
        for group in self.groups:
            for reading in group.readings:
                try:
                    with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
                        decoded = decode_seg(self._object(reading, Path(folder)))
                except (InputError, ArchiveMismatch):
                    continue  # said when its voxels are read
                for segment in decoded.segments:
                    found.setdefault(_key(segment), segment)
        return sorted(found.values(), key=lambda segment: segment.label)

    def _numbers(self, decoded: DecodedSeg) -> dict[int, int]:
        """Return the class of each of a drawing's segments, by their numbers."""
        by_name = {row.label: row.number for row in self._rows}
        by_key: dict[Key, int] = {}
        for segment in self.base.segments if self.base is not None else ():
            name = self.picked.classes.get(segment.label, segment.label)
            if name in by_name:
                by_key[_key(segment)] = by_name[name]
        numbers = {}
        for segment in decoded.segments:
            name = self.picked.classes.get(segment.label, segment.label)
            number = by_name.get(name) or by_key.get(_key(segment))
            if number is not None and name != "-":
                numbers[segment.number] = number
        return numbers

    # --- one case -------------------------------------------------------------------------------

    def _found(self, group: Group) -> Found:
        with tempfile.TemporaryDirectory(prefix="radloop-") as name:
            folder = Path(name)
            archived = self.material.archive.series(group.series.orthanc_id)
            series = self.material.archive.fetch(archived, folder / "images")
            paths = [self._object(one, folder / f"{n}") for n, one in enumerate(group.readings)]
            source, labels = self._on_grid(series, paths)
            header = dcmread(
                series.instances[0].path, stop_before_pixels=True, specific_tags=_HEADER
            )
        label = fuse(labels, self.picked.fusion)
        affine = source.affine_lps if isinstance(source, Volume) else None
        spacing = _spacing(source)
        return Found(
            id=self.material.case_id(group.series.id, group.model),
            patient=self.material.pseudonym(group.patient),
            image=_voxels(source)[None],
            label=label,
            affine_lps=affine,
            spacing_kji=spacing,
            split=self.splits[group.patient],
            tags=_tags(header, spacing, group),
        )

    def _on_grid(
        self, series: Series, paths: Sequence[Path]
    ) -> tuple[Volume | Picture, list[Labels]]:
        """Return the volume of a series that the drawings lie on, and each as class numbers."""
        refused: InputError = InvalidDataset("the series holds no volume")
        for source in _sources(series):
            try:
                return source, [self._labels(path, source) for path in paths]
            except InputError as error:
                refused = error
        raise refused

    def _labels(self, path: Path, source: Volume | Picture) -> Labels:
        decoded = decode_seg(path, source)
        labels = np.zeros(decoded.shape_kji, np.uint8)
        for number, ours in sorted(self._numbers(decoded).items()):
            mask = decoded.mask(number)
            if (mask & (labels != 0) & (labels != ours)).any():
                raise InvalidDataset("segments overlap, and a voxel can be of one class only")
            labels[mask] = ours
        return labels

    def _object(self, reading: Reading, folder: Path) -> Path:
        archive = self.material.archive
        content = (
            archive.instance_bytes(reading.id)
            if reading.orthanc_id is None
            else archive.file_of(reading.orthanc_id)
        )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "drawn.dcm"
        path.write_bytes(content)
        return path


def grouped(
    material: Material, readings: Sequence[Reading], picked: Picked
) -> tuple[list[Group], list[LeftOut]]:
    """Return the readings that a rule takes, by series and model, and the series left out."""
    chosen: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        if _fits(reading, picked):
            chosen[reading.series_id, _model(reading)].append(reading)
    groups, left_out = [], []
    for (series_id, model), found in sorted(chosen.items()):
        try:
            series = material.studies.series(series_id)
        except NotFound:
            left_out.append(LeftOut(series_id, "not_in_the_archive"))
            continue
        if not _suits(series, picked):
            continue
        patient = material.patient_of(series.study_id)
        if patient is None:
            left_out.append(LeftOut(series_id, "no_identity"))
        elif material.is_withdrawn(patient):
            left_out.append(LeftOut(series_id, "withdrawn"))
        else:
            groups.append(Group(series, patient, model, tuple(found)))
    return groups, left_out


def fitting(
    studies: Studies, readings: Sequence[Reading], picked: Picked
) -> list[tuple[Reading, SeriesView]]:
    """Return the readings that a rule takes, with their series; nothing is asked of an archive."""
    found = []
    for reading in readings:
        if not _fits(reading, picked):
            continue
        try:
            series = studies.series(reading.series_id)
        except NotFound:
            continue
        if _suits(series, picked):
            found.append((reading, series))
    return found


def _fits(reading: Reading, picked: Picked) -> bool:
    models = {name.partition("@")[0] for name in picked.models}
    return (
        reading.verdict in picked.verdicts
        and (not models or _model(reading) in models)
        and (picked.since is None or reading.at >= picked.since)
        and (not picked.readers or reading.author in picked.readers)
        and (not picked.workspaces or reading.route in picked.workspaces)
        and (not picked.studies or reading.study_id in picked.studies)
        and (not picked.series or reading.series_id in picked.series)
    )


def _suits(series: SeriesView, picked: Picked) -> bool:
    description = str((series.facts or {}).get("description") or "")
    return (not picked.modalities or series.modality in picked.modalities) and (
        not picked.description
        or re.search(picked.description, description, re.IGNORECASE) is not None
    )


def _model(reading: Reading) -> str:
    return (reading.bundle or "").partition("@")[0]


def _key(segment: Segment) -> Key:
    side = segment.laterality.value if segment.laterality else ""
    return segment.type.value, segment.type.scheme, side


def _sources(series: Series) -> Iterator[Volume | Picture]:
    try:
        yield from (named.volume for named in read_volumes(series, mend=_MENDED))
    except NoGeometry:
        for picture in read_pictures(series):
            if picture.pixels_fji.ndim == 3:
                yield picture


def _voxels(source: Volume | Picture) -> npt.NDArray[np.generic]:
    return source.voxels_kji if isinstance(source, Volume) else source.pixels_fji


def _spacing(source: Volume | Picture) -> tuple[float, float, float] | None:
    if isinstance(source, Volume):
        return source.source.spacing_kji
    if source.spacing is None:
        return None
    return 1.0, source.spacing.row_mm, source.spacing.column_mm


def _tags(
    header: PydicomDataset, spacing: tuple[float, float, float] | None, group: Group
) -> dict[str, str]:
    """Return what cases are grouped by; ages by decade, and none over 89 apart."""
    scanner = " ".join(
        str(header.get(word, "")).strip() for word in ("Manufacturer", "ManufacturerModelName")
    ).strip()
    tags = {"scanner": scanner, "sex": str(header.get("PatientSex", "")).strip()}
    age = re.fullmatch(r"(\d{3})Y", str(header.get("PatientAge", "")))
    if age is not None:
        years = int(age.group(1))
        low = years // _DECADE * _DECADE
        tags["age"] = "90 and over" if years >= _OLD else f"{low} to {low + _DECADE - 1}"
    if spacing is not None and isinstance(header.get("SliceThickness"), int | float):
        thick = float(header.SliceThickness)
        tags["slice_thickness"] = f"{'up to' if thick <= _THIN_MM else 'over'} {_THIN_MM} mm"
    tags["route"] = group.readings[-1].route
    tags["author"] = ", ".join(sorted({reading.author for reading in group.readings}))
    return {name: value for name, value in tags.items() if value}
