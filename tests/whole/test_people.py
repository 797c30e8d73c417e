"""What people ask of a whole node: runs, corrections, and what other systems draw."""

from pathlib import Path

import numpy as np
import pytest

from dicom.phantom import write_head_study
from dicom.seg import decode_seg
from dicom.volume import read_grid
from pipelines.labels import MEDIA_TYPE, layers_of, write_labels
from pipelines.store import Corrections, ElsewhereObjects, Jobs
from tests.segmentations import bytes_of
from tests.structures import square, structure_set
from tests.whole.nodes import Node, until

pytestmark = pytest.mark.orthanc


def test_a_person_runs_a_model_corrects_it_and_the_effort_is_measured(
    node: Node, tmp_path: Path
) -> None:
    head = write_head_study(tmp_path / "head", slices=16, size=48, seed=31, plane="axial")
    node.send(tmp_path / "head")
    routed = node.ended_job(head.study.study_uid)
    names = {
        "StudyInstanceUID": head.study.study_uid,
        "SeriesInstanceUID": head.series.series_uid,
    }
    origin = {"Origin": node.address}
    grid = read_grid(head.series)
    client = node.client()
    box = {"from": [10, 12, 4], "to": [40, 36, 9]}
    asked = client.post(
        "/api/viewer/runs",
        json={**names, "bundle": "threshold", "region": box},
        headers=origin,
    )
    assert asked.status_code == 202, asked.text
    job = asked.json()["job"]
    node.ended_job(head.study.study_uid, count=2)
    results = client.post(
        "/api/viewer/study", json={"StudyInstanceUID": head.study.study_uid}, headers=origin
    ).json()["results"]
    (part,) = [one for one in results if one["id"] in made_by(node, job)]
    (whole,) = [one for one in results if one["id"] in made_by(node, routed.id)]
    assert part["segments"][0]["volume_ml"] is not None
    in_part, in_whole = (decoded(node, one["id"], grid, tmp_path) for one in (part, whole))
    within = (slice(4, 10), slice(12, 37), slice(10, 41))
    assert np.array_equal(in_part[within], in_whole[within]) and in_part.any()
    in_part[within] = 0
    assert not in_part.any()  # outside of the region, nothing was found
    corrected = in_whole.copy()
    corrected[np.argwhere(corrected == 0)[0][0]] = 1
    content = document(grid, corrected, names, whole["id"])
    saved = client.post(
        "/api/corrections", content=content, headers={**origin, "Content-Type": MEDIA_TYPE}
    )
    assert saved.status_code == 201, saved.text
    effort = until(
        lambda: [one for one in client.get("/api/effort").json() if one["changed_voxels"]],
        timeout_s=60,
    )
    changed = int((corrected != in_whole).sum())
    assert effort[0]["changed_voxels"]["median"] == changed > 0
    assert np.array_equal(decoded(node, saved.json()["id"], grid, tmp_path), corrected)


def test_contours_from_a_planning_system_are_found_and_fail_no_study(
    node: Node, tmp_path: Path
) -> None:
    head = write_head_study(tmp_path / "head", slices=12, size=48, seed=32, plane="axial")
    node.send(tmp_path / "head")
    node.ended_job(head.study.study_uid)
    grid = read_grid(head.series)
    drawn = structure_set(grid, {"GTV": [(k, square(10.5, 20.5)) for k in (4, 5)]})
    with node.archive() as archive:
        archive.store(bytes_of(drawn))

    def matched() -> object:
        with node.rows() as database:
            study = node.pseudonym(head.study.study_uid)
            found = [o for o in ElsewhereObjects(database).objects() if o.study_id == study]
            return found and found[0].state == "matched" and found[0]

    seen = until(matched, timeout_s=60)
    with node.rows() as database:
        row = Corrections(database).correction(seen.correction_id)
    assert row.segments[0]["voxels"] == 2 * 100
    (job,) = node.jobs_of(head.study.study_uid)  # no rule wants structures: they make no job
    assert job.state == "completed"


def made_by(node: Node, job: str) -> set[str]:
    with node.rows() as database:
        return {result.id for result in Jobs(database).job(job).results}


def decoded(node: Node, sop_instance_uid: str, grid, folder: Path) -> np.ndarray:
    path = folder / f"{sop_instance_uid}.dcm"
    with node.archive() as archive:
        path.write_bytes(archive.instance_bytes(sop_instance_uid))
    return decode_seg(path, grid).labels()


def document(grid, labels_kji: np.ndarray, names: dict, before: str) -> bytes:
    layers, planes = layers_of(labels_kji, grid)
    _, rows, columns = grid.shape_kji
    head = {
        **names,
        "rows": rows,
        "columns": columns,
        "bits": 8,
        "layers": [[name.model_dump(by_alias=True) for name in layer] for layer in layers],
        "segments": [{"number": 1, "label": "Brain", "origin": 1}],
        "predecessor": {"SeriesInstanceUID": names["SeriesInstanceUID"], "SOPInstanceUID": before},
        "effort": {"active_s": 12, "idle_s": 3, "strokes": 2},
    }
    return write_labels(head, planes)
