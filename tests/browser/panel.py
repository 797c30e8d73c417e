"""The radloop panel as a person uses it, and a node with a head and its result behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.phantom import WrittenHead, write_head_study
from dicom.seg import decode_seg
from dicom.volume import read_grid
from tests.browser.chromium import Browser, log_in
from tests.browser.viewport import wait_for_overlay
from tests.bundles import write_threshold_bundle
from tests.whole.nodes import ADMIN_PASSWORD, ROUTE, Node, running_node, write_config

THRESHOLD = 300.0  # of the quick model: what is brighter is brain


@dataclass(frozen=True)
class Reading:
    """A whole node, and the head that it holds with the result of a threshold on it."""

    node: Node
    head: WrittenHead

    @property
    def path(self) -> str:
        """The address that opens the head for editing."""
        return f"/ohif/segmentation?StudyInstanceUIDs={self.head.study.study_uid}"

    def open(self, browser: Browser) -> Panel:
        """Log in, open the head, and wait until its result is drawn."""
        log_in(browser, self.node.address, "admin", ADMIN_PASSWORD, to=self.path)
        wait_for_overlay(browser.page)
        panel = Panel(browser.page)
        panel.results.first.wait_for()
        return panel

    def segs(self) -> list[Dataset]:
        """Return the SEG objects of the archive, the oldest first."""
        with self.node.archive() as archive:
            found = [
                dcmread(BytesIO(archive.instance_bytes(uid)))
                for uid in self.node.segmentations(self.head.study.study_uid)
            ]
        return sorted(found, key=lambda ds: int(ds.SeriesNumber))

    def labels_of(self, seg: Dataset) -> NDArray[np.unsignedinteger]:
        """Return a SEG's labels, shape (instances, rows, columns), in the series' order."""
        return decode_seg(seg, read_grid(self.head.series)).labels()


@contextmanager
def reading_node(folder: Path, *, slices: int = 20, size: int = 96) -> Iterator[Reading]:
    """Start a node, send it a head, and wait for the result."""
    for version in ("0.0.9", "0.1.0"):
        name = f"threshold@{version}"
        write_threshold_bundle(folder / "bundles", name, version, threshold=THRESHOLD)
    head = write_head_study(folder / "head", slices=slices, size=size, plane="axial")
    with running_node(write_config(folder, folder / "bundles", routes=ROUTE)) as node:
        node.send(folder / "head")
        job = node.ended_job(head.study.study_uid)
        assert job.error_code is None, job.error_message
        yield Reading(node, head)


@dataclass(frozen=True)
class Panel:
    """The panel in a page."""

    page: Page

    def part(self, name: str) -> Locator:
        """Return what the panel calls `radloop-NAME`."""
        return self.page.locator(f"[data-cy=radloop-{name}]")

    @property
    def results(self) -> Locator:
        """The rows of the results, the newest first."""
        return self.part("result")

    def press(self, key: str) -> None:
        """Press a key while the image has the focus."""
        self.page.locator("body").press(key)

    def wait_for(self, message: str) -> None:
        """Wait until the panel's foot tells it."""
        self.part("message").filter(has_text=message).wait_for()

    def wait_for_status(self, text: str) -> None:
        """Wait until the panel's foot says where the work stands."""
        self.part("status").filter(has_text=text).wait_for()

    def use(self, tool: str) -> None:
        """Give the left mouse button a tool."""
        button = self.part(f"tool-{tool}")
        button.click()
        button.and_(self.page.locator(".on")).wait_for()

    def stroke(self, x: float, y: float) -> None:
        """Draw a short line from a place of the first viewport, as parts of its size."""
        left, top = self.point(x, y)
        mouse = self.page.mouse
        mouse.move(left, top)
        mouse.down()
        for step in range(1, 7):
            mouse.move(left + 6 * step, top)
        mouse.up()
        self.wait_for_status("Not saved")

    def run_on(self, low: tuple[float, float], high: tuple[float, float], *, model: str) -> None:
        """Have a model run on a region, between two places of the first viewport."""
        self.part("models").select_option(model)
        self.page.get_by_role("button", name="Region").click()
        mouse = self.page.mouse
        mouse.move(*self.point(*low))
        mouse.down()
        mouse.move(*self.point(*high), steps=3)
        mouse.up()

    def click(self, x: float, y: float) -> None:
        """Click on a place of the first viewport, as parts of its size."""
        self.page.mouse.click(*self.point(x, y))

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where on the page a place of the first viewport is."""
        box = self.page.locator("[data-cy=viewport-pane]").first.bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def save(self) -> None:
        """Save by the key, and wait until the node has done it."""
        with self.page.expect_response("**/api/corrections") as answer:
            self.press("s")
        assert answer.value.status == 201, answer.value.text()
        self.part("status").filter(has_not_text=re.compile("Not saved|Saving")).wait_for()
        self.wait_for("Saved:")
