"""The folder of one job: de-identified slices, labels and results between two steps.

What lies here can be made again from the archive; it is dropped when the job ends. File names are
running numbers and pseudonyms. Where workers share a database, they share this folder too.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dicom.errors import DiskFull
from dicom.measure import Measured
from dicom.study import Instance, Series, Study
from models.prediction import Answer, from_arrays, to_arrays


def jobs_with_folders(root: Path) -> list[str]:
    """Return the ids of the jobs that have a folder."""
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


class Workspace:
    """Files of one job.

    Parameters
    ----------
    root : Path
        The folder of all jobs.
    job_id : str
    """

    def __init__(self, root: Path, job_id: str) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = root / job_id
        self.folder.mkdir(exist_ok=True, mode=0o700)

    # --- the study ------------------------------------------------------------------------------

    def keep_sources(self, sources: Mapping[str, tuple[Path, ...]]) -> None:
        """Note where the archive's files of each series lie (by the series' pseudonym)."""
        content = {series: [str(path) for path in paths] for series, paths in sources.items()}
        self._write_json("sources.json", content)

    def sources(self) -> dict[str, tuple[Path, ...]]:
        """Return where the archive's files lie."""
        content = json.loads((self.folder / "sources.json").read_text())
        return {series: tuple(Path(path) for path in paths) for series, paths in content.items()}

    @property
    def downloads(self) -> Path:
        """Folder for the archive's files when they cannot be read in place."""
        return self.folder / "original"

    def clean_folder(self, series_id: str) -> Path:
        """Return the folder of a de-identified series."""
        folder = self.folder / "clean" / series_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep_study(self, study: Study) -> None:
        """Note the de-identified study."""
        content = {
            "study": study.study_uid,
            "series": [
                {
                    "series": series.series_uid,
                    "modality": series.modality,
                    "instances": [
                        [i.sop_instance_uid, i.sop_class_uid, str(i.path)] for i in series.instances
                    ],
                }
                for series in study.series
            ],
        }
        self._write_json("study.json", content)

    def drop_downloads(self) -> None:
        """Remove the archive's files; for a later step: the one that reads them may run again."""
        shutil.rmtree(self.downloads, ignore_errors=True)

    def study(self) -> Study:
        """Return the de-identified study."""
        content = json.loads((self.folder / "study.json").read_text())
        return Study(
            study_uid=content["study"],
            series=tuple(
                Series(
                    series_uid=entry["series"],
                    modality=entry["modality"],
                    instances=tuple(
                        Instance(sop, sop_class, Path(path))
                        for sop, sop_class, path in entry["instances"]
                    ),
                )
                for entry in content["series"]
            ),
        )

    # --- one task -------------------------------------------------------------------------------

    def task_folder(self, task_id: str) -> Path:
        """Return the folder of one task."""
        folder = self.folder / "tasks" / task_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep_answer(self, task_id: str, answer: Answer) -> None:
        """Keep what a model answered."""
        arrays = to_arrays(answer)
        with (
            self._atomic(self.task_folder(task_id) / "answer.arrays") as temporary,
            temporary.open("wb") as file,
        ):
            # an .npz would sum up every byte; the file system does not lose any either
            file.write(json.dumps([*arrays]).encode() + b"\n")
            for array in arrays.values():
                np.save(file, array, allow_pickle=False)

    def answer(self, task_id: str) -> Answer:
        """Return what a model answered."""
        with (self.task_folder(task_id) / "answer.arrays").open("rb") as file:
            names = json.loads(file.readline())
            return from_arrays({name: np.load(file, allow_pickle=False) for name in names})

    def keep_measured(self, task_id: str, measured: Sequence[Measured]) -> None:
        """Keep what was measured of the answer's segments."""
        with self._atomic(self.task_folder(task_id) / "measured.json") as temporary:
            temporary.write_text(json.dumps([asdict(one) for one in measured]))

    def measured(self, task_id: str) -> tuple[Measured, ...]:
        """Return what was measured."""
        content = json.loads((self.task_folder(task_id) / "measured.json").read_text())
        return tuple(Measured(**one) for one in content)

    def result_path(self, task_id: str, output: str) -> Path:
        """Return where the relinked result of a task lies, by its output type."""
        return self.task_folder(task_id) / f"{output}.dcm"

    def keep_results(self, task_id: str, outputs: Mapping[str, str]) -> None:
        """Note which output type made which result, by its SOP Instance UID."""
        with self._atomic(self.task_folder(task_id) / "results.json") as temporary:
            temporary.write_text(json.dumps(dict(outputs)))

    def result(self, task_id: str, sop_instance_uid: str) -> Path:
        """Return the file of a result."""
        outputs = json.loads((self.task_folder(task_id) / "results.json").read_text())
        return self.result_path(task_id, outputs[sop_instance_uid])

    def drop(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- writing whole files or none ------------------------------------------------------------

    def _write_json(self, name: str, content: Any) -> None:  # noqa: ANN401 - what json takes
        with self._atomic(self.folder / name) as temporary:
            temporary.write_text(json.dumps(content))

    def _atomic(self, path: Path) -> _Atomic:
        return _Atomic(path)


class _Atomic:
    """Write beside, then rename: a crash leaves the old file or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}.part")

    def __enter__(self) -> Path:
        return self._temporary

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._temporary.replace(self._path)
            return
        self._temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("no room left for a job's files") from error
