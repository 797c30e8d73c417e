"""Take the pictures of the docs: `make screenshots` writes docs/images/*.png.

Nothing in them is arranged: the whole node runs, studies are sent by C-STORE, the shipped model
makes the segmentation, and a real Chromium shows it.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import ViewportSize

from dicom.phantom import write_head_study
from models.registry import SHIPPED
from tests.browser.chromium import Browser, browsing, log_in
from tests.browser.front import ROOT
from tests.browser.panel import Panel
from tests.browser.viewport import wait_for_overlay
from tests.whole.nodes import ADMIN_PASSWORD, Node, running_node, write_config

IMAGES = ROOT / "docs" / "images"
ROUTE = """
[[route]]
name = "head-mr"
bundle = "mr_brain"
collect = true
[route.when]
modality = ["MR"]
min_slices = 20
"""
WINDOW = ViewportSize(width=1440, height=860)
READING_ROOM = ViewportSize(width=1280, height=800)  # the smallest that the panel is made for


def take_all(node: Node, folder: Path) -> None:
    """Send two heads, wait for their results, and take every picture."""
    heads = [
        write_head_study(folder / f"head{seed}", seed=seed, plane=plane)
        for seed, plane in ((1, "axial"), (2, "sagittal"))
    ]
    for number in range(len(heads)):
        node.send(folder / f"head{number + 1}")
    for head in heads:
        job = node.ended_job(head.study.study_uid, timeout_s=900)
        assert job.error_code is None, job.error_message
    with browsing(**WINDOW) as browser:
        log_in(browser, node.address, "admin", ADMIN_PASSWORD)
        browser.page.get_by_text(heads[0].person.name.split("^")[0]).first.wait_for()
        browser.page.set_viewport_size({**WINDOW, "height": 440})
        save(browser, "studies")
        browser.page.set_viewport_size(WINDOW)
        browser.page.goto(
            f"{node.address}/ohif/viewer?StudyInstanceUIDs={heads[0].study.study_uid}"
        )
        wait_for_overlay(browser.page)
        browser.page.wait_for_load_state("networkidle")
        save(browser, "ohif-seg")
        browser.page.set_viewport_size(READING_ROOM)
        take_panel(
            browser,
            f"{node.address}/ohif/segmentation?StudyInstanceUIDs={heads[0].study.study_uid}",
        )
        assert browser.outside() == []


def take_panel(browser: Browser, address: str) -> None:
    """Correct a result, draw a structure from a click; take the pictures of the guide."""
    page = browser.page
    page.goto(address)
    wait_for_overlay(page)
    panel = Panel(page)
    panel.results.first.wait_for()
    panel.use("CircularEraser")
    save(browser, "panel")
    panel.stroke(0.36, 0.5)
    panel.save()
    panel.part("compare").select_option(index=0)
    panel.part("difference").click()
    panel.part("compared").filter(has_text="Dice").wait_for()
    save(browser, "panel-difference")
    page.get_by_role("button", name="End the comparison").click()

    panel.part("vocabulary").fill("ventricle")
    page.get_by_role("button", name="Lateral Ventricle", exact=True).click()
    panel.part("pick-grow").click()
    panel.click(0.46, 0.5)
    panel.wait_for_status("Not saved")
    page.locator("radloop-prompts").scroll_into_view_if_needed()
    save(browser, "panel-grow")


def save(browser: Browser, name: str) -> None:
    """Write one picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    browser.page.mouse.move(0, 0)
    browser.page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


def main() -> None:
    """Run the node in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="radloop-screens-") as name:
        folder = Path(name)
        config = write_config(folder, SHIPPED, routes=ROUTE)
        with running_node(config) as node:
            take_all(node, folder)


if __name__ == "__main__":
    main()
