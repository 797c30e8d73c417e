"""The DICOMweb proxy before a real Orthanc; where what it sends is looked at, before a recorder."""

import io
import json
import logging
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pydicom
import pytest
import structlog
from dicomweb_client import DICOMwebClient
from fastapi import FastAPI, Header
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

from dicom.errors import LoginNeeded, RadloopError, UnsafeSegmentation
from dicom.phantom import WrittenHead, write_head_study
from node import log
from node.proxy import Upstream, dicomweb_router, rewrite_query
from node.stow import StoreScanner
from tests.hanging_up import hanging_up
from tests.node.serving import coded, serving
from tests.orthanc import servers

LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")
COMPREHENSIVE_SR = UID("1.2.840.10008.5.1.4.1.1.88.33")
KEY = secrets.token_urlsafe(16)


def guard(x_key: str = Header("")) -> None:
    if x_key != KEY:
        raise LoginNeeded


def front(upstream: Upstream, prefix: str, **options: int) -> FastAPI:
    app = FastAPI()
    app.add_exception_handler(RadloopError, coded)
    app.include_router(dicomweb_router(prefix=prefix, upstream=upstream, guard=guard, **options))
    return app


@dataclass(frozen=True)
class Site:
    """An archive with one head, and a front before it."""

    orthanc: servers.RunningOrthanc
    head: WrittenHead
    base: str

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.base, headers={"X-Key": KEY}, timeout=60)

    @property
    def series(self) -> str:
        study = self.head.study
        return f"/studies/{study.study_uid}/series/{self.head.series.series_uid}"

    def first(self) -> pydicom.FileDataset:
        return pydicom.dcmread(self.head.series.instances[0].path)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> WrittenHead:
    return write_head_study(tmp_path_factory.mktemp("head"), slices=12, size=64, seed=2)


@pytest.fixture(scope="module")
def site(head: WrittenHead, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A research archive below its own prefix: the harder case."""
    config = servers.research_config(tmp_path_factory.mktemp("archive") / "orthanc-research")
    upstream = Upstream(f"{config.url}/dicom-web", config.user, config.password)
    with servers.running(config) as (orthanc,), orthanc.archive() as archive:
        for instance in head.series.instances:
            archive.store(instance.path)
        with serving(front(upstream, "/research/dicom-web")) as address:
            yield Site(orthanc, head, f"{address}/research/dicom-web")


def parts(answer: httpx.Response) -> list[bytes]:
    """Return the bodies of a multipart answer."""
    boundary = answer.headers["content-type"].split("boundary=")[1].split(";")[0].strip('"')
    chunks = answer.content.split(b"--" + boundary.encode())[1:-1]
    return [chunk.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for chunk in chunks]


def object_of(sop_class: UID, *, writer: str, voxels: int = 0) -> bytes:
    """Return a small Part 10 object that names its writer."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.StudyInstanceUID = pydicom.uid.generate_uid()
    ds.SeriesInstanceUID = pydicom.uid.generate_uid()
    ds.PatientID = "X"
    ds.Modality = "SEG" if sop_class in (SegmentationStorage, LABEL_MAP_STORAGE) else "SR"
    if voxels:
        ds.PixelData = secrets.token_bytes(voxels)
        ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationVersionName = writer
    ds.file_meta.ImplementationClassUID = "2.25.270695996825855179949881587723571202391.2.0.0"
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def multipart(*objects: bytes) -> tuple[bytes, dict[str, str]]:
    body = b"".join(
        b"--cut\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n"
        for content in objects
    )
    kind = 'multipart/related; type="application/dicom"; boundary=cut'
    return body + b"--cut--\r\n", {"Content-Type": kind, "Accept": "application/dicom+json"}


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.orthanc
def test_included_fields_come_even_with_an_encoded_comma(site: Site) -> None:
    with site.client as client:
        found = client.get("/studies?includefield=00081030%2C00100030&limit=5").json()
    assert found[0]["00081030"]["Value"] == ["MR head"]
    assert "00100030" in found[0]


@pytest.mark.orthanc
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("PatientName", "*ller*"),
        ("PatientName", "Müller*"),
        ("PatientName", "*inés*"),
        ("PatientName", "Müllerová^Inés^Ottilie"),
        ("00100010", "*OTTILIE"),
        ("StudyDescription", "MR head"),
        ("PatientID", "*PHX-*"),
        ("ModalitiesInStudy", "MR"),
        ("StudyDate", "20200101-20301231"),
    ],
)
def test_a_search_finds_the_study(site: Site, attribute: str, value: str) -> None:
    with site.client as client:  # it percent-encodes what is no letter or digit
        found = client.get("/studies", params={attribute: value}).json()
        none = client.get("/studies", params={attribute: value, "AccessionNumber": "none"})
    assert [site.head.study.study_uid] in [one["0020000D"]["Value"] for one in found]
    assert none.status_code == 204 or none.json() == []


