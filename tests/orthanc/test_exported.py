"""The viewer's own export of a segmentation: held back, then a correction or a plain refusal."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom.seg import Form, decode_seg
from tests.node.front import Front, make_front
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, reading_room
from tests.segmentations import bytes_of, encoded, segments_of, uids_of

pytestmark = pytest.mark.orthanc

BOUNDARY = "a-boundary-of-the-viewer"
HEADERS = {
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
    "Accept": "application/dicom+json",
}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    config = servers.clinical_config(tmp_path_factory.mktemp("orthanc"))
    with servers.running(config) as (running,):
        yield running


@pytest.fixture
def room(request, tmp_path: Path, orthanc: servers.RunningOrthanc) -> Iterator[Room]:
    name = re.sub(r"\W", " ", request.node.name)
    with reading_room(tmp_path, orthanc, name=name) as room:
        yield room


@pytest.fixture
def front(room: Room, tmp_path: Path) -> Front:
    return make_front(tmp_path, clinical=room.archive, database=room.database)


def exported(
    room: Room, labels_kji: np.ndarray, *, key: str = "first", kind: str = "binary"
) -> Dataset:
    """Return a SEG as OHIF writes it: everything is Tissue, and the file says who wrote it."""
    count = int(labels_kji.max())
    ds = encoded(
        labels_kji,
        room.grid,
        segments_of(*("liver", "spleen")[:count]),
        uids=uids_of(count, f"{room.study_uid} {key}"),
        form=Form(kind),
    )
    for item in ds.SegmentSequence:
        for sequence in (
            item.SegmentedPropertyCategoryCodeSequence,
            item.SegmentedPropertyTypeCodeSequence,
        ):
            code = sequence[0]
            code.CodeValue, code.CodingSchemeDesignator = "T-D0050", "SRT"
            code.CodeMeaning = "Tissue"
        item.SegmentAlgorithmType = "MANUAL"
        for keyword in ("TrackingID", "TrackingUID", "SegmentationAlgorithmIdentificationSequence"):
            if keyword in item:
                delattr(item, keyword)
    ds.file_meta.ImplementationVersionName = "OHIF-3.13.2"
    return ds


def stow(front: Front, *objects: Dataset, role="radiologist"):
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + bytes_of(ds) + b"\r\n"
        for ds in objects
    )
    content = body + f"--{BOUNDARY}--\r\n".encode()
    return front.client(role).post("/dicom-web/studies", content=content, headers=HEADERS)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_the_first_export_becomes_a_correction_with_its_history(front, room, tmp_path, kind):
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen")
    labels_kji[4, :3, :3] = 2
    ds = exported(room, labels_kji, kind=kind)
    answer = stow(front, ds)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["00081199"]["Value"]
    stored = item["00081155"]["Value"][0]
    assert stored != ds.SOPInstanceUID and not room.archive.holds(ds.SOPInstanceUID)
    now = decode_seg(room.seg(stored, tmp_path), room.grid)
    assert np.array_equal(now.labels(), labels_kji)
    assert [segment.type.meaning for segment in now.segments] == ["Liver", "Spleen"]
    row = room.corrections.correction(stored)
    assert (row.source, row.predecessor_id, row.author) == ("export", before, "rita")


def test_the_second_export_of_a_session_is_refused(front, room):
    labels_kji = blobs(room.grid, count=2)
    assert stow(front, exported(room, labels_kji)).status_code == 200
    labels_kji[4, :3, :3] = 2
    second = stow(front, exported(room, labels_kji, key="second"))
    assert (second.status_code, second.json()["code"]) == (409, "unsafe_segmentation")
    assert "panel" in second.json()["message"]
    assert len(room.corrections.of_study(room.images.study_id)) == 1
    other = stow(front, exported(room, labels_kji, key="admin's first"), role="admin")
    assert other.status_code == 200


def damaged(room: Room, how: str) -> tuple[Dataset, ...]:
    labels_kji = blobs(room.grid, count=2)
    match how:
        case "a segment gone empty":
            ds = exported(room, labels_kji)
            labels_kji[labels_kji == 2] = 0
            empty = encoded(
                labels_kji,
                room.grid,
                segments_of("liver", "spleen"),
                uids=uids_of(2, f"{room.study_uid} empty"),
            )
            empty.file_meta = ds.file_meta
            return (empty,)
        case "frames that repeat the first":
            labels_kji[:] = labels_kji[labels_kji.any(axis=(1, 2))][0]
            return (exported(room, labels_kji),)
        case "two at once":
            return exported(room, labels_kji), exported(room, labels_kji, key="more")
    raise AssertionError(how)


@pytest.mark.parametrize(
    "how", ["a segment gone empty", "frames that repeat the first", "two at once"]
)
def test_what_cannot_be_trusted_is_refused(front, room, how):
    answer = stow(front, *damaged(room, how))
    assert (answer.status_code, answer.json()["code"]) == (409, "unsafe_segmentation")
    assert room.corrections.of_study(room.images.study_id) == []


def test_who_may_not_store_gets_nowhere(front, room):
    ds = exported(room, blobs(room.grid, count=2))
    assert stow(front, ds, role="researcher").status_code == 403
