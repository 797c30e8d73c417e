"""Prompts through the front, on a head that a real archive holds."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from scipy import ndimage

from dicom.archive import Archive
from dicom.phantom import write_head_study
from dicom.study import Series
from dicom.volume import Volume, read_volume
from pipelines.labels import MEDIA_TYPE, LabelsDocument, name_of, read_labels, write_labels
from pipelines.prompting import KINDS, AnswerHead
from pipelines.warm import WarmImages
from tests.clicked import write_clicked_bundle
from tests.node.front import make_front
from tests.orthanc.servers import clinical_config, running

pytestmark = pytest.mark.orthanc


class Head:
    """The stored head: its voxels, and a browser of each role on the front."""

    def __init__(self, archive: Archive, folder: Path, stored: list[str]) -> None:
        self.front = make_front(folder, clinical=archive)
        self.client = self.front.client("radiologist")
        (orthanc_id,) = archive.series_of(stored)
        self.archived = archive.series(orthanc_id)
        self.series: Series = archive.fetch(self.archived, folder / "downloaded")
        self.volume: Volume = read_volume(self.series)

    def place(self, k: int, j: int, i: int) -> dict[str, object]:
        name = name_of(self.volume.source, k).model_dump(by_alias=True)
        return {**name, "row": j, "column": i}

    def document(self, asked: dict[str, object], mask_kji=None, **head: object) -> bytes:
        drawn = [] if mask_kji is None else np.flatnonzero(mask_kji.any(axis=(1, 2))).tolist()
        names = [name_of(self.volume.source, k).model_dump(by_alias=True) for k in drawn]
        _, rows, columns = self.volume.shape_kji
        whole = {
            "StudyInstanceUID": self.archived.study_uid,
            "SeriesInstanceUID": self.archived.series_uid,
            "rows": rows,
            "columns": columns,
            "bits": 8,
            "layers": [names],
            "segments": [{"number": 3, "label": "Lesion"}],
            "prompt": {"segment": 3, **asked},
        }
        planes = [mask_kji[k].astype(np.uint8) * 3 for k in drawn]
        return write_labels({**whole, **head}, planes)

    def ask(self, content: bytes, client: TestClient | None = None):
        return (client or self.client).post(
            "/api/prompts", content=content, headers={"Content-Type": MEDIA_TYPE}
        )

    def answered(self, content: bytes, before=None):
        """Return the answer's head, and the segment after it."""
        answer = self.ask(content)
        assert answer.status_code == 200, answer.text
        document: LabelsDocument[AnswerHead] = read_labels(answer.content, AnswerHead)
        after = np.zeros(self.volume.shape_kji, np.bool_) if before is None else before.copy()
        uids = [source.instance.sop_instance_uid for source in self.volume.sources]
        for name, plane in zip(document.head.layers[0], document.planes(), strict=True):
            after[uids.index(name.sop_instance_uid)] = plane == 3
        return document.head, after


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("prompts")
    write_head_study(folder / "head", slices=24, size=64, plane="axial")
    write_clicked_bundle(folder / "bundles", any_structure=False, rounds=5)  # for the brain
    with running(clinical_config(folder / "orthanc")) as (orthanc,), orthanc.archive() as archive:
        stored = [archive.store(path) for path in sorted((folder / "head").rglob("*.dcm"))]
        made = Head(archive, folder, stored)
        yield made
        made.front.parts.predictor.stop()


def brightest(head: Head) -> tuple[int, int, int]:
    smoothed = ndimage.gaussian_filter(head.volume.voxels_kji.astype(float), 2)
    k, j, i = np.unravel_index(int(smoothed.argmax()), smoothed.shape)
    return int(k), int(j), int(i)


def test_a_click_grows_to_what_is_connected_with_it(head: Head):
    k, j, i = brightest(head)
    prompt = {"kind": "grow", "seed": head.place(k, j, i), "tolerance": 40}
    answered, mask = head.answered(head.document(prompt))
    voxels = head.volume.voxels_kji.astype(float)
    value = voxels[k, j, i]
    labels, _ = ndimage.label((voxels >= value - 40) & (voxels <= value + 40))
    assert (mask == (labels == labels[k, j, i])).all()
    assert answered.changed == mask.sum() > 1
    assert (answered.low, answered.high) == (value - 40, value + 40)


def test_what_is_drawn_already_is_kept_and_only_changed_slices_come_back(head: Head):
    k, j, i = brightest(head)
    drawn = np.zeros(head.volume.shape_kji, np.bool_)
    drawn[2, 5:9, 5:9] = True
    prompt = {"kind": "grow", "seed": head.place(k, j, i), "tolerance": 30, "dimensions": 2}
    answered, mask = head.answered(head.document(prompt, drawn), drawn)
    assert [name.sop_instance_uid for name in answered.layers[0]] == [
        head.volume.sources[k].instance.sop_instance_uid
    ]
    assert (mask[2] == drawn[2]).all()
    assert mask[k].any()


@pytest.mark.parametrize(
    "prompt",
    [
        {"kind": "margin", "mm": 6.0},
        {"kind": "margin", "mm": -6.0, "dimensions": 2},
        {"kind": "fill_holes", "dimensions": 2},
        {"kind": "largest"},
        {"kind": "smooth"},
        {"kind": "interpolate"},
    ],
)
def test_every_change_of_shape_is_the_models_own(head: Head, prompt: dict[str, object]):
    drawn = np.zeros(head.volume.shape_kji, np.bool_)
    drawn[8, 20:40, 20:40] = drawn[12, 22:40, 20:44] = True
    drawn[8, 28:31, 28:31] = False
    drawn[8, 50, 50] = True
    _, mask = head.answered(head.document(prompt, drawn), drawn)
    assert (mask != drawn).any()


