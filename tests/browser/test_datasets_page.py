"""Datasets as a new user makes them: picked, counted, collected, exported, downloaded, loaded."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from playwright.sync_api import expect
from pydicom import dcmread

from dicom.seg import decode_seg
from node.app import create_app
from pipelines.exporting import check_manifest
from tests.browser.chromium import browsing, log_in
from tests.node.front import PASSWORD, make_front
from tests.node.serving import serving
from tests.orthanc.sharing import PROJECTS, House, sharing_house
from tests.working import engine_in

pytestmark = pytest.mark.browser


@contextmanager
def working(house: House) -> Iterator[None]:
    """Carry collections and exports out, as the worker does, by the durable engine."""
    rooms = (house.collecting(), house.exporting())
    engine = engine_in(house.folder, [spec for room in rooms for spec in room.specs()], "datasets")
    engine.start()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for room in rooms:
                room.hand_over(engine)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)
        engine.stop()


def test_a_new_user_picks_collects_exports_downloads_and_loads(tmp_path: Path) -> None:
    with sharing_house(tmp_path) as house, working(house):
        (tmp_path / "front").mkdir()
        made = make_front(tmp_path / "front", clinical=house.clinical, database=house.database)
        parts = replace(made.parts, projects=PROJECTS, export_files=house.files)
        with serving(create_app(parts)) as base, browsing(width=1280, height=800) as browser:
            page = browser.page
            log_in(browser, base, "rob", PASSWORD)
            page.get_by_role("link", name="Datasets").click()
            picked = page.locator("[data-picked]")
            picked.get_by_text("What matches").wait_for()
            page.get_by_label("Body part").select_option("LIVER")
            studies = picked.locator("dd").nth(1)  # patients, studies ...
            expect(studies).to_have_text("3")
            for n, left in ((0, "2"), (1, "1")):  # only the study that somebody has drawn on
                unlabelled = picked.locator("tbody").filter(has_not_text="yes").nth(n)
                unlabelled.get_by_role("checkbox", name="as a whole").uncheck()
                expect(studies).to_have_text(left)
            assert picked.locator("input[name=picked]:checked").count() == 2  # a study, its series

            page.get_by_label("Name of the collection").fill("Livers that were read")
            page.get_by_role("button", name="Collect").click()
            page.get_by_text("of 1 series stored").wait_for()
            page.get_by_role("heading", name="Make a dataset of it").wait_for()

            page.get_by_label("Name of the dataset").fill("livers")
            page.get_by_label("nnU-Net v2").check()
            page.get_by_role("button", name="Export").click()
            page.get_by_role("heading", name="Data card").wait_for()
            with page.expect_download() as begun:
                page.get_by_role("link", name="livers.zip").click()
            begun.value.save_as(tmp_path / "livers.zip")
            assert browser.outside() == []
            assert browser.complaints == []
        zipfile.ZipFile(tmp_path / "livers.zip").extractall(tmp_path / "there")
        home = tmp_path / "there" / "livers"
        assert check_manifest(home) == []
        labels = nibabel.load(home / "Dataset001_livers" / "labelsTr" / "livers_0001.nii.gz")
        drawn = decode_seg(house.room.seg(house.drawn["correction"], tmp_path), house.room.grid)
        np.testing.assert_array_equal(np.asarray(labels.dataobj).T, drawn.labels())
        directory = dcmread(home / "dicom" / "DICOMDIR")
        assert len([r for r in directory.DirectoryRecordSequence if "ReferencedFileID" in r]) == 10
        actions = {event.action for event in house.trail.events(limit=50)}
        assert {"collection_begun", "export_begun", "export_downloaded"} <= actions
