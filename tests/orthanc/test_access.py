"""Who gets into the archive, and how far."""

import json
import socket
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from dicom.archive import Archive
from dicom.dimse import Peer, echo
from dicom.errors import InvalidSettings, MissingProgram, PeerRefused, PeerUnreachable
from dicom.phantom import write_head_study
from node import wiring
from node.orthanc import OrthancConfig, write_configuration
from node.settings import Settings
from tests.certificates import certificate
from tests.orthanc.servers import (
    CLINICAL_AET,
    SENDER_AET,
    OrthancPair,
    RunningOrthanc,
    clinical_config,
    free_port,
    research_config,
    running,
)

pytestmark = pytest.mark.orthanc


def storescu(orthanc: RunningOrthanc, folder: Path, *options: str) -> int:
    peer = orthanc.peer
    command = ["storescu", *options, peer.host, str(peer.port), "+sd", str(folder)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


@pytest.fixture
def head(tmp_path: Path) -> Path:
    write_head_study(tmp_path / "head", slices=4, size=32, plane="axial")
    return tmp_path / "head"


def test_only_known_callers_of_our_own_title_may_store(clinical: RunningOrthanc, head: Path):
    assert storescu(clinical, head, "-aet", "STRANGER", "-aec", CLINICAL_AET) != 0
    assert storescu(clinical, head, "-aet", SENDER_AET.lower(), "-aec", CLINICAL_AET) != 0
    assert storescu(clinical, head, "-aet", SENDER_AET, "-aec", "OTHER") != 0
    with clinical.archive() as archive:
        assert archive.statistics().instances == 0
        assert storescu(clinical, head, "-aet", SENDER_AET, "-aec", CLINICAL_AET) == 0
        assert archive.statistics().instances == 4


def test_the_plugin_refuses_a_stranger_even_when_orthanc_lets_it_in(tmp_path: Path, head: Path):
    clinical = RunningOrthanc(clinical_config(tmp_path / "clinical"))
    path = write_configuration(clinical.config)
    loose = json.loads(path.read_text()) | {"DicomAlwaysAllowStore": True}
    path.write_text(json.dumps(loose))
    try:
        clinical.start(path)
        assert storescu(clinical, head, "-aet", "STRANGER", "-aec", CLINICAL_AET) != 0
        with clinical.archive() as archive:
            assert archive.statistics().instances == 0
            assert storescu(clinical, head, "-aet", SENDER_AET, "-aec", CLINICAL_AET) == 0
            assert archive.statistics().instances == 4
    finally:
        clinical.kill()
    assert "STRANGER" not in clinical.log.read_text()


def test_a_peer_may_only_do_what_it_was_given(clinical: RunningOrthanc):
    echo(clinical.peer, calling_aet=SENDER_AET)
    command = ["findscu", "-v", "-S", "-aet", SENDER_AET, "-aec", CLINICAL_AET]
    query = ["-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID"]
    peer = clinical.peer
    done = subprocess.run(
        [*command, *query, peer.host, str(peer.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Refused" in done.stdout + done.stderr or "Failed" in done.stdout + done.stderr


def test_an_unknown_title_is_told_so(clinical: RunningOrthanc):
    with pytest.raises(PeerRefused, match="does not know our AE title"):
        echo(clinical.peer, calling_aet="STRANGER")


def archive_of(data: Path, pacs: dict[str, str], **dicom: object) -> RunningOrthanc:
    """Return the archive of a site with these settings and one PACS."""
    settings = Settings.model_validate(
        {
            "data": str(data),
            "dicom": {"port": free_port(), "aet": CLINICAL_AET, **dicom},
            "orthanc": {"clinical_port": free_port()},
            "peer": [{"name": "pacs", "aet": "PACS", "port": 104, **pacs}],
        }
    )
    return RunningOrthanc(wiring.clinical_config(settings))


@pytest.mark.parametrize("check_host", [False, True])
def test_a_known_title_from_another_address_is_refused_where_that_is_set(
    tmp_path: Path, head: Path, check_host: bool
):
    elsewhere = {"host": "192.0.2.7"}
    orthanc = archive_of(tmp_path / "data", elsewhere, check_host=check_host)
    try:
        orthanc.start()
        failed = storescu(orthanc, head, "-aet", "PACS", "-aec", CLINICAL_AET) != 0
        with orthanc.archive() as archive:
            assert archive.statistics().instances == (0 if check_host else 4)
    finally:
        orthanc.kill()
    assert failed == check_host


def test_with_tls_only_who_shows_a_trusted_certificate_may_store(tmp_path: Path, head: Path):
    node, pacs, stranger = (certificate(tmp_path, name) for name in ("node", "pacs", "stranger"))
    files = {"tls_certificate": str(node[0]), "tls_key": str(node[1]), "tls_trusted": str(pacs[0])}
    orthanc = archive_of(tmp_path / "data", {"host": "127.0.0.1"}, **files)
    called = ("-aet", "PACS", "-aec", CLINICAL_AET)

    def shown(pair: tuple[Path, Path]) -> tuple[str, ...]:
        return ("+tls", str(pair[1]), str(pair[0]), *trusting)

    trusting = ("+cf", str(node[0]))
    try:
        orthanc.start()
        with orthanc.archive() as archive:
            assert storescu(orthanc, head, *called) != 0
            assert storescu(orthanc, head, *called, "+tla", *trusting) != 0
            assert storescu(orthanc, head, *called, *shown(stranger)) != 0
            assert archive.statistics().instances == 0
            assert storescu(orthanc, head, *called, *shown(pacs)) == 0
            assert archive.statistics().instances == 4
    finally:
        orthanc.kill()


def test_without_the_password_nothing_answers(orthanc_pair: OrthancPair):
    for orthanc in (orthanc_pair.clinical, orthanc_pair.research):
        for auth in (None, ("radloop", "wrong"), ("orthanc", "orthanc")):
            for path in ("/system", "/changes", "/dicom-web/studies", "/app/explorer.html"):
                assert httpx.get(orthanc.config.url + path, auth=auth).status_code == 401
        with (
            Archive(orthanc.config.url, "radloop", "wrong") as archive,
            pytest.raises(PeerRefused, match="password"),
        ):
            archive.last_change()


def test_http_answers_this_machine_only(clinical: RunningOrthanc):
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but the loop-back")
    config = clinical.config
    answer = httpx.get(
        f"http://{address}:{config.http_port}/system", auth=(config.user, config.password)
    )
    assert answer.status_code in (401, 403)


def own_address() -> str | None:
    """Return the address that this machine would send from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def test_nothing_can_be_executed_or_written_by_rest(clinical: RunningOrthanc):
    config = clinical.config
    auth = (config.user, config.password)
    with httpx.Client(base_url=config.url, auth=auth) as http:
        assert http.post("/tools/execute-script", content="print(1)").status_code >= 400
        assert http.get("/webdav/").status_code == 404
        assert http.get("/app/explorer.html").status_code == 404
        assert http.post("/instances", content=b"junk").content == b""


def test_the_research_archive_has_no_dicom_port_and_none_of_our_code(tmp_path: Path):
    config = research_config(tmp_path / "research")
    with running(config) as (research,):
        settings = json.loads((config.home / "orthanc.json").read_text())
        assert settings["DicomServerEnabled"] is False
        assert "PythonScript" not in settings
        with research.archive() as archive:
            assert archive.last_change() == 0
        log = research.log.read_text()
    assert "The DICOM server is disabled" in log
    assert "radloop" not in log


def test_the_configuration_is_for_its_owner_only(tmp_path: Path):
    config = clinical_config(tmp_path / "clinical")
    path = write_configuration(config)
    path = write_configuration(config)  # the second start of a node
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.home.stat().st_mode) == 0o700
    assert config.password not in repr(config)


def test_a_missing_plugin_is_named_by_its_package(tmp_path: Path):
    config = OrthancConfig(
        "research", tmp_path, 8043, "radloop", "x" * 24, plugin_folders=(tmp_path / "none",)
    )
    with pytest.raises(MissingProgram, match="apt install orthanc-dicomweb"):
        write_configuration(config)


def test_a_short_password_and_a_bad_title_are_refused(tmp_path: Path):
    with pytest.raises(InvalidSettings):
        OrthancConfig("clinical", tmp_path, 8042, "radloop", "short")
    for aet in ("", " A", "A\\B", "SEVENTEENLETTERS1", "Ä"):
        with pytest.raises(InvalidSettings):
            Peer("pacs", "127.0.0.1", 104, aet)


def test_nobody_there_is_unreachable(free_port: int):
    with (
        Archive(f"http://127.0.0.1:{free_port}", "radloop", "x") as archive,
        pytest.raises(PeerUnreachable) as caught,
    ):
        archive.series("secret-orthanc-id")
    assert "secret" not in str(caught.value)
    with pytest.raises(PeerUnreachable):
        echo(Peer("pacs", "127.0.0.1", free_port, "PACS"), calling_aet="RADLOOP")
