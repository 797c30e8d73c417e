"""The panel's modules that need no viewer: labels documents, masks, places, effort, words."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from dicom.errors import every_error
from pipelines.corrections import REASONS
from pipelines.labels import Head, read_labels, write_labels
from tests.browser.chromium import browsing
from tests.browser.front import ROOT

pytestmark = pytest.mark.browser

STUDY, SERIES = "2.25.1", "2.25.2"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        """Keep the tests' output free of requests."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    handler = partial(_Quiet, directory=str(ROOT / "ohif-config"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with browsing() as browser:
            browser.page.goto(f"http://127.0.0.1:{server.server_port}/mark.svg")
            yield browser.page
    finally:
        server.shutdown()
        server.server_close()


def run(page: Page, module: str, body: str, given: object = None) -> Any:
    """Run the body of a function of `m`, a module, and `given`."""
    script = f"async given => {{ const m = await import('/{module}.js'); {body} }}"
    return page.evaluate(script, given)


def head(**fields: object) -> dict[str, object]:
    slices = [[{"SOPInstanceUID": f"2.25.3{k}", "frame": None} for k in (0, 2)]]
    return {
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "rows": 2,
        "columns": 3,
        "bits": 8,
        "layers": slices,
        "segments": [{"number": 1, "label": "Brain"}, {"number": 9, "label": "Äpfel"}],
        "predecessor": None,
        **fields,
    }


@pytest.mark.parametrize(("bits", "high"), [(8, 9), (16, 999)])
def test_a_document_of_the_panel_is_read_by_the_node(page: Page, bits: int, high: int) -> None:
    segments = [{"number": 1, "label": "Brain"}, {"number": high, "label": "Äpfel"}]
    planes = [[0, 1, 1, high, 0, 0], [0, 0, high, 1, 1, 1]]
    document = run(
        page,
        "labels",
        """const blob = await m.pack(given.head, given.planes.map(p => Uint16Array.from(p)));
        return [...new Uint8Array(await blob.arrayBuffer())];""",
        {"head": head(bits=bits, segments=segments), "planes": planes},
    )
    read = read_labels(bytes(document), Head)
    assert [segment.label for segment in read.head.segments] == ["Brain", "Äpfel"]
    assert [plane.ravel().tolist() for plane in read.planes()] == planes


def test_a_document_of_the_node_is_read_by_the_panel(page: Page) -> None:
    planes = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) % 3
    found = run(
        page,
        "labels",
        """const {head, planes} = await m.unpack(Uint8Array.from(given).buffer);
        return {label: head.segments[1].label, planes: planes.map(p => [...p])};""",
        list(write_labels(head(), planes)),
    )
    assert found["label"] == "Äpfel"
    assert found["planes"] == [plane.ravel().tolist() for plane in planes]


def test_a_document_that_was_cut_is_refused(page: Page) -> None:
    content = list(write_labels(head(), np.ones((1, 2, 3), np.uint8)))  # one plane of two
    said = run(
        page,
        "labels",
        """try { await m.unpack(Uint8Array.from(given).buffer); return 'read'; }
        catch (error) { return error.name; }""",
        content,
    )
    assert said == "RangeError"


def test_a_mask_leaves_other_segments_alone(page: Page) -> None:
    added, replaced = run(
        page,
        "masks",
        """return [false, true].map(replace => {
            const plane = Uint8Array.from([0, 0, 1, 1, 2, 2]);
            const changed = m.lay(plane, Uint8Array.from([7, 0, 7, 0, 7, 0]), 1, {replace});
            return [[...plane], changed];
        });""",
    )
    taken = run(
        page,
        "masks",
        """const plane = Uint8Array.from([0, 2, 3]);
        m.lay(plane, Uint8Array.from([1, 1, 1]), 1, {replace: false, mayTake: n => n !== 3});
        return [...plane];""",
    )
    assert taken == [1, 1, 3]
    assert added == [[1, 0, 1, 1, 2, 2], 1]
    assert replaced == [[1, 0, 1, 0, 2, 2], 2]