@pytest.mark.orthanc
def test_frames_and_objects_arrive_byte_for_byte(site: Site) -> None:
    ds = site.first()
    with site.client as client:
        frames = client.get(
            f"{site.series}/instances/{ds.SOPInstanceUID}/frames/1",
            headers={"Accept": 'multipart/related; type="application/octet-stream"'},
        )
        series = client.get(
            site.series, headers={"Accept": 'multipart/related; type="application/dicom"'}
        )
    assert parts(frames) == [ds.PixelData]
    arrived = {
        str(pydicom.dcmread(io.BytesIO(part)).SOPInstanceUID): part for part in parts(series)
    }
    sent = {one.sop_instance_uid: one.path.read_bytes() for one in site.head.series.instances}
    assert arrived == sent
    assert frames.headers["cache-control"] == "no-store"


@pytest.mark.orthanc
def test_a_thumbnail_is_a_small_picture(site: Site) -> None:
    path = f"{site.series}/instances/{site.first().SOPInstanceUID}/thumbnail?accept=image%2Fjpeg"
    with site.client as client:
        answer = client.get(path, headers={"Accept": "image/avif,image/webp,*/*;q=0.8"})
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert max(picture.size) == 192
        low, high = picture.convert("L").getextrema()
    assert high - low > 100


@pytest.mark.orthanc
def test_addresses_in_answers_lead_back_through_the_node(site: Site) -> None:
    uid = site.first().SOPInstanceUID
    with site.client as client:
        (metadata,) = client.get(f"{site.series}/instances/{uid}/metadata").json()
        (found,) = client.get("/studies").json()
        bulk = metadata["00290004" if "00290004" in metadata else "7FE00010"]["BulkDataURI"]
        assert found["00081190"]["Value"][0].startswith(f"{site.base}/studies/")
        assert bulk.startswith(f"{site.base}/studies/")
        assert client.get(bulk).status_code == 200


@pytest.mark.orthanc
def test_readers_that_go_away_leave_room_for_others(site: Site) -> None:
    large = object_of(COMPREHENSIVE_SR, writer="X", voxels=20_000_000)  # no buffer takes it whole
    with site.orthanc.archive() as archive:
        archive.store(large)
    ds = pydicom.dcmread(io.BytesIO(large), stop_before_pixels=True)
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
    address = httpx.URL(site.base)
    for _ in range(45):  # more than the connections that are kept to the archive
        with socket.create_connection((address.host, address.port or 80), timeout=30) as gone:
            gone.sendall(
                f"GET {address.path}{path} HTTP/1.1\r\nHost: {address.host}\r\n"
                f"X-Key: {KEY}\r\nAccept: multipart/related; type=application/dicom\r\n"
                "\r\n".encode()
            )
            assert gone.recv(100).startswith(b"HTTP/1.1 200")
    with site.client as client:
        assert client.get("/studies").status_code == 200


