"""Writing and reading Segmentations beside highdicom and dcmqi: 300 slices of 512x512.

Each is asked for the same file: labels in memory -> a SEG on the disk, and a SEG on the disk -> one
label map in memory. Reading the source images is left out for everybody; highdicom gets them as
datasets, we read one of them; dcmqi starts a process and writes what it read. The peers run once
(the big ones take them most of a minute), ours is the best of several. Each part runs in a process
of its own; memory is the peak above what it held with the labels loaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from benchmarks.parts import Part, asked_part, run_part
from benchmarks.table import Row, machine, publish
from dicom.codes import ARTIFICIAL_INTELLIGENCE, STRUCTURES
from dicom.folder import read_folder
from dicom.seg import Algorithm, Form, ResultUids, Segment, decode_seg, write_seg
from dicom.uids import derived_uid
from dicom.volume import Grid, read_grid
from tests.series import write_series

SHAPE_KJI, SPACING_KJI = (300, 512, 512), (1.5, 0.8, 0.8)
CASES = (("BINARY", 5), ("BINARY", 24), ("BINARY", 104), ("LABELMAP", 24), ("LABELMAP", 104))
WRITE_TARGETS = {("BINARY", 5): 3.0, ("BINARY", 24): 5.0, ("BINARY", 104): 15.0}
LABELMAP_TARGET, READ_TARGET, DCMQI_TARGET, MEMORY_TARGET = 2.0, 10.0, 2.0, 0.5
ROUNDS = 3
_BIN = Path(sys.executable).parent

_run = partial(run_part, "benchmarks.seg")


def main() -> None:
    """Measure all of it, or one part in a process of its own."""
    if asked_part(_PARTS):
        return
    about = machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        write_series(folder / "ct", shape_kji=SHAPE_KJI, spacing_kji=SPACING_KJI)
        for kind, segments in CASES:
            np.save(folder / "labels.npy", labels_of(segments))
            rows += _rows(folder, kind, segments)
    publish("seg", rows, about)


# --- one case -----------------------------------------------------------------------------------


def _rows(folder: Path, kind: str, segments: int) -> list[Row]:
    wrote = _run("write_ours", kind, segments, folder, ROUNDS)
    theirs = _run("write_highdicom", kind, segments, folder, 1)
    size_mb = (folder / "ours.dcm").stat().st_size / 1e6
    read = _run("read_ours", kind, segments, folder, ROUNDS)
    read_theirs = _run("read_highdicom", kind, segments, folder, 1)
    read_dcmqi = _run("read_dcmqi", kind, segments, folder, 1)
    what = f"{segments} segments {kind}{'+RLE' if kind == 'LABELMAP' else ''}"
    faster = WRITE_TARGETS.get((kind, segments), LABELMAP_TARGET)
    return [
        _compared(f"write {what}", wrote, theirs, "highdicom", faster),
        Row(
            f"write {what}: peak memory over the labels",
            "MB",
            round(wrote["memory_mb"], 1),
            "highdicom",
            round(theirs["memory_mb"], 1),
            round(wrote["memory_mb"] / theirs["memory_mb"], 3),
            f"<= {MEMORY_TARGET} of it",
            wrote["memory_mb"] <= MEMORY_TARGET * theirs["memory_mb"],
        ),
        Row(f"write {what}: the file", "MB", round(size_mb, 1)),
        _compared(f"read {what}", read, read_theirs, "highdicom", READ_TARGET),
        _compared(f"read {what}", read, read_dcmqi, "dcmqi", DCMQI_TARGET),
    ]


def _compared(
    what: str, ours: dict[str, float], peer: dict[str, float], name: str, target: float
) -> Row:
    times = peer["seconds"] / ours["seconds"]
    return Row(
        what,
        "s",
        round(ours["seconds"], 3),
        name,
        round(peer["seconds"], 3),
        round(ours["seconds"] / peer["seconds"], 3),
        f">= {target:g} times as fast ({times:.1f})",
        times >= target,
    )


# --- what is written and read -------------------------------------------------------------------


def labels_of(segments: int) -> npt.NDArray[np.uint8]:
    """Return a trunk full of ellipsoids, each about a third of the slices high."""
    rng = np.random.default_rng(segments)
    labels = np.zeros(SHAPE_KJI, np.uint8)
    size = np.array(SHAPE_KJI)
    for number in range(1, segments + 1):
        radius = np.maximum(3, size * rng.uniform((0.12, 0.04, 0.04), (0.24, 0.10, 0.10)))
        centre = rng.uniform(size * (0.1, 0.2, 0.2), size * (0.9, 0.8, 0.8))
        first = np.maximum(0, np.floor(centre - radius)).astype(int)
        last = np.minimum(size, np.ceil(centre + radius)).astype(int)
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        k, j, i = np.ogrid[box]
        shares = [((x - c) / r) ** 2 for x, c, r in zip((k, j, i), centre, radius, strict=True)]
        labels[box][sum(shares) < 1] = number
    return labels


def _segments(count: int) -> tuple[Segment, ...]:
    kinds = [kind for kind in STRUCTURES.values() if kind.laterality is None]
    return tuple(
        Segment(n + 1, f"{kind.name} {n + 1}", kind.category, kind.type, None, None, kind.rgb)
        for n, kind in enumerate(kinds[n % len(kinds)] for n in range(count))
    )


def _grid(folder: Path, name: str = "ct") -> Grid:
    (study,) = read_folder(folder / name).studies
    return read_grid(study.series[0])


def _warm_up(folder: Path) -> None:
    """Write one small Segmentation, as a worker has before: highdicom loads its tables then."""
    if not (folder / "small").exists():
        write_series(folder / "small", shape_kji=(1, 8, 8))
    grid = _grid(folder, "small")
    _write(folder / "small.dcm", np.ones(grid.shape_kji, np.uint8), grid, _segments(1), Form())


def _write_ours(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    _warm_up(folder)
    labels, grid, described = np.load(folder / "labels.npy"), _grid(folder), _segments(segments)
    form = Form("binary" if kind == "BINARY" else "labelmap")
    return lambda: _write(folder / "ours.dcm", labels, grid, described, form)


def _write(
    path: Path,
    labels: npt.NDArray[np.uint8],
    grid: Grid,
    described: tuple[Segment, ...],
    form: Form,
) -> None:
    tracking = tuple(derived_uid("bench", str(n)) for n in range(len(described)))
    write_seg(
        path,
        labels,
        grid,
        described,
        algorithm=Algorithm("bench", "1", "radloop", ARTIFICIAL_INTELLIGENCE),
        uids=ResultUids(derived_uid("bench"), derived_uid("bench", "seg"), tracking),
        series_number=1,
        series_description="bench",
        content_label="BENCH",
        created=datetime.now(UTC),
        form=form,
    )


def _write_highdicom(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless

    _warm_up(folder)
    labels, grid = np.load(folder / "labels.npy"), _grid(folder)
    sources = [dcmread(instance.path, stop_before_pixels=True) for instance in grid.instances]
    descriptions = [
        highdicom.seg.SegmentDescription.from_dataset(item)
        for item in dcmread(folder / "ours.dcm", specific_tags=["SegmentSequence"]).SegmentSequence
        if item.SegmentNumber
    ]

    def work() -> None:
        seg = highdicom.seg.Segmentation(
            sources,
            labels,
            kind,
            descriptions,
            series_instance_uid=derived_uid("theirs"),
            series_number=1,
            sop_instance_uid=derived_uid("theirs", "seg"),
            instance_number=1,
            manufacturer="m",
            manufacturer_model_name="m",
            software_versions="1",
            device_serial_number="1",
            transfer_syntax_uid=ExplicitVRLittleEndian if kind == "BINARY" else RLELossless,
        )
        seg.save_as(folder / "theirs.dcm")

    return work


def _read_ours(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    del kind, segments
    grid, expected = _grid(folder), np.load(folder / "labels.npy")
    if not np.array_equal(decode_seg(folder / "ours.dcm", grid).labels(), expected):
        raise SystemExit("we read other labels than were written")
    del expected
    return lambda: _used(decode_seg(folder / "ours.dcm", grid).labels())


def _read_highdicom(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    import highdicom

    del kind, segments
    uids = [instance.sop_instance_uid for instance in _grid(folder).instances]

    def work() -> None:
        seg = highdicom.seg.segread(folder / "ours.dcm")
        _used(
            seg.get_pixels_by_source_instance(
                uids, combine_segments=True, assert_missing_frames_are_empty=True
            )
        )

    return work


def _read_dcmqi(folder: Path, kind: str, segments: int) -> Callable[[], None]:
    del kind, segments
    command = [str(_BIN / "segimage2itkimage"), "--inputDICOM", str(folder / "ours.dcm")]

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            subprocess.run(
                [*command, "--outputDirectory", name, "--mergeSegments"],
                check=True,
                capture_output=True,
            )

    return work


def _used(labels: Any) -> None:  # noqa: ANN401 - whatever a library returns
    if labels is None:
        raise SystemExit("nothing was read")


_PARTS: dict[str, Part] = {
    "write_ours": _write_ours,
    "write_highdicom": _write_highdicom,
    "read_ours": _read_ours,
    "read_highdicom": _read_highdicom,
    "read_dcmqi": _read_dcmqi,
}

if __name__ == "__main__":
    main()