def test_a_difference_says_whose_each_voxel_is(page: Page) -> None:
    found = run(
        page,
        "masks",
        """const plane = values => Uint8Array.from(values);
        return [...m.difference([plane([0, 1, 1, 1, 0, 3]), plane([0, 0, 2, 0, 0, 0])],
            [plane([0, 1, 1, 2, 4, 0])], 6)];""",
    )
    assert found == [0, 0, 3, 3, 2, 1]
    assert run(page, "masks", "return m.dice({both: 3, 1: 2, 2: 0, 3: 1});") == 0.75
    assert run(page, "masks", "return m.dice({both: 0, 1: 0, 2: 0, 3: 0});") is None
    counted = run(
        page,
        "masks",
        """const counts = {both: 0, 1: 0, 2: 0, 3: 0};
        m.count(counts, [Uint8Array.of(0, 5, 1, 1, 0)], Uint8Array.of(0, 3, 1, 0, 2));
        return counts;""",
    )
    assert counted == {"both": 2, "1": 1, "2": 1, "3": 1}


def test_a_place_is_found_in_its_voxel_where_pixels_are_not_square(page: Page) -> None:
    """A sagittal series, 2 mm between rows, 0.5 mm between columns, 3 mm between slices."""
    planes = [
        {
            "imagePositionPatient": [3.0 * k, -10.0, 40.0],
            "rowCosines": [0, 1, 0],
            "columnCosines": [0, 0, -1],
            "rowPixelSpacing": 2.0,
            "columnPixelSpacing": 0.5,
            "rows": 20,
            "columns": 60,
        }
        for k in range(5)
    ]
    world = [3.0 * 3 + 1.2, -10.0 + 0.5 * 17 + 0.2, 40.0 - 2.0 * 11 - 0.9]
    body = "return m.nearestVoxel(given.planes, given.world);"
    found = run(page, "geometry", body, {"planes": planes, "world": world})
    assert found == {"index": 3, "row": 11, "column": 17}
    outside = [9.0, -10.3, 40.0]
    assert run(page, "geometry", body, {"planes": planes, "world": outside}) is None


def test_idle_time_is_no_effort(page: Page) -> None:
    report = run(
        page,
        "effort",
        """let now = 100;
        const effort = new m.Effort({now: () => now, clock: () => 1e12 + 1000 * now});
        for (const pause of [2, 3, 600, 1]) { now += pause; effort.touch(); }
        now += 4; effort.stroke();
        now += 5;
        return effort.report();""",
    )
    assert report["active_s"] == 2 + 3 + 1 + 4 + 5
    assert report["idle_s"] == 600
    assert report["strokes"] == 1
    assert report["opened_at"] < report["saved_at"]


def test_a_study_opens_with_what_was_corrected_last(page: Page) -> None:
    """Of a result with two corrections, one of them corrected again, and of another result."""

    def seg(uid: str, before: str | None = None, *, time: str = "") -> dict[str, object]:
        reference = [{"ReferencedSOPInstanceUID": before}]
        series = [{"ReferencedSeriesSequence": [{"ReferencedSOPSequence": reference}]}]
        said = {"PredecessorDocumentsSequence": series} if before else {}
        images = {"ReferencedSeriesSequence": [{"SeriesInstanceUID": SERIES}]}
        instance = {"ContentDate": "20260102", "ContentTime": time, **images, **said}
        return {"Modality": "SEG", "SOPInstanceUID": uid, "instance": instance}

    opened = run(
        page,
        "hanging",
        """const found = {};
        m.default.preRegistration({servicesManager: {services: {hangingProtocolService: {
            addCustomAttribute: (name, _, asked) => { found[name] = asked; }}}}});
        const displaySets = given;
        return displaySets.filter(set => found.liesOnOpeningImage(set, {displaySets}))
            .map(set => set.SOPInstanceUID);""",
        [
            {"Modality": "CT", "SeriesInstanceUID": SERIES, "numImageFrames": 3},
            seg("result", time="080000"),
            seg("first", "result", time="090000.5"),
            seg("again", "first", time="110000"),
            seg("beside", "result", time="100000"),
            seg("other", time="120000"),
        ],
    )
    assert opened == ["again", "other"]


