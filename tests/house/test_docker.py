"""The site's containers, checked as far as can be without an engine to run them."""

import json
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from dicom.errors import InvalidSettings
from node import wiring
from node.cli import app
from node.orthanc import orthanc_command, orthanc_environment, write_for_elsewhere
from node.settings import Settings, load_settings
from tests.house.files import ROOT
from tests.orthanc.servers import free_port

DOCKER = ROOT / "docker"
TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("prepare", "worker", "front")
ARCHIVES = ("clinical", "research")
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
CHOSEN = {"SITE_HOST": "radloop.example.org"}


def filled_in(text: str) -> str:
    """Fill in ${NAME:-default} and ${NAME:?message} as compose does."""

    def value(match: re.Match[str]) -> str:
        name, how, word = match.groups()
        if name in CHOSEN:
            return CHOSEN[name]
        assert how == ":-", f"{name} has no default and is not chosen"
        return word

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What secrets.sh writes."""
    folder = tmp_path_factory.mktemp("secrets") / "secrets"
    done = subprocess.run(
        [DOCKER / "secrets.sh", folder], capture_output=True, text=True, check=True
    )
    assert "first login: admin / " in done.stdout
    return folder


@pytest.fixture
def settings_of(secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Load the settings of a service as it would in its container."""

    def load(service: str) -> Settings:
        for name in [name for name in os.environ if name.startswith("RADLOOP_")]:
            monkeypatch.delenv(name)
        for name, value in SERVICES[service]["environment"].items():
            monkeypatch.setenv(name, filled_in(value))
        mounted = tmp_path / f"{service}-secrets"
        mounted.mkdir()
        for name in SERVICES[service]["secrets"]:
            shutil.copy(secrets / name, mounted)
        monkeypatch.setenv("RADLOOP_SECRETS", str(mounted))
        return load_settings(DOCKER / "radloop.toml")

    return load


# --- settings, commands -------------------------------------------------------------------------


@pytest.mark.parametrize("service", OURS)
def test_every_variable_and_secret_is_a_setting(settings_of, service):
    settings = settings_of(service)
    assert settings.database.url.startswith("postgresql://radloop:")
    assert settings.orthanc.clinical_url == "http://clinical:8042"
    assert settings.front.public_url == "https://radloop.example.org"
    assert wiring.wake_url(settings) == "http://worker:8001/wake"


def test_a_misspelt_variable_would_be_noticed(settings_of, monkeypatch):
    monkeypatch.setitem(SERVICES["front"]["environment"], "RADLOOP_FRONT__HOTS", "x")
    with pytest.raises(InvalidSettings, match="host"):
        settings_of("front")


@pytest.mark.parametrize("service", OURS)
def test_every_command_is_one_of_ours(service):
    name, *options = SERVICES[service]["command"]
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    for option in options:
        assert not option.startswith("--") or option in shown.stdout


def test_the_front_never_sees_the_key_of_the_vault():
    volumes = [volume.split(":")[0] for volume in SERVICES["front"]["volumes"]]
    assert "node-data" not in volumes
    assert SERVICES["front"]["environment"]["RADLOOP_DATA"].startswith("/tmp/")
    assert "node-data" in [volume.split(":")[0] for volume in SERVICES["worker"]["volumes"]]


def test_the_settings_file_is_mounted_where_the_commands_look():
    for service in OURS:
        command = SERVICES[service]["command"]
        place = command[command.index("--config") + 1]
        assert f"./radloop.toml:{place}:ro" in SERVICES[service]["volumes"]


# --- files, names -------------------------------------------------------------------------------