def test_clicks_and_a_box_refine(head: Head):
    k, j, i = brightest(head)
    drawn = np.zeros(head.volume.shape_kji, np.bool_)
    drawn[k, j - 2 : j + 3, i - 2 : i + 3] = True
    take = {"kind": "refine", "negative": [head.place(k, j, i)]}
    _, less = head.answered(head.document(take, drawn), drawn)
    assert not less[k, j, i]
    box = {"first": head.place(k - 2, j + 6, i - 6), "last": head.place(k + 2, j - 6, i + 6)}
    _, boxed = head.answered(head.document({"kind": "refine", "box": box}))
    assert boxed[k, j, i]
    inside = np.zeros_like(boxed)
    inside[k - 2 : k + 3, j - 6 : j + 7, i - 6 : i + 7] = True
    assert not (boxed & ~inside).any()


def test_every_kind_that_is_told_of_is_taken(head: Head):
    told = {one["kind"]: one["dimensions"] for one in head.client.get("/api/prompts").json()}
    assert told == {kind: list(dimensions) for kind, dimensions in KINDS.items()}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prompt": {"segment": 3, "kind": "guess"}}, "invalid_labels"),
        ({"prompt": {"segment": 3, "kind": "refine"}}, "invalid_labels"),
        ({"prompt": {"segment": 4, "kind": "smooth"}}, "invalid_labels"),
        ({"prompt": {"segment": 3, "kind": "margin", "mm": 1e9}}, "invalid_labels"),
        ({"rows": 63}, "other_grid"),
        ({"SeriesInstanceUID": "1.2.3"}, "not_found"),
        ({"StudyInstanceUID": "1.2.3"}, "not_found"),
    ],
)
def test_what_cannot_be_done_has_a_code_and_names_no_uid(
    head: Head, change: dict[str, object], code: str
):
    answer = head.ask(head.document({"kind": "smooth"}, **change))
    assert answer.json()["code"] == code
    assert head.archived.series_uid not in answer.text


def test_a_place_outside_and_another_series_slice_are_refused(head: Head):
    outside = {"kind": "grow", "seed": head.place(0, 64, 0)}
    assert head.ask(head.document(outside)).json()["code"] == "invalid_labels"
    strange = {"kind": "grow", "seed": {**head.place(0, 0, 0), "SOPInstanceUID": "1.2.3"}}
    assert head.ask(head.document(strange)).json()["code"] == "foreign_segmentation"


def test_a_document_that_inflates_to_more_than_it_says_is_refused(head: Head):
    mask = np.zeros(head.volume.shape_kji, np.bool_)
    mask[3, 3, 3] = True
    content = head.document({"kind": "smooth"}, mask)
    (length,) = struct.unpack_from("<I", content)
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packing.compress(bytes(1 << 24)) + packing.flush()
    assert head.ask(content[: 4 + length] + bomb).json()["code"] == "invalid_labels"


def test_only_clinical_roles_may_prompt(head: Head):
    content = head.document({"kind": "smooth"})
    assert head.ask(content, head.front.client("researcher")).status_code == 403
    assert head.ask(content, head.front.client()).status_code == 401
    plain = head.client.post("/api/prompts", content=content)
    assert plain.json()["code"] == "invalid_request"


def test_warming_reads_the_series_once(head: Head):
    names = {
        "StudyInstanceUID": head.archived.study_uid,
        "SeriesInstanceUID": head.archived.series_uid,
    }
    assert head.client.post("/api/prompts/warm", json=names).status_code == 204
    uids = (head.archived.study_uid, head.archived.series_uid)
    first = head.front.parts.warm.image(*uids)
    assert head.front.parts.warm.image(*uids) is first


def test_a_full_store_forgets_the_oldest_image_and_reads_a_changed_series_again(
    tmp_path: Path,
):
    write_head_study(tmp_path / "one", slices=3, size=32, plane="axial")
    with running(clinical_config(tmp_path / "o")) as (orthanc,), orthanc.archive() as archive:
        stored = {archive.store(path): path for path in sorted((tmp_path / "one").rglob("*.dcm"))}
        (series,) = archive.series_of(list(stored))
        archived = archive.series(series)
        warm = WarmImages(archive, most_bytes=1 << 30)
        first = warm.image(archived.study_uid, archived.series_uid)
        assert first.grid.shape_kji[0] == 3
        archive.delete("instances", next(iter(stored)))
        left = warm.image(archived.study_uid, archived.series_uid)
        assert left is not first
        assert left.grid.shape_kji[0] == 2


def test_a_model_that_takes_clicks_answers_for_its_structure_and_when_it_is_named(head: Head):
    listed = {one["kind"]: one["bundles"] for one in head.client.get("/api/prompts").json()}
    assert listed["refine"] == ["clicked@0.1.0"]
    assert listed["grow"] == []
    k, j, i = brightest(head)
    prompt = {"kind": "refine", "positive": [head.place(k, j, i)]}
    classical, mask = head.answered(head.document(prompt))
    assert classical.bundle is None  # a lesion is not what it is for
    named, by_model = head.answered(head.document({**prompt, "bundle": "clicked"}))
    assert named.bundle == "clicked@0.1.0"
    assert by_model[k, j, i]
    assert (by_model != mask).any()
    brain = [{"number": 3, "label": "Brain"}]
    own, same = head.answered(head.document(prompt, segments=brain))
    assert own.bundle == "clicked@0.1.0"
    assert np.array_equal(same, by_model)
    without, again = head.answered(head.document({**prompt, "bundle": "none"}, segments=brain))
    assert without.bundle is None
    assert np.array_equal(again, mask)
    refused = head.ask(head.document({**prompt, "bundle": "nothing"}))
    assert refused.json()["code"] == "unknown_bundle"
