"""The whole house on a real abdomen: OHIF in a real Chromium, a result painted on and saved.

Expert masks of the liver stand in for a model's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.seg import Form, decode_seg
from dicom.study import Series
from dicom.volume import Grid, read_grid
from models.registry import SHIPPED
from tests.browser.chromium import browsing, log_in
from tests.browser.front import OHIF_DIST
from tests.browser.labelmap import read_labelmap
from tests.browser.panel import Panel
from tests.browser.viewport import wait_for_overlay
from tests.segmentations import bytes_of, encoded, read_by_highdicom, segments_of
from tests.series import DATA, real_series
from tests.whole.nodes import ADMIN_PASSWORD, Node, running_node, write_config

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(write_config(tmp_path_factory.mktemp("node"), SHIPPED, routes="")) as running:
        yield running


def stored(node: Node, study_uid: str) -> list[Dataset]:
    """Return the study's SEG objects, the oldest first."""
    with node.archive() as archive:
        found = [
            dcmread(BytesIO(archive.instance_bytes(uid))) for uid in node.segmentations(study_uid)
        ]
    return sorted(found, key=lambda ds: int(ds.SeriesNumber))


def painted_and_saved_twice(node: Node, series: Series, study_uid: str, folder: Path) -> None:
    """Paint and save, twice; compare what is shown with what is stored, each time, everywhere."""
    grid = read_grid(series)
    in_order = replace(series, instances=grid.instances)
    with browsing(width=1280, height=800) as browser:
        path = f"/ohif/segmentation?StudyInstanceUIDs={study_uid}"
        log_in(browser, node.address, "admin", ADMIN_PASSWORD, to=path)
        wait_for_overlay(browser.page)
        panel = Panel(browser.page)
        panel.results.first.wait_for()
        (original,) = stored(node, study_uid)
        shown = [read_labelmap(browser.page, in_order)]
        np.testing.assert_array_equal(shown[0], decode_seg(original, grid).labels())
        panel.use("CircularBrush")
        for number, y in enumerate((0.12, 0.88), 1):
            panel.stroke(0.3, y)
            panel.save()
            shown.append(read_labelmap(browser.page, in_order))
            correction = stored(node, study_uid)[-1]
            np.testing.assert_array_equal(decode_seg(correction, grid).labels(), shown[-1])
            np.testing.assert_array_equal(by_highdicom(correction, grid, folder), shown[-1] == 1)
            changed = shown[-1] != shown[-2]
            assert changed.any(axis=(1, 2)).sum() == 1  # of the slice that was painted on, alone
            assert len(stored(node, study_uid)) == 1 + number
        assert browser.outside() == []


def by_highdicom(seg: Dataset, grid: Grid, folder: Path) -> np.ndarray:
    """Return the first segment, as another library reads the object that was stored."""
    path = folder / f"{seg.SOPInstanceUID}.dcm"
    path.write_bytes(bytes_of(seg))
    return read_by_highdicom(path, grid, 1)


def test_the_liver_of_a_real_abdomen_is_corrected_and_stored_voxel_for_voxel(
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
    painted_and_saved_twice(node, series, study_uid, tmp_path)
