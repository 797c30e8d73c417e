"""OHIF as a person meets it: a real Chromium, the whole front, real archives."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, Response, Route
from pydicom import dcmread

from dicom.seg import decode_seg
from dicom.volume import read_grid
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


def segments(page: Page) -> list[str]:
    rows = page.locator("[data-cy=radloop-segment]")
    rows.first.wait_for()
    return rows.all_inner_texts()


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
    outlined = "services.segmentationService.getStyle({ type: 'Labelmap' }).renderOutline"
    assert page.evaluate(outlined) is False  # no graphics card: each drawing is awaited
    assert segments(page) == [SEGMENT]

    page.locator("[data-cy=panelSegmentation-btn]").click()
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
    with site.orthanc.clinical.archive() as archive:
        (study,) = archive.lookup("studies", site.head.study.study_uid)
        series = {archive.series(one).series_uid for one in archive.study(study).series}
    # What node/foreseen.py asks for ahead, and no more.
    asked = [url.split("/series/")[1] for url in browser.requests if url.endswith("/metadata")]
    assert {one.removesuffix("/metadata") for one in asked} == series
    assert segments(page) == [SEGMENT]
    labels_kji = read_labelmap(page, site.head.series)
    np.testing.assert_array_equal(labels_kji, site.head.head.brain_kji)
    page.locator("[data-cy=panelSegmentationWithToolsLabelMap-btn]").click()
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


DRAW_ONE_VOXEL = """async () => {
    const id = await commandsManager.run('createLabelmapForViewport', {viewportId: 'default'});
    const { state, triggerSegmentationEvents } = cornerstoneTools.segmentation;
    const [first] = state.getSegmentation(id).representationData.Labelmap.imageIds;
    cornerstone.cache.getImage(first).voxelManager.setAtIndex(0, 1);
    triggerSegmentationEvents.triggerSegmentationDataModified(id, [0], 1);
}"""


def export(page: Page, kind: str) -> None:
    page.locator("[data-cy=panelSegmentationWithToolsLabelMap-btn]").click()
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
    page.evaluate(DRAW_ONE_VOXEL)
    export(page, "DICOM SEG")
    page.get_by_text("Not stored").wait_for()
    assert page.get_by_role("dialog").count() == 0
    assert page.get_by_text("Research Derived series").count() == 0  # OHIF's name for its own


def test_what_the_viewer_really_writes_is_held_back_and_becomes_a_correction_once(
    site: SeenNode, browser: Browser, tmp_path: Path
) -> None:
    """With the stock export: the real object of this OHIF, not one that we imagine."""
    names = ("takeOverExport", "save", "savingNow", "documentOf")
    stock = {
        "exporting": "export default {id: 'none'};",
        "saving": f"export const {', '.join(f'{name} = () => null' for name in names)};",
    }

    def answer(route: Route) -> None:
        name = route.request.url.rsplit("/", 1)[-1].removesuffix(".js")
        route.fulfill(content_type="text/javascript", body=stock[name])

    for name in stock:
        browser.page.route(f"**/config/*/{name}.js", answer)
    link = site.link(site.head.study.study_uid, mode="segmentation")
    log_in(browser, site.base, "rita", PASSWORD, to=link.removeprefix(site.base))
    page = browser.page
    wait_for_overlay(page)
    with site.orthanc.clinical.archive() as archive:
        before = archive.statistics()
    first = exported(page)
    assert first.status == 200
    (item,) = first.json()["00081199"]["Value"]
    path = tmp_path / "seg.dcm"
    with site.orthanc.clinical.archive() as archive:
        path.write_bytes(archive.instance_bytes(item["00081155"]["Value"][0]))
    seg = dcmread(path)
    assert seg.Manufacturer == "radloop" and seg.ContentCreatorName == "rita"
    decoded = decode_seg(path, read_grid(site.head.series))
    np.testing.assert_array_equal(decoded.labels(), site.head.head.brain_kji)
    second = exported(page)
    assert (second.status, second.json()["code"]) == (409, "unsafe_segmentation")
    with site.orthanc.clinical.archive() as archive:
        assert archive.statistics().instances == before.instances + 1


def exported(page: Page) -> Response:
    """Export by the viewer itself, and return what the node said to its STOW."""
    export(page, "DICOM SEG")
    with page.expect_response(
        lambda answer: answer.request.method == "POST" and "dicom-web" in answer.url
    ) as stored:
        page.get_by_role("button", name="Save").click()
    return stored.value
