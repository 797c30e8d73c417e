"""From de-identified studies to the cases of a dataset: whose, with which label, in which split.

Order, numbers and splits come from the pseudonyms alone: the same studies give the same dataset on
every machine.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset as PydicomDataset
from pydicom import dcmread
from pydicom.uid import UID

from dicom.errors import InvalidRequest
from dicom.study import Instance, Series, Study
from pipelines.exports import Case, Dataset, Label, Split

_SEG = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}  # Segmentation, Label Map
)
_HEADER = ["PatientID", "StudyInstanceUID", "StudyDate", "StudyTime"]
_SEG_HEADER = [
    "ReferencedSeriesSequence",
    "SegmentSequence",
    "ContentDate",
    "ContentTime",
    "SharedFunctionalGroupsSequence",
    "PredecessorDocumentsSequence",
]
# Where else an object says which series it is about: structure sets, reports.
_REFERENCES = [
    "ReferencedFrameOfReferenceSequence",
    "CurrentRequestedProcedureEvidenceSequence",
    "ReferencedSeriesSequence",
]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A series that is no case, and why."""

    series_uid: str
    why: str


@dataclass(frozen=True, slots=True)
class Shares:
    """How patients are shared out; the rest is for training.

    Raises
    ------
    InvalidRequest
        When nothing would be left for training.
    """

    validation: float = 0.1
    test: float = 0.2
    seed: str = field(default="")

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise InvalidRequest("validation and test are shares whose sum is below 1")


@dataclass(frozen=True, slots=True)
class _Seg:
    instance: Instance
    made: tuple[str, ...]
    corrects: frozenset[str]


@dataclass(slots=True, eq=False)
class _Labelled:
    series: Series
    segs: list[_Seg] = field(default_factory=list)
    documents: list[Instance] = field(default_factory=list)

    @property
    def seg(self) -> Instance | None:
        """The newest: one that no other corrected, of several the one that was made last."""
        corrected = frozenset[str]().union(*(one.corrects for one in self.segs))
        newest = [one for one in self.segs if one.instance.sop_instance_uid not in corrected]
        return max(newest or self.segs, key=lambda one: one.made).instance if self.segs else None

    @property
    def related(self) -> tuple[Instance, ...]:
        """What was drawn or measured besides."""
        label = self.seg
        older = [one.instance for one in self.segs if one.instance is not label]
        return tuple(sorted((*older, *self.documents), key=lambda one: one.sop_instance_uid))


def gather(
    name: str,
    studies: Iterable[Study],
    *,
    shares: Shares | None = None,
    licence: str = "",
    description: str = "",
) -> tuple[Dataset, tuple[LeftOut, ...]]:
    """Return the dataset of these studies, and the series that no case can be made of.

    Parameters
    ----------
    name : str
        Letters, digits, underscores and dashes.
    studies : iterable of Study
        De-identified, images and Segmentations together.
    shares : Shares, optional
        How patients are shared out.

    Raises
    ------
    InvalidRequest
        When the name has other characters, or there is no image series.
    """
    check_name(name)
    left_out: list[LeftOut] = []
    found: dict[str, list[tuple[tuple[str, ...], Study, list[_Labelled]]]] = defaultdict(list)
    codes: dict[tuple[str, ...], str] = {}
    for study in studies:
        images, rest = _images_of(study)
        left_out += rest
        if not images:
            continue
        header = dcmread(images[0].series.instances[0].path, specific_tags=_HEADER)
        when = (str(header.get("StudyDate", "")), str(header.get("StudyTime", "")), study.study_uid)
        found[str(header.PatientID)].append((when, study, images))
        for image in images:
            if image.seg is not None:
                codes |= _codes_of(dcmread(image.seg.path, specific_tags=_SEG_HEADER))
    if not found:
        raise InvalidRequest("there is no image series in what was chosen")
    splits = split_patients(sorted(found), shares or Shares())
    cases: list[Case] = []
    for patient in sorted(found):
        for session, (_, study, images) in enumerate(sorted(found[patient], key=_first), 1):
            for image in images:
                cases.append(
                    Case(
                        number=len(cases) + 1,
                        patient=patient,
                        study_uid=study.study_uid,
                        session=session,
                        series=image.series,
                        seg=image.seg,
                        split=splits[patient],
                        related=image.related,
                    )
                )
    dataset = Dataset(name, tuple(cases), _numbered(codes), licence, description)
    return dataset, tuple(left_out)


