"""OHIF's files as a browser gets them, from the installed build; and how it is installed."""

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Header
from fastapi.testclient import TestClient

from dicom.errors import LoginNeeded, RadloopError
from node.auth import Caller
from node.ohif import Build, mend, ohif_router
from scripts import install_ohif
from tests.node.serving import coded

ROOT = Path(__file__).resolve().parent.parent.parent
DIST = ROOT / ".ohif" / "dist"
CONFIG = ROOT / "ohif-config"
RITA = Caller("rita", "radiologist", "session")
ROLF = Caller("rolf", "researcher", "session")

installed = pytest.mark.skipif(not DIST.is_dir(), reason="OHIF is not installed: make install")


def guard(x_name: str = Header("")) -> Caller:
    known = {caller.name: caller for caller in (RITA, ROLF)}
    if x_name not in known:
        raise LoginNeeded
    return known[x_name]


def front(dist: Path = DIST, *, name: str = "rita", config: Path = CONFIG) -> TestClient:
    app = FastAPI()
    app.add_exception_handler(RadloopError, coded)
    app.include_router(ohif_router(dist=dist, config=config, guard=guard))
    headers = {"X-Name": name, "Accept-Encoding": "gzip"}
    return TestClient(app, headers=headers, follow_redirects=False)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with front() as running:
        yield running


def named(pattern: str) -> str:
    (path,) = DIST.glob(pattern)
    return path.name


@installed
def test_the_page_asks_below_its_own_place_only(client: TestClient) -> None:
    page = client.get("/ohif/").text
    addresses = re.findall(r'(?:src|href|content)="(/[^"]*)"', page)
    assert len(addresses) > 10
    assert all(address.startswith("/ohif/") for address in addresses)
    assert 'PUBLIC_URL="/ohif/"' in page
    for address in addresses:
        if not address.endswith("app-config.js"):
            answer = client.get(address)
            name = re.sub("^/ohif/(build/[0-9a-f]+/|config/[0-9a-f]+/)?", "", address)
            is_there = any((folder / name).is_file() for folder in (DIST, CONFIG))
            assert answer.status_code == (200 if is_there else 404), address


@installed
def test_no_script_or_style_believes_in_the_root_any_more() -> None:
    mended = 0
    for path in [*DIST.glob("*.js"), *DIST.glob("*.css")]:
        content = path.read_bytes()
        served = mend(path.name, content)
        mended += served != content
        assert not re.search(rb'\.p = "/";|url\(/(?!ohif/)|\(\'/dicom-microscopy', served), (
            path.name
        )
    assert mended >= 9  # the application, its workers, its style


@installed
def test_the_viewers_own_addresses_are_the_one_page(client: TestClient) -> None:
    page = client.get("/ohif/")
    for address in ("/ohif/viewer?StudyInstanceUIDs=1.2", "/ohif/segmentation", "/ohif/a/b"):
        assert client.get(address).content == page.content
    assert client.get("/ohif").headers["location"] == "/ohif/"
    assert page.headers["cache-control"] == "no-cache"


@installed
def test_the_page_lets_no_script_talk_to_others(client: TestClient) -> None:
    policy = dict(
        rule.split(" ", 1)
        for rule in client.get("/ohif/").headers["content-security-policy"].split("; ")
    )
    for rule in ("default-src", "connect-src", "img-src", "worker-src", "form-action"):
        assert "'self'" in policy[rule] or policy[rule] == "'none'"
        assert "http" not in policy[rule] and "*" not in policy[rule]


