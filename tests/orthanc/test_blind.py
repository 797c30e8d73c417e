"""A round of blind reading on a real archive: what the others are told is the same, to the byte.

Everything that can be asked is asked before and after one reader has drawn, saved, judged, written
and finished. Nothing may differ for anybody else: not a name, not a number, not the length of a
list. That something was stored at all is what a blind reader must not know.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.routing import iter_route_contexts
from pydicom import dcmread

from models.nrrd import write_nrrd
from node.proxy import Upstream
from pipelines.labels import MEDIA_TYPE
from tests.bundles import write_threshold_bundle
from tests.node.front import PASSWORD, Front, make_front, receive
from tests.node.serving import serving
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, reading_room
from tests.orthanc.test_corrections import ORIGINS
from tests.orthanc.test_elsewhere import care

pytestmark = pytest.mark.orthanc

READERS = ("anna", "carl")
WATCHERS = ("carl", "admin", "rob")
"""The other reader; who opened the round, and may do nearly everything; a researcher."""

# The record of deeds is whole, whoever reads in a round: for administrators and custodians alone.
RECORDS = ("/api/audit", "/trail")
# Who leads a round is told who has done; none of its readers is.
PROGRESS = ("/api/worklist/cases/{case}/rounds", "/fragments/worklist/{case}")
ELSEWHERE = ("/dicom-web/", "/research/", "/ohif", "/static")  # asked by address, or no data
STREAMS = "events"  # listened to below
WORDS = ("/api/docs", "/api/openapi.json", "/api/vocabulary", "/profiles")  # the same for all, ever


Told = dict[tuple[str, str], tuple[int, bytes]]
"""Answers, by a question's name and its address."""