# --- storing ------------------------------------------------------------------------------------


@pytest.mark.orthanc
def test_a_stored_object_is_in_the_archive(site: Site, tmp_path: Path) -> None:
    other = write_head_study(tmp_path, slices=3, size=64, seed=5)
    session = DICOMwebClient(site.base, headers={"X-Key": KEY})
    session.store_instances([pydicom.dcmread(one.path) for one in other.series.instances])
    with site.orthanc.archive() as archive:
        for one in other.series.instances:
            assert archive.instance_bytes(one.sop_instance_uid)[-64:] == one.path.read_bytes()[-64:]


@pytest.mark.orthanc
@pytest.mark.parametrize("sop_class", [SegmentationStorage, LABEL_MAP_STORAGE])
@pytest.mark.parametrize("place", ["alone", "after another object"])
def test_a_segmentation_exported_by_the_viewer_is_refused_and_not_stored(
    site: Site, sop_class: UID, place: str
) -> None:
    ours = object_of(COMPREHENSIVE_SR, writer="OHIF-3.11.0", voxels=200_000)
    bad = object_of(sop_class, writer="OHIF-3.11.0", voxels=3_000_000)
    body, headers = multipart(*([bad] if place == "alone" else [ours, bad]))
    with site.client as client:
        answer = client.post("/studies", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "unsafe_segmentation")
    with site.orthanc.archive() as archive:
        uid = pydicom.dcmread(io.BytesIO(bad)).SOPInstanceUID
        assert not archive.holds(uid)


@pytest.mark.orthanc
@pytest.mark.parametrize(
    ("sop_class", "writer"),
    [(SegmentationStorage, "highdicom0.28"), (COMPREHENSIVE_SR, "OHIF-3.11.0")],
)
def test_what_is_not_a_viewers_segmentation_is_stored(
    site: Site, sop_class: UID, writer: str
) -> None:
    good = object_of(sop_class, writer=writer)
    body, headers = multipart(good)
    with site.client as client:
        answer = client.post("/studies", content=body, headers=headers)
    assert answer.status_code == 200
    with site.orthanc.archive() as archive:
        assert archive.holds(pydicom.dcmread(io.BytesIO(good)).SOPInstanceUID)


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 100_000])
def test_the_scanner_finds_it_however_the_bytes_are_cut(size: int) -> None:
    good = object_of(SegmentationStorage, writer="highdicom0.28", voxels=20_000)
    bad = object_of(SegmentationStorage, writer="OHIF-3.11.0")
    body, _ = multipart(good, bad)
    scanner = StoreScanner()
    with pytest.raises(UnsafeSegmentation):
        for start in range(0, len(body), size):
            scanner.feed(body[start : start + size])
    scanner = StoreScanner()
    for start in range(0, len(good), size):
        scanner.feed(good[start : start + size])


@pytest.mark.orthanc
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused(site: Site, announced: bool) -> None:
    config = site.orthanc.config
    upstream = Upstream(f"{config.url}/dicom-web", config.user, config.password)
    body, headers = multipart(object_of(COMPREHENSIVE_SR, writer="X", voxels=1_500_000))
    stream = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    with serving(front(upstream, "/dicom-web", max_store_bytes=1_000_000)) as address:
        answer = httpx.post(
            f"{address}/dicom-web/studies",
            content=body if announced else stream,
            headers={**headers, "X-Key": KEY},
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.orthanc
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/dicom"},
        {"Content-Type": "multipart/form-data; boundary=cut"},
        {"Content-Type": "multipart/related; boundary=cut", "Content-Encoding": "gzip"},
    ],
)
def test_only_plain_multipart_dicom_is_taken(site: Site, headers: dict[str, str]) -> None:
    body, _ = multipart(object_of(COMPREHENSIVE_SR, writer="X"))
    with site.client as client:
        answer = client.post("/studies", content=body, headers=headers)
    assert answer.json()["code"] == "invalid_request"


