"""From a link to the picture, and to its segmentation ready for editing; beside stock OHIF.

A head of 96 slices with 20 structures, stored as BINARY and as a label map, is opened again and
again in a real Chromium: in a running node, and in OHIF as it is published straight on an Orthanc
of the same version, in turns; so is a CT of 500 slices. Each has a browser profile of its own that
has seen the viewer, as at a workstation; the fastest of each is reported. For the first image stock
OHIF opens it in its own way, without a segmentation; for the segments it hangs them on the image as
ours does. Times begin with the navigation, in a browser that runs already; the processor's, which a
busy machine changes less, are those of all the browser's processes. Metadata is asked for as the
viewer does.
"""

from __future__ import annotations

import io
import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import psutil
from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian

from benchmarks.stock_viewer import FLAGS, stock_orthanc, stock_viewer
from benchmarks.table import Row, machine, publish
from benchmarks.volume import SIZE, write_series
from dicom.archive import Archive
from dicom.codes import STRUCTURES
from dicom.phantom import WrittenHead, write_head_study
from dicom.seg import Form
from dicom.volume import read_grid
from models.registry import SHIPPED
from tests.browser.chromium import browsing
from tests.segmentations import bytes_of, encoded, segments_of, uids_of
from tests.whole.nodes import ADMIN_PASSWORD, Node, running_node, write_config

SLICES, HEAD_SIZE, SEGMENTS, ROUNDS = 96, 256, 20, 3
CT_SLICES, MANY = 500, 500
IMAGE_RATIO, SEG_RATIO, METADATA_S, PANEL_S = 0.6, 0.4, 0.1, 0.2
_SETTLED_S = 3.0
_LOOK_MS = 50
_STARTED_MS = 2000  # at a workstation the browser runs already
_MANY_FIRST = "2.25.500.0"
_PATIENCE_MS = 180_000
FORMS: tuple[Literal["binary", "labelmap"], ...] = ("binary", "labelmap")

_WATCH = """() => {
    const seen = window.seen = {};
    const small = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
    const pen = small.getContext('2d', { willReadFrequently: true });
    let isImage = false;
    document.addEventListener('CORNERSTONE_STACK_NEW_IMAGE', () => { isImage = true; }, true);
    const look = () => {
        const canvas = document.querySelector('[data-cy=viewport-pane] canvas.cornerstone-canvas');
        if (seen.seg || !isImage || !canvas?.width) return;
        pen.drawImage(canvas, 0, 0, 64, 64);
        const { data } = pen.getImageData(0, 0, 64, 64); // this waits until it is drawn
        seen.image ??= performance.now();
        let coloured = 0;
        for (let at = 0; at < data.length; at += 4) {
            const [r, g, b] = [data[at], data[at + 1], data[at + 2]];
            coloured += Math.max(r, g, b) - Math.min(r, g, b) > 40;
        }
        const loaded = window.services?.segmentationService?.getSegmentations() ?? [];
        const whole = loaded.some(one => Object.keys(one.segments).length >= SEGMENTS);
        if (coloured > 20 && whole) seen.seg = performance.now();
    };
    document.addEventListener('CORNERSTONE_IMAGE_RENDERED', look, true);
}"""


@dataclass(frozen=True)
class Opened:
    """Seconds from the navigation to picture and segmentation, and the processor's until then."""

    image_s: float
    seg_s: float
    processor_s: float


@dataclass(frozen=True)
class Side:
    """One viewer: where it is, and how its browser is started and let in."""

    base: str
    profile: Path
    flags: tuple[str, ...] = ()
    password: str | None = None

    def open(self, study_uid: str, *, more: str = "", until: str = "seg") -> Opened:
        """Open a study in a browser that has just come to rest, and wait until that was seen."""
        with browsing(profile=self.profile, flags=self.flags) as browser:
            page = browser.page
            if self.password is not None:
                answer = browser.context.request.post(
                    self.base.removesuffix("/ohif") + "/login",
                    form={"name": "admin", "password": self.password},
                    headers={"Origin": self.base.removesuffix("/ohif")},
                )
                assert answer.ok
            page.add_init_script(f"({_WATCH.replace('SEGMENTS', str(SEGMENTS))})()")
            page.wait_for_timeout(_STARTED_MS)
            before = self._processor_s()
            page.goto(
                f"{self.base}/segmentation?StudyInstanceUIDs={study_uid}{more}",
                wait_until="commit",
            )
            page.wait_for_function(
                f"() => window.seen?.{until}", timeout=_PATIENCE_MS, polling=_LOOK_MS
            )
            taken = self._processor_s() - before
            seen = page.evaluate("() => window.seen")
        return Opened(seen["image"] / 1000, seen.get("seg", math.inf) / 1000, taken)

    def _processor_s(self) -> float:
        """Return what all processes of the browser have taken so far."""
        (browser,) = (
            process
            for process in psutil.Process().children(recursive=True)
            if f"--user-data-dir={self.profile}" in process.cmdline()
            and not any(word.startswith("--type=") for word in process.cmdline())
        )
        times = [one.cpu_times() for one in (browser, *browser.children(recursive=True))]
        return sum(one.user + one.system for one in times)


