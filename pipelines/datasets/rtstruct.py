"""De-identified DICOM: image series, each with the RT Structure Set that was drawn on it.

Structures are the same where their names are, upper or lower case. Where some are asked for
(`--class`, `--recipe`), the others are left aside; where they lie in each other, the smaller one is
seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from dicom.errors import InvalidDataset, LabelsDoNotMatch, OtherGrid
from dicom.folder import read_folder
from dicom.rtstruct import StructureSet, rasterise, read_structures
from dicom.study import Series
from dicom.volume import Volume, read_volume
from pipelines.datasets import Found, Outline, check_patients
from pipelines.datasets.files import patient_of


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A series of images, and what was drawn on it."""

    number: int
    series: Series
    structures: StructureSet
    patient: str


def outline(folder: Path, *, patient: str) -> Outline:
    """Look at the structures' names."""
    cases = _cases(folder)
    names = sorted(
        {
            one.name.casefold(): one.name for case in cases for one in case.structures.structures
        }.items()
    )
    return Outline(
        task="segmentation",
        classes={number: name for number, (_, name) in enumerate(names, 1)},
        channels=("image",),
        patients=check_patients(patient_of(case.patient, patient) for case in cases),
        cases=len(cases),
        selects=True,
        modalities=tuple(sorted({case.series.modality for case in cases})),
    )


def read(folder: Path, *, patient: str) -> Iterator[Found]:
    """Yield the series that were drawn on."""
    numbers = {
        name.casefold(): number for number, name in outline(folder, patient=patient).classes.items()
    }
    for case in _cases(folder):
        volume = read_volume(case.series)
        yield Found(
            id=f"case-{case.number:04d}",
            patient=patient_of(case.patient, patient),
            image=volume.voxels_kji[None],
            label=_labels(case, volume, numbers),
            affine_lps=volume.affine_lps,
            spacing_kji=volume.spacing_kji,
        )


def _labels(case: _Drawn, volume: Volume, numbers: dict[str, int]) -> npt.NDArray[np.uint8]:
    try:
        masks = rasterise(case.structures, volume.source)
    except OtherGrid as error:
        raise LabelsDoNotMatch(f"case-{case.number:04d}: {error.message}") from None
    labels = np.zeros(volume.shape_kji, np.uint8)
    each = [
        (numbers[structure.name.casefold()], masks.whole(number))
        for number, structure in enumerate(case.structures.structures, 1)
        if structure.name.casefold() in numbers
    ]
    for number, mask in sorted(each, key=lambda one: -int(one[1].sum())):
        labels[mask] = number
    return labels


def _cases(folder: Path) -> tuple[_Drawn, ...]:
    """Return every image series with the structure set that names it.

    Raises
    ------
    InvalidDataset
        When there is none.
    """
    found: list[_Drawn] = []
    for study in read_folder(folder).studies:
        images = {one.series_uid: one for one in study.series if one.modality != "RTSTRUCT"}
        for series in study.series:
            if series.modality != "RTSTRUCT":
                continue
            structures = read_structures(series.instances[0].path)
            drawn_on = [uid for uid in structures.series_uids if uid in images]
            for uid in drawn_on:
                header = dcmread(images[uid].instances[0].path, specific_tags=["PatientID"])
                whose = str(header.get("PatientID", "")) or f"patient-{len(found) + 1}"
                found.append(_Drawn(len(found) + 1, images[uid], structures, whose))
    if not found:
        raise InvalidDataset("no series of the folder has a structure set that was drawn on it")
    return tuple(found)
