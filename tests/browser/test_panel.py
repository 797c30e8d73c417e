"""The radiologist's loop in stock OHIF: see, correct, save, sign; a real node, a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import numpy as np
import psutil
import pytest
from pydicom.dataset import Dataset

from dicom.errors import PeerError
from dicom.seg import Form, Masks, decode_seg
from dicom.volume import read_grid, read_volume
from tests.browser.chromium import Browser, browsing, log_in
from tests.browser.front import OHIF_DIST
from tests.browser.labelmap import read_labelmap
from tests.browser.panel import THRESHOLD, Panel, Reading, reading_node
from tests.browser.viewport import wait_for_overlay
from tests.segmentations import bytes_of, encoded, segments_of, uids_of
from tests.whole.nodes import ADMIN_PASSWORD, Node, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]


MODEL = "Threshold 0.1.0"  # as people read it
REFERENCE = "threshold@0.1.0"
EXPORT = "() => commandsManager.run('storeSegmentation')"
LIVER = 2  # the number of what is added to a result of one segment


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    with reading_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    with browsing(width=1280, height=800) as running:
        yield running
        assert running.outside() == []
        assert running.refused_by_policy() == []


def predecessor(seg: Dataset) -> str:
    (study,) = seg.PredecessorDocumentsSequence
    return str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def test_what_is_painted_is_stored_voxel_for_voxel_each_time(
    reading: Reading, browser: Browser
) -> None:
    panel = reading.open(browser)
    before = reading.segs()
    assert before[0].SeriesDescription == f"AI: {MODEL}"  # one name for one thing, everywhere
    panel.results.last.get_by_text(MODEL, exact=True).wait_for()
    panel.part("models").locator("option", has_text=MODEL).wait_for(state="attached")
    seen = [read_labelmap(panel.page, reading.head.series)]
    panel.use("CircularBrush")
    for number, y in enumerate((0.15, 0.85), 1):
        panel.stroke(0.3, y)
        panel.save()
        seen.append(read_labelmap(panel.page, reading.head.series))
        stored = reading.segs()
        assert len(stored) == len(before) + number
        np.testing.assert_array_equal(reading.labels_of(stored[-1]), seen[-1])
        assert predecessor(stored[-1]) == stored[-2].SOPInstanceUID
        assert stored[-1].SeriesDescription == f"Corrected by admin: {MODEL}"
    first, second = (after != earlier for earlier, after in pairwise(seen))
    assert first.any() and second.any() and not (first & second).any()
    assert [s.SegmentLabel for s in reading.segs()[-1].SegmentSequence] == ["Brain"]

    panel.part("compare").select_option(index=0)  # the first correction
    panel.part("difference").click()
    told = panel.part("compared")
    told.filter(has_text=f"{second.sum()} voxels only in Correction by admin").wait_for()
    assert "0 voxels only in" in told.inner_text()
    assert "Dice 1" not in told.inner_text()
    panel.page.get_by_role("button", name="End the comparison").click()
    told.wait_for(state="detached")
    np.testing.assert_array_equal(reading.labels_of(reading.segs()[-1]), seen[-1])
    assert panel.part("save").is_disabled()  # looking changes nothing

    panel.stroke(0.3, 0.5)  # edits, and what is stored of them: as colours, then in two panes
    seen.append(read_labelmap(panel.page, reading.head.series))
    drawn = (seen[-1] != seen[-2]).sum()
    panel.part("compare").select_option(index=0)
    panel.part("difference").click()
    told.filter(has_text=f"{drawn} voxels only in").wait_for()
    panel.page.get_by_role("button", name="End the comparison").click()
    panel.wait_for_status("Not saved")
    panel.part("compare").select_option(index=1)
    panel.part("beside").click()
    told.filter(has_text="Left: Correction by admin").wait_for()
    for pane in (0, 1):
        wait_for_overlay(panel.page, pane=pane)
    panel.page.get_by_role("button", name="End the comparison").click()
    panel.wait_for_status("Not saved")
    np.testing.assert_array_equal(read_labelmap(panel.page, reading.head.series), seen[-1])
    panel.save()

    panel.page.reload()  # the correction opens, not what it was made from
    wait_for_overlay(panel.page)
    np.testing.assert_array_equal(read_labelmap(panel.page, reading.head.series), seen[-1])


def test_a_result_is_accepted_by_one_key_and_rejected_with_a_reason(
    reading: Reading, browser: Browser
) -> None:
    panel = reading.open(browser)
    panel.results.first.locator(".state", has_text=re.compile("to sign|saved")).wait_for()
    panel.press("y")
    panel.results.first.locator(".state", has_text="accepted").wait_for()
    panel.press("x")
    why = panel.part("reason")
    why.get_by_role("radio").first.press("Space")
    panel.page.keyboard.press("Enter")
    panel.results.first.locator(".state", has_text="rejected").wait_for()
    panel.press("y")
    panel.results.first.locator(".state", has_text="accepted").wait_for()
    panel.press("?")
    sheet = panel.part("help")
    sheet.wait_for()
    assert "Accept as it is" in sheet.inner_text()


def test_work_outlives_its_tab_and_its_session(reading: Reading, browser: Browser) -> None:
    panel = reading.open(browser)
    panel.use("CircularBrush")
    panel.stroke(0.7, 0.2)
    panel.wait_for_status("kept as a draft")
    drawn = read_labelmap(panel.page, reading.head.series)
    panel.page.close()

    page = browser.context.new_page()
    page.goto(reading.node.address + reading.path)
    wait_for_overlay(page)
    again = Panel(page)
    again.part("draft-open").click()
    again.wait_for_status("Not saved")
    np.testing.assert_array_equal(read_labelmap(page, reading.head.series), drawn)

    browser.context.clear_cookies()
    again.press("s")
    dialog = again.part("login")
    dialog.locator("input[name=password]").fill(ADMIN_PASSWORD)
    dialog.get_by_role("button").click()
    again.wait_for("Saved:")
    np.testing.assert_array_equal(reading.labels_of(reading.segs()[-1]), drawn)
    page.reload()
    wait_for_overlay(page)
    again.results.first.wait_for()
    assert again.part("draft-open").count() == 0


def test_an_archive_that_falls_over_costs_nothing(reading: Reading, browser: Browser) -> None:
    panel = reading.open(browser)
    panel.use("CircularBrush")
    panel.stroke(0.15, 0.3)
    drawn = read_labelmap(panel.page, reading.head.series)
    before = len(reading.segs())
    with without(reading.node, "Orthanc", "orthanc-clinical"):
        panel.press("s")
        panel.wait_for("The archive does not answer. Try again in a moment. What you drew is still")
        panel.wait_for_status("Not saved")

    def is_back() -> bool:
        with suppress(PeerError):
            return len(reading.segs()) == before
        return False

    until(is_back, timeout_s=60)
    # The viewer's own Export -> DICOM SEG leads to the node, too.
    with panel.page.expect_response("**/api/corrections") as answer:
        panel.page.evaluate(EXPORT)
    assert answer.value.status == 201, answer.value.text()
    panel.wait_for("Saved:")
    np.testing.assert_array_equal(reading.labels_of(reading.segs()[-1]), drawn)


@contextmanager
def without(node: Node, *words: str) -> Iterator[None]:
    """Kill a process of the node; its supervisor starts it again when the block has ended."""
    supervisor, child = psutil.Process(node.process.pid), node.child(*words)
    assert child is not None
    supervisor.suspend()
    try:
        child.kill()
        yield
    finally:
        supervisor.resume()


def test_a_click_grows_a_segment_that_no_model_made(reading: Reading, browser: Browser) -> None:
    path = reading.path.replace("segmentation?", "viewer?")
    log_in(browser, reading.node.address, "admin", ADMIN_PASSWORD, to=path)
    wait_for_overlay(browser.page)
    panel = Panel(browser.page)
    panel.part("vocabulary").fill("liver")
    panel.page.get_by_role("button", name="Liver", exact=True).first.click()
    voxels = read_volume(reading.head.series).voxels_kji
    panel.part("pick-grow").click()
    panel.click(0.5, 0.3)
    panel.wait_for_status("Not saved")
    told = panel.page.locator("radloop-prompts .figure")
    wide = read_labelmap(panel.page, reading.head.series) == LIVER
    low, high = (float(figure) for figure in told.inner_text().split()[::2])
    assert wide.any() and low <= voxels[wide].min() + 1 and voxels[wide].max() <= high + 1

    before = told.inner_text()
    panel.part("tolerance").fill("5")
    panel.page.wait_for_function(
        """told => {
            const { shadowRoot } = document.querySelector('radloop-panel');
            const now = shadowRoot.querySelector('radloop-prompts .figure').textContent;
            return now && now !== told;
        }""",
        arg=before,
    )
    narrow = read_labelmap(panel.page, reading.head.series) == LIVER
    assert narrow.any() and narrow.sum() < wide.sum() and not (narrow & ~wide).any()
    low, high = (float(figure) for figure in told.inner_text().split()[::2])
    assert low <= voxels[narrow].min() + 1 and voxels[narrow].max() <= high + 1
    panel.page.keyboard.press("Escape")
    panel.save()
    assert [s.SegmentLabel for s in reading.segs()[-1].SegmentSequence] == ["Brain", "Liver"]


def test_a_run_on_a_region_appears_without_loading_again(
    reading: Reading, browser: Browser
) -> None:
    panel = reading.open(browser)
    page = panel.page
    page.evaluate("window.sameDocument = true")
    panel.run_on((0.3, 0.3), (0.6, 0.6), model=REFERENCE)
    offered = panel.part("models").locator("option").all_inner_texts()
    assert offered[-1] == "Threshold 0.0.9 (not current)"
    assert [one for one in offered[:-1] if "Threshold" in one] == [MODEL]
    panel.wait_for("is ready")
    found = read_labelmap(page, reading.head.series)
    stored = [reading.labels_of(seg) for seg in reading.segs()]
    assert any(np.array_equal(found, labels_kji) for labels_kji in stored)
    inside = read_volume(reading.head.series).voxels_kji[found != 0]
    assert inside.min() > THRESHOLD - 5  # bfloat16
    rows, columns = (np.ptp(index) + 1 for index in np.nonzero(found)[1:])
    assert rows < found.shape[1] / 2 and columns < found.shape[2] / 2
    assert page.evaluate("window.sameDocument")


def test_a_run_comes_back_after_the_node_went_down_amid_it(
    reading: Reading, browser: Browser
) -> None:
    panel = reading.open(browser)
    page = panel.page
    page.evaluate("window.sameDocument = true")
    before = len(reading.segs())
    worker = reading.node.child("node", "worker")
    assert worker is not None
    worker.suspend()  # so that it is at work when all goes down
    panel.run_on((0.2, 0.25), (0.55, 0.7), model=REFERENCE)
    page.get_by_role("button", name="Cancel").wait_for()
    with without(reading.node, "node", "front"):
        worker.kill()
    panel.wait_for("is ready")
    assert len(reading.segs()) == before + 1
    assert page.evaluate("window.sameDocument")


def test_a_run_that_is_called_off_stores_nothing(reading: Reading, browser: Browser) -> None:
    panel = reading.open(browser)
    page = panel.page
    before = len(reading.segs())
    worker = reading.node.child("node", "worker")
    assert worker is not None
    worker.suspend()
    try:
        panel.run_on((0.35, 0.2), (0.5, 0.45), model=REFERENCE)
        called_off = page.get_by_role("button", name="Cancel")
        called_off.click()
    finally:
        worker.resume()
    called_off.wait_for(state="detached")
    assert len(reading.segs()) == before


def test_segments_that_overlap_stay_whole(reading: Reading, browser: Browser) -> None:
    """A segmentation from elsewhere, with two structures that share voxels."""
    volume = read_volume(reading.head.series)
    masks_kji = np.zeros((2, *volume.shape_kji), np.bool_)
    masks_kji[0, 4:16, 20:60, 30:60] = True
    masks_kji[1, 8:20, 40:80, 40:70] = True
    segments = segments_of("liver", "kidney_left")
    seg = encoded(
        Masks.of(masks_kji),
        volume,
        segments,
        uids=uids_of(2, "overlap"),
        form=Form("binary"),
        series_number=800,
        series_description="From elsewhere",
    )
    with reading.node.archive() as archive:
        archive.store(bytes_of(seg))
    panel = reading.open(browser)
    row = panel.results.filter(has_text="From elsewhere")
    row.get_by_role("button", name="From elsewhere").click()
    row.locator(".detail").wait_for()
    panel.part("segment").filter(has_text="liver").click()
    panel.use("CircularBrush")
    panel.stroke(0.2, 0.1)
    panel.save()
    stored = reading.segs()[-1]
    assert predecessor(stored) == seg.SOPInstanceUID
    assert [s.SegmentLabel for s in stored.SegmentSequence] == ["liver", "kidney left"]
    decoded = decode_seg(stored, read_grid(reading.head.series))
    np.testing.assert_array_equal(decoded.mask(2), masks_kji[1])
    added = decoded.mask(1) & ~masks_kji[0]
    assert not (masks_kji[0] & ~decoded.mask(1)).any()
    assert added.any(axis=(1, 2)).sum() == 1 and not (added & masks_kji[1]).any()
