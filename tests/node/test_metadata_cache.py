"""The proxy's memory of metadata, before a real Orthanc: right at all times, asked for once."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI, Header
from pydicom import dcmread

from dicom.archive import Archive
from dicom.errors import LoginNeeded, RadloopError
from dicom.phantom import write_head_study
from dicom.study import Series
from dicom.uids import derived_uid
from node.archive_state import ArchiveState
from node.foreseen import follow
from node.metadata_cache import Kept, MetadataCache, pack, series_of, study_of
from node.proxy import Upstream, dicomweb_router
from tests.node.serving import coded, serving
from tests.orthanc import servers

KEY = "of a person who may read"
CLOCK = "%Y%m%dT%H%M%S"
SETTLED = timedelta(seconds=2)  # by the archive's clock, of whole ones


def guard(x_key: str = Header("")) -> None:
    if x_key != KEY:
        raise LoginNeeded


@dataclass(frozen=True)
class Site:
    orthanc: servers.RunningOrthanc
    archive: Archive
    series: Series
    study_uid: str
    base: str
    straight: str

    @property
    def metadata(self) -> str:
        return f"/studies/{self.study_uid}/series/{self.series.series_uid}/metadata"

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.base, headers={"X-Key": KEY}, timeout=60)

    def settles(self) -> None:
        """Wait until what the archive has of the study is so old that an answer is kept."""
        config = self.orthanc.config
        asked = {"Level": "Study", "Query": {"StudyInstanceUID": self.study_uid}, "Expand": True}
        with httpx.Client(base_url=config.url, auth=(config.user, config.password)) as client:
            while True:
                (study,) = client.post("/tools/find", json=asked).json()
                told = client.get("/tools/now").text.strip()
                now, last = (
                    datetime.strptime(one, CLOCK).replace(tzinfo=UTC)
                    for one in (told, study["LastUpdate"])
                )
                if now - last >= SETTLED:
                    return
                time.sleep(0.1)

    def copy(self, name: str, *, series: str | None = None) -> bytes:
        """Return another instance of the series, or of another one."""
        ds = dcmread(self.series.instances[0].path)
        ds.SOPInstanceUID = derived_uid(ds.SOPInstanceUID, name)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.SeriesInstanceUID = series or ds.SeriesInstanceUID
        ds.InstanceNumber = 90
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
        return out.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("metadata")
    head = write_head_study(folder / "head", slices=8, size=32, seed=3)
    config = servers.clinical_config(folder / "orthanc")
    straight = f"{config.url}/dicom-web"
    upstream = Upstream(straight, config.user, config.password)
    app = FastAPI()
    app.add_exception_handler(RadloopError, coded)
    router = dicomweb_router(
        prefix="/dicom-web", upstream=upstream, guard=guard, metadata_bytes=1 << 22
    )
    app.include_router(router)
    with servers.running(config) as (orthanc,), orthanc.archive() as archive, serving(app) as base:
        for one in head.series.instances:
            archive.store(one.path)
        yield Site(
            orthanc, archive, head.series, head.study.study_uid, f"{base}/dicom-web", straight
        )


def instances(client: httpx.Client, path: str) -> set[str]:
    answer = client.get(path)
    assert answer.status_code == 200
    return {one["00080018"]["Value"][0] for one in answer.json()}


@pytest.mark.orthanc
def test_an_answer_is_the_archives_own_and_comes_packed_once_it_is_kept(site: Site) -> None:
    site.settles()
    config = site.orthanc.config
    host = httpx.URL(site.base).netloc.decode()
    straight = httpx.get(
        site.straight + site.metadata,
        auth=(config.user, config.password),
        headers={"Forwarded": f"host={host};proto=http", "Accept": "application/dicom+json"},
    )
    with site.client as client:
        first, second = (
            client.get(site.metadata, headers={"Accept": "application/dicom+json"})
            for _ in range(2)
        )
        plain = client.get(site.metadata, headers={"Accept-Encoding": "identity"})
        again = client.get(site.metadata, headers={"If-None-Match": second.headers["etag"]})
    assert first.json() == second.json() == plain.json() == straight.json()
    assert second.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert second.headers["content-type"] == straight.headers["content-type"]
    assert second.headers["cache-control"] == "no-store"  # not on the disk of a workstation
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.orthanc
def test_what_is_stored_or_deleted_by_any_way_is_in_the_very_next_answer(site: Site) -> None:
    body = b"--cut\r\nContent-Type: application/dicom\r\n\r\n%s\r\n--cut--\r\n"
    kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=cut'}
    with site.client as client:
        site.settles()
        before = instances(client, site.metadata)
        assert len(before) == 8
        found = client.post("/studies", content=body % site.copy("stow"), headers=kind)
        assert found.status_code == 200
        assert len(instances(client, site.metadata)) == 9
        stored = site.archive.store(site.copy("behind our back"))
        assert len(instances(client, site.metadata)) == 10
        site.settles()
        assert len(instances(client, site.metadata)) == 10  # kept now
        site.archive.delete("instances", stored)
        assert len(instances(client, site.metadata)) == 9
        series = f"/studies/{site.study_uid}/series"
        assert len(client.get(series).json()) == 1
        site.archive.store(site.copy("elsewhere", series="2.25.4711"))
        assert len(client.get(series).json()) == 2
        assert len(instances(client, f"{series}/2.25.4711/metadata")) == 1


@pytest.mark.orthanc
def test_who_may_not_read_gets_nothing_that_is_kept(site: Site) -> None:
    with site.client as client:
        assert client.get(site.metadata).status_code == 200
        client.headers["X-Key"] = "of somebody else"
        assert client.get(site.metadata).status_code == 401


@pytest.mark.orthanc
def test_addresses_in_what_is_kept_are_those_of_who_asks(site: Site) -> None:
    with site.client as client:
        told = [
            client.get(site.metadata.removesuffix("/metadata") + "/instances", headers=headers)
            for headers in ({}, {"Host": "node.example"}, {"Host": "node.example"})
        ]
    found = [answer.json()[0]["00081190"]["Value"][0] for answer in told]
    assert found[0].startswith(site.base)
    assert found[1] == found[2] and found[1].startswith("http://node.example/dicom-web/")


@pytest.mark.orthanc
def test_one_answer_is_fetched_once_for_all_who_wait_and_as_much_is_kept_as_fits(
    site: Site,
) -> None:
    site.settles()
    config = site.orthanc.config
    fetched: list[str] = []

    async def ask() -> None:
        async with httpx.AsyncClient(
            base_url=config.url, auth=(config.user, config.password)
        ) as client:
            cache = MetadataCache(client, most_bytes=4000)

            async def answer(name: str, size: int = 10) -> Kept | None:
                async def fetch() -> Kept:
                    fetched.append(name)
                    await asyncio.sleep(0.05)
                    return Kept(bytes(size), "application/json", "")

                return await cache.answer(name, site.study_uid, fetch)

            await asyncio.gather(*(answer("one") for _ in range(5)))
            assert fetched == ["one"]
            await answer("too large", 1001)
            await answer("too large", 1001)
            assert fetched == ["one", "too large", "too large"]
            for number in range(4):
                await answer(f"filling {number}", 1000)
            await answer("one")
            await answer("filling 3", 1000)
            assert fetched[3:] == [*(f"filling {number}" for number in range(4)), "one"]
            assert await cache.answer("key", "2.25.1", fetch=None) is None  # no such study

    asyncio.run(ask())


@pytest.mark.orthanc
def test_what_comes_into_another_series_of_the_study_costs_nothing(site: Site) -> None:
    config = site.orthanc.config
    fetched: list[str] = []

    async def fetch() -> Kept:
        fetched.append("once more")
        return Kept(b"", "application/json", "")

    async def ask() -> None:
        async with httpx.AsyncClient(
            base_url=config.url, auth=(config.user, config.password)
        ) as client:
            cache = MetadataCache(client, most_bytes=4000)

            async def answer() -> int:
                uid = site.series.series_uid
                await cache.answer("key", site.study_uid, fetch, series_uid=uid)
                return len(fetched)

            assert [await answer(), await answer()] == [1, 1]
            site.archive.store(site.copy("a correction", series="2.25.4712"))
            assert [await answer(), await answer()] == [1, 1]
            stored = site.archive.store(site.copy("a late slice"))
            assert await answer() == 2
            site.archive.delete("instances", stored)
            assert await answer() == 3

    site.settles()
    asyncio.run(ask())


@pytest.mark.orthanc
def test_an_archives_state_is_another_one_with_every_instance_that_comes(site: Site) -> None:
    config = site.orthanc.config

    async def ask() -> None:
        state = ArchiveState(config.url, user=config.user, password=config.password)
        before = await state.now()
        async with asyncio.timeout(60):  # that a series is complete changes it, too
            while before is None or await state.now() != before:
                before = await state.now()
                await asyncio.sleep(1.5)  # Orthanc closes an idle connection
        first = site.archive.store(site.copy("one of them", series="2.25.4714"))
        with_first = await state.now()
        site.archive.delete("instances", first)
        second = site.archive.store(site.copy("one as large", series="2.25.4714"))
        with_second = await state.now()
        site.archive.delete("instances", second)
        assert len({before, with_first, with_second}) == 3
        state.close()
        stranger = ArchiveState(config.url, user=config.user, password="not this one")
        nobody = ArchiveState("http://127.0.0.1:9", user="", password="")
        assert (await stranger.now(), await nobody.now()) == (None, None)

    site.settles()
    asyncio.run(ask())


@pytest.mark.orthanc
def test_while_nothing_came_or_went_nothing_is_asked_of_the_study(site: Site) -> None:
    config = site.orthanc.config
    asked: list[str] = []
    fetched: list[str] = []

    async def note(request: httpx.Request) -> None:
        asked.append(request.url.path)

    async def fetch() -> Kept:
        fetched.append("once more")
        return Kept(b"", "application/json", "")

    async def ask() -> None:
        state = ArchiveState(config.url, user=config.user, password=config.password)
        account = (config.user, config.password)
        hooks = {"request": [note]}
        async with httpx.AsyncClient(
            base_url=config.url, auth=account, event_hooks=hooks
        ) as client:
            cache = MetadataCache(client, most_bytes=4000, state=state)

            async def questions() -> int:
                asked.clear()
                uid = site.series.series_uid
                await cache.answer("key", site.study_uid, fetch, series_uid=uid)
                return len(asked)

            async def none() -> bool:
                async with asyncio.timeout(60):  # that a series is complete is a change, too
                    while await questions():
                        await asyncio.sleep(0.1)
                return True

            assert await questions() > 0
            assert await none()
            stored = site.archive.store(site.copy("beside it", series="2.25.4715"))
            assert await questions() == 1 and await none()
            site.archive.delete("instances", stored)
            assert await questions() == 1 and await none()
        state.close()
        assert fetched == ["once more"]

    site.settles()
    asyncio.run(ask())


@pytest.mark.orthanc
def test_an_answer_is_made_of_another_one_while_that_is_right(site: Site) -> None:
    config = site.orthanc.config
    fetched: list[str] = []

    async def fetch() -> Kept:
        fetched.append("once more")
        return pack(b'["http://any/1"]', "application/json")

    async def addressed(other: Kept) -> Kept:
        return await asyncio.to_thread(other.replace, b"http://any/", b"https://node/")

    async def ask() -> None:
        async with httpx.AsyncClient(
            base_url=config.url, auth=(config.user, config.password)
        ) as client:
            cache = MetadataCache(client, most_bytes=4000)
            uid = site.series.series_uid
            await cache.answer("any", site.study_uid, fetch, series_uid=uid)

            async def mine() -> bytes:
                beside = ("any", addressed)
                found = await cache.answer(
                    "mine", site.study_uid, fetch, series_uid=uid, beside=beside
                )
                assert found is not None
                return found.plain

            assert [await mine(), await mine()] == [b'["https://node/1"]'] * 2
            assert len(fetched) == 1
            site.archive.delete("instances", site.archive.store(site.copy("beside")))
            assert await mine() == b'["http://any/1"]' and len(fetched) == 2

    site.settles()
    asyncio.run(ask())


@pytest.mark.orthanc
def test_a_series_that_has_become_complete_is_asked_for_once(site: Site) -> None:
    config = site.orthanc.config
    new = (site.study_uid, "2.25.4713")
    told: list[tuple[str, str]] = []

    async def remember(study_uid: str, series_uid: str) -> None:
        told.append((study_uid, series_uid))

    async def watch() -> None:
        async with httpx.AsyncClient(
            base_url=config.url, auth=(config.user, config.password)
        ) as client:
            following = asyncio.create_task(follow(client, remember))
            await asyncio.sleep(0.5)  # it begins with what comes from now on
            for number in range(2):
                content = site.copy(f"new {number}", series="2.25.4713")
                await asyncio.to_thread(site.archive.store, content)
            async with asyncio.timeout(60):
                while new not in told:  # the site's own may have become complete just now
                    await asyncio.sleep(0.1)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    asyncio.run(watch())
    assert told.count(new) == 1


def test_layout_goes_and_content_stays() -> None:
    text = b'[{\n\t"00100010" : \r\n{"Value" : ["a\\tb\\nc  d\\u0009"]}}]'
    kept = pack(text, "application/dicom+json")
    assert kept.plain == b'[{"00100010" : {"Value" : ["a\\tb\\nc  d\\u0009"]}}]'


@pytest.mark.parametrize(
    ("path", "study"),
    [
        ("studies/1.2/metadata", "1.2"),
        ("studies/1.2/series", "1.2"),
        ("studies/1.2/series/3/metadata", "1.2"),
        ("studies/1.2/series/3/instances/4/metadata", "1.2"),
        ("studies", None),
        ("studies/1.2/series/3", None),
        ("studies/1.2/series/3/instances/4/frames/1", None),
    ],
)
def test_only_metadata_of_one_study_is_kept(path: str, study: str | None) -> None:
    assert study_of(path) == study


def test_which_series_an_answer_is_about() -> None:
    assert series_of("studies/1.2/series/3/metadata") == "3"
    assert series_of("studies/1.2/series/3/instances") == "3"
    assert series_of("studies/1.2/series") is None
    assert series_of("studies/1.2/series/3/instances/4/frames/1") is None
