"""A site's layout without its containers: each process by itself, PostgreSQL, archives by HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from dicom.dimse import Peer, send_folder
from dicom.errors import PeerRefused
from dicom.phantom import write_head_study
from node.orthanc import orthanc_command, orthanc_environment
from pipelines.store import Database, Jobs, Trail
from tests.orthanc.servers import free_port
from tests.pipelines.postgres import create_database, running_postgres
from tests.whole.nodes import ADMIN_PASSWORD, ROUTE, until

pytestmark = [pytest.mark.orthanc, pytest.mark.postgres]

PLUGINS = ("DicomWeb", "Gdcm", "Python")

AUDIT_KEY = "a" * 32


@contextmanager
def program(command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """Run a process as a container would, until the test is done."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(60) is not None


def answers(url: str, **more: object) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5, **more).is_success
    except httpx.TransportError:
        return False


def lay_out_image(folder: Path) -> Path:
    """Put the plugins and our script into one folder, as docker/Dockerfile does."""
    folder.mkdir()
    places = [Path("/usr/share/orthanc"), Path("/usr/lib/orthanc")]
    for name in PLUGINS:
        found = sorted(each for p in places for each in p.rglob(f"libOrthanc{name}.so*"))
        (folder / f"libOrthanc{name}.so").symlink_to(found[0])
    script = Path(__file__).parents[2] / "node" / "plugin" / "radloop_plugin.py"
    shutil.copy(script, folder)
    return folder


def localise(path: Path, image: Path, home: Path, http: int, dicom: int) -> Path:
    """Give an archive's configuration this machine's folders and ports in place of the image's."""
    (home / "storage").mkdir(parents=True)
    text = path.read_text().replace("/opt/radloop", str(image))
    settings = json.loads(text.replace("/var/lib/orthanc", str(home)))
    settings |= {"HttpPort": http, "DicomPort": dicom}
    path.write_text(json.dumps(settings))
    return path


def test_a_study_passes_a_site_of_separate_processes(tmp_path, bundles):
    clinical, research, dicom, front, worker = (free_port() for _ in range(5))
    with ExitStack() as stack:
        database = create_database(stack.enter_context(running_postgres()), "radloop")
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        for name, value in {
            "RADLOOP_DATABASE__URL": database,
            "RADLOOP_ORTHANC__CLINICAL_PASSWORD": "c" * 32,
            "RADLOOP_ORTHANC__RESEARCH_PASSWORD": "r" * 32,
            "RADLOOP_WORKER__WAKE_TOKEN": "w" * 32,
            "RADLOOP_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "RADLOOP_AUDIT_KEY": AUDIT_KEY,
        }.items():
            (secrets / name).write_text(value + "\n")
        (tmp_path / "radloop.toml").write_text(
            f'[predictor]\nthreads = 1\n[models]\nfolders = ["{bundles}"]\n'
            '[[peer]]\nname = "pacs"\naet = "PACS"\nhost = "127.0.0.1"\nport = 104\n'
            + ROUTE.replace("[route.when]", "collect = true\n[route.when]")
        )
        env = {
            **os.environ,
            "RADLOOP_SECRETS": str(secrets),
            "RADLOOP_DATA": str(tmp_path / "node"),
            "RADLOOP_ORTHANC__CLINICAL_URL": f"http://127.0.0.1:{clinical}",
            "RADLOOP_ORTHANC__RESEARCH_URL": f"http://127.0.0.1:{research}",
            "RADLOOP_DICOM__PORT": str(dicom),
            "RADLOOP_WORKER__PORT": str(worker),
            "RADLOOP_WORKER__WAKE_URL": f"http://localhost:{worker}/wake",
            "RADLOOP_FRONT__PORT": str(front),
        }
        config = ["--config", str(tmp_path / "radloop.toml")]
        node = [sys.executable, "-m", "node"]

        # prepare, twice: the second time changes nothing.
        for _ in range(2):
            etc = tmp_path / "etc"
            prepare = [*node, "prepare", "--archives", str(etc), *config]
            subprocess.run(prepare, env=env, check=True, capture_output=True)
        key = (tmp_path / "node" / "secrets" / "master.key").read_bytes()

        image = lay_out_image(tmp_path / "opt")
        for name, http, port in (("clinical", clinical, dicom), ("research", research, 0)):
            settings = localise(etc / f"{name}.json", image, tmp_path / name, http, port)
            command = list(orthanc_command(settings))
            log = tmp_path / f"{name}.log"
            stack.enter_context(program(command, orthanc_environment(), log))
            system = f"http://127.0.0.1:{http}/system"
            login = ("radloop", name[0] * 32)
            until(lambda url=system, who=login: answers(url, auth=who), timeout_s=60)
        # The front has a scratch folder of its own, without the vault's key.
        face = {**env, "RADLOOP_DATA": str(tmp_path / "face")}
        stack.enter_context(program([*node, "worker", *config], env, tmp_path / "worker.log"))
        stack.enter_context(program([*node, "front", *config], face, tmp_path / "front.log"))
        until(lambda: answers(f"http://127.0.0.1:{worker}/healthz"), timeout_s=60)
        until(lambda: answers(f"http://127.0.0.1:{front}/api/health"), timeout_s=60)

        sent = write_head_study(tmp_path / "study", slices=24, size=64, seed=3).study
        archive = Peer("node", "127.0.0.1", dicom, "RADLOOP")
        # Nobody sends from the archive's own container: its AE title is one like any unknown.
        with pytest.raises(PeerRefused):
            send_folder(archive, tmp_path / "study", calling_aet="RADLOOP")
        send_folder(archive, tmp_path / "study", calling_aet="PACS")
        rows = stack.enter_context(closing_database(database))
        (job,) = until(
            lambda: [job for job in Jobs(rows).jobs() if job.ended_at is not None], timeout_s=120
        )
        assert (job.state, job.error_code) == ("completed", None), (
            tmp_path / "worker.log"
        ).read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{front}", trust_env=False) as browser:
            origin = {"Origin": f"http://127.0.0.1:{front}"}
            form = {"name": "admin", "password": ADMIN_PASSWORD}
            assert browser.post("/login", data=form, headers=origin).status_code == 303
            found = browser.get(
                "/dicom-web/series",
                params={"StudyInstanceUID": sent.study_uid, "Modality": "SEG"},
            ).json()
            assert len(found) == 1
            collected = browser.get("/research/dicom-web/studies").json()
            assert [study["0020000D"]["Value"] for study in collected] == [[job.study_id]]

        name = str(dcmread(next((tmp_path / "study").rglob("*.dcm"))).PatientName)
        for log in ("worker.log", "front.log"):
            written = (tmp_path / log).read_text()
            assert '"level"' in written
            assert name not in written
            assert sent.study_uid not in written

        # Front and worker write one chain, though they share no folder.
        trail = Trail(rows, AUDIT_KEY.encode())
        assert {"login", "identity.unseal"} <= {event.action for event in trail.events()}
        assert trail.verify().number >= 2

        # Nothing of the study stays where it was worked on, and no other key was made.
        assert not [path for path in (tmp_path / "node" / "work").rglob("*") if path.is_file()]
        assert not (tmp_path / "face" / "secrets" / "master.key").exists()
        assert (tmp_path / "node" / "secrets" / "master.key").read_bytes() == key


@contextmanager
def closing_database(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