def main() -> None:
    """Measure, and publish."""
    about = machine()
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        node = stack.enter_context(running_node(write_config(folder, SHIPPED, routes="")))
        orthanc = stack.enter_context(stock_orthanc(folder / "stock"))
        stock = stack.enter_context(stock_viewer(orthanc))
        ours = Side(f"{node.address}/ohif", folder / "ours", password=ADMIN_PASSWORD)
        theirs = Side(stock, folder / "theirs", flags=FLAGS)
        with node.archive() as archive, orthanc.archive() as other:
            studies = {form: _stored(folder / form, form, (archive, other)) for form in FORMS}
            ct_uid, series_uid = _store_ct(folder / "ct", (archive, other))
            many_uid = _store_many(studies["binary"], (archive, other))
        time.sleep(_SETTLED_S)
        rows = _metadata_rows(node, orthanc.config.url, ct_uid, series_uid, many_uid)
        publish("viewer", rows, about)  # the rest takes long: what is known is written already
        for side in (ours, theirs):
            side.open(ct_uid, until="image")  # its browser sees the viewer
        for form, head in studies.items():
            rows += _segment_rows(form, ours, theirs, head.study.study_uid)
            publish("viewer", rows, about)
        rows += _image_rows(f"{CT_SLICES} slices {SIZE}x{SIZE}", ours, theirs, ct_uid)
        head_uid = studies["labelmap"].study.study_uid
        rows += _image_rows(f"{SLICES} slices, {SEGMENTS} segments", ours, theirs, head_uid)
    publish("viewer", rows, about)


def _image_rows(what: str, ours: Side, theirs: Side, study_uid: str) -> list[Row]:
    """Open it in turns until the image is there; stock OHIF by itself shows the image alone."""
    alone = "&hangingProtocolId=default"
    turns = [
        (ours.open(study_uid, until="image"), theirs.open(study_uid, more=alone, until="image"))
        for _ in range(ROUNDS)
    ]
    what = f"link to first image, {what}"
    here, there = (min(one.image_s for one in side) for side in zip(*turns, strict=True))
    return [_beside(what, here, there, IMAGE_RATIO), _processor_row(what, turns)]


def _segment_rows(form: str, ours: Side, theirs: Side, study_uid: str) -> list[Row]:
    turns = [(ours.open(study_uid), theirs.open(study_uid)) for _ in range(ROUNDS)]
    what = f"link to segments for editing, {SLICES} slices, {SEGMENTS} segments {form.upper()}"
    here, there = (min(one.seg_s for one in side) for side in zip(*turns, strict=True))
    return [_beside(what, here, there, SEG_RATIO), _processor_row(what, turns)]


def _processor_row(what: str, turns: Sequence[tuple[Opened, Opened]]) -> Row:
    here, there = (min(one.processor_s for one in side) for side in zip(*turns, strict=True))
    return _beside(f"the browser's processor time: {what}", here, there)


def _beside(what: str, ours: float, theirs: float, target: float | None = None) -> Row:
    ratio = ours / theirs
    return Row(
        what,
        "s",
        round(ours, 3),
        "stock OHIF on Orthanc",
        round(theirs, 3),
        round(ratio, 3),
        "" if target is None else f"<= {target:g} of stock",
        None if target is None else ratio <= target,
    )


