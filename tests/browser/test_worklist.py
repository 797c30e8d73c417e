"""Two browsers at one worklist, how far two readers agree, and the viewer's own list."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pydicom import dcmread

from dicom.codes import ARTIFICIAL_INTELLIGENCE, STRUCTURES
from dicom.phantom import WrittenHead, write_head_study
from dicom.seg import Algorithm, ResultUids, Segment, encode_seg
from dicom.uids import derived_uid
from dicom.volume import read_grid
from node.app import create_app
from node.parts import FrontParts
from pipelines.store import NewCorrection, NewTask
from tests.browser import chromium
from tests.browser.front import OHIF_DIST, PASSWORD, as_bytes, parts_of_site
from tests.node.serving import serving
from tests.orthanc import servers

pytestmark = [pytest.mark.browser, pytest.mark.orthanc]

SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"


@dataclass(frozen=True)
class Site:
    """A front with a head in its archive, a result on it, and two who read."""

    base: str
    parts: FrontParts
    head: WrittenHead
    study: str
    series: str
    brain_seg: str

    def store(self, mask_kji: np.ndarray, name: str) -> str:
        """Store a SEG of the brain in the archive; return its SOPInstanceUID."""
        structure = STRUCTURES["brain"]
        segment = Segment(1, "Brain", structure.category, structure.type, None, None, structure.rgb)
        parts = (self.head.study.study_uid, name)
        uids = ResultUids(
            derived_uid(*parts, "series"), derived_uid(*parts, "instance"), (derived_uid("t"),)
        )
        seg = encode_seg(
            mask_kji,
            read_grid(self.head.series),
            (segment,),
            algorithm=Algorithm("phantom", "1", "radloop", ARTIFICIAL_INTELLIGENCE),
            uids=uids,
            series_number=901,
            series_description=f"Brain {name}",
            content_label="BRAIN",
            created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        )
        self.parts.clinical.store(as_bytes(seg))
        return str(seg.SOPInstanceUID)


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    head = write_head_study(folder / "head", slices=16, size=96, plane="axial")
    clinical = servers.clinical_config(folder / "orthanc-clinical")
    research = servers.research_config(folder / "orthanc-research")
    with servers.running(clinical, research) as (first, second):
        with first.archive() as archive:
            for one in head.series.instances:
                archive.store(one.path)
        parts = parts_of_site(folder, servers.OrthancPair(first, second))
        parts.auth.add_user("anna", role="radiologist", password=PASSWORD)
        parts.auth.add_user("eve", role="radiologist", password=PASSWORD)
        study = parts.studies.studies()[0].id
        series = parts.studies.series_of(study)[0].id
        with serving(create_app(parts)) as base:
            site = Site(base, parts, head, study, series, "")
            result = site.store(head.head.brain_kji, "ai")
            _remember(parts, study, series, result)
            yield Site(base, parts, head, study, series, result)


def _remember(parts: FrontParts, study: str, series: str, result: str) -> None:
    """Write the rows of a model's result as the worker does."""
    content = {series: "f"}
    jobs = parts.jobs
    assert jobs.schedule(study, complete=content, as_of={}, job_id="j", new=content)
    jobs.start("j")
    task = NewTask("t", series, "head", "brain@1", "0" * 64, ("seg",), (), "routine")
    jobs.plan("j", [task], collect=False)
    jobs.start_task("t")
    sure = {"Brain": {"probability": 0.9, "border_entropy": 0.42}}
    jobs.keep_prediction("t", forward_s=1.0, device="cpu", confidence=sure)
    jobs.keep_result(
        "t",
        sop_instance_uid=result,
        series_uid=derived_uid("series of", result),
        sop_class_uid=SEG_CLASS,
        summary={"Brain": 1200.0},
        destinations=("archive",),
    )
    jobs.note_delivery(result, "archive")
    jobs.end_task("t")
    parts.studies.describe(study, "MR HEAD")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def browsers() -> Iterator[list[Browser]]:
    """Two browsers, each a process of its own."""
    with sync_playwright() as playwright:
        found = [
            playwright.chromium.launch(executable_path=chromium.PROGRAM, args=list(chromium._FLAGS))
            for _ in range(2)
        ]
        yield found
        for one in found:
            one.close()


