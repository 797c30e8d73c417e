"""De-identified DICOM: image series, each with the SEG that lies on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread

from dicom.errors import InvalidDataset
from dicom.folder import read_folder
from dicom.seg import decode_seg
from models.table import SegmentRow
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import patient_of
from pipelines.exports import Case, Dataset
from pipelines.exports.cases import gather, segment_code
from pipelines.exports.volumes import read_case, read_labels

_TAGS = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "sex": "PatientSex",
    "age": "PatientAge",
    "thickness": "SliceThickness",
}
_NAME = "dataset"


def outline(folder: Path, *, patient: str) -> Outline:
    """Look at the headers; a structure is the same where its codes are."""
    dataset = _gathered(folder)
    cases = _labelled(dataset)
    return Outline(
        task="segmentation",
        classes={label.number: label.name for label in dataset.labels},
        channels=("image",),
        patients=check_patients(patient_of(case.patient, patient) for case in cases),
        cases=len(cases),
        modalities=tuple(sorted({case.series.modality for case in cases})),
        segments=_segments(dataset),
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the series that have a segmentation; their split is made anew, by patient."""
    dataset = _gathered(folder)
    for case in _labelled(dataset):
        volume = read_case(case)
        header = dcmread(case.series.instances[0].path, stop_before_pixels=True)
        tags = {name: str(header.get(keyword, "")) for name, keyword in _TAGS.items()}
        yield Found(
            id=f"case-{case.number:04d}",
            patient=patient_of(case.patient, patient),
            image=volume.voxels_kji[None],
            label=read_labels(case, dataset, volume),
            affine_lps=volume.affine_lps,
            spacing_kji=volume.spacing_kji,
            tags={name: value for name, value in tags.items() if value},
        )


def _gathered(folder: Path) -> Dataset:
    dataset, _ = gather(_NAME, read_folder(folder).studies)
    return dataset


def _labelled(dataset: Dataset) -> list[Case]:
    cases = [case for case in dataset.cases if case.seg is not None]
    if not cases:
        raise InvalidDataset("no series of the folder has a segmentation")
    return cases


def _segments(dataset: Dataset) -> tuple[SegmentRow, ...]:
    """Return the codes of each label, from the first SEG that has it."""
    rows: dict[int, SegmentRow] = {}
    number_of = dataset.number_of()
    names = {label.number: label.name for label in dataset.labels}
    for case in _labelled(dataset):
        assert case.seg is not None  # that is what labelled means
        header = dcmread(case.seg.path, specific_tags=["SegmentSequence"])
        codes = {int(one.SegmentNumber): segment_code(one) for one in header.SegmentSequence}
        for segment in decode_seg(case.seg.path).segments:
            number = number_of.get(codes.get(segment.number, ()))
            if number is not None and number not in rows:
                rows[number] = SegmentRow(
                    number=number,
                    label=names[number],
                    category=segment.category,
                    type=segment.type,
                    region=segment.region,
                    laterality=segment.laterality,
                    rgb=segment.rgb,
                )
    return tuple(rows[number] for number in sorted(rows))
