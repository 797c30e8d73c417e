"""Segmentations for tests: written with little ado, and read by other programs."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
from pydicom.dataset import Dataset

from dicom.codes import ARTIFICIAL_INTELLIGENCE, STRUCTURES
from dicom.seg import Algorithm, ResultUids, Segment, encode_seg
from dicom.uids import derived_uid
from dicom.volume import Grid, Volume

BIN = Path(sys.executable).parent
NOON = dt.datetime(2026, 3, 4, 12, 0, 5, 123_000, tzinfo=dt.UTC)
ALGORITHM = Algorithm("mr_brain", "0.1.0", "radloop", ARTIFICIAL_INTELLIGENCE)


def segments_of(*names: str) -> tuple[Segment, ...]:
    return tuple(
        Segment(number, name.replace("_", " "), s.category, s.type, None, s.laterality, s.rgb)
        for number, name in enumerate(names, 1)
        for s in [STRUCTURES[name]]
    )


def uids_of(count: int, job: str = "job") -> ResultUids:
    return ResultUids(
        derived_uid(job, "series"),
        derived_uid(job, "instance"),
        tuple(derived_uid(job, "tracking", str(n)) for n in range(count)),
    )


def encoded(
    labels_kji: np.ndarray,
    source: Grid | Volume,
    segments: tuple[Segment, ...] = segments_of("brain"),
    **changed: object,
) -> Dataset:
    arguments = {
        "algorithm": ALGORITHM,
        "uids": uids_of(len(segments)),
        "series_number": 901,
        "series_description": "brain (radloop)",
        "content_label": "BRAIN",
        "created": NOON,
    }
    return encode_seg(labels_kji, source, segments, **{**arguments, **changed})


def bytes_of(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def problems(*command: object) -> list[str]:
    """Return the lines in which David Clunie's tools name an error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert not any("Abort" in line or "Usage" in line for line in lines), lines
    return [line for line in lines if "Error" in line]


def read_by_highdicom(path: Path, source: Grid | Volume, number: int) -> np.ndarray:
    seg = highdicom.seg.segread(path)
    return seg.get_pixels_by_source_instance(
        source_sop_instance_uids=[instance.sop_instance_uid for instance in source.instances],
        segment_numbers=[number],
        assert_missing_frames_are_empty=True,
    )[..., 0]


def read_by_dcmqi(path: Path, source: Grid | Volume, folder: Path) -> dict[int, np.ndarray]:
    """Return each segment's mask on the source's grid, through dcmqi's NIfTI."""
    folder.mkdir()
    command = [BIN / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder]
    subprocess.run([*command, "--outputType", "nii"], check=True, capture_output=True)
    described = json.loads((folder / "meta.json").read_text())
    masks = {}
    for file, attributes in zip(
        sorted(folder.glob("*.nii.gz"), key=lambda file: int(file.name.split(".")[0])),
        described["segmentAttributes"],
        strict=True,
    ):
        image = nibabel.load(file)
        values = np.asarray(image.dataobj)
        to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine  # NIfTI's world is RAS
        for each in attributes:  # one a file; of a label map, all of them in one file
            number = int(each["labelID"])
            inside = np.argwhere(values == number if len(attributes) > 1 else values)
            points = np.c_[inside, np.ones(len(inside))] @ to_lps.T
            exact = np.linalg.solve(source.affine_lps, points.T).T[:, :3]
            index = np.rint(exact).astype(int)
            assert np.abs(exact - index).max(initial=0) < 0.02
            mask = np.zeros(source.shape_kji, bool)
            mask[tuple(index.T)] = True
            masks[number] = mask
    return masks
