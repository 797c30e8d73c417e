"""The learning pages in a real Chromium: from picking data to the promoted model, and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.learning import Lessons, Means, School
from tests.browser.chromium import WAIT_MS, browsing, log_in
from tests.learning import blobs
from tests.node.front import PASSWORD, make_front
from tests.node.serving import serving
from tests.working import working

pytestmark = pytest.mark.browser

SPLITS = ("train", "train", "validation", "test", "test")


@contextmanager
def learner(school: School, folder: Path) -> Iterator[Lessons]:
    """Run the part of a worker that learns."""
    means = Means(logs=folder / "logs", device="cpu", threads=1)
    lessons = Lessons(school, means, is_urgent=lambda: False)
    with working(lessons, folder, "learning"):
        yield lessons


def test_from_picking_data_to_the_promoted_model(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    blobs(tmp_path / "datasets" / "blobs@1", patients=SPLITS)
    with (
        learner(front.parts.school, tmp_path) as lessons,
        serving(front.app) as base,
        browsing(width=1280, height=800) as browser,
    ):
        log_in(browser, base, "admin", PASSWORD, to="/learning")
        page = browser.page
        page.get_by_role("link", name="Train a model").first.click()
        page.get_by_role("combobox", name="Dataset").select_option("blobs@1")
        page.get_by_role("button", name="Plan it").click()
        page.get_by_role("button", name="Change its blocks").click()
        page.get_by_label("Channels of the levels").fill("8, 16, 16")
        page.get_by_label("Strides between them").fill("2, 2")
        page.get_by_label("Deep supervision").check()
        page.get_by_role("button", name="Draw this shape").click()
        page.locator("svg.diagram .box-deep").wait_for()
        page.get_by_role("button", name="Remove down1").click()  # the ups no longer undo the downs
        page.locator("svg.diagram .box-wrong").wait_for()
        page.get_by_role("button", name="Take it back").click()
        page.locator("svg.diagram .box-wrong").wait_for(state="detached")
        take = page.get_by_role("button", name="Take it", exact=True)
        take.click(timeout=3 * WAIT_MS)  # a process of its own draws the samples, and starts first
        page.get_by_role("img", name="samples with their labels").wait_for()
        page.get_by_text("How it learns").click()  # what is changed seldom is folded away
        for name, value in {"steps": "8", "steps_an_epoch": "4", "batch": "2"}.items():
            page.locator(f"[name={name}]").fill(value)
        page.get_by_label("Name of the model").fill("blobs")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("Waiting for its turn").wait_for()
        page.evaluate("window.sameDocument = true")

        lessons.hand_over()
        page.locator("svg.curve").first.wait_for(timeout=3 * WAIT_MS)  # it is behind all others
        page.get_by_role("img", name="Epoch 1, case 1").wait_for()
        page.get_by_role("link", name="How good blobs@0.1.0 is").wait_for(timeout=3 * WAIT_MS)
        assert page.evaluate("window.sameDocument")
        page.get_by_text("Done", exact=True).wait_for()

        page.get_by_role("link", name="How good blobs@0.1.0 is").click()
        page.get_by_text("On the locked test set").wait_for()
        page.get_by_role("cell", name="Surface Dice").wait_for()
        page.get_by_label("Why").fill("the first one")
        page.get_by_role("button", name="Promote").click()
        page.locator(".page-head .stage-current").wait_for()
        current = front.parts.school.versions.current("blobs")
        assert current is not None and current.id == "blobs@0.1.0"
        assert current.decided_by == "admin"
        assert browser.outside() == []