def test_what_is_mounted_and_named_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            known = (DOCKER / source).exists() if source.startswith(".") else None
            assert known or source in COMPOSE["volumes"], volume
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_the_script_writes_every_secret_once(secrets):
    named = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    of_the_site = {"tls_certificate", "tls_key"}
    assert {path.name for path in secrets.iterdir()} == named - of_the_site
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    again = subprocess.run([DOCKER / "secrets.sh", secrets], capture_output=True, text=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert "first login" not in again.stdout
    assert secrets.stat().st_mode & 0o077 == 0


def test_ports_fit(settings_of):
    settings = settings_of("worker")
    inside = SERVICES["clinical"]["ports"][0].rsplit(":", 1)[1]
    assert int(inside) == settings.dicom.port
    for service, port in (("worker", settings.worker.port), ("front", settings.front.port)):
        assert f"127.0.0.1:{port}/" in SERVICES[service]["healthcheck"]["test"][-1]
    assert f"reverse_proxy front:{settings.front.port}" in (DOCKER / "Caddyfile").read_text()


def test_only_the_proxy_and_the_dicom_port_are_open():
    assert {name for name, each in SERVICES.items() if "ports" in each} == {"proxy", "clinical"}
    closed = {name for name, each in COMPOSE["networks"].items() if (each or {}).get("internal")}
    for name in ("postgres", "research", "prepare", "front"):
        assert set(SERVICES[name]["networks"]) <= closed


def test_who_talks_to_whom_shares_a_network():
    for one, other in (
        *((service, "postgres") for service in OURS),
        *((service, archive) for service in ("worker", "front") for archive in ARCHIVES),
        ("clinical", "worker"),
        ("front", "worker"),
        ("proxy", "front"),
    ):
        assert set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"]), (one, other)
    assert not set(SERVICES["proxy"]["networks"]) & set(SERVICES["clinical"]["networks"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert name == "prepare" or "healthcheck" in service
    image = filled_in(service["image"])
    assert re.search(r":[\d]", image), f"{image} has no version"


# --- images -------------------------------------------------------------------------------------


def copied() -> list[str]:
    words = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    return [word for line in words if not line[0].startswith("--from") for word in line]


def test_what_the_images_copy_is_there_and_not_ignored():
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in "#"
    ]
    assert patterns[0] == "*"
    admitted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    for source in copied():
        assert (ROOT / source).exists()
        assert any(fnmatch(source, each) or source.startswith(f"{each}/") for each in admitted), (
            source
        )


def test_the_image_holds_all_that_the_package_is_made_of():
    packages = ["node", "dicom", "models", "pipelines"]
    assert {*packages, "ohif-config", "pyproject.toml", "requirements.lock"} <= set(copied())


def test_each_image_runs_as_the_user_that_compose_names():
    users = dict(re.findall(r"FROM \S+ AS (\w+)\n(?:(?!FROM ).*\n)*?USER ([\d:]+)", DOCKERFILE))
    assert users == {"node": SERVICES["worker"]["user"], "orthanc": SERVICES["clinical"]["user"]}


# --- programs that judge for themselves ---------------------------------------------------------


def write_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, CHOSEN["SITE_HOST"])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(CHOSEN["SITE_HOST"])]), False)
        .sign(key, SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.fixture
def caddyfile(tmp_path) -> Path:
    """The site's Caddyfile with a certificate that is made on the spot, on free ports."""
    if shutil.which("caddy") is None:
        pytest.skip("caddy is not installed (Debian: apt install caddy)")
    certificate, key = write_certificate(tmp_path)
    text = (DOCKER / "Caddyfile").read_text()
    text = text.replace("/run/secrets/tls_certificate", str(certificate))
    text = text.replace("/run/secrets/tls_key", str(key))
    path = tmp_path / "Caddyfile"
    path.write_text(text)
    return path


def caddy_environment(folder: Path) -> dict[str, str]:
    return {**CHOSEN, "HOME": str(folder), "PATH": os.environ["PATH"]}


def test_caddy_accepts_its_file(caddyfile):
    def validate(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["caddy", "validate", "--config", path, "--adapter", "caddyfile"],
            env=caddy_environment(caddyfile.parent),
            capture_output=True,
            text=True,
            check=False,
        )

    done = validate(caddyfile)
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr
    wrong = caddyfile.with_name("Wrong")
    wrong.write_text(caddyfile.read_text().replace("reverse_proxy", "reverse_prxoy"))
    assert validate(wrong).returncode != 0


class Echo(BaseHTTPRequestHandler):
    """Answers with the headers that it was sent."""

    def do_GET(self) -> None:
        self.send_response(httpx.codes.OK)
        self.end_headers()
        self.wfile.write(json.dumps(dict(self.headers)).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_proxy_passes_a_browser_on_and_writes_no_address(caddyfile):
    https, http = free_port(), free_port()
    front = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    text = caddyfile.read_text().replace("front:8000", f"127.0.0.1:{front.server_port}")
    text = text.replace("{\n", f"{{\n\thttps_port {https}\n\thttp_port {http}\n", 1)
    caddyfile.write_text(text)
    study = "1.2.826.0.1.3680043.8.498.77"
    address = f"https://{CHOSEN['SITE_HOST']}:{https}/dicom-web/studies/{study}"
    log = caddyfile.with_name("caddy.log")
    with log.open("wb") as output:
        proxy = subprocess.Popen(
            ["caddy", "run", "--config", caddyfile, "--adapter", "caddyfile"],
            env=caddy_environment(caddyfile.parent),
            stderr=output,
        )
    try:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        answer = until_it_answers(lambda: browse(address, caddyfile, https))
        seen = {name.lower(): value for name, value in answer.json().items()}
        assert seen["x-forwarded-for"] == "127.0.0.1"  # not what a browser claims
        assert seen["x-forwarded-proto"] == "https"
        assert "max-age" in answer.headers["strict-transport-security"]
        assert "alt-svc" not in answer.headers  # it would name a port that is closed
        plain = httpx.get(
            f"http://127.0.0.1:{http}/x", headers={"Host": CHOSEN["SITE_HOST"]}, trust_env=False
        )
        assert plain.status_code == httpx.codes.PERMANENT_REDIRECT
        front.shutdown()
        front.server_close()
        assert browse(address, caddyfile, https).status_code == httpx.codes.BAD_GATEWAY
    finally:
        proxy.terminate()
        proxy.wait(20)
    written = log.read_text()
    assert "exiting" in written  # it does write
    assert study not in written


def browse(address: str, caddyfile: Path, port: int) -> httpx.Response:
    """Ask as a browser does that knows the site's certificate and name."""
    trusted = ssl.create_default_context(cafile=caddyfile.with_name("certificate.pem"))
    with httpx.Client(verify=trusted, trust_env=False) as browser:
        return browser.get(
            address.replace(CHOSEN["SITE_HOST"], "127.0.0.1"),
            headers={"Host": f"{CHOSEN['SITE_HOST']}:{port}", "X-Forwarded-For": "192.0.2.9"},
            extensions={"sni_hostname": CHOSEN["SITE_HOST"]},
        )


def until_it_answers(ask: Callable[[], httpx.Response]) -> httpx.Response:
    for _ in range(100):
        try:
            return ask()
        except httpx.TransportError:
            time.sleep(0.1)
    return ask()


def test_compose_accepts_its_file():
    command = compose_command()
    if command is None:
        pytest.skip("docker compose is not installed (Debian 13: apt install docker-compose)")

    def config(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--file", str(DOCKER / "compose.yaml"), "config", "--quiet"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    done = config({**os.environ, **CHOSEN})
    assert done.returncode == 0, done.stderr
    without = config({name: os.environ[name] for name in os.environ if name not in CHOSEN})
    assert without.returncode != 0
    assert "the name that browsers type" in without.stderr


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    return None


@pytest.mark.orthanc
@pytest.mark.parametrize("archive", ARCHIVES)
def test_a_real_orthanc_runs_with_what_is_written_for_it(settings_of, tmp_path, archive):
    settings = settings_of("prepare")
    config = getattr(wiring, f"{archive}_config")(settings)
    path = tmp_path / "etc" / f"{archive}.json"
    write_for_elsewhere(config, path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert f"/etc/radloop/{path.name}" in SERVICES[archive]["command"]
    # The image's folders, here: as the Dockerfile makes them.
    plugins, home = tmp_path / "opt", tmp_path / "home"
    plugins.mkdir()
    (home / "storage").mkdir(parents=True)
    for name in ("DicomWeb", "Gdcm", "Python"):
        found = sorted(
            each
            for folder in ("/usr/share/orthanc", "/usr/lib/orthanc")
            for each in Path(folder).rglob(f"libOrthanc{name}.so*")
        )
        (plugins / f"libOrthanc{name}.so").symlink_to(found[0])
    shutil.copy(ROOT / "node" / "plugin" / "radloop_plugin.py", plugins)
    text = path.read_text()
    assert set(re.findall(r'"(/[^"]*)"', text)) - {"/dicom-web/"} <= {
        "/opt/radloop",
        "/opt/radloop/radloop_plugin.py",
        "/var/lib/orthanc/index",
        "/var/lib/orthanc/storage",
    }
    text = text.replace("/opt/radloop", str(plugins)).replace("/var/lib/orthanc", str(home))
    written = json.loads(text)
    assert written["RemoteAccessAllowed"] is True
    assert written["AuthenticationEnabled"] is True
    assert written["DicomModalities"] == {}  # no peer is named yet: nobody may call
    written |= {"HttpPort": free_port(), "DicomPort": free_port()}
    path.write_text(json.dumps(written))
    plugins_known = ask_orthanc(path, written["HttpPort"], config.user, config.password, tmp_path)
    assert {"dicom-web", "gdcm", "python"} <= set(plugins_known)


def ask_orthanc(path: Path, port: int, user: str, password: str, folder: Path) -> list[str]:
    """Start Orthanc with that file, and return the names of its plugins."""
    log = folder / "orthanc.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            orthanc_command(path), env=orthanc_environment(), stdout=output, stderr=output
        )
    try:
        for _ in range(300):
            try:
                answer = httpx.get(
                    f"http://127.0.0.1:{port}/plugins", auth=(user, password), trust_env=False
                )
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
                continue
            assert answer.status_code == httpx.codes.OK
            return list(answer.json())
        raise AssertionError(log.read_text())
    finally:
        process.terminate()
        process.wait(20)