def check_name(name: str) -> None:
    """Refuse a dataset's name that no folder or tool would take.

    Raises
    ------
    InvalidRequest
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name, re.ASCII):
        raise InvalidRequest("a dataset's name has letters, digits, _ and -, 40 at most")


def split_patients(patients: Sequence[str], shares: Shares) -> dict[str, Split]:
    """Share patients out: in the order of a hash of seed and pseudonym, the same everywhere.

    With fewer patients than parts, training comes first, then test.
    """
    order = sorted(
        patients, key=lambda patient: hashlib.sha256(f"{shares.seed}\0{patient}".encode()).digest()
    )
    spare = len(order) - 1  # one at least is for training
    test = min(spare, round(shares.test * len(order)) or (1 if shares.test and spare else 0))
    validation = min(spare - test, round(shares.validation * len(order)))
    splits: dict[str, Split] = {}
    for place, patient in enumerate(order):
        if place < test:
            splits[patient] = "test"
        elif place < test + validation:
            splits[patient] = "validation"
        else:
            splits[patient] = "train"
    return splits


def segment_code(segment: PydicomDataset) -> tuple[str, ...]:
    """Return what makes a segment's structure: type, region and laterality as ``scheme:value``."""
    words = [_concept(segment.SegmentedPropertyTypeCodeSequence[0])]
    for region in segment.get("AnatomicRegionSequence", []):
        words.append(_concept(region))
    types = segment.SegmentedPropertyTypeCodeSequence[0]
    for side in types.get("SegmentedPropertyTypeModifierCodeSequence", []):
        words.append(_concept(side))
    return tuple(words)


# --- one study ------------------------------------------------------------------------------------


def _images_of(study: Study) -> tuple[list[_Labelled], list[LeftOut]]:
    images = {
        series.series_uid: _Labelled(series)
        for series in study.series
        if all("Image Storage" in UID(i.sop_class_uid).name for i in series.instances)
    }
    left_out = []
    others = [series for series in study.series if series.series_uid not in images]
    # what refers to a segmentation alone, as a report of its figures does, goes with its images
    owners = {uid: [image] for uid, image in images.items()}
    for series in sorted(others, key=lambda one: not _is_seg(one)):
        for instance in series.instances:
            if _is_seg(series):
                found = _attach(instance, owners)
                why = "a segmentation of a series that is not here"
                owners.setdefault(series.series_uid, []).extend(found)
            else:
                found = _attach_document(instance, owners)
                why = "no image, and nothing that refers to one here"
            if not found:
                left_out.append(LeftOut(series.series_uid, why))
    return [images[uid] for uid in sorted(images)], left_out


def _is_seg(series: Series) -> bool:
    return all(instance.sop_class_uid in _SEG for instance in series.instances)


def _attach(instance: Instance, owners: Mapping[str, list[_Labelled]]) -> list[_Labelled]:
    """Give a segmentation to the series that it refers to; return those."""
    ds = dcmread(instance.path, specific_tags=_SEG_HEADER)
    referred = [str(item.SeriesInstanceUID) for item in ds.get("ReferencedSeriesSequence", [])]
    found = [image for uid in referred for image in owners.get(uid, ())]
    made = (
        str(ds.get("ContentDate", "")),
        str(ds.get("ContentTime", "")),
        instance.sop_instance_uid,
    )
    corrects = frozenset(_instances_in(ds.get("PredecessorDocumentsSequence", [])))
    for owner in found:
        owner.segs.append(_Seg(instance, made, corrects))
    return found


def _attach_document(instance: Instance, owners: Mapping[str, list[_Labelled]]) -> list[_Labelled]:
    """Give a structure set or a report to the series that it refers to; return those."""
    ds = dcmread(instance.path, specific_tags=_REFERENCES)
    found: list[_Labelled] = []
    for uid in dict.fromkeys(_series_in(ds)):
        found += [one for one in owners.get(uid, ()) if one not in found]
    for owner in found:
        owner.documents.append(instance)
    return found


def _series_in(ds: PydicomDataset) -> Iterator[str]:
    """Yield the series that a data set refers to, at any depth."""
    for element in ds:
        if element.keyword == "SeriesInstanceUID":
            yield str(element.value)
        elif element.VR == "SQ":
            for item in element.value:
                yield from _series_in(item)


def _instances_in(items: Iterable[PydicomDataset]) -> Iterator[str]:
    """Yield the instances that items refer to, at any depth."""
    for item in items:
        for element in item:
            if element.keyword == "ReferencedSOPInstanceUID":
                yield str(element.value)
            elif element.VR == "SQ":
                yield from _instances_in(element.value)


# --- labels ---------------------------------------------------------------------------------------


def _codes_of(seg: PydicomDataset) -> dict[tuple[str, ...], str]:
    return {segment_code(item): str(item.SegmentLabel) for item in seg.SegmentSequence}


def _numbered(codes: dict[tuple[str, ...], str]) -> tuple[Label, ...]:
    labels: list[Label] = []
    names: set[str] = set()
    for number, code in enumerate(sorted(codes, key=lambda code: (_slug(codes[code]), code)), 1):
        name = _slug(codes[code])
        if name in names:
            name = f"{name}_{number}"
        names.add(name)
        labels.append(Label(number, name, code))
    return tuple(labels)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower() or "label"


def _concept(item: PydicomDataset) -> str:
    return f"{item.CodingSchemeDesignator}:{item.CodeValue}"


def _first(entry: tuple[tuple[str, ...], Study, list[_Labelled]]) -> tuple[str, ...]:
    return entry[0]
