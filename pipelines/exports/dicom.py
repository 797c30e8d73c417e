"""DICOM: a file-set with its DICOMDIR (PS3.10 8, PS3.11), images and their results together.

Folders are patient, study, series; every File ID is a running number, as media want it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom import Dataset as PydicomDataset
from pydicom import dcmread
from pydicom.fileset import FileSet

from dicom.study import Instance
from pipelines.exports import Case, Dataset
from pipelines.exports.volumes import write_whole

# Directory records must have a value here (PS3.3 F.5); what was taken away gets a plain one.
_NEEDED = {"StudyDate": "19000101", "StudyTime": "000000", "StudyID": "1"}


def check(dataset: Dataset) -> None:
    """Take every dataset."""


def write(case: Case, dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Copy one case's files as they are, for `finish` to put into their places."""
    files = []
    for instance, path in _copies(case, folder):
        write_whole(path, instance.path.read_bytes())
        files.append(path)
    return files


def finish(dataset: Dataset, folder: Path) -> Sequence[Path]:
    """Give the files their places in the file-set, and write its DICOMDIR."""
    home = folder / "dicom"
    shutil.rmtree(home, ignore_errors=True)  # of a try that was stopped
    copies = {}
    directory = FileSet()
    directory.ID = "RADLOOP"
    for case in dataset.cases:
        for instance, path in _copies(case, folder):
            directory.add(_header(path, case))
            copies[instance.sop_instance_uid] = path
    home.mkdir()
    directory.write(home)  # headers in place of the files: the directory tells of those only
    files = [home / "DICOMDIR"]
    for entry in directory:
        place = Path(entry.path)
        place.unlink()
        place.hardlink_to(copies[entry.SOPInstanceUID])
        files.append(place)
    return files


def _header(path: Path, case: Case) -> PydicomDataset:
    ds = dcmread(path, stop_before_pixels=True)
    for keyword, value in _NEEDED.items():
        if not ds.get(keyword):
            setattr(ds, keyword, value)
    for keyword, number in (("SeriesNumber", case.number), ("InstanceNumber", 1)):
        if ds.get(keyword) is None:
            setattr(ds, keyword, number)
    return ds


def _copies(case: Case, folder: Path) -> Iterator[tuple[Instance, Path]]:
    drawn = ((case.seg,) if case.seg is not None else ()) + case.related
    instances = case.series.instances + drawn
    for number, instance in enumerate(instances):
        yield instance, _waiting(folder) / f"{case.number}" / f"{number}.dcm"


def _waiting(folder: Path) -> Path:
    return folder / ".dicom"