@dataclass
class Site:
    """A node on a port, with a study that has a model's result, and a round that is open."""

    room: Room
    front: Front
    url: str
    before: str

    def client(self, name: str) -> httpx.Client:
        client = httpx.Client(base_url=self.url, headers={"Origin": self.url}, timeout=30)
        answer = client.post("/login", data={"name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return client

    def stranger(self) -> httpx.Client:
        return httpx.Client(base_url=self.url)

    @property
    def study(self) -> str:
        return self.room.images.study_id

    def questions(self) -> Iterator[tuple[str, str, dict]]:
        """Yield every way to ask: a name of it, its address, and what httpx is given."""
        values = {"study": self.study, "case": self.study, "job": "job"}
        about = {"image": self.room.images.id, "label": self.room.images.id, "tag": "final"}
        for route in iter_route_contexts(self.front.app.routes):
            path = str(route.path)
            if path.startswith(ELSEWHERE) or STREAMS in path or path in (*RECORDS, *WORDS):
                continue
            names = re.findall(r"{(\w+)}", path)
            if not values.keys() >= set(names):  # of what there is none: never found
                continue
            address = path.format(**values)
            for method in {"GET", "HEAD"} & set(route.methods or ()):
                query = {"study": self.study, **about}
                yield path, address, {"method": method, "params": query}
                if path == "/monailabel/datastore/":
                    for output in ("all", "train"):
                        yield (
                            f"{path} {output}",
                            address,
                            {
                                "method": method,
                                "params": {"output": output},
                            },
                        )
        study = {"StudyInstanceUID": self.room.study_uid}
        for path, body in (
            ("/api/viewer/study", study),
            ("/api/worklist/studies", {"StudyInstanceUIDs": [self.room.study_uid]}),
            ("/api/worklist/search", {"text": "a"}),
            ("/api/worklist/next", {"strategy": "disagreement"}),
            ("/api/worklist/heartbeat", {}),
            ("/monailabel/activelearning/first", {}),
        ):
            yield path, path, {"method": "POST", "json": body}
        for address in self.searches():
            yield "dicomweb", f"/dicom-web/{address}", {"method": "GET"}

    def searches(self) -> Iterator[str]:
        uid = self.room.study_uid
        counts = "includefield=00201206,00201208,00080061"
        yield f"studies?{counts}"
        yield "studies?limit=100&offset=0"
        yield f"studies?StudyInstanceUID={uid}&includefield=0008103E,00200011"
        for modality in ("SEG", "MR", "MR,SEG", "XA"):
            yield f"studies?ModalitiesInStudy={modality}&StudyInstanceUID={uid}&{counts}"
        yield f"studies?NumberOfStudyRelatedSeries=3&StudyInstanceUID={uid}"
        yield f"studies?SeriesDescription=Corrected*&StudyInstanceUID={uid}"
        yield "series"
        yield "series?SeriesDescription=*anna*"
        yield "series?Modality=SEG&limit=1&offset=1"
        yield "instances?limit=1000"
        for level in ("series", "instances"):
            yield f"studies/{uid}/{level}"
            yield f"studies/{uid}/{level}?{counts}"
            for page in ("limit=2", "limit=1&offset=1", "limit=2&offset=2", "offset=10"):
                yield f"studies/{uid}/{level}?{page}"
        yield f"studies/{uid}/metadata"
        yield f"studies/{uid}"
        yield f"studies/{uid}/rendered"

    def told(self, client: httpx.Client, before: Told | None = None) -> Told:
        """Return every answer that this person gets; what was forbidden `before` still is."""
        found: Told = {}
        for name, address, how in self.questions():
            about = f"{how['method']} {address} {how.get('params', '')}"
            if before is not None and before[name, about][0] == 403:
                found[name, about] = before[name, about]
                continue
            answer = client.request(url=address, **how)
            assert answer.status_code < 500 or b"peer" in answer.content, (address, answer.text)
            found[name, about] = answer.status_code, answer.content
        return found

    def read(self, client: httpx.Client) -> dict:
        """Do all that a reader can: draw, keep, save in two ways, judge, write, be measured.

        Return what the first save is answered.
        """
        labels_kji = blobs(self.room.grid, count=2)
        labels_kji[0] = 1
        document = self.room.document(labels_kji, segments=ORIGINS, before=self.before)
        kind = {"Content-Type": MEDIA_TYPE}
        answer = client.post("/api/corrections", content=document, headers=kind)
        assert answer.status_code == 201, answer.text
        (reason, *_) = client.get("/api/assessments/reasons").json()
        said = {"result": self.before, "verdict": "rejected", "reason": reason["value"]}
        assert client.post("/api/assessments", json=said).status_code == 201
        words = {"text": "the left one is wrong"}
        path = f"/api/worklist/cases/{self.study}/comments"
        assert client.post(path, json=words).status_code == 201
        labels_kji[1] = 2
        label = client.put(
            "/monailabel/datastore/label",
            params={"image": self.room.images.id, "tag": "final"},
            data={"params": json.dumps({"label_info": [{"name": "liver"}, {"name": "spleen"}]})},
            files={"label": ("label.nrrd", write_nrrd(labels_kji, self.room.grid.affine_lps))},
        )
        assert label.status_code == 200, label.text
        draft = self.room.document(np.zeros_like(labels_kji), segments=[{"label": "cyst"}])
        assert client.put("/api/drafts", content=draft, headers=kind).status_code == 200
        self.room.take_in(quiet_s=0)
        aftercare = care(self.room)
        for correction in self.room.corrections.unmeasured():
            aftercare.measure(correction)
        saved: dict = answer.json()
        return saved

    def done(self, client: httpx.Client) -> None:
        answer = client.post(f"/api/worklist/cases/{self.study}/rounds/done")
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    with servers.running(servers.clinical_config(tmp_path_factory.mktemp("orthanc"))) as (one,):
        yield one


@pytest.fixture
def site(
    orthanc: servers.RunningOrthanc, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Site]:
    name = request.node.name.replace("_", " ")
    with reading_room(tmp_path, orthanc, modality="MR", name=name) as room:
        room.take_in(quiet_s=0)
        write_threshold_bundle(tmp_path / "bundles")
        before = room.result(blobs(room.grid, count=2), "liver", "spleen")
        room.take_in(quiet_s=0)
        web = Upstream(
            f"{orthanc.config.url}/dicom-web", orthanc.config.user, orthanc.config.password
        )
        front = make_front(
            tmp_path, clinical=room.archive, database=room.database, clinical_web=web
        )
        for name in READERS:
            front.parts.auth.add_user(name, role="radiologist", password=PASSWORD)
        with serving(front.app) as url:
            site = Site(room, front, url, before)
            admin = site.client("admin")
            assert admin.get("/api/worklist").json()["total"] == 1
            opened = admin.post(
                f"/api/worklist/cases/{site.study}/rounds", json={"readers": list(READERS)}
            )
            assert opened.status_code == 201, opened.text
            yield site
        orthanc_id = room.studies.study(site.study).orthanc_id
        room.archive.delete("studies", orthanc_id)  # the next test has its own alone


def differing(one: Told, other: Told) -> list[tuple[str, str]]:
    assert one.keys() == other.keys() and len(one) > 90
    return [key for key in one if one[key] != other[key]]


class Listener:
    """Listens to a stream of events until the block ends."""

    def __init__(self, client: httpx.Client, path: str) -> None:
        self._client, self._path = client, path
        self.heard: list[str] = []
        self._more = threading.Condition()

    def __enter__(self) -> "Listener":
        self._stop = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()

    def _listen(self) -> None:
        with self._client.stream("GET", self._path, timeout=60) as answer:
            for line in answer.iter_lines():
                if self._stop.is_set():
                    return
                if line.startswith("data"):
                    with self._more:
                        self.heard.append(line)
                        self._more.notify_all()

    def wait_for(self, word: str) -> list[str]:
        """Return what was heard since the last call, up to an event with that word in it."""
        with self._more:
            assert self._more.wait_for(lambda: any(word in one for one in self.heard), 30), word
            heard, self.heard = self.heard, []
        return heard


def test_that_one_reader_stored_anything_is_told_to_nobody(site: Site) -> None:
    clients = {name: site.client(name) for name in (*WATCHERS, "anna")}
    before = {name: site.told(clients[name]) for name in clients}
    # Asking twice tells the same: what differs below is somebody's doing.
    assert differing(before["carl"], site.told(clients["carl"], before["carl"])) == []
    site.read(clients["anna"])
    for name in WATCHERS:
        assert differing(before[name], site.told(clients[name], before[name])) == [], name
    assert len(differing(before["anna"], site.told(clients["anna"], before["anna"]))) > 10
    site.done(clients["anna"])
    assert differing(before["carl"], site.told(clients["carl"], before["carl"])) == []
    after = site.told(clients["admin"], before["admin"])
    assert {question for question, _ in differing(before["admin"], after)} == set(PROGRESS)


def test_the_second_reader_saves_as_if_nobody_had_before(site: Site) -> None:
    anna, carl = site.client("anna"), site.client("carl")
    first, second = site.read(anna), site.read(carl)
    assert [first[key] for key in ("stale", "message")] == [False, None]
    assert [second[key] for key in ("stale", "message")] == [False, None]
    numbers = [dcmread_number(site, saved["SOPInstanceUID"]) for saved in (first, second)]
    assert numbers[0] == numbers[1]


def test_no_stream_tells_that_one_reader_stored_anything(site: Site) -> None:
    anna, admin, carl = (site.client(name) for name in ("anna", "admin", "carl"))
    path = f"/api/worklist/cases/{site.study}"
    with (
        Listener(carl, "/api/worklist/events") as cases,
        Listener(site.client("carl"), "/api/events") as studies,
    ):
        receive(site.front.parts, "2.25.1")
        admin.patch(path, json={"assigned_to": "anna"})
        cases.wait_for('"assigned_to": "anna"')
        studies.wait_for("2.25.1")
        site.read(anna)
        site.done(anna)
        receive(site.front.parts, "2.25.2")
        admin.patch(path, json={"assigned_to": "carl"})
        (one,) = [e for e in cases.wait_for('"assigned_to": "carl"') if site.study in e]
        assert '"assigned_to": "carl"' in one
        assert [e for e in studies.wait_for("2.25.2") if site.study in e] == []


def test_the_archive_answers_as_ever_when_the_round_is_over(site: Site) -> None:
    carl, uid = site.client("carl"), site.room.study_uid
    for path in (f"studies/{uid}", f"studies/{uid}/rendered"):
        assert carl.get(f"/dicom-web/{path}").status_code == 404
        assert site.stranger().get(f"/dicom-web/{path}").status_code == 401
    for name in READERS:
        client = site.client(name)
        site.read(client)
        site.done(client)
    deadline = time.monotonic() + 30
    while (whole := carl.get(f"/dicom-web/studies/{uid}")).status_code == 404:
        assert time.monotonic() < deadline  # the open rounds are looked at once a second
        time.sleep(0.1)
    assert whole.status_code == 200 and whole.headers["content-type"].startswith("multipart")
    (study,) = carl.get(f"/dicom-web/studies?StudyInstanceUID={uid}").json()
    found = carl.get(f"/dicom-web/studies/{uid}/series").json()
    assert len(found) == 2 + 2 * len(READERS)  # images, the model's, and two saves of each
    assert study["00201206"]["Value"] == [len(found)]


def dcmread_number(site: Site, uid: str) -> int:
    return int(dcmread(BytesIO(site.room.archive.instance_bytes(uid))).SeriesNumber)