def _metadata_rows(
    node: Node, orthanc: str, study_uid: str, series_uid: str, many_uid: str
) -> list[Row]:
    """Ask for metadata as the viewer does: of one long series, and of each of very many."""
    rows = []
    with closing(node.client()) as here, httpx.Client(base_url=orthanc, timeout=120) as there:
        path = f"/dicom-web/studies/{study_uid}/series/{series_uid}/metadata"
        first, second = _seconds(here, path), min(_seconds(here, path) for _ in range(5))
        straight = min(_seconds(there, path) for _ in range(3))
        what = f"metadata of {CT_SLICES} slices {SIZE}x{SIZE}"
        rows.append(_straight(f"{what}, first open", first, straight))
        rows.append(_straight(f"{what}, second open", second, straight, METADATA_S))
        path = f"/dicom-web/studies/{many_uid}/series"
        what = f"a study of {MANY} series: their list"
        first, second = _seconds(here, path), min(_seconds(here, path) for _ in range(3))
        straight = _seconds(there, path)
        rows.append(_straight(f"{what}, first open", first, straight))
        rows.append(_straight(f"{what}, second open", second, straight))
        names = [one["0020000E"]["Value"][0] for one in here.get(path).json()]
        what = f"a study of {MANY} series: metadata of each"
        for visit in ("first", "second"):
            taken = sum(_seconds(here, f"{path}/{name}/metadata") for name in names)
            straight = sum(_seconds(there, f"{path}/{name}/metadata") for name in names)
            rows.append(_straight(f"{what}, {visit} open", taken, straight))
        rows += _panel_rows(here, many_uid)
    return rows


def _panel_rows(client: httpx.Client, study_uid: str) -> list[Row]:
    """Ask what the panel does of a study of very many series: its results, and the models."""
    client.headers["Origin"] = str(client.base_url).rstrip("/")
    study = {"StudyInstanceUID": study_uid}
    asked = {
        "what the panel asks": ("/api/viewer/study", study),
        "which models fit one": ("/api/viewer/models", {**study, "SeriesInstanceUID": _MANY_FIRST}),
    }
    rows = []
    for what, (path, name) in asked.items():
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            answer = client.post(path, json=name)
            assert answer.status_code == 200, answer.text
            taken.append(time.perf_counter() - started)
        rows.append(
            Row(
                f"a study of {MANY} series: {what}",
                "s",
                round(min(taken), 3),
                target=f"<= {PANEL_S:g} s",
                met=min(taken) <= PANEL_S,
            )
        )
    return rows


def _straight(what: str, ours: float, theirs: float, target: float | None = None) -> Row:
    return Row(
        what,
        "s",
        round(ours, 4),
        "Orthanc's DICOMweb, straight",
        round(theirs, 4),
        round(ours / theirs, 3),
        "" if target is None else f"<= {target:g} s",
        None if target is None else ours <= target,
    )


def _seconds(client: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    answer = client.get(path, headers={"Accept": "application/dicom+json"})
    assert answer.status_code == 200, answer.status_code
    assert answer.content
    return time.perf_counter() - started


def _stored(
    folder: Path, form: Literal["binary", "labelmap"], archives: tuple[Archive, ...]
) -> WrittenHead:
    """Store a head and its 20 structures, each in several balls."""
    head = write_head_study(
        folder, slices=SLICES, size=HEAD_SIZE, plane="axial", seed=1 + FORMS.index(form)
    )
    k, j, i = np.ogrid[:SLICES, :HEAD_SIZE, :HEAD_SIZE]
    labels_kji = np.zeros((SLICES, HEAD_SIZE, HEAD_SIZE), np.uint8)
    for number in range(SEGMENTS):
        y, x = 60 + 30 * (number // 5), 60 + 34 * (number % 5)
        labels_kji[((j - y) ** 2 + (i - x) ** 2 < 12**2) & (k >= 0)] = number + 1
    seg = encoded(
        labels_kji,
        read_grid(head.series),
        segments_of(*list(STRUCTURES)[:SEGMENTS]),
        uids=uids_of(SEGMENTS, form),
        form=Form(form),
    )
    for archive in archives:
        for one in head.series.instances:
            archive.store(one.path)
        archive.store(bytes_of(seg))
    return head


def _store_ct(folder: Path, archives: tuple[Archive, ...]) -> tuple[str, str]:
    write_series(folder, ExplicitVRLittleEndian, slices=CT_SLICES)
    ds = None
    for path in folder.iterdir():
        ds = ds or dcmread(path, stop_before_pixels=True)
        for archive in archives:
            archive.store(path)
        path.unlink()
    assert ds is not None
    return ds.StudyInstanceUID, ds.SeriesInstanceUID


def _store_many(head: WrittenHead, archives: tuple[Archive, ...]) -> str:
    ds = dcmread(head.series.instances[0].path)
    ds.StudyInstanceUID = "2.25.500"
    ds.Rows = ds.Columns = 16
    ds.PixelData = bytes(2 * 16 * 16)
    for number in range(MANY):
        ds.SeriesInstanceUID = f"2.25.500.{number}"
        ds.SeriesNumber = number + 1
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.500.{number}.1")
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        for archive in archives:
            archive.store(out.getvalue())
    return str(ds.StudyInstanceUID)


if __name__ == "__main__":
    main()