@installed
@pytest.mark.parametrize("pattern", ["app.bundle.*.js", "8097.bundle.*.js", "5130*.wasm"])
def test_hashed_files_are_kept_for_ever_and_travel_packed(client: TestClient, pattern: str) -> None:
    address = f"/ohif/{named(pattern)}"
    answer = client.get(address)
    plain = client.get(address, headers={"Accept-Encoding": "identity"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    published = (DIST / named(pattern)).read_bytes()
    root = f"/ohif/build/{Build(DIST).version}/"
    assert answer.content == plain.content == mend(named(pattern), published, root)
    assert "immutable" in answer.headers["cache-control"]
    again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@installed
def test_what_has_no_hash_in_its_name_is_asked_for_each_time(client: TestClient) -> None:
    answer = client.get("/ohif/app.bundle.css")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/css")
    changed = client.get("/ohif/app.bundle.css", headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


@installed
def test_all_that_scripts_load_is_kept_for_ever_below_a_digest_of_the_build(
    client: TestClient,
) -> None:
    page = client.get("/ohif/").text
    style = re.search(r'href="(/ohif/build/[0-9a-f]{16}/)app\.bundle\.css"', page)
    assert style is not None
    script = client.get(f"/ohif/{named('app.bundle.*.js')}").text
    assert f'__webpack_require__.p = "{style[1]}";' in script
    for name in ("app.bundle.css", "2623.css", named("8097.bundle.*.js")):
        assert "immutable" in client.get(style[1] + name).headers["cache-control"]
    other = client.get("/ohif/build/0000000000000000/2623.css")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")


def test_another_build_has_another_address(tmp_path: Path) -> None:
    for name, text in (("index.html", "<p>"), ("a.css", "a {}"), ("a.css.gz", "packed")):
        (tmp_path / name).write_text(text)
    first = Build(tmp_path).version
    (tmp_path / "a.css.gz").write_text("packed in another way")
    assert Build(tmp_path).version == first
    (tmp_path / "a.css").write_text("b {}")
    assert Build(tmp_path).version != first


def test_our_own_files_are_kept_until_one_of_them_changes(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    shutil.copytree(CONFIG, folder)
    with front(config=folder) as client:
        before = config_address(client)
        kept = client.get(before + "panel.js").headers["cache-control"]
        assert "immutable" in kept and "private" in kept
        assert client.get(before + "text.js").text == (folder / "text.js").read_text()
        (folder / "texts-en.js").write_text("export default { title: 'another' };\n")
        after = config_address(client)
        assert after != before
        late = client.get(before + "texts-en.js")  # of a page that was opened before
        assert "another" in late.text and late.headers["cache-control"] == "no-cache"


@installed
def test_modules_of_the_panel_are_fetched_ahead_for_those_who_see_it() -> None:
    with front() as rita, front(name="rolf") as rolf:
        first, second = rita.get("/ohif/viewer"), rolf.get("/ohif/viewer")
        address = config_address(rita)
        link = '<link rel="modulepreload" fetchpriority="low" href="%spanel.js">'
        assert link % address in first.text
        assert '<script fetchpriority="high" defer src="/ohif/build/' in first.text
        assert f"{address}app-config.js" not in first.text
        assert "modulepreload" not in second.text
        assert first.headers["etag"] != second.headers["etag"]


def config_address(client: TestClient) -> str:
    found = re.search(
        '"config": "(/ohif/config/[0-9a-f]{16}/)"', client.get("/ohif/app-config.js").text
    )
    assert found is not None
    return found[1]


def test_each_role_gets_its_archives() -> None:
    with front() as rita, front(name="rolf") as rolf:
        first, second = rita.get("/ohif/app-config.js"), rolf.get("/ohif/app-config.js")
    assert first.text.startswith('window.radloop = {"archives": ["clinical", "research"], ')
    assert second.text.startswith('window.radloop = {"archives": ["research"], ')
    assert first.headers["cache-control"] == second.headers["cache-control"] == "no-store"


def test_our_own_files_are_served_beside() -> None:
    with front() as client:
        address = config_address(client)
        script = client.get(f"{address}hanging.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert client.get(f"{address}mark.svg").headers["content-type"] == "image/svg+xml"
        assert client.get(f"{address}README.md").status_code == 404


@pytest.mark.parametrize(
    "address",
    ["/ohif/", "/ohif/app-config.js", "/ohif/config/0/hanging.js", "/ohif/build/0/a.css", "/ohif"],
)
def test_nothing_is_served_to_a_stranger(address: str) -> None:
    with front(name="nobody") as client:
        assert client.get(address).status_code == 401


@installed
@pytest.mark.parametrize(
    "address",
    [
        "/ohif/../../pyproject.toml",
        "/ohif/%2e%2e/%2e%2e/pyproject.toml",
        "/ohif/..%2f..%2fpyproject.toml",
        "/ohif//etc/passwd.txt",
        "/ohif/config/0/..%2fapp.py",
        "/ohif/config/0/%2e%2e/pyproject.toml",
        "/ohif/index.html.gz",
        "/ohif/nothing.js",
    ],
)
def test_no_path_leads_out_of_the_build(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 404


def test_a_missing_build_is_said_in_plain_words(tmp_path: Path) -> None:
    with front(tmp_path) as client:
        answer = client.get("/ohif/")
    assert (answer.status_code, answer.json()["code"]) == (503, "missing_program")
    assert "install" in answer.json()["message"]


@installed
def test_a_build_that_is_installed_later_is_found(tmp_path: Path) -> None:
    with front(tmp_path / "dist") as client:
        assert client.get("/ohif/").status_code == 503
        (tmp_path / "dist").symlink_to(DIST)
        assert client.get("/ohif/").status_code == 200


@installed
def test_what_is_left_out_is_not_there() -> None:
    assert Build(DIST).asset("index.html") is not None
    for gone in ("ort/ort.js", "sw.js", "google.js", "app-config.js", "customizations/index.html"):
        assert Build(DIST).asset(gone) is None
    assert not list(DIST.rglob("*.map"))


# --- the installation ---------------------------------------------------------------------------


def package(path: Path, files: dict[str, bytes]) -> Path:
    """Write an npm package with these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_a_tarball_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    fake = package(tmp_path / "fake.tgz", {"package/dist/index.html": b"<html>"})
    with pytest.raises(install_ohif.CannotInstall, match="nothing is installed"):
        install_ohif.install(tmp_path / "ohif", tarball=fake)
    assert not (tmp_path / "ohif" / "dist").exists()
    assert not list((tmp_path / "ohif").iterdir())


def test_unpacking_takes_what_is_wanted_and_nothing_else(tmp_path: Path) -> None:
    text = b"var a = 1;\n" * 100
    content = {
        "package/LICENSE": b"MIT",
        "package/package.json": b"{}",
        "package/dist/a.js": text,
        "package/dist/a.js.map": text,
        "package/dist/ort/b.js": text,
        "package/dist/google.js": text,
        "package/dist/deep/c.png": b"png",
        "package/dist/../../escaped.js": text,
    }
    install_ohif.unpack(package(tmp_path / "p.tgz", content), tmp_path / "new")
    install_ohif.compress(tmp_path / "new" / "dist")
    found = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == {
        "p.tgz",
        "new/LICENSE",
        "new/dist/a.js",
        "new/dist/a.js.gz",
        "new/dist/deep/c.png",
    }
    assert gzip.decompress((tmp_path / "new/dist/a.js.gz").read_bytes()) == text


def run_installer(target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", ROOT / "scripts" / "install_ohif.py", "--target", target],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **environment},
    )


@installed
def test_a_second_run_does_nothing_and_needs_neither_npm_nor_network() -> None:
    before = (DIST / "index.html").stat().st_mtime_ns
    done = run_installer(ROOT / ".ohif", PATH="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    assert (DIST / "index.html").stat().st_mtime_ns == before


def test_without_npm_it_says_what_to_install(tmp_path: Path) -> None:
    done = run_installer(tmp_path / "ohif", PATH="/nonexistent")
    assert done.returncode == 1
    assert "apt install npm" in done.stderr


def test_without_network_it_says_so(tmp_path: Path) -> None:
    done = run_installer(
        tmp_path / "ohif",
        npm_config_registry="http://127.0.0.1:9/",
        npm_config_cache=str(tmp_path / "cache"),
        npm_config_fetch_retry_mintimeout="10",
        npm_config_fetch_retry_maxtimeout="10",
    )
    assert done.returncode == 1
    assert "network" in done.stderr and "--tarball" in done.stderr
    assert not (tmp_path / "ohif" / "dist").exists()
