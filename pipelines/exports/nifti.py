"""NIfTI with sidecars, laid out as BIDS 1.9 where the images are MR.

An MR series whose contrast follows from its parameters gets BIDS' suffix (T1w, T2w, FLAIR, PDw);
the contrast is never guessed from a description. What cannot be told, and what is no MR, lies in
folders that .bidsignore names. Labels are derivatives (`derivatives/labels`, `_dseg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset as PydicomDataset
from pydicom import dcmread

from pipelines.exports import Case, Dataset
from pipelines.exports.volumes import (
    read_case,
    read_labels,
    write_json,
    write_nifti,
    write_whole,
)

_BIDS = "1.9.0"
# BIDS' name, DICOM's keyword, factor to BIDS' unit.
_SIDECAR: tuple[tuple[str, str, float], ...] = (
    ("MagneticFieldStrength", "MagneticFieldStrength", 1),
    ("RepetitionTime", "RepetitionTime", 0.001),
    ("EchoTime", "EchoTime", 0.001),
    ("InversionTime", "InversionTime", 0.001),
    ("FlipAngle", "FlipAngle", 1),
    ("SliceThickness", "SliceThickness", 1),
    ("KVP", "KVP", 1),
)
_WORDS = (
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDescription",
    "BodyPartExamined",
    "ConvolutionKernel",
    "ScanningSequence",
    "ImageType",
    "PatientPosition",
    "MRAcquisitionType",
)


def check(dataset: Dataset) -> None:
    """Take every dataset."""


def write(case: Case, dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Write one case's image, its sidecar, and its labels where it has some."""
    home = folder / dataset.name
    header = dcmread(case.series.instances[0].path, stop_before_pixels=True)
    volume = read_case(case)
    kind, suffix = kind_of(header)
    stem = f"{_subject(case)}_{_session(case)}_run-{case.number:04d}"
    place = Path(_subject(case), _session(case), kind)
    image = home / place / f"{stem}_{suffix}.nii.gz"
    sidecar = image.with_name(f"{stem}_{suffix}.json")
    # labels first: a case whose labels cannot be read is no half case
    labels_kji = None if case.seg is None else read_labels(case, dataset, volume)
    write_nifti(image, volume.voxels_kji, volume.affine_lps)
    write_json(sidecar, {**_sidecar(header), "Units": volume.unit or "arbitrary"})
    files = [image, sidecar]
    if labels_kji is not None:
        labels = home / "derivatives" / "labels" / place / f"{stem}_dseg.nii.gz"
        write_nifti(labels, labels_kji, volume.affine_lps)
        files.append(labels)
    return files


def finish(dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Write what BIDS wants of the whole dataset."""
    home = folder / dataset.name
    patients = list(dict.fromkeys(case.patient for case in dataset.cases))
    split = {case.patient: case.split for case in dataset.cases}
    rows = ["participant_id\tsplit", *(f"{_name(p)}\t{split[p]}" for p in patients)]
    about: dict[str, Any] = {"Name": dataset.name, "BIDSVersion": _BIDS, "DatasetType": "raw"}
    if dataset.licence:
        about["License"] = dataset.licence
    files = {
        "dataset_description.json": about,
        "derivatives/labels/dataset_description.json": {
            "Name": f"{dataset.name}: labels",
            "BIDSVersion": _BIDS,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "radloop"}],
        },
    }
    for name, content in files.items():
        write_json(home / name, content)
    texts = {
        "participants.tsv": "\n".join(rows) + "\n",
        "README": f"{dataset.name}\n\n{dataset.description or 'Exported by radloop.'}\n",
        ".bidsignore": "**/other/\n**/ct/\n**/pet/\n",
        "derivatives/labels/dseg.tsv": "index\tname\tmapping\n"
        + "".join(f"{one.number}\t{one.name}\t{'+'.join(one.code)}\n" for one in dataset.labels),
    }
    for name, text in texts.items():
        write_whole(home / name, text.encode())
    return [home / name for name in (*files, *texts)]


def kind_of(header: PydicomDataset) -> tuple[str, str]:
    """Return BIDS' data type and suffix of an image: what its parameters prove, no more."""
    modality = str(header.get("Modality", ""))
    if modality != "MR":
        return {"CT": ("ct", "ct"), "PT": ("pet", "pet")}.get(modality, ("other", "image"))
    sequence = _values(header, "ScanningSequence")
    echo, repetition = _number(header, "EchoTime"), _number(header, "RepetitionTime")
    inversion = _number(header, "InversionTime")
    if echo is None or repetition is None:
        return "other", "image"
    if "SE" in sequence and "EP" not in sequence:
        if inversion is not None and inversion >= 1500 and echo >= 70:
            return "anat", "FLAIR"
        if inversion is None and echo >= 70 and repetition >= 2000:
            return "anat", "T2w"
        if inversion is None and echo <= 30:
            return "anat", "T1w" if repetition <= 900 else "PDw"
    if "GR" in sequence and "EP" not in sequence and inversion is not None:
        prepared = 500 <= inversion <= 1300 and echo <= 10
        return ("anat", "T1w") if prepared else ("other", "image")
    return "other", "image"


def _sidecar(header: PydicomDataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keyword, factor in _SIDECAR:
        value = _number(header, keyword)
        if value is not None:
            found[name] = value * factor
    for keyword in _WORDS:
        words = _values(header, keyword)
        if words:
            found[keyword] = words[0] if len(words) == 1 else list(words)
    return found


def _number(header: PydicomDataset, keyword: str) -> float | None:
    value = header.get(keyword)
    return float(value) if isinstance(value, int | float) or value else None


def _values(header: PydicomDataset, keyword: str) -> tuple[str, ...]:
    value = header.get(keyword)
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else tuple(str(one) for one in value)


def _name(patient: str) -> str:
    return "sub-" + "".join(letter for letter in patient if letter.isalnum())


def _subject(case: Case) -> str:
    return _name(case.patient)


def _session(case: Case) -> str:
    return f"ses-{case.session:02d}"
