"""A front killed while it saves: nothing that was drawn is lost, and nothing comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from dicom.seg import BY_CONTENT
from pipelines.corrections import Desk
from pipelines.drawer import Drawer
from pipelines.labels import MEDIA_TYPE
from pipelines.records import DraftRow
from tests.node.front import PASSWORD
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, reading_room
from tests.orthanc.dying import MOMENTS
from tests.orthanc.test_corrections import ORIGINS

pytestmark = pytest.mark.orthanc

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    with servers.running(servers.clinical_config(tmp_path_factory.mktemp("orthanc"))) as (one,):
        yield one


@pytest.fixture(scope="module")
def fronts() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.orthanc.dying"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


@pytest.fixture(scope="module")
def room(
    orthanc: servers.RunningOrthanc, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("room")
    with reading_room(folder, orthanc, modality="MR", name="killed") as room:
        yield room


@pytest.fixture(scope="module")
def again(
    fronts: subprocess.Popen[str],
    orthanc: servers.RunningOrthanc,
    room: Room,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Reader]:
    """The front that answers afterwards; it shares nothing with those that die but the rows."""
    reader = Reader(fronts, orthanc, room, tmp_path_factory.mktemp("again"))
    yield reader
    reader.stop()


class Reader:
    """A logged-in browser on a front that was just started."""

    def __init__(
        self,
        fronts: subprocess.Popen[str],
        orthanc: servers.RunningOrthanc,
        room: Room,
        folder: Path,
        *,
        dies: str = "",
    ) -> None:
        with room.database.read() as session:
            (*_, database) = session.execute(sa.text("PRAGMA database_list")).one()
        port = servers.free_port()
        config = orthanc.config
        wish = {
            "folder": str(folder),
            "database": f"sqlite:///{database}",
            "archive": {"url": config.url, "user": config.user, "password": config.password},
            "port": port,
            "dies": dies,
        }
        assert fronts.stdin is not None and fronts.stdout is not None
        fronts.stdin.write(json.dumps(wish) + "\n")
        fronts.stdin.flush()
        self.pid = int(fronts.stdout.readline())
        address = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(
            base_url=address, headers={"Origin": address}, trust_env=False, timeout=30
        )
        until = time.monotonic() + 30
        while True:
            try:
                answer = self.http.post("/login", data={"name": "rita", "password": PASSWORD})
                break
            except httpx.TransportError:
                assert time.monotonic() < until, "the front did not start"
                time.sleep(0.05)
        assert answer.status_code == 303, answer.text

    def seen(self, room: Room, before: str) -> tuple[list[dict], list[dict]]:
        """Return the drafts and the corrections of one result."""
        answer = self.http.post("/api/viewer/study", json={"StudyInstanceUID": room.study_uid})
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        drafts = [one for one in seen["drafts"] if one["predecessor"] == before]
        return drafts, [one for one in seen["results"] if one["predecessor"] == before]

    def send(self, method: str, path: str, content: bytes) -> httpx.Response:
        return self.http.request(
            method, path, content=content, headers={"Content-Type": MEDIA_TYPE}
        )

    def stop(self) -> None:
        self.http.close()
        os.kill(self.pid, signal.SIGTERM)


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_the_draft_is_offered_or_the_correction_is_there_once(
    moment: str,
    orthanc: servers.RunningOrthanc,
    fronts: subprocess.Popen[str],
    room: Room,
    again: Reader,
    tmp_path: Path,
) -> None:
    labels_kji = blobs(room.grid, count=2)
    before = room.result(labels_kji, "liver", "spleen", job=moment)
    labels_kji[4, 10, :5] = 1
    content = room.document(labels_kji, segments=ORIGINS, before=before)
    reader = Reader(fronts, orthanc, room, tmp_path, dies=moment)
    if moment == "the labels were judged":  # the viewer keeps a draft before it saves
        assert reader.send("PUT", "/api/drafts", content).status_code == 200
    with pytest.raises(httpx.TransportError):
        reader.send("POST", "/api/corrections", content)

    drafts, corrections = again.seen(room, before)
    assert len(drafts) + len(corrections) == 1  # nothing lost, nothing twice

    with room.database.write() as session:  # two minutes later, in the worker
        session.execute(
            sa.update(DraftRow)
            .where(DraftRow.saving_since.is_not(None))
            .values(saving_since=datetime.now(UTC) - timedelta(minutes=5))
        )
    worker = Desk(
        room.archive,
        room.studies,
        room.corrections,
        room.drafts,
        Drawer(b"audit key"),  # as the fronts have it
        form=BY_CONTENT,
    )
    worker.finish()
    for draft in again.seen(room, before)[0]:  # what was not begun, its author goes on with
        opened = again.http.post(f"/api/drafts/{draft['id']}/open").content
        assert opened == content
        assert again.send("POST", "/api/corrections", opened).status_code == 201
    drafts, (correction,) = again.seen(room, before)
    assert drafts == []
    assert correction["author"] == "rita"
    for number, mask in enumerate(room.masks(correction["id"], tmp_path), 1):
        assert np.array_equal(mask, labels_kji == number)
    stored = len(room.corrections.of_study(room.images.study_id))
    results = len(room.jobs.jobs_of(room.images.study_id))
    room.take_in()
    segs = [one for one in room.studies.series_of(room.images.study_id) if one.modality == "SEG"]
    assert len(segs) == stored + results and all(one.ours for one in segs)
