"""The loop in a whole node: what a reader corrects makes the next study's segmentation better."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from dicom.agreement import dice
from dicom.phantom import WrittenHead, write_head_study
from dicom.volume import read_grid
from pipelines.labels import MEDIA_TYPE
from pipelines.store import Alarms, Trainings, Versions
from tests.browser.chromium import browsing, log_in
from tests.bundles import write_threshold_bundle
from tests.whole.nodes import ADMIN_PASSWORD, Node, running_node, until, write_config
from tests.whole.test_people import decoded, document

pytestmark = [pytest.mark.orthanc, pytest.mark.timeout(900)]

ALL_PICTURES = "[...document.images].every(one => one.naturalWidth)"
SMALL = {"steps": "20", "steps_an_epoch": "10", "batch": "2"}

PATIENTS = 8
RULE = f"""
[training]
threads = 1
[[learning]]
name = "heads"
bundle = "threshold"
after = {PATIENTS}
fewest = {PATIENTS}
steps = 80
promote = "policy"
margin = 1.0
fewest_patients = 2
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("learning")
    write_threshold_bundle(folder / "bundles", threshold=20.0)  # skull, skin and noise as well
    with running_node(write_config(folder, folder / "bundles", more=RULE)) as running:
        yield running


def study(folder: Path, seed: int) -> WrittenHead:
    return write_head_study(folder / f"head{seed}", slices=16, size=48, seed=seed, plane="axial")


def segmented(node: Node, head: WrittenHead, folder: Path) -> tuple[str, npt.NDArray[np.uint8]]:
    """Send a head; return its result, and what that says."""
    node.send(folder)
    node.ended_job(head.study.study_uid)
    (result,) = node.segmentations(head.study.study_uid)
    return result, decoded(node, result, read_grid(head.series), folder.parent)


def correct(client: httpx.Client, node: Node, head: WrittenHead, result: str) -> None:
    """Do what a careful reader does: save the truth in place of the result."""
    names = {
        "StudyInstanceUID": head.study.study_uid,
        "SeriesInstanceUID": head.series.series_uid,
    }
    labels = head.head.brain_kji.astype(np.uint8)
    content = document(read_grid(head.series), labels, names, result)
    saved = client.post(
        "/api/corrections",
        content=content,
        headers={"Origin": node.address, "Content-Type": MEDIA_TYPE},
    )
    assert saved.status_code == 201, saved.text


def likeness(found: npt.NDArray[np.uint8], head: WrittenHead) -> float:
    return dice(found == 1, head.head.brain_kji) or 0.0


def test_corrections_become_a_better_model_and_there_is_a_way_back(node: Node, tmp_path: Path):
    client = node.client()
    weak = []
    for seed in range(1, PATIENTS + 1):
        head = study(tmp_path, seed)
        result, before = segmented(node, head, tmp_path / f"head{seed}")
        weak.append(likeness(before, head))
        assert weak[-1] < 0.8
        correct(client, node, head, result)

    def learnt() -> str | None:
        with node.rows() as database:
            for training in Trainings(database).all():
                assert training.error_code is None, training.error_message
                if training.ended_at is not None:
                    return training.candidate
            rule = Alarms(database).rule("heads")
            assert rule is None or rule.outcome in ("begun",) or rule.training_id, rule
        return None

    made = until(learnt, timeout_s=600)
    with node.rows() as database:
        (figures,) = Versions(database).evaluations(made)
        assert figures.accepted, figures.verdict
        assert Versions(database).current("threshold").id == made

    after = study(tmp_path, 90)
    _, found = segmented(node, after, tmp_path / "head90")
    assert node.jobs_of(after.study.study_uid)[0].tasks[0].bundle == made
    assert likeness(found, after) > max(0.8, *weak)

    words = ("models", "rollback", "threshold", "--why", "a test", "--config", str(node.config))
    back = subprocess.run(
        [sys.executable, "-m", "node", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 results of it are on studies" in back.stdout  # the segmentation and its report
    again = study(tmp_path, 91)
    segmented(node, again, tmp_path / "head91")
    assert node.jobs_of(again.study.study_uid)[0].tasks[0].bundle == "threshold@0.1.0"


@pytest.mark.browser
def test_a_reader_trains_a_model_on_the_pages_and_it_is_promoted_used_and_rolled_back(
    node: Node, tmp_path: Path
):
    """From what the test before has corrected."""
    with browsing(width=1280, height=800) as browser:
        page = browser.page
        page.set_default_timeout(180_000)
        log_in(browser, node.address, "admin", ADMIN_PASSWORD, to="/learning")
        page.get_by_role("link", name="Datasets", exact=True).last.click()
        page.get_by_role("link", name="New dataset").click()
        page.get_by_label("Began with a result of").select_option("threshold")
        page.get_by_role("button", name="Show").last.click()
        ticks = page.locator("input[name=series]")
        pictures = page.locator(".choice img")
        assert ticks.count() == pictures.count() == PATIENTS
        until(lambda: page.evaluate(ALL_PICTURES), timeout_s=60)
        for tick in ticks.all()[1:]:
            tick.check()
        page.get_by_label("Name of the dataset").fill("picked")
        page.get_by_role("button", name="Freeze").click()
        page.get_by_role("link", name="Look at picked@1").click()
        page.get_by_text(f"{PATIENTS - 1} series picked by hand").wait_for()
        page.get_by_text("locked: measured on, never learnt from").wait_for()

        page.get_by_role("link", name="Train a model").click()
        for name, value in SMALL.items():
            page.locator(f"[name={name}]").fill(value)
        page.get_by_label("Name of the model").fill("threshold")
        page.get_by_role("button", name="Train", exact=True).click()
        page.evaluate("window.sameDocument = true")
        page.locator("svg.curve").first.wait_for()
        page.get_by_role("img", name="Epoch 1, case 1").wait_for()
        page.get_by_role("link", name="How good threshold@0.3.0 is").click()
        page.get_by_role("cell", name="Surface Dice").first.wait_for()
        page.get_by_role("cell", name="Separate pieces that were found").first.wait_for()
        page.get_by_label("Why").fill("better on heads")
        page.get_by_role("button", name="Promote").click()
        page.locator(".page-head .stage-current").wait_for()

        head = study(tmp_path, 92)
        segmented(node, head, tmp_path / "head92")
        assert node.jobs_of(head.study.study_uid)[0].tasks[0].bundle == "threshold@0.3.0"

        page.get_by_label("Why").fill("misses the lowest slices")
        page.get_by_role("button", name="Roll back to threshold@0.1.0").click()
        page.get_by_text("Results that it made").wait_for()
        assert page.locator("a[href^='/jobs/']").count() == 2
        with node.rows() as database:
            assert Versions(database).current("threshold").id == "threshold@0.1.0"
        page.get_by_role("link", name="report with pictures").click()
        page.get_by_role("heading", name="On the locked test set").wait_for()
        assert page.evaluate(ALL_PICTURES)
        assert browser.outside() == [] and browser.refused_by_policy() == []
