"""The whole house on a real head: C-STORE, the shipped model, OHIF in a real Chromium."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom.seg import decode_seg
from dicom.volume import read_grid
from models.registry import SHIPPED
from tests.browser.chromium import browsing, log_in
from tests.browser.front import OHIF_DIST
from tests.browser.painting import painted_and_saved_twice
from tests.browser.panel import Panel
from tests.browser.viewport import wait_for_overlay
from tests.series import real_series
from tests.whole.nodes import ADMIN_PASSWORD, running_node, write_config

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]
ROUTE = """
[[route]]
name = "head-mr"
bundle = "mr_brain"
[route.when]
modality = ["MR"]
"""


@pytest.mark.timeout(400)
def test_the_brain_of_a_real_head_is_drawn_where_it_lies_and_corrected(tmp_path: Path) -> None:
    series = real_series("mr/sag_anon_t1_dicom/dicom.tar.xz", tmp_path / "real")
    study_uid = dcmread(series.instances[0].path, stop_before_pixels=True).StudyInstanceUID
    with running_node(write_config(tmp_path, SHIPPED, routes=ROUTE)) as node:
        node.send(tmp_path / "real")
        job = node.ended_job(study_uid, timeout_s=240)
        assert job.error_code is None
        (sop_instance_uid,) = node.segmentations(study_uid)
        with node.archive() as archive:
            seg = dcmread(BytesIO(archive.instance_bytes(sop_instance_uid)))
        labels_kji = decode_seg(seg, read_grid(series)).labels()
        assert labels_kji.any()

        with browsing() as browser:
            path = f"/ohif/segmentation?StudyInstanceUIDs={study_uid}"
            log_in(browser, node.address, "admin", ADMIN_PASSWORD, to=path)
            seen = wait_for_overlay(browser.page)
            panel = Panel(browser.page)
            panel.results.first.wait_for()
            painted_and_saved_twice(panel, node, series, study_uid, tmp_path)
            assert browser.outside() == []
    slices, rows, columns = labels_kji.shape
    scale = min(seen.height / rows, seen.width / columns)  # the picture fills the viewport
    drawn = [int(labels_kji[k].sum()) * scale**2 for k in (slices // 2 - 1, slices // 2)]
    assert min(drawn) * 0.9 <= seen.coloured <= max(drawn) * 1.1
