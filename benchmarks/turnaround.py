"""From the last C-STORE to the SEG in QIDO, ingest beside Orthanc alone, and memory at rest.

A whole node is started on free ports; a 300-slice CT (a bundle that resamples to 1.5 mm and back,
with a network of one convolution) and a 192-slice head MR (mr_brain) are sent to it three times
each, and the fastest overhead is reported with its steps: all of the time but the seconds in which
the network ran. Some of those lie in the quiet second, which is used to predict; so the whole time
is told as well. Ingest is measured by the same sender on an Orthanc with our plugin and a listening
node, and on one without, in turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.table import Row, machine, publish
from benchmarks.volume import SIZE as CT_SIZE
from benchmarks.volume import SLICES as CT_SLICES
from benchmarks.volume import write_series
from dicom import dimse
from dicom.folder import read_folder
from dicom.phantom import head_mr, write_head_study
from node import wiring
from pipelines.store import Jobs, JobView, Studies
from tests.bundles import write_threshold_bundle
from tests.orthanc.servers import CLINICAL_AET, SENDER_AET, clinical_config, running
from tests.whole.nodes import Node, running_node, until, write_config

SLICES, SIZE, VISITS, ROUNDS = 192, 256, 3, 5
CT_OVERHEAD_S, OVERHEAD_S, INGEST_RATIO, MEMORY_MB = 2.0, 8.0, 0.9, 400.0
_LOOK_S, _PATIENCE_S = 0.03, 600.0
BONE_HU, CT_SPACING_MM = 250.0, 1.5
ROUTE = """
[[route]]
name = "ct"
bundle = "bone"
[route.when]
modality = ["CT"]

[[route]]
name = "head-mr"
bundle = "mr_brain"
[route.when]
modality = ["MR"]
"""


def main() -> None:
    """Measure all of it."""
    about = machine()
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        head = head_mr(1, slices=SLICES, size=SIZE)
        studies = []
        for visit in range(1, VISITS + ROUNDS + 1):
            write_head_study(folder / f"visit-{visit}", head=head, visit=visit)
            studies.append(folder / f"visit-{visit}")
        (folder / "bundles").mkdir()
        write_threshold_bundle(
            folder / "bundles", "bone", threshold=BONE_HU, spacing_mm=CT_SPACING_MM
        )
        for visit in range(VISITS):
            write_series(folder / f"ct-{visit}", ExplicitVRLittleEndian, visit=visit)
        config = write_config(folder, folder / "bundles", routes=ROUTE)
        config.write_text(config.read_text().replace("threads = 1", "threads = 0"))
        with running_node(config) as node:
            memory = _resident_mb(node)
            of_ct = [_overhead(node, folder / f"ct-{visit}") for visit in range(VISITS)]
            overheads = [_overhead(node, study) for study in studies[:VISITS]]
            ingest = _ingest(node, studies[VISITS:], folder)
    rows = _overhead_rows(f"{CT_SLICES}-slice CT of {CT_SIZE}x{CT_SIZE}", of_ct, CT_OVERHEAD_S)
    rows += _overhead_rows(f"{SLICES}-slice MR", overheads, OVERHEAD_S)
    publish("turnaround", [*rows, ingest, memory], about)


# --- overhead -----------------------------------------------------------------------------------


def _overhead(node: Node, study: Path) -> tuple[float, JobView]:
    """Return seconds from the last C-STORE to the SEG in QIDO, less the forward passes."""
    (found,) = read_folder(study).studies
    node.send(study)
    sent = time.monotonic()
    with closing(node.client()) as client:
        path = f"/dicom-web/studies/{found.study_uid}/series"

        def listed() -> bool:
            # Asking the archive all the time would slow down what is measured: rows are cheap.
            if not any(job.results for job in node.jobs_of(found.study_uid)):
                return False
            answer = client.get(path, params={"Modality": "SEG"})
            return answer.status_code == 200 and bool(answer.json())

        deadline = time.monotonic() + _PATIENCE_S
        while not listed():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no segmentation in {_PATIENCE_S:.0f} s")
            time.sleep(_LOOK_S)
    seconds = time.monotonic() - sent
    job = node.ended_job(found.study_uid)
    return seconds - _forward_s(job), job


def _forward_s(job: JobView) -> float:
    return sum(task.forward_s or 0.0 for task in job.tasks)


def _overhead_rows(what: str, overheads: list[tuple[float, JobView]], target_s: float) -> list[Row]:
    best, job = min(overheads, key=lambda each: each[0])
    rows = [
        Row(
            f"overhead, {what}, best of {VISITS}",
            "s",
            round(best, 3),
            target=f"<= {target_s:.0f} s",
            met=best <= target_s,
        ),
        Row(
            f"overhead, {what}, median",
            "s",
            round(statistics.median(seconds for seconds, _ in overheads), 3),
        ),
        Row("of the best: forward passes", "s", round(_forward_s(job), 3)),
        Row("of the best: all of it", "s", round(best + _forward_s(job), 3)),
    ]
    for step in job.steps:
        rows.append(Row(f"of the best: step {step.name}", "s", round(step.seconds or 0.0, 3)))
    waited = (job.created_at - job.started_at).total_seconds() if job.started_at else 0.0
    rows.append(Row("of the best: from scheduled to begun", "s", round(-waited, 3)))
    return rows


# --- ingest -------------------------------------------------------------------------------------


def _ingest(node: Node, studies: list[Path], folder: Path) -> Row:
    """Compare instances a second with the node listening and with Orthanc alone, in turns."""
    ours, alone = [], []
    with running(replace(clinical_config(folder / "alone"), bell=None)) as (orthanc,):
        listener = orthanc.config.listener
        assert listener is not None
        peer = dimse.Peer("alone", "127.0.0.1", listener.port, CLINICAL_AET)
        for study in studies:
            target = wiring.ourselves(node.settings)
            ours.append(_rate(target, study, node.settings.dicom.aet))
            alone.append(_rate(peer, study, SENDER_AET))
            until(lambda: not _busy(node), timeout_s=600)
    mine, theirs = max(ours), max(alone)
    return Row(
        f"ingest with the node listening, best of {len(studies)}",
        "instances/s",
        round(mine, 1),
        "Orthanc without plugin",
        round(theirs, 1),
        round(mine / theirs, 3),
        f">= {INGEST_RATIO} of Orthanc",
        mine / theirs >= INGEST_RATIO,
    )


def _rate(peer: dimse.Peer, study: Path, calling_aet: str) -> float:
    began = time.monotonic()
    sent = dimse.send_folder(peer, study, calling_aet=calling_aet)
    return len(sent) / (time.monotonic() - began)


def _busy(node: Node) -> bool:
    with node.rows() as database:
        jobs = Jobs(database).jobs()
        return Studies(database).receiving() or any(job.ended_at is None for job in jobs)


# --- memory -------------------------------------------------------------------------------------


def _resident_mb(node: Node) -> Row:
    """Return what front and worker hold before the first study."""
    total = 0.0
    for words in (("node", "front"), ("node", "worker")):
        process = node.child(*words)
        assert process is not None
        total += psutil.Process(process.pid).memory_info().rss / 2**20
    return Row(
        "memory of front and worker, idle, no model loaded",
        "MB",
        round(total, 1),
        target=f"<= {MEMORY_MB:.0f} MB",
        met=total <= MEMORY_MB,
    )


if __name__ == "__main__":
    main()
