"""A prediction as files: a DICOM Segmentation, NIfTI labels, or a JSON of findings."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from dicom.codes import Code
from dicom.seg import ResultUids, check_seg, write_seg
from dicom.uids import derived_uid
from models.bundle import Bundle
from models.nifti import write_labels
from models.prediction import Boxes, Classes, Instances, Masks, Prediction, labels_of
from models.segments import as_segments, voxel_counts
from models.sources import Case
from models.tasks import Finding

_SERIES_NUMBER = 9001


def save(bundle: Bundle, case: Case, prediction: Prediction, folder: Path) -> tuple[Path, ...]:
    """Write a prediction into a folder; return the files.

    What segments is written as NIfTI on the grid of the source, and for DICOM as a Segmentation
    that refers to the series; a classification or detection as JSON with its codes.

    Raises
    ------
    InvalidSegmentation
        When the labels cannot be written as a Segmentation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = prediction.answer
    if isinstance(answer, Classes | Boxes):
        path = folder / f"{case.name}.findings.json"
        path.write_text(json.dumps(findings_of(bundle, prediction), indent=2) + "\n")
        return (path,)
    affine_lps = next(iter(case.images.values())).affine_lps
    files = [folder / f"{case.name}.labels.nii.gz"]
    write_labels(files[0], labels_of(answer), affine_lps)
    if isinstance(answer, Instances):
        files.append(folder / f"{case.name}.instances.nii.gz")
        write_labels(files[-1], answer.instances_kji, affine_lps)
    if isinstance(answer, Masks):  # one label map cannot hold what overlaps
        for number, mask_kji in zip(answer.numbers, answer.masks_nkji, strict=True):
            files.append(folder / f"{case.name}.segment-{number}.nii.gz")
            write_labels(files[-1], mask_kji.astype(np.uint8), affine_lps)
    if case.volume is not None:
        files.insert(0, folder / f"{case.name}.seg.dcm")
        _write_seg(bundle, case, prediction, files[0])
    return tuple(files)


def millilitres(bundle: Bundle, case: Case, prediction: Prediction) -> dict[str, float]:
    """Return the volume of each segment, by label; empty where nothing is segmented."""
    if isinstance(prediction.answer, Classes | Boxes):
        return {}
    affine_lps = next(iter(case.images.values())).affine_lps
    voxel_ml = float(abs(np.linalg.det(affine_lps[:3, :3]))) / 1000.0
    counts = voxel_counts(prediction.answer)
    return {s.label: round(counts[s.number] * voxel_ml, 3) for s in bundle.segments}


def findings_of(bundle: Bundle, prediction: Prediction) -> dict[str, Any]:
    """Return a classification or detection as plain values, for JSON."""
    known = {finding.number: finding for finding in bundle.findings}
    made_by = {"bundle": bundle.identity, "sha256": prediction.bundle_sha256}
    match prediction.answer:
        case Classes(numbers=numbers, probabilities=probabilities, by_slice_kn=by_slice_kn):
            found = [
                {**_named(known[number]), "probability": float(value)}
                for number, value in zip(numbers, probabilities, strict=True)
            ]
            slices = [] if by_slice_kn is None else by_slice_kn.tolist()
            return {**made_by, "findings": found, "by_slice": slices}
        case Boxes(boxes=boxes):
            found = [
                {
                    **_named(known[box.number]),
                    "score": box.score,
                    "low_lps_mm": list(box.low_lps),
                    "high_lps_mm": list(box.high_lps),
                }
                for box in boxes
            ]
            return {**made_by, "findings": found}
        case _:
            return {**made_by, "findings": []}


def _named(finding: Finding) -> dict[str, Any]:
    region = None if finding.region is None else _code(finding.region)
    return {"label": finding.label, "code": _code(finding.code), "region": region}


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _write_seg(bundle: Bundle, case: Case, prediction: Prediction, path: Path) -> None:
    volume = case.volume
    if volume is None:
        raise ValueError("a Segmentation refers to DICOM images")
    key = f"{volume.series_uid}\n{bundle.sha256}"
    voxels, segments = as_segments(bundle, case.on_source(prediction.answer))
    write_seg(
        path,
        voxels,
        volume.source,
        segments,
        algorithm=bundle.algorithm,
        uids=ResultUids(
            series_uid=derived_uid(key, "series"),
            sop_instance_uid=derived_uid(key, "instance"),
            tracking=tuple(derived_uid(key, "tracking", str(each.number)) for each in segments),
        ),
        series_number=_SERIES_NUMBER,
        series_description=f"AI: {bundle.name_in_dicom}"[:64],
        content_label="AI_SEGMENTATION",
        created=datetime.now().astimezone(),
    )
    check_seg(path, voxels, volume.source)