def opened(browser: Browser, site: Site, name: str, path: str = "/worklist") -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(chromium.WAIT_MS)
    context.add_init_script(chromium._NO_TOUR + chromium._NO_NOTICE)
    page = context.new_page()
    page.goto(site.base + path)
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("form button").first.click()
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def test_what_one_reader_takes_the_other_sees_and_cannot_take(
    site: Site, browsers: list[Browser]
) -> None:
    rita, anna = (
        opened(browser, site, name)
        for browser, name in zip(browsers, ("rita", "anna"), strict=True)
    )
    complaints: list[str] = []
    for page in (rita, anna):
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.locator("[data-live]", has_text="live").wait_for()
    row = "tr[data-case]"
    patient = rita.locator(f"{row} .who b")
    assert patient.inner_text() not in ("", "Name not at hand")
    width = "document.querySelector('tr img[data-preview]').naturalWidth"
    rita.wait_for_function(f"{width} === 160")

    rita.keyboard.press("j")
    rita.keyboard.press("c")
    rita.locator(f"{row} .held", has_text="you hold it").wait_for()
    anna.locator(f"{row} .held", has_text="rita holds it").wait_for()  # nobody loaded it again
    anna.keyboard.press("j")
    anna.locator(".panel h3").first.wait_for()
    anna.keyboard.press("c")
    anna.locator("[data-trouble]", has_text="Rita holds this case").wait_for()

    rita.locator(".panel select[name=value]").first.select_option("anna")
    rita.get_by_role("button", name="Hand over").click()
    anna.locator(f"{row} .held", has_text="you hold it").wait_for()
    anna.keyboard.press("r")
    rita.get_by_role("button", name="Claim and open").wait_for()

    name = site.head.study.study_uid  # never in an address of ours
    assert all(name not in page.url for page in (rita, anna))
    rita.locator(".search input").fill(patient.inner_text().split(",")[0].lower())
    rita.keyboard.press("Enter")
    rita.get_by_text("1 case for").wait_for()
    assert rita.url.endswith("/worklist/search")
    assert complaints == []
    for page in (rita, anna):
        page.context.close()


@pytest.mark.skipif(not OHIF_DIST.is_dir(), reason="OHIF is not installed: make install")
def test_the_viewers_own_list_says_how_the_ai_stands(site: Site, browsers: list[Browser]) -> None:
    page = opened(browsers[0], site, "rita", "/ohif/")
    cell = page.locator("radloop-ai-state").first
    cell.get_by_text("To read").wait_for()
    expect(page.get_by_text("AI", exact=True).first).to_be_visible()
    cell.hover()
    page.wait_for_function(
        "document.querySelector('radloop-ai-state').shadowRoot.querySelector('img')?.naturalWidth"
        " === 160"
    )
    site.parts.reading.worklist.claim(site.study, "anna")
    cell.get_by_text("anna reads").wait_for()
    column = page.locator("th", has_text="Patient").first
    column.locator("button").first.click()  # sorted anew: React makes the rows again
    page.locator("radloop-ai-state").first.get_by_text("To read").wait_for()
    site.parts.reading.worklist.release(site.study, "anna")
    places = page.locator("thead tr").first.locator("th").all_inner_texts()
    row = page.locator("[data-filter-row] td")
    ours = row.nth([place.strip() for place in places].index("AI")).locator("input")
    ours.fill("accept")
    page.wait_for_function("document.querySelectorAll('radloop-ai-state').length === 0")
    ours.fill("to re")
    page.locator("radloop-ai-state").first.get_by_text("To read").wait_for()
    page.context.close()


def test_agreement_is_what_the_masks_say(site: Site) -> None:
    """Two drawings of one brain, the second a slice shorter: Dice as numpy counts it."""
    one_kji = site.head.head.brain_kji.astype(bool)
    other_kji = one_kji.copy()
    used = np.flatnonzero(one_kji.any(axis=(1, 2)))
    other_kji[used[-4:]] = False
    site.parts.reading.worklist.look()
    room = site.parts.reading
    opened_round = room.rounds.open(site.study, ["rita", "anna"], by="eve")
    for name, mask_kji in (("rita", one_kji), ("anna", other_kji)):
        uid = site.store(mask_kji.astype(np.uint8), name)
        new = NewCorrection(
            uid,
            derived_uid("s", name),
            site.study,
            site.series,
            "viewer",
            site.brain_seg,
            site.brain_seg,
            "brain@1",
            name,
            f"Corrected by {name}",
            [{"number": 1, "label": "Brain", "rgb": [1, 2, 3], "volume_ml": 1.0}],
        )
        site.parts.corrections.begin(new, first_series_number=9501)
        stored = site.parts.clinical.lookup("instances", uid)[0]
        site.parts.corrections.stored(uid, orthanc_id=stored)
        told = room.rounds.finish(site.study, name)
    assert told.state == "read"
    figures = room.agreeing.measure(opened_round.id)
    shared, sizes = int((one_kji & other_kji).sum()), int(one_kji.sum() + other_kji.sum())
    assert figures is not None
    assert figures["dice"] == pytest.approx(2 * shared / sizes, abs=1e-3)
    assert figures["volume_difference"] == pytest.approx(
        (one_kji.sum() - other_kji.sum()) / (sizes / 2), abs=1e-3
    )
    assert figures["surface_dice"] < 1
    room.worklist.look()
    case = room.worklist.case(site.study)
    assert case.agreement and case.agreement["dice"] == figures["dice"]
    ds = dcmread(site.head.series.instances[0].path, stop_before_pixels=True)
    assert str(ds.PatientID) not in repr(room.rounds.round(opened_round.id))
