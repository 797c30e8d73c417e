"""A reading desk on a real archive, and what a viewer sends to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread

from dicom.archive import Archive
from dicom.seg import Form, Masks, decode_seg
from dicom.study import Series
from dicom.uids import derived_uid
from dicom.volume import Grid, read_grid
from pipelines.corrections import Desk
from pipelines.drawer import Drawer
from pipelines.intake import Intake
from pipelines.labels import layers_of, write_labels
from pipelines.store import Corrections, Database, Drafts, Jobs, NewTask, SeriesView, Studies
from tests.node.front import migrated_database
from tests.orthanc.servers import RunningOrthanc
from tests.segmentations import bytes_of, encoded, segments_of, uids_of
from tests.series import write_series


@dataclass
class Room:
    """An archive with one series of images, its rows, and the desk."""

    archive: Archive
    database: Database
    studies: Studies
    jobs: Jobs
    corrections: Corrections
    drafts: Drafts
    desk: Desk
    series: Series
    grid: Grid
    study_uid: str

    def take_in(self, *, quiet_s: float = 60) -> None:
        """Read the archive's feed, as the worker does."""
        self.intake(quiet_s=quiet_s).look()

    def intake(self, *, quiet_s: float) -> Intake:
        return Intake(self.archive, self.studies, self.jobs, pseudonym=pseudonym, quiet_s=quiet_s)

    def seg(self, sop_instance_uid: str, folder: Path) -> Path:
        """Return the file of a SEG as the archive holds it."""
        path = folder / f"{sop_instance_uid}.dcm"
        path.write_bytes(self.archive.instance_bytes(sop_instance_uid))
        return path

    def masks(self, sop_instance_uid: str, folder: Path) -> list[np.ndarray]:
        """Return the masks of a SEG that the archive holds."""
        decoded = decode_seg(self.seg(sop_instance_uid, folder), self.grid)
        return [decoded.mask(segment.number) for segment in decoded.segments]

    @property
    def images(self) -> SeriesView:
        """The row of the series that is drawn on."""
        (orthanc_id,) = self.archive.lookup("series", self.series.series_uid)
        view = self.studies.series_in_archive(orthanc_id)
        assert view is not None
        return view

    def result(self, labels_kji: np.ndarray, *names: str, job: str = "job", **more) -> str:
        """Store a model's SEG with its rows, as the worker does; return its SOPInstanceUID."""
        uids = uids_of(len(names), f"{self.study_uid} {job}")
        ds = encoded(labels_kji, self.grid, segments_of(*names), uids=uids, **more)
        view = self.images
        content = {view.id: f"fingerprint {job}"}
        self.jobs.schedule(view.study_id, complete={}, as_of={}, job_id=job, new=content)
        task = NewTask(f"task-{job}", view.id, "ct", "organs@1.2.0", "0" * 64, ("seg",), (), "stat")
        self.jobs.plan(job, [task], collect=False)
        self.jobs.keep_result(
            task.id,
            sop_instance_uid=ds.SOPInstanceUID,
            series_uid=ds.SeriesInstanceUID,
            sop_class_uid=ds.SOPClassUID,
            summary=dict.fromkeys((name.replace("_", " ") for name in names), 1.5),
            destinations=("archive",),
        )
        self.archive.store(bytes_of(ds))
        self.jobs.note_delivery(ds.SOPInstanceUID, "archive")
        self.jobs.end_task(task.id)
        return str(ds.SOPInstanceUID)

    def document(
        self, labels, *, segments: Sequence[dict], before: str | None = None, **more
    ) -> bytes:
        """Return what the viewer sends; `before` is the SOPInstanceUID of what was corrected."""
        layers, planes = layers_of(labels, self.grid)
        _, rows, columns = self.grid.shape_kji
        head = {
            "StudyInstanceUID": self.study_uid,
            "SeriesInstanceUID": self.series.series_uid,
            "rows": rows,
            "columns": columns,
            "bits": 8,
            "layers": [[name.model_dump(by_alias=True) for name in layer] for layer in layers],
            "segments": [
                {"number": number, "label": f"segment {number}", **segment}
                for number, segment in enumerate(segments, 1)
            ],
            "predecessor": None
            if before is None
            else {"SeriesInstanceUID": "1.2.3", "SOPInstanceUID": before},
            "effort": {"active_s": 42.5, "idle_s": 10, "strokes": 7},
            "comment": None,
            "draft": None,
            **more,
        }
        return write_labels(head, planes)


def pseudonym(uid: str) -> str:
    return derived_uid("pseudonym", uid)


@contextmanager
def reading_room(
    folder: Path,
    orthanc: RunningOrthanc,
    *,
    shape_kji: tuple[int, int, int] = (9, 20, 24),
    form: Form | None = None,
    name: str = "a",
    modality: str = "CT",
    series: Series | None = None,
) -> Iterator[Room]:
    """Give a room whose series, written here or elsewhere, lies in the archive and was taken in."""
    if series is None:
        images = folder / f"images {name}"
        series = write_series(images, shape_kji=shape_kji, name=name, modality=modality)
    archive = orthanc.archive()
    for instance in series.instances:
        archive.store(instance.path)
    database = migrated_database(folder / f"{name}.db")
    studies, jobs = Studies(database), Jobs(database)
    corrections, drafts = Corrections(database), Drafts(database)
    desk = Desk(
        archive, studies, corrections, drafts, Drawer(b"secret"), form=form or Form("binary")
    )
    study_uid = str(dcmread(series.instances[0].path).StudyInstanceUID)
    room = Room(
        archive,
        database,
        studies,
        jobs,
        corrections,
        drafts,
        desk,
        series,
        read_grid(series),
        study_uid,
    )
    room.take_in()
    try:
        yield room
    finally:
        archive.close()
        database.close()


def blobs(grid: Grid, seed: int = 1, count: int = 3) -> np.ndarray:
    """Return a label map of some boxes."""
    random = np.random.default_rng(seed)
    labels_kji = np.zeros(grid.shape_kji, np.uint8)
    for number in range(1, count + 1):
        low = [int(random.integers(0, size // 2)) for size in grid.shape_kji]
        labels_kji[low[0] : low[0] + 3, low[1] : low[1] + 6, low[2] : low[2] + 7] = number
    return labels_kji


def overlapping(grid: Grid, count: int = 3) -> Masks:
    """Return masks of which each shares voxels with the next."""
    masks = np.zeros((count, *grid.shape_kji), bool)
    for n in range(count):
        masks[n, 1 + n : 5 + n, 2 : 9 + n, 3 + 2 * n : 12 + 2 * n] = True
    return Masks.of(masks)