def test_every_language_has_every_text_with_the_same_places(page: Page) -> None:
    languages = [path.stem for path in (ROOT / "ohif-config").glob("texts-*.js")]
    texts = {name: run(page, name, "return m.default;") for name in languages}
    english = texts["texts-en"]

    def places(text: str) -> set[str]:
        return {part.split("}")[0].split(":")[0] for part in text.split("{")[1:]}

    own = {key for key in english if not key.startswith("fault.")}
    for name, words in texts.items():
        faults = {key.removeprefix("fault.") for key in words if key.startswith("fault.")}
        assert faults <= {error.code for error in every_error()}, name
        assert words.keys() - {f"fault.{code}" for code in faults} == own, name
        for key, text in words.items():
            assert places(text) == places(english.get(key, "")), (name, key)
    assert run(page, "text", "return m.chosen(['fr-FR', 'de-CH', 'en']);") == "de"
    assert run(page, "text", "return m.chosen(['fr']);") == "en"


def test_a_reason_and_an_error_are_told_in_the_readers_language(page: Page) -> None:
    german, english = (run(page, f"texts-{name}", "return m.default;") for name in ("de", "en"))
    for words in (german, english):
        told = {key.removeprefix("reason.") for key in words if key.startswith("reason.")}
        assert told == {reason.value for reason in REASONS}
    assert {f"reason.{one.value}": one.meaning for one in REASONS}.items() <= english.items()
    told = run(
        page,
        "node",
        """const text = await import('/text.js');
        return ['other_grid', 'gantry_tilt'].map(code =>
            m.inWords({code, message: 'a message', advice: 'do this.'}, text.wordsOf('de')));""",
    )
    assert told == [german["fault.other_grid"], "A message. Do this."]
    own = run(page, "node", "return m.inWords({code: 'other_grid', message: 'a message'});")
    assert own == "A message."


def test_a_number_has_the_word_that_belongs_to_it(page: Page) -> None:
    def told(voxels: int) -> str:
        text = "return m.t('compare.count-3', {count: given});"
        return run(page, "text", text, voxels)

    assert told(1).startswith("1 voxel of")
    assert [told(number).split(" of")[0] for number in (0, 2)] == ["0 voxels", "2 voxels"]


def test_every_text_that_the_panel_asks_for_exists(page: Page) -> None:
    english = run(page, "texts-en", "return m.default;")
    asked = set()
    for path in (ROOT / "ohif-config").glob("*.js"):
        if not path.name.startswith("texts-"):
            asked |= set(re.findall(r"\bt\('([\w.-]+)'", path.read_text(encoding="utf-8")))
    assert asked and asked <= english.keys()


def test_no_key_is_taken_twice_or_from_the_stock_viewer(page: Page) -> None:
    stock = set("zrhvciebna,.1234-+=[]") | {"space", "esc", "enter"}
    keys = run(page, "keys", "return m.KEYS.map(one => one.key);")
    assert len(keys) == len(set(keys))
    assert not stock & set(keys)


def test_the_export_of_a_seg_is_led_elsewhere_and_every_other_kind_stays(page: Page) -> None:
    """The commands are a table, as OHIF's manager keeps them: by context and name."""
    told = run(
        page,
        "exporting",
        """
        const told = [];
        const stock = { options: {}, commandFn: ({ modality }) => told.push(`stock ${modality}`) };
        const commands = { CORNERSTONE: { storeSegmentation: stock }, SEGMENTATION: {} };
        const manager = {
          getContext: context => commands[context],
          registerCommand: (context, name, command) => { commands[context][name] = command; },
        };
        for (let mode = 0; mode < 2; mode += 1) { // entered twice: led once by each
          m.leadExport(manager, 'first', () => told.push('never'));
          m.leadExport(manager, 'last', options => told.push(`led ${options?.segmentationId}`));
        }
        const { commandFn } = commands.CORNERSTONE.storeSegmentation;
        commandFn({ segmentationId: 'a' });
        commandFn({ segmentationId: 'b', modality: 'SEG' });
        commandFn({ segmentationId: 'c', modality: 'RTSTRUCT' });
        const { ledBy } = commands.CORNERSTONE.storeSegmentation;
        return [told, ledBy, Object.keys(commands.SEGMENTATION)];
        """,
    )
    assert told == [["led a", "led b", "stock RTSTRUCT"], ["first", "last"], []]
