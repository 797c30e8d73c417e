"""MONAI Label's own client on a whole node: a model is run, its result corrected."""

from __future__ import annotations

import importlib
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from dicom.phantom import write_head_study
from dicom.volume import Volume, read_volume
from pipelines.store import Corrections, Studies
from tests.whole.nodes import ADMIN_PASSWORD, Node, until

pytestmark = pytest.mark.orthanc

CLIENT = Path(sys.prefix) / "monailabel"


def test_slicers_client_runs_a_model_and_saves_what_it_changed(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not CLIENT.is_dir():
        pytest.skip("MONAI Label's client is not installed; `make install-dev` brings it")
    monkeypatch.syspath_prepend(CLIENT)
    kind = importlib.import_module("monailabel.client").MONAILabelClient
    head = write_head_study(tmp_path / "head", slices=16, size=48, seed=41, plane="coronal")
    node.send(tmp_path / "head")
    node.ended_job(head.study.study_uid)

    def client():
        made = kind(f"{node.address}/monailabel", str(tmp_path))
        made.update_auth(made.auth_token("admin", ADMIN_PASSWORD))
        return made

    with node.rows() as database, node.archive() as archive:
        (orthanc_id,) = archive.lookup("series", head.series.series_uid)
        series = Studies(database).series_in_archive(orthanc_id)
        assert series is not None
    path, told = client().infer("threshold", series.id, {"result_extension": ".nrrd"})
    mask = sitk.ReadImage(path)
    volume = read_volume(head.series)
    labels_kji = sitk.GetArrayFromImage(mask)
    assert np.array_equal(labels_kji > 0, volume.voxels_kji > 100)
    place = mask.TransformIndexToPhysicalPoint((3, 5, 7))
    assert np.allclose(place, (volume.affine_lps @ (7, 5, 3, 1))[:3], atol=1e-5)
    confidence = told["confidence"]["Brain"]["probability"]
    assert 0.5 <= confidence <= 1
    labels_kji[7, 5, 3:6] = 1 - (labels_kji[7, 5, 3:6] > 0)
    changed = sitk.GetImageFromArray(labels_kji)
    changed.CopyInformation(mask)
    sitk.WriteImage(changed, str(tmp_path / "mine.nii.gz"))
    params = {"label_info": [{"name": "Brain", "idx": 1}], "model": "threshold@0.1.0"}
    client().save_label(series.id, str(tmp_path / "mine.nii.gz"), params=params)

    def measured():
        with node.rows() as database:
            found = Corrections(database).of_study(series.study_id)
            return [one for one in found if one.difference is not None]

    (correction,) = until(measured, timeout_s=60)
    assert correction.difference.changed_voxels == 3
    assert (correction.author, correction.bundle) == ("admin", "threshold@0.1.0")
    final = sitk.ReadImage(client().download_label(series.id, "final"))
    assert np.array_equal(sitk.GetArrayFromImage(final), labels_kji)
    answers_in_every_form(node, series.id, volume, tmp_path)
    a_batch_is_the_same_jobs_again(node, series.id)


def answers_in_every_form(node: Node, image: str, volume: Volume, folder: Path) -> None:
    """Ask for the parts of an answer, and for the DICOM SEG itself; the same wish is one job."""
    with closing(node.client()) as browser:
        browser.headers["Origin"] = node.address

        def asked(output: str | None) -> httpx.Response:
            form = {"image": image, **({"output": output} if output else {})}
            words = {"params": '{"result_extension": ".nii.gz"}'}
            found = browser.post("/monailabel/infer/threshold", params=form, data=words)
            assert found.status_code == 200, found.text
            return found

        told = asked("json")
        assert told.json()["label_names"] == {"Brain": 1}
        assert asked("json").json()["job"] == told.json()["job"]
        (folder / "labels.nii.gz").write_bytes(asked("image").content)
        mask = sitk.GetArrayFromImage(sitk.ReadImage(folder / "labels.nii.gz"))
        assert np.array_equal(mask > 0, volume.voxels_kji > 100)
        ds = dcmread(BytesIO(asked("dicom_seg").content))
        assert (ds.Modality, ds.SegmentSequence[0].SegmentLabel) == ("SEG", "Brain")
        for output in (None, "all"):
            assert asked(output).headers["content-type"].startswith("multipart/form-data")
        refused = browser.post("/monailabel/infer/clicks", params={"image": image})
        assert refused.status_code == 422


def a_batch_is_the_same_jobs_again(node: Node, image: str) -> None:
    """A batch of one image that a model has seen: its job is there, so that it is done."""
    with closing(node.client()) as browser:
        browser.headers["Origin"] = node.address
        path = "/monailabel/batch/infer"
        assert browser.get(path, params={"check_if_running": True}).status_code == 404
        begun = browser.post(f"{path}/threshold", params={"images": "labeled"}).json()

        def ended() -> dict | None:
            told = browser.get(path).json()
            return told if told["status"] == "DONE" else None

        told = until(ended, timeout_s=60)
        assert told["id"] == begun["id"]
        assert len(told["result"]["jobs"]) == 1 and told["result"]["refused"] == {}
        assert browser.get(path, params={"all": True}).json()[-1]["id"] == begun["id"]
        assert browser.delete(path).json()["status"] == "CANCELED"
