"""What the viewer holds of our results, voxel by voxel, in each form that we write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom.codes import ARTIFICIAL_INTELLIGENCE
from dicom.measure import measure
from dicom.phantom import write_head_study
from dicom.seg import Algorithm, Form, Masks
from dicom.sr import ReportUids, SegmentFigures, encode_report
from dicom.uids import derived_uid
from dicom.volume import read_volume
from tests.browser.chromium import Browser, browsing, log_in
from tests.browser.front import OHIF_DIST, PASSWORD, SeenNode, as_bytes, seen_node
from tests.browser.labelmap import read_labelmap
from tests.browser.viewport import wait_for_overlay
from tests.segmentations import NOON, encoded, segments_of, uids_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]

NAMES = ("brain", "kidney_left", "liver")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeenNode]:
    with seen_node(tmp_path_factory.mktemp("node"), slices=8, size=64) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running
        assert running.outside() == []


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_several_segments_and_their_report_arrive_whole(
    site: SeenNode, browser: Browser, tmp_path: Path, kind: str
) -> None:
    seed = {"binary": 31, "labelmap": 32}[kind]
    head = write_head_study(tmp_path, seed=seed, slices=12, size=96, plane="axial")
    volume = read_volume(head.series)
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[1:11, 20:70, 25:60] = 1
    labels_kji[3:6, 30:40, 62:80] = 2
    labels_kji[7:10, 5:15, 10:90] = 3
    segments = segments_of(*NAMES)
    form = Form(kind, rle=True)  # type: ignore[arg-type]  # one of its words
    seg = encoded(labels_kji, volume, segments, uids=uids_of(len(NAMES), kind), form=form)
    masks = Masks.of([labels_kji == segment.number for segment in segments])
    report = encode_report(
        [
            SegmentFigures(segment, measured, str(item.TrackingUID))
            for segment, measured, item in zip(
                segments, measure(masks, volume), seg.SegmentSequence[-len(NAMES) :], strict=True
            )
        ],
        volume,
        segmentation=seg,
        algorithm=Algorithm("organs", "1", "radloop", ARTIFICIAL_INTELLIGENCE),
        uids=ReportUids(derived_uid(kind, "series"), derived_uid(kind, "report"), "2.25.4"),
        series_number=9101,
        series_description="AI: organs, report",
        created=NOON,
    )
    with site.orthanc.clinical.archive() as archive:
        for one in head.series.instances:
            archive.store(one.path)
        for result in (seg, report):
            archive.store(as_bytes(result))
    link = site.link(head.study.study_uid, mode="segmentation")
    log_in(browser, site.base, "rita", PASSWORD, to=link.removeprefix(site.base))
    wait_for_overlay(browser.page)
    slices = replace(head.series, instances=volume.instances)
    found = read_labelmap(browser.page, slices)
    np.testing.assert_array_equal(found, labels_kji)
    assert browser.page.get_by_text("Something went wrong").count() == 0
