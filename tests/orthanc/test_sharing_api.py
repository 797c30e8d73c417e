"""The API of collections and exports: what is answered, downloaded in parts, refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from dicom.errors import HeadNotDefaced, IdentityLeft
from node.app import create_app
from pipelines.store import SeriesFilter
from tests.node.front import ORIGIN, PASSWORD, USERS, make_front
from tests.orthanc.sharing import PROJECTS, House, InTurn, sharing_house

pytestmark = pytest.mark.orthanc


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with sharing_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def client(house: House) -> TestClient:
    (house.folder / "front").mkdir()
    made = make_front(house.folder / "front", clinical=house.clinical, database=house.database)
    parts = replace(made.parts, projects=PROJECTS, export_files=house.files)
    client = TestClient(create_app(parts), follow_redirects=False, headers={"Origin": ORIGIN})
    answer = client.post("/login", data={"name": USERS["researcher"], "password": PASSWORD})
    assert answer.status_code == 303
    return client


def collected(client: TestClient, house: House, **filter: object) -> str:
    body = {"name": "some", "project": "liver", "filter": filter}
    answer = client.post("/api/collections", json=body)
    assert answer.status_code == 202, answer.text
    collection = answer.json()["id"]
    house.collecting().run(collection, InTurn())
    return str(collection)


def exported(client: TestClient, house: House, **changed: object) -> str:
    body = {"name": "livers", "project": "liver", "formats": ["nifti"], **changed}
    answer = client.post("/api/exports", json=body)
    assert answer.status_code == 202, answer.text
    export = answer.json()["id"]
    house.exporting().run(export, InTurn())
    return str(export)


def test_a_count_comes_first_and_a_collection_tells_how_far_it_is(
    client: TestClient, house: House
) -> None:
    said = client.get("/api/collections/count?body_part=liver").json()
    assert said == {"patients": 2, "studies": 3, "series": 3, "images": 18, "labelled": 1}
    assert client.get("/api/collections/choices").json()["modalities"] == [["CT", 4]]
    collection = collected(client, house, body_part=["LIVER"])
    told = client.get(f"/api/collections/{collection}").json()
    assert (told["state"], told["stored"], told["patients"]) == ("completed", 3, 2)
    series = client.get(f"/api/collections/{collection}/series").json()
    assert {one["state"] for one in series} == {"stored"}
    assert sum(one["labels"] for one in series) == 4
    assert not any("orthanc" in key for one in series for key in one)
    assert client.post(f"/api/collections/{collection}/cancel").status_code == 409


def test_what_is_unticked_is_not_collected(client: TestClient, house: House) -> None:
    b, c = (house.node_series(name) for name in "bc")
    listed = house.picking.described(SeriesFilter(), limit=9)
    (study_c,) = {one.study_id for one in listed if one.id == c}
    asked = client.post("/fragments/picked?body_part=LIVER", data={"without": [b]})
    assert asked.text.count('name="picked"') == 6  # what is unticked is still listed
    assert asked.text.count("checked") == 5
    assert "<dd>2</dd><dt>studies</dt>" in asked.text
    form = {"name": "one of them", "project": "liver", "listed": [b, study_c, c], "picked": [c]}
    answer = client.post("/collect?body_part=LIVER", data=form)  # as a browser without scripts
    assert answer.status_code == 303, answer.text
    collection = answer.headers["Location"].rsplit("/", 1)[1]
    assert [one.series_id for one in house.collections.members(collection)] == [
        house.node_series("a")
    ]
    assert set(house.collections.collection(collection).wanted.without) == {b, study_c}
    everything = [one.id for one in house.picking.series(SeriesFilter())]
    refused = client.post(
        "/api/collections",
        json={"name": "x", "project": "liver", "filter": {"without": everything}},
    )
    assert refused.status_code == 422


def test_what_cannot_be_is_refused_with_words(client: TestClient, house: House) -> None:
    for body, status in (
        ({"name": "x", "project": "nobody's"}, 404),
        ({"name": "x", "project": "node"}, 422),
        ({"name": "", "project": "liver"}, 422),
        ({"name": "x", "project": "liver", "filter": {"modality": ["MR"]}}, 422),
        ({"name": "x", "project": "liver", "filter": {"PatientName": "Novak"}}, 422),
    ):
        assert client.post("/api/collections", json=body).status_code == status, body
    assert client.get("/api/collections/count?received_from=yesterday").status_code == 422
    collection = collected(client, house)
    for change, status in (
        ({"formats": []}, 422),
        ({"formats": ["docx"]}, 400),
        ({"name": "../up"}, 422),
        ({"validation": 0.6, "test": 0.4}, 422),
        ({"project": "strict"}, 422),
        ({"collection": "nothing"}, 404),
        ({"filter": {"modality": ["MR"]}}, 409),
    ):
        body = {"name": "x", "project": "liver", "formats": ["dicom"], "collection": collection}
        assert client.post("/api/exports", json=body | change).status_code == status, change


def test_a_download_that_broke_off_goes_on(client: TestClient, house: House) -> None:
    collection = collected(client, house, with_labels=True)
    export = exported(client, house, collection=collection)
    address = f"/api/exports/{export}/file"
    whole = client.get(address)
    assert whole.headers["content-disposition"] == 'attachment; filename="livers.zip"'
    half = len(whole.content) // 2
    first = client.get(address, headers={"Range": f"bytes=0-{half - 1}"})
    rest = client.get(
        address, headers={"Range": f"bytes={half}-", "If-Range": first.headers["etag"]}
    )
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.content + rest.content == whole.content
    assert zipfile.ZipFile(BytesIO(first.content + rest.content)).testzip() is None
    assert client.get(f"/api/exports/{export}").json()["card"]["images"] == 6
    assert client.delete(f"/api/exports/{export}").status_code == 204
    assert client.get(address).status_code == 404
    assert not house.files.home(export).exists()
    kept = client.get(f"/api/exports/{export}").json()
    assert kept["deleted_at"] and kept["manifest_sha256"]
    assert export not in {one["id"] for one in client.get("/api/exports").json()}
    assert house.exports.patients_of(export)


def test_a_folder_is_downloaded_file_by_file_and_nothing_else(
    client: TestClient, house: House
) -> None:
    collected(client, house)
    export = exported(client, house, name="folder", zipped=False)
    files = client.get(f"/api/exports/{export}/files").json()
    assert {"manifest.json", "card.json", "CARD.md"} <= set(files)
    for name, size in files.items():
        answer = client.get(f"/api/exports/{export}/file", params={"name": name})
        assert len(answer.content) == size
    (house.folder / "secret.txt").write_text("no")
    for name in ("../../../secret.txt", str(house.folder / "secret.txt"), "", "nothing", ".."):
        answer = client.get(f"/api/exports/{export}/file", params={"name": name})
        assert answer.status_code == 404, name


def test_pages_say_in_words_what_was_refused(client: TestClient, house: House) -> None:
    collection = collected(client, house)
    members = house.collections.members(collection)
    error = HeadNotDefaced("the series may show a face, and the project takes none")
    house.collections.keep_refused(collection, members[0].series_id, error)
    page = client.get(f"/collections/{collection}").text
    assert "head_not_defaced" in page and "1 series: the series may show a face" in page
    export = client.post(
        "/api/exports", json={"name": "x", "project": "liver", "formats": ["dicom"]}
    ).json()["id"]
    house.exports.fail(export, IdentityLeft("1 finding(s): name in header"))
    page = client.get(f"/exports/{export}").text
    assert "The whole export was refused" in page and "Download" not in page
    assert client.post(f"/exports/{export}/retry").status_code == 303
    assert house.exports.export(export).state == "scheduled"
    refused = client.post("/collect?modality=MR", data={"name": "x", "project": "liver"})
    assert refused.status_code == 422 and "nothing matches" in refused.text.lower()
    refused = client.post("/exports", data={"source": f"collection:{collection}", "name": "a b"})
    assert refused.status_code == 422 and "40 at most" in refused.text
    for path in ("/collect", "/exports", f"/collections/{collection}", f"/exports/{export}"):
        for name in ("Novak", "Quist", "Ruiz", "88213"):
            assert name not in client.get(path).text, path


def test_an_empty_node_says_what_to_do(tmp_path: Path) -> None:
    client = make_front(tmp_path).client("researcher")
    assert "Nothing to collect yet" in client.get("/collect").text
    assert "Nothing to export yet" in client.get("/exports").text
