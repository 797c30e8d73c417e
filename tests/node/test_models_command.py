"""`radloop models`: what a person sees, and a zoo that is a server of this machine."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicom.errors import CannotImport, DownloadFailed, WrongHash
from node.zoo import download
from tests.bundles import write_threshold_bundle
from tests.shell import as_said


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A site's own mirror: its address, and the folder that it serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def publish(folder: Path, tmp_path: Path, name: str = "head") -> None:
    """Put a bundle on the mirror, zipped as the zoo does it."""
    root = write_threshold_bundle(tmp_path / "made", name)
    (root / "LICENSE").write_text("Apache License, Version 2.0, January 2004")
    shutil.make_archive(str(folder / name), "zip", root.parent, name)


def test_a_name_is_fetched_by_monai_and_installed(mirror: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = mirror
    publish(folder, tmp_path)
    done = as_said("models", "import", "head", "--url", f"{address}/head.zip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "head@0.1.0 is installed" in done.stdout
    root = tmp_path / ".radloop/bundles/head@0.1.0"
    provenance = json.loads((root / "configs/radloop.json").read_text())["provenance"]
    assert provenance["source"] == "MONAI model zoo: head"
    assert provenance["fetched_from"] == f"{address}/head.zip"
    assert provenance["licence"] == "Apache-2.0"
    listed = as_said("models", "list", cwd=tmp_path)
    assert "head@0.1.0" in listed.stdout
    assert "mr_brain" in listed.stdout
    shown = as_said("models", "show", "head", cwd=tmp_path)
    assert "12738006 SCT Brain" in shown.stdout
    assert "Apache-2.0" in shown.stdout


def test_what_the_mirror_does_not_have_is_another_systems_failure(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    address, _ = mirror
    done = as_said("models", "import", "head", "--url", f"{address}/head.zip", cwd=tmp_path)
    assert done.returncode == 4
    assert "404" in done.stderr
    assert "download_failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".radloop/bundles").exists()


def test_a_server_that_is_not_there_is_one_too(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="head"):
        download("head", tmp_path, url="http://127.0.0.1:9/head.zip")


def test_an_archive_that_is_another_is_refused(mirror: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = mirror
    publish(folder, tmp_path)
    (tmp_path / "target").mkdir()
    with pytest.raises(WrongHash, match=r"head\.zip"):
        download("head", tmp_path / "target", url=f"{address}/head.zip", sha256="0" * 64)


def test_a_page_in_place_of_an_archive_is_refused(mirror: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = mirror
    (folder / "head.zip").write_text("<html>log in first</html>")
    (tmp_path / "target").mkdir()
    with pytest.raises(CannotImport, match="no zip archive"):
        download("head", tmp_path / "target", url=f"{address}/head.zip")


def test_an_archive_of_the_mirror_that_leads_out_is_refused(
    mirror: tuple[str, Path], tmp_path: Path
) -> None:
    address, folder = mirror
    with zipfile.ZipFile(folder / "head.zip", "w") as archive:
        archive.writestr("../../evil.txt", "x")
    (tmp_path / "a/target").mkdir(parents=True)
    with pytest.raises((CannotImport, DownloadFailed)):
        download("head", tmp_path / "a/target", url=f"{address}/head.zip")
    assert not (tmp_path / "evil.txt").exists()


def test_what_is_wrong_with_a_model_is_said_by_its_code(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path)
    (root / "scripts").mkdir()
    (root / "scripts/train.py").write_text("print('hello')\n")
    done = as_said("models", "import", root, cwd=tmp_path)
    assert done.returncode == 2
    assert "scripts/train.py" in done.stderr
    assert "code_refused" in done.stderr


def test_what_nobody_promoted_is_withdrawn_too(tmp_path: Path) -> None:
    """On a node's first day a model runs because it is installed."""
    publish(tmp_path, tmp_path)
    assert as_said("models", "import", tmp_path / "made/head", cwd=tmp_path).returncode == 0
    done = as_said("models", "withdraw", "head@0.1.0", "--why", "misses lesions", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No version of head runs until one is promoted" in done.stdout
    refused = as_said("models", "promote", "head@0.1.0", "--why", "again", cwd=tmp_path)
    assert refused.returncode != 0 and "withdrawn_bundle" in refused.stderr
    nothing = as_said("models", "withdraw", "head@9.9.9", "--why", "a test", cwd=tmp_path)
    assert nothing.returncode != 0 and "not_found" in nothing.stderr


def test_a_version_is_promoted_and_withdrawn_and_what_follows_is_said(tmp_path: Path) -> None:
    publish(tmp_path, tmp_path)
    assert as_said("models", "import", tmp_path / "made/head", cwd=tmp_path).returncode == 0
    first = as_said("models", "promote", "head@0.1.0", "--why", "the first", cwd=tmp_path)
    assert "head@0.1.0 is current" in first.stdout, first.stderr
    alone = as_said("models", "rollback", "head", "--why", "misses lesions", cwd=tmp_path)
    assert alone.returncode != 0 and "withdraw head@0.1.0" in alone.stderr
    done = as_said("models", "withdraw", "head@0.1.0", "--why", "misses lesions", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "head@0.1.0 is withdrawn" in done.stdout
    assert "No version of head runs until one is promoted" in done.stdout
    again = as_said("models", "withdraw", "head@0.1.0", "--why", "once more", cwd=tmp_path)
    assert again.returncode != 0 and "was withdrawn already" in again.stderr
    shown = as_said("models", "card", "head@0.1.0", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "withdrawn" in shown.stdout and "misses lesions" in shown.stdout
