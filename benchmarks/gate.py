"""The geometry gate on results of a CT of 300 slices of 512x512: what each stored object waits for.

Headers are as long as scanners write them (about 300 elements). Each part runs in a process of its
own, on files that are in the page cache as they are in the workflow, which has just written them.
It runs on one core; targets are for the processor's time, best of several, which is what the step
takes on a machine that has a core for it. The time by the clock stands beside it. No other toolkit
looks at a result so, and there is no peer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from benchmarks.parts import Part, asked_part, run_part
from benchmarks.seg import SHAPE_KJI, SPACING_KJI, _segments, labels_of
from benchmarks.table import Row, machine, publish
from dicom.codes import LEFT
from dicom.deid import Identity
from dicom.folder import read_folder
from dicom.gate import check_sides, check_voxels
from dicom.measure import masks_of
from dicom.seg import Form, SegmentationType
from dicom.study import Series
from dicom.volume import read_volume
from models.bundle import Bundle, read_bundle
from models.prediction import Labels
from models.tasks import Segmentation
from pipelines.outputs import Made
from pipelines.results import check_results, encode_all, look_at, source_of
from tests.bundles import write_threshold_bundle
from tests.series import write_series

CASES: tuple[tuple[SegmentationType, int, float | None], ...] = (
    ("binary", 5, 0.2),
    ("labelmap", 24, 0.2),
    ("labelmap", 104, None),
    ("binary", 104, 1.6),
)
ROUNDS = 5

_run = partial(run_part, "benchmarks.gate")


def main() -> None:
    """Measure all of it, or one part in a process of its own."""
    if asked_part(_PARTS):
        return
    about = machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        write_series(folder / "ct", shape_kji=SHAPE_KJI, spacing_kji=SPACING_KJI, edit=_as_scanned)
        write_threshold_bundle(folder)
        for kind, segments, target in CASES:
            rows += _rows(folder, kind, segments, target)
        seen = _run("voxels", "binary", 1, folder, ROUNDS)
        rows.append(
            Row(
                "what the model saw: three slices, every position",
                "s of processor",
                round(seen["cpu_s"], 3),
            )
        )
    publish("gate", rows, about)


def _rows(folder: Path, kind: str, segments: int, target: float | None) -> list[Row]:
    _run("write", kind, segments, folder, 1)
    measured = _run("result", kind, segments, folder, ROUNDS)
    what = f"{segments} segments {kind.upper()}{'+RLE' if kind == 'labelmap' else ''}"
    rows = [
        Row(
            f"{what}: segmentation and report",
            "s of processor",
            round(measured["cpu_s"], 3),
            target="" if target is None else f"<= {target} s",
            met=None if target is None else measured["cpu_s"] <= target,
        ),
        Row(f"{what}: the same by the clock", "s", round(measured["seconds"], 3)),
        Row(f"{what}: peak memory over the labels", "MB", round(measured["memory_mb"], 1)),
    ]
    if kind == "binary":
        sides = _run("sides", kind, segments, folder, ROUNDS)
        rows.append(
            Row(
                f"{segments} segments: are sides right?", "s of processor", round(sides["cpu_s"], 3)
            )
        )
    return rows


# --- what is judged -------------------------------------------------------------------------------


def _as_scanned(k: int, ds: Dataset) -> None:
    """Fill a header up to the length of a scanner's."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    block = ds.private_block(0x0019, "RADLOOP BENCH", create=True)
    for number in range(230):
        block.add_new(number, "LO", f"a value that a scanner writes down, {number} of slice {k}")
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID = "1", "2"
    ds.RequestAttributesSequence = [item]


def _series(folder: Path) -> Series:
    (study,) = read_folder(folder / "ct").studies
    (series,) = study.series
    return series


def _bundle(folder: Path, segments: int) -> Bundle:
    bundle = read_bundle(folder / "threshold")
    assert isinstance(bundle.task, Segmentation)
    return replace(bundle, task=replace(bundle.task, segments=_segments(segments)))


def _identity(series: Series) -> Identity:
    """Return the way back of a study whose pseudonyms are its UIDs."""
    first = dcmread(series.instances[0].path, stop_before_pixels=True)
    own = (first.StudyInstanceUID, first.SeriesInstanceUID, first.FrameOfReferenceUID)
    uids = {str(uid): str(uid) for uid in own}
    uids |= {each.sop_instance_uid: each.sop_instance_uid for each in series.instances}
    patient = Dataset()
    for element in first:
        if element.tag.group == 0x0010 or element.keyword in ("StudyDate", "StudyTime", "StudyID"):
            patient.add(element)
    return Identity(str(first.StudyInstanceUID), uids, patient.to_json_dict())


def _made(folder: Path, segments: int) -> Made:
    series, bundle = _series(folder), _bundle(folder, segments)
    answer = Labels(labels_of(segments))
    return Made(
        answer,
        source_of(series, bundle, answer),
        bundle,
        key="bench",
        series_number=9001,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        measured=look_at(bundle, answer, read_volume(series), series),
    )


def _paths(folder: Path, kind: str, segments: int) -> dict[str, Path]:
    return {name: folder / f"{kind}-{segments}-{name}.dcm" for name in ("seg", "sr")}


# --- the parts ------------------------------------------------------------------------------------


def _write(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    form: SegmentationType = "binary" if kind == "binary" else "labelmap"

    def work() -> None:
        made = replace(_made(folder, segments), form=Form(form))
        for name, each in encode_all(("seg", "sr"), made).items():
            path = _paths(folder, kind, segments)[name]
            each.ds.save_as(path, enforce_file_format=True)

    return work


def _result(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    made, identity = _made(folder, segments), _identity(_series(folder))
    paths = _paths(folder, kind, segments)
    return lambda: check_results(paths, made, identity)


def _sides(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    """Every segment sided, in a trunk, so that each is judged and the body is looked for."""
    del kind
    volume = read_volume(_series(folder))
    k, j, i = np.ogrid[tuple(slice(size) for size in SHAPE_KJI)]
    body = (((j - 256) / 180) ** 2 + ((i - 256) / 220) ** 2 < 1) & (k >= 0)
    trunk = replace(volume, voxels_kji=np.where(body, 40, -1000).astype(np.int16))
    labels_kji = labels_of(segments)
    labels_kji[:, :, :256] = 0
    masks = masks_of(labels_kji)
    described = tuple(replace(each, laterality=LEFT) for each in _segments(segments))
    return lambda: check_sides(masks, described, trunk.affine_lps, trunk)


def _voxels(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    del kind, segments
    volume = read_volume(_series(folder))
    return lambda: check_voxels(volume)


_PARTS: dict[str, Part] = {
    "write": _write,
    "result": _result,
    "sides": _sides,
    "voxels": _voxels,
}

if __name__ == "__main__":
    main()