# --- what does not go through -------------------------------------------------------------------


@dataclass
class Recorder:
    """Stands where the archive stands, and notes what reaches it."""

    port: int
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def recording() -> Iterator[Recorder]:
    recorder = Recorder(servers.free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.seen.append((self.command, self.path, headers))
            body = b"[]"
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "orthanc=1")
            self.send_header("Server", "Orthanc")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", recorder.port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def recorded() -> Iterator[tuple[Recorder, str]]:
    with recording() as recorder:
        upstream = Upstream(f"http://127.0.0.1:{recorder.port}/dicom-web", "node", "p" * 16)
        with serving(front(upstream, "/research/dicom-web")) as address:
            yield recorder, address


def test_the_archive_sees_its_own_password_and_nothing_of_the_caller(
    recorded: tuple[Recorder, str],
) -> None:
    recorder, address = recorded
    answer = httpx.get(
        f"{address}/research/dicom-web/studies?token=t0p&PatientID=a%26b&includefield=1%2c2",
        headers={
            "X-Key": KEY,
            "Authorization": "Bearer of-the-caller",
            "Cookie": "session=of-the-caller",
            "X-Forwarded-Host": "evil.example",
            "Forwarded": "host=evil.example",
            "TE": "trailers",
            "Accept": "application/dicom+json",
        },
    )
    ((method, path, headers),) = recorder.seen
    assert (method, path) == ("GET", "/dicom-web/studies?00100020=a?b&includefield=1,2")
    host = address.removeprefix("http://")
    assert headers["forwarded"] == f"host={host}/research;proto=http"
    assert headers["authorization"] == httpx.BasicAuth("node", "p" * 16)._auth_header
    assert headers["accept"] == "application/dicom+json"
    assert "of-the-caller" not in json.dumps(headers)
    assert not {"cookie", "x-key", "te", "x-forwarded-host"} & set(headers)
    assert not {"set-cookie"} & set(answer.headers)
    assert "Orthanc" not in answer.headers.get("server", "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/changes"),
        ("GET", "/../instances"),
        ("GET", "/%2e%2e/system"),
        ("GET", "/studies/..%2f..%2f..%2fsystem"),
        ("GET", "/studies/1.2/archive"),
        ("GET", "/studies/1.2?x=1/../../system/"),
        ("GET", "/servers"),
        ("GET", "/studies/1.2%3Fx"),
        ("GET", "/studies/1.2/series/1.3/instances/1.4/bulk/../x"),
        ("POST", "/studies/1.2/series"),
        ("POST", "/servers/a/stow"),
        ("POST", "/tools/execute-script"),
        ("PUT", "/studies/1.2"),
        ("DELETE", "/studies/1.2"),
        ("PATCH", "/studies/1.2"),
        ("HEAD", "/studies"),
        ("OPTIONS", "/studies"),
    ],
)
def test_nothing_but_dicomweb_reaches_the_archive(
    recorded: tuple[Recorder, str], method: str, path: str
) -> None:
    recorder, address = recorded
    host, port = address.removeprefix("http://").split(":")
    # A raw socket: clients tidy such paths up before they send them.
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(
            f"{method} /research/dicom-web{path} HTTP/1.1\r\nHost: {host}\r\nX-Key: {KEY}\r\n"
            "Content-Type: multipart/related; boundary=cut\r\nContent-Length: 0\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        status = int(raw.makefile("rb").readline().split()[1])
    reached = [seen for seen in recorder.seen if not seen[1].startswith("/dicom-web/studies/1.2?")]
    assert reached == []
    assert status in (404, 405) or "?" in path


def test_a_stranger_reaches_nothing(recorded: tuple[Recorder, str]) -> None:
    recorder, address = recorded
    body, headers = multipart(object_of(COMPREHENSIVE_SR, writer="X"))
    for answer in (
        httpx.get(f"{address}/research/dicom-web/studies"),
        httpx.post(f"{address}/research/dicom-web/studies", content=body, headers=headers),
        httpx.get(f"{address}/research/dicom-web/system"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "login_needed")
    assert recorder.seen == []


@pytest.mark.parametrize("host", ["a.example;proto=https", 'a"b', "a,host=b", "a b"])
def test_a_host_that_is_no_host_name_is_refused(recorded: tuple[Recorder, str], host: str) -> None:
    recorder, address = recorded
    answer = httpx.get(
        f"{address}/research/dicom-web/studies", headers={"X-Key": KEY, "Host": host}
    )
    assert answer.status_code in (400, 422)
    assert recorder.seen == []


def test_an_archive_that_is_down_is_said_in_plain_words() -> None:
    upstream = Upstream(f"http://127.0.0.1:{servers.free_port()}/dicom-web", "node", "p" * 16)
    with serving(front(upstream, "/dicom-web")) as address:
        answer = httpx.get(f"{address}/dicom-web/studies", headers={"X-Key": KEY})
    assert (answer.status_code, answer.json()["code"]) == (502, "peer_unreachable")
    assert answer.json()["message"] == "the archive does not answer"


def test_a_connection_that_the_archive_closes_is_no_error_of_the_viewers() -> None:
    with hanging_up(b"[]") as archive:
        upstream = Upstream(f"{archive.url}/dicom-web", "node", "p" * 16)
        body, headers = multipart(object_of(COMPREHENSIVE_SR, writer="X"))
        with (
            serving(front(upstream, "/dicom-web")) as address,
            httpx.Client(base_url=f"{address}/dicom-web", headers={"X-Key": KEY}) as viewer,
        ):
            for _ in range(2):
                assert viewer.get("/series").status_code == 200
                assert viewer.post("/studies", content=body, headers=headers).status_code == 200
        # What is stored is not sent twice: it may not meet such a connection at all.
        methods = [heard.split()[0] for heard in archive.heard]
        assert methods == ["GET", "POST", "GET", "GET", "POST"]
        assert len(archive.answered) == 4


def test_no_uid_comes_into_a_log(
    recorded: tuple[Recorder, str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder, address = recorded
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back afterwards
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    uid = "1.2.826.0.1.3680043.9.7777.1"
    log.configure("front", level="debug", json=True)
    try:
        client = httpx.Client(base_url=f"{address}/research/dicom-web", headers={"X-Key": KEY})
        with client:
            assert client.get(f"/studies/{uid}/metadata").status_code == 200
            assert client.get(f"/studies/{uid}/nothing?PatientID=SECRET").status_code == 404
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()
    written = capfd.readouterr()
    assert uid not in written.out + written.err
    assert "SECRET" not in written.out + written.err
    assert len(recorder.seen) == 1


@pytest.mark.parametrize(
    ("query", "sent_on"),
    [
        ("", ""),
        ("limit=5&token=abc", "limit=5"),
        ("TOKEN=abc", ""),
        ("includefield=00080005%2C00080020&x=1%2C2", "includefield=00080005,00080020&x=1,2"),
        ("00100010=*DO%20E%5Ei*", "00100010=*DO?E^i*"),
        ("00100010=M%C3%BCller&00100020=a%26b", "00100010=M*ller&00100020=a?b"),
        ("PatientName=token=1", "00100010=token=1"),
        ("includefield=StudyDescription,all", "includefield=00081030,all"),
        ("RequestAttributesSequence.AccessionNumber=1", "00400275.00080050=1"),
        ("fuzzymatching=false&limit=3&offset=6", "fuzzymatching=false&limit=3&offset=6"),
    ],
)
def test_a_query_is_rewritten_only_where_it_must(query: str, sent_on: str) -> None:
    assert rewrite_query(query) == sent_on
