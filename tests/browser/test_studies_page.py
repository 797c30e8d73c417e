"""The page `/` in a real Chromium: it follows the work without being loaded again."""

from pathlib import Path

import pytest

from dicom.errors import OutOfMemory
from tests.browser.chromium import browsing, log_in
from tests.node.front import PASSWORD, begin, fail, make_front, schedule
from tests.node.serving import serving

pytestmark = pytest.mark.browser


def test_the_page_follows_a_study_from_its_arrival_to_its_end(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    front.parts.access.beat("worker-1")
    with serving(front.app) as base, browsing(width=1280, height=800) as browser:
        log_in(browser, base, "rita", PASSWORD)
        page = browser.page
        page.get_by_text("No study yet").wait_for()
        page.evaluate("window.sameDocument = true")

        begin(front.parts, "2.25.1", progress=0.25)
        row = page.locator("#study-2\\.25\\.1")
        row.get_by_text("25 %").wait_for()
        assert page.get_by_text("No study yet").count() == 0
        front.parts.jobs.report_progress("task-2.25.1", 0.75)
        row.get_by_text("75 %").wait_for()
        front.parts.jobs.end_task("task-2.25.1", OutOfMemory("9.1 GB are needed"))
        row.get_by_text("9.1 GB are needed.").wait_for()
        row.get_by_role("button", name="Try again").click()
        row.get_by_text("Waiting").wait_for()
        row.get_by_role("button", name="Cancel").click()
        row.get_by_text("Canceling").wait_for()

        assert front.parts.jobs.job("job-2.25.1").cancel_requested
        assert page.evaluate("window.sameDocument")
        assert browser.outside() == []
        assert browser.complaints == []


def test_a_job_page_follows_its_job(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    job = begin(front.parts, "2.25.1", progress=0.25)
    with serving(front.app) as base, browsing(width=1280, height=800) as browser:
        log_in(browser, base, "rob", PASSWORD, to=f"/jobs/{job}")
        page = browser.page
        page.get_by_text("25 %").wait_for()
        front.parts.jobs.report_progress("task-2.25.1", 0.75)
        page.get_by_text("75 %").wait_for()
        front.parts.jobs.end_task("task-2.25.1", OutOfMemory("9.1 GB are needed"))
        page.get_by_text("9.1 GB are needed.").wait_for()
        assert page.get_by_role("button", name="Try again").count() == 0  # a researcher's page
        assert browser.complaints == []


def test_nothing_is_wider_than_a_narrow_window(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    job = fail(front.parts, f"2.25.{'9' * 38}", OutOfMemory("9.1 GB are needed"))
    schedule(front.parts, "2.25.2")
    with serving(front.app) as base, browsing(width=390, height=800) as browser:
        log_in(browser, base, "rita", PASSWORD)
        for path in ("/", f"/jobs/{job}", "/api/docs", "/account", "/worklist", "/corrections"):
            browser.page.goto(base + path)
            width = browser.page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, path
