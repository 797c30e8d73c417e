"""The radiologist's loop in stock OHIF: see, correct, save, sign; a real node, a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom.volume import read_volume
from tests.browser.chromium import Browser, browsing, log_in
from tests.browser.front import OHIF_DIST
from tests.browser.labelmap import read_labelmap
from tests.browser.panel import Panel, Reading, reading_node
from tests.browser.viewport import wait_for_overlay
from tests.whole.nodes import ADMIN_PASSWORD

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]


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
    first, second = (after != earlier for earlier, after in pairwise(seen))
    assert first.any() and second.any() and not (first & second).any()
    assert [s.SegmentLabel for s in reading.segs()[-1].SegmentSequence] == ["Brain"]

    panel.page.reload()  # the correction opens, not what it was made from
    wait_for_overlay(panel.page)
    np.testing.assert_array_equal(read_labelmap(panel.page, reading.head.series), seen[-1])


def test_a_result_is_accepted_by_one_key(reading: Reading, browser: Browser) -> None:
    panel = reading.open(browser)
    panel.results.first.locator(".state", has_text="to sign").wait_for()
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


def test_a_click_grows_a_segment_that_no_model_made(reading: Reading, browser: Browser) -> None:
    path = reading.path.replace("segmentation?", "viewer?")
    log_in(browser, reading.node.address, "admin", ADMIN_PASSWORD, to=path)
    wait_for_overlay(browser.page)
    panel = Panel(browser.page)
    panel.part("vocabulary").fill("liver")
    panel.page.get_by_role("button", name="Liver", exact=True).first.click()
    before = read_labelmap(panel.page, reading.head.series)
    panel.part("show").first.click()

    voxels = read_volume(reading.head.series).voxels_kji
    panel.part("pick-grow").click()
    panel.click(0.5, 0.3)
    panel.wait_for_status("Not saved")
    grown = read_labelmap(panel.page, reading.head.series)
    new = grown != before
    assert new.any() and set(np.unique(grown[new])) == {2}
    low, high = voxels[new].min(), voxels[new].max()
    panel.part("tolerance").fill("100")
    panel.page.wait_for_function(
        "count => (document.querySelector('radloop-panel').shadowRoot"
        ".querySelector('radloop-prompts .figure').textContent) !== count",
        arg=panel.page.locator("radloop-prompts .figure").inner_text(),
    )
    wider = read_labelmap(panel.page, reading.head.series) != before
    assert wider[new].all() and wider.sum() > new.sum()
    assert voxels[wider].min() <= low and voxels[wider].max() >= high
    panel.page.keyboard.press("Escape")
    panel.save()
    assert [s.SegmentLabel for s in reading.segs()[-1].SegmentSequence] == ["Brain", "Liver"]
