"""OHIF as a person meets it: a real Chromium, the whole front, real archives."""

from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page

from tests.browser.chromium import Browser, browsing, log_in
from tests.browser.front import OHIF_DIST, PASSWORD, SEGMENT, SeenNode, seen_node
from tests.browser.labelmap import read_labelmap
from tests.browser.viewport import Drawn, wait_for_grey, wait_for_image, wait_for_overlay

pytestmark = [
    pytest.mark.browser,
    pytest.mark.orthanc,
    pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeenNode]:
    with seen_node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    with browsing() as running:
        yield running
        assert running.outside() == []
        assert running.refused_by_policy() == []


def family(site: SeenNode) -> str:
    return site.head.person.name.split("^")[0]


def panel_rows(page: Page) -> list[str]:
    return [row.inner_text().split("\n")[-1] for row in page.locator("[data-cy=data-row]").all()]


def assert_lies_on_the_brain(site: SeenNode, seen: Drawn) -> None:
    """Check the overlay's size, place and colour against the phantom's true brain."""
    middle_ji = site.head.head.brain_kji[site.head.head.brain_kji.shape[0] // 2]
    rows, columns = middle_ji.shape
    scale = min(seen.height / rows, seen.width / columns)  # the picture fills the viewport
    assert seen.coloured == pytest.approx(middle_ji.sum() * scale**2, rel=0.1)
    j, i = (index.mean() + 0.5 for index in np.nonzero(middle_ji))
    assert seen.y == pytest.approx(seen.height / 2 + (j - rows / 2) * scale, abs=scale)
    assert seen.x == pytest.approx(seen.width / 2 + (i - columns / 2) * scale, abs=scale)
    red, green, blue = seen.rgb
    assert red > green > blue  # the orange that the segmentation recommends


def test_from_the_study_list_to_the_overlay(site: SeenNode, browser: Browser) -> None:
    log_in(browser, site.base, "rita", PASSWORD, to="/ohif/")
    page = browser.page
    page.get_by_text(family(site)).first.click()
    page.get_by_role("button", name="Basic Viewer").click()
    wait_for_image(page)
    assert_lies_on_the_brain(site, wait_for_overlay(page))
    assert panel_rows(page) == [SEGMENT]

    toggle = page.locator("[data-cy^=all-segments-visibility-toggle]")
    toggle.click()
    assert wait_for_grey(page).bright > 2000
    toggle.click()
    assert_lies_on_the_brain(site, wait_for_overlay(page))


def test_a_link_opens_for_editing_after_the_login(site: SeenNode, browser: Browser) -> None:
    link = site.link(site.head.study.study_uid, mode="segmentation")
    log_in(browser, site.base, "rita", PASSWORD, to=link.removeprefix(site.base))
    page = browser.page
    assert_lies_on_the_brain(site, wait_for_overlay(page))
    assert panel_rows(page) == [SEGMENT]
    labels_kji = read_labelmap(page, site.head.series)
    np.testing.assert_array_equal(labels_kji, site.head.head.brain_kji)
    page.locator("[data-cy=Brush-btn]").wait_for()
    for fetches_a_model in ("MarkerLabelmap", "LabelmapSlicePropagation", "ClickSegment"):
        assert page.locator(f"[data-cy={fetches_a_model}-btn]").count() == 0


def test_a_researcher_sees_the_research_archive_alone(site: SeenNode, browser: Browser) -> None:
    log_in(browser, site.base, "rolf", PASSWORD, to="/ohif/")
    page = browser.page
    page.get_by_text(site.research_head.person.name.split("^")[0]).first.wait_for()
    assert page.get_by_text(family(site)).count() == 0
    page.goto(site.link(site.research_head.study.study_uid))
    wait_for_image(page)
    asked = [url.removeprefix(site.base) for url in browser.requests]
    assert any(path.startswith("/research/dicom-web/") for path in asked)
    assert not any(path.startswith("/dicom-web") for path in asked)
    answer = page.request.get(f"{site.base}/dicom-web/studies")
    assert answer.status == 403


def test_who_was_logged_out_logs_in_and_comes_back(site: SeenNode, browser: Browser) -> None:
    log_in(browser, site.base, "rita", PASSWORD, to="/ohif/")
    page = browser.page
    page.get_by_text(family(site)).first.wait_for()
    browser.context.clear_cookies()
    page.get_by_role("textbox").first.fill("somebody")  # searches as it is typed
    page.wait_for_url("**/login?next=**")
    page.locator("input[name=name]").fill("rita")
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("form button").first.click()
    page.wait_for_url("**/ohif/**")
    page.get_by_text("Study List").first.wait_for()


def export(page: Page, kind: str) -> None:
    page.locator("[data-cy=segmentation-collapsed-more-btn-Labelmap]").click()
    page.get_by_role("menuitem", name="Export").hover()
    page.get_by_role("menuitem", name=kind).click()


def test_in_the_research_archive_an_export_is_not_stored_and_says_so(
    site: SeenNode, browser: Browser
) -> None:
    link = site.link(site.research_head.study.study_uid, mode="segmentation")
    log_in(browser, site.base, "rolf", PASSWORD, to=link.removeprefix(site.base))
    page = browser.page
    wait_for_image(page)
    assert page.locator("radloop-panel").count() == 0
    page.evaluate("commandsManager.run('createLabelmapForViewport', {viewportId: 'default'})")
    export(page, "DICOM SEG")
    page.get_by_text("Not stored").wait_for()
    assert page.get_by_role("dialog").count() == 0
    assert page.get_by_text("Research Derived series").count() == 0  # OHIF's name for its own


def test_what_the_viewer_really_writes_is_refused_by_the_proxy(
    site: SeenNode, browser: Browser
) -> None:
    """Without our extensions: the real object of this OHIF, not one that we imagine."""
    for ours in ("exporting", "radloop"):
        browser.page.route(
            f"**/config/{ours}.js",
            lambda route: route.fulfill(
                content_type="text/javascript", body="export default {id: crypto.randomUUID()}"
            ),
        )
    link = site.link(site.head.study.study_uid, mode="segmentation")
    log_in(browser, site.base, "rita", PASSWORD, to=link.removeprefix(site.base))
    page = browser.page
    wait_for_overlay(page)
    with site.orthanc.clinical.archive() as archive:
        before = archive.statistics()
    export(page, "DICOM SEG")
    with page.expect_response(lambda answer: answer.request.method == "POST") as stored:
        page.get_by_role("button", name="Save").click()
    assert stored.value.status == 409
    assert stored.value.json()["code"] == "unsafe_segmentation"
    with site.orthanc.clinical.archive() as archive:
        assert archive.statistics() == before
