"""From de-identified studies to the cases of a dataset: whose, with which label, in which split.

Order, numbers and splits come from the pseudonyms alone: the same studies give the same dataset on
every machine.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
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


@dataclass(slots=True)
class _Labelled:
    series: Series
    seg: Instance | None = None
    seg_made: tuple[str, ...] = ()


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
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
        raise InvalidRequest("a dataset's name has letters, digits, _ and -, 40 at most")
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
                    )
                )
    dataset = Dataset(name, tuple(cases), _numbered(codes), licence, description)
    return dataset, tuple(left_out)


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
    for series in study.series:
        if series.series_uid in images:
            continue
        for instance in series.instances:
            why = "no image, and no segmentation"
            if instance.sop_class_uid in _SEG:
                why = _attach(instance, images)
            if why:
                left_out.append(LeftOut(series.series_uid, why))
    return [images[uid] for uid in sorted(images)], left_out


def _attach(instance: Instance, images: dict[str, _Labelled]) -> str:
    """Give a segmentation to the series that it refers to; return why not, or nothing."""
    ds = dcmread(instance.path, specific_tags=_SEG_HEADER)
    referred = [str(item.SeriesInstanceUID) for item in ds.get("ReferencedSeriesSequence", [])]
    owners = [images[uid] for uid in referred if uid in images]
    if not owners:
        return "a segmentation of a series that is not here"
    made = (
        str(ds.get("ContentDate", "")),
        str(ds.get("ContentTime", "")),
        instance.sop_instance_uid,
    )
    for owner in owners:
        if made > owner.seg_made:
            owner.seg, owner.seg_made = instance, made
    return ""


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
