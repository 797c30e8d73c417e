"""MONAI Label's own client on a whole node: a model is run, its result corrected."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom.phantom import write_head_study
from dicom.volume import read_volume
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
