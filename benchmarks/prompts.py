"""From a click to a mask, through the front, on an MR of 192 slices that a real archive holds.

The answer is the whole one: the labels document in, the voxels, the labels document out. Beside
it, on the same part of the image, ITK's watershed as it floods floating-point slopes, and
scikit-image's random walker. The fastest of several; the first prompt of a series reads it, and is
told apart.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from skimage.segmentation import random_walker

from benchmarks.table import Row, machine, publish
from dicom.masks import Mask
from dicom.volume import Volume
from models.prompts import Point, grow
from tests.orthanc import servers
from tests.orthanc.test_prompts import Head
from tests.series import DATA, real_series

SERIES = "mr/sag_anon_t1_dicom/dicom.tar.xz"
TARGET_S, TIMES = 1.0, 5
REACH_MM = 40.0


def main() -> None:
    """Measure, and publish."""
    about = machine()
    if not (DATA / SERIES).exists():
        publish("prompts", [Row("not measured: the real series is absent", "s", None)], about)
        return
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        with (
            servers.running(servers.clinical_config(folder / "orthanc")) as (orthanc,),
            orthanc.archive() as archive,
        ):
            series = real_series(SERIES, folder / "real")
            stored = [archive.store(instance.path) for instance in series.instances]
            rows = _measured(Head(archive, folder, stored))
    publish("prompts", rows, about)


def _measured(head: Head) -> list[Row]:
    volume = head.volume
    k, j, i = (size // 2 for size in volume.shape_kji)
    tissue: Mask = grow(volume.voxels_kji, Point(k, j, i)).mask_kji
    near = np.zeros_like(tissue)
    near[k - 40 : k + 40, j - 40 : j + 40, i - 40 : i + 40] = True
    drawn: Mask = tissue & near
    click, beside = head.place(k, j, i), head.place(k, j - 44, i)
    corners = {
        "first": head.place(k - 30, j - 40, i - 40),
        "last": head.place(k + 30, j + 40, i + 40),
    }
    size = " x ".join(str(side) for side in volume.shape_kji)
    first_s = _best(lambda: _asked(head, {"kind": "grow", "seed": click}), times=1)
    rows = [Row(f"first prompt of a series ({size}): it is read", "s", first_s)]
    refine = {"kind": "refine", "bundle": "none"}
    for what, asked, before in (
        ("region growing, 3D", {"kind": "grow", "seed": click}, None),
        ("region growing, 2D", {"kind": "grow", "seed": click, "dimensions": 2}, None),
        ("a new structure from a click", {**refine, "positive": [click]}, None),
        ("from a box", {**refine, "box": corners}, None),
        ("a click adds to a mask", {**refine, "positive": [beside]}, drawn),
        ("a click takes from a mask", {**refine, "negative": [click]}, drawn),
        ("3 mm larger", {"kind": "margin", "mm": 3.0}, drawn),
        ("holes filled", {"kind": "fill_holes"}, drawn),
        ("largest part", {"kind": "largest"}, drawn),
        ("smoothed", {"kind": "smooth"}, drawn),
    ):
        seconds = _best(lambda asked=asked, before=before: _asked(head, asked, before))
        rows.append(_row(what, seconds))
    ours = next(row.ours for row in rows if row.what == "a new structure from a click")
    for peer, run in (("ITK, float slopes", _itk), ("scikit-image, random walker", _walker)):
        seconds = _best(lambda run=run: run(volume, Point(k, j, i)), times=2)
        assert ours is not None
        rows.append(
            Row("a new structure from a click", "s", ours, peer, seconds, round(ours / seconds, 3))
        )
    return rows


def _row(what: str, seconds: float) -> Row:
    return Row(what, "s", seconds, target=f"<= {TARGET_S:.0f} s", met=seconds <= TARGET_S)


def _asked(head: Head, asked: dict[str, object], before: Mask | None = None) -> None:
    answer = head.ask(head.document(asked, before))
    assert answer.status_code == 200, answer.text


def _best(run: Callable[[], object], *, times: int = TIMES) -> float:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return min(found)


def _part(volume: Volume, point: Point) -> tuple[np.ndarray, np.ndarray]:
    """Return the surroundings of a click, and markers: inside at it, outside beyond the reach."""
    spacing = volume.source.spacing_kji
    reach = [int(REACH_MM / step) + 1 for step in spacing]
    part = tuple(
        slice(max(0, at - far), min(size, at + far + 1))
        for at, far, size in zip(point, reach, volume.shape_kji, strict=True)
    )
    voxels = volume.voxels_kji[part].astype(np.float32)
    away = sum(
        ((np.arange(s.start, s.stop) - at) * step).reshape([-1 if n == a else 1 for n in range(3)])
        ** 2
        for a, (s, at, step) in enumerate(zip(part, point, spacing, strict=True))
    )
    markers = np.zeros(voxels.shape, np.uint8)
    markers[away > REACH_MM**2] = 2
    markers[away <= 2.0**2] = 1
    return voxels, markers


def _itk(volume: Volume, point: Point) -> None:
    voxels, markers = _part(volume, point)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(volume.source.spacing_kji[::-1])
    slope = sitk.GradientMagnitudeRecursiveGaussian(image, min(volume.source.spacing_kji))
    sea = sitk.GetImageFromArray(markers)
    sea.CopyInformation(slope)
    sitk.MorphologicalWatershedFromMarkers(
        slope, sea, markWatershedLine=False, fullyConnected=False
    )


def _walker(volume: Volume, point: Point) -> None:
    voxels, markers = _part(volume, point)
    scaled = (voxels - voxels.min()) / max(float(np.ptp(voxels)), 1.0)
    random_walker(scaled, markers.astype(np.int32), beta=130, mode="cg_j", tol=1e-2)


if __name__ == "__main__":
    main()
