"""The whole house on a real abdomen, in OHIF in a real Chromium: seen, run, painted on, saved.

Expert masks of the liver stand in for a model's result; a threshold is the model that is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom.seg import Form
from dicom.volume import read_grid, read_volume
from tests.browser.chromium import browsing, log_in
from tests.browser.front import OHIF_DIST
from tests.browser.labelmap import read_labelmap
from tests.browser.painting import painted_and_saved_twice
from tests.browser.panel import Panel
from tests.browser.viewport import wait_for_overlay
from tests.bundles import write_threshold_bundle
from tests.segmentations import bytes_of, encoded, segments_of
from tests.series import DATA, real_series
from tests.whole.nodes import ADMIN_PASSWORD, Node, running_node, write_config

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]


BONES = 150.0  # HU: what is brighter is bone, vessel or kidney


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    write_threshold_bundle(folder / "bundles", threshold=BONES)
    with running_node(write_config(folder, folder / "bundles", routes="")) as running:
        yield running


def test_a_real_abdomen_is_corrected_then_a_model_runs_on_it_and_is_corrected(
    node: Node, tmp_path: Path
) -> None:
    series = real_series("ct/chaos_ct_set3/DICOM_anon.tar.xz", tmp_path / "real")
    study_uid = dcmread(series.instances[0].path, stop_before_pixels=True).StudyInstanceUID
    masks = sorted((DATA / "ct/chaos_ct_set3/Ground").glob("*.png"))
    drawn = {
        instance.sop_instance_uid: np.asarray(Image.open(path)) > 0
        for instance, path in zip(series.instances, masks, strict=True)
    }
    grid = read_grid(series)
    labels_kji = np.stack([drawn[one.sop_instance_uid] for one in grid.instances])
    seg = encoded(labels_kji.astype(np.uint8), grid, segments_of("liver"), form=Form("binary"))
    with node.archive() as archive:
        for one in series.instances:
            archive.store(one.path)
        archive.store(bytes_of(seg))
    node.ended_job(study_uid)
    with browsing(width=1280, height=800) as browser:
        path = f"/ohif/segmentation?StudyInstanceUIDs={study_uid}"
        log_in(browser, node.address, "admin", ADMIN_PASSWORD, to=path)
        wait_for_overlay(browser.page)
        panel = Panel(browser.page)
        panel.results.first.wait_for()
        painted_and_saved_twice(panel, node, series, study_uid, tmp_path)

        panel.page.evaluate("window.sameDocument = true")
        panel.part("models").select_option("threshold@0.1.0")
        panel.press("m")
        panel.part("progress").wait_for()
        panel.wait_for("is ready")
        assert panel.part("progress").count() == 0
        shown = read_labelmap(panel.page, replace(series, instances=grid.instances))
        inside = read_volume(series).voxels_kji[shown != 0]
        assert inside.size > 10_000 and inside.min() > BONES - 5  # bfloat16
        painted_and_saved_twice(panel, node, series, study_uid, tmp_path)
        assert panel.page.evaluate("window.sameDocument")
        assert browser.outside() == []
