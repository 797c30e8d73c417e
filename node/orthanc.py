"""Our two Orthancs: what they are told (configuration file), how they start, when they are ready.

The settings are those that were tried and held: every request needs a password, only named AE
titles get in and each only for what it may do, HTTP answers this machine alone, nothing can be
executed or written through the REST API, and nothing that is stored is ever overwritten.

Keys that an Orthanc does not know it ignores, so one file serves 1.10 (Debian 12) to 1.12.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import httpx

from dicom.dimse import DicomTls, Peer, check_aet
from dicom.errors import InvalidSettings, MissingProgram, PeerUnreachable

Permission = Literal["echo", "store", "find", "get", "move", "commit"]

PLUGIN_FOLDERS = (
    Path("/usr/share/orthanc/plugins"),
    Path("/usr/local/share/orthanc/plugins"),
    Path("/usr/lib/orthanc"),
)
# Where docker/Dockerfile puts them.
_HOME_ELSEWHERE = Path("/var/lib/orthanc")
_PLUGINS_ELSEWHERE = Path("/opt/radloop")
_HTTP_ELSEWHERE = 8042
PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin")

# What Orthanc calls each permission of a modality.
_PERMISSION_KEYS: Mapping[Permission, str] = {
    "echo": "AllowEcho",
    "store": "AllowStore",
    "find": "AllowFind",
    "get": "AllowGet",
    "move": "AllowMove",
    "commit": "AllowStorageCommitment",
}
_DEBIAN_PACKAGES: Mapping[str, str] = {
    "Orthanc": "orthanc",
    "OrthancPython": "orthanc-python",
    "OrthancDicomWeb": "orthanc-dicomweb",
    "OrthancGdcm": "orthanc-gdcm",
}


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A peer that may open associations to our archive, and what for."""

    peer: Peer
    may: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class DicomListener:
    """The archive's DICOM side: port, AE title, who may call it.

    Parameters
    ----------
    port : int
        TCP port; Orthanc binds it on every interface.
    aet : str
        Our AE title; an association that calls another one is refused.
    peers : tuple of KnownPeer
        All others are refused.
    check_hosts : bool
        Also refuse a known AE title that calls from another address than its `host`. Off by
        default: a PACS often sends from more addresses than it listens on. `host` must then be
        an IP address, since Orthanc compares the text.
    tls : DicomTls or None
        With it the port speaks TLS only, and a caller needs a certificate of the trusted CA.
    """

    port: int
    aet: str
    peers: tuple[KnownPeer, ...] = ()
    check_hosts: bool = False
    tls: DicomTls | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_aet(self.aet)
        names = [known.peer.name for known in self.peers]
        if len(set(names)) < len(names):
            raise InvalidSettings("two peers have the same name")


@dataclass(frozen=True, slots=True)
class Bell:
    """Where our plugin rings when the archive's content changes."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OrthancConfig:
    """One archive.

    Parameters
    ----------
    name : str
        Shown by Orthanc; also how a start finds out that it is ours that answers.
    home : Path
        Holds `orthanc.json` (mode 0600), `index/` and `storage/`.
    http_port : int
        REST API and DICOMweb.
    user, password : str
        The one account; the caller makes the password.
    listener : DicomListener or None
        None: this archive has no DICOM port (the research one).
    bell : Bell or None
        None: our plugin is not loaded, and `orthanc-python` is not needed.
    remote_http : bool
        Let other machines use HTTP. Only for an archive in a container network of its own.
    plugin_folders : tuple of Path
        Searched in order for Orthanc's plugins.
    """

    name: str
    home: Path
    http_port: int
    user: str
    password: str = field(repr=False)
    listener: DicomListener | None = None
    bell: Bell | None = None
    remote_http: bool = False
    plugin_folders: tuple[Path, ...] = PLUGIN_FOLDERS

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.password) < 16:
            raise InvalidSettings("an archive's password needs 16 characters or more")

    @property
    def url(self) -> str:
        """Return the address of the REST API on this machine."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def storage(self) -> Path:
        """Return the folder of the stored files."""
        return self.home / "storage"


def find_program() -> Path:
    """Return the path of the Orthanc program.

    Raises
    ------
    MissingProgram
        When it is not installed.
    """
    folders = os.pathsep.join([os.environ.get("PATH", ""), *PROGRAM_FOLDERS])
    found = shutil.which("Orthanc", path=folders)
    if found is None:
        raise _missing("Orthanc")
    return Path(found)


def find_plugins(config: OrthancConfig) -> tuple[Path, ...]:
    """Return the plugin libraries that this archive loads.

    Raises
    ------
    MissingProgram
        When one is not installed; the message names the Debian package.
    """
    names = ["OrthancDicomWeb", "OrthancGdcm"]
    if config.bell is not None:
        names.append("OrthancPython")
    return tuple(_find_plugin(name, config.plugin_folders) for name in names)


def write_configuration(config: OrthancConfig) -> Path:
    """Write `orthanc.json` into the archive's home, readable by its owner only.

    Returns
    -------
    Path
        The file, for :func:`orthanc_command`.

    Raises
    ------
    MissingProgram
        When a plugin is not installed.
    """
    script = Path(__file__).parent / "plugin" / "radloop_plugin.py"
    settings = _configuration(config, plugins=find_plugins(config), script=script)
    config.storage.mkdir(parents=True, exist_ok=True)
    (config.home / "index").mkdir(exist_ok=True)
    config.home.chmod(0o700)
    path = config.home / "orthanc.json"
    _write_secret(path, json.dumps(settings, indent=2) + "\n", mode=0o600)
    return path


def write_for_elsewhere(config: OrthancConfig, path: Path) -> None:
    """Write the configuration of an archive in a container or on another machine.

    It differs from that of one that is started here: data below /var/lib/orthanc, the plugins and
    our script in /opt/radloop, HTTP open to its network. That network must be a closed one.

    Parameters
    ----------
    config : OrthancConfig
        `home`, `http_port` and `plugin_folders` do not count.
    path : Path
        Made readable by its owner and group only.
    """
    there = replace(config, home=_HOME_ELSEWHERE, http_port=_HTTP_ELSEWHERE, remote_http=True)
    settings = _configuration(
        there, plugins=(_PLUGINS_ELSEWHERE,), script=_PLUGINS_ELSEWHERE / "radloop_plugin.py"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_secret(path, json.dumps(settings, indent=2) + "\n", mode=0o640)


def _write_secret(path: Path, text: str, *, mode: int) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    # Created with its mode: the password is never readable by others, not even for a moment.
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    fresh.replace(path)


def orthanc_command(configuration: Path) -> tuple[str, ...]:
    """Return the command line that starts Orthanc in the foreground.

    Raises
    ------
    MissingProgram
        When Orthanc is not installed.
    """
    return (str(find_program()), str(configuration))


def orthanc_environment() -> dict[str, str]:
    """Return Orthanc's whole environment.

    Not inherited: `PYTHONPATH` or `PYTHONHOME` of our own environment would reach the Python
    inside Orthanc. `TCP_NODELAY` is read by DCMTK: without it 500 CT slices come in at 15 a
    second, with it at 77.
    """
    kept = {name: os.environ[name] for name in ("TZ", "HOME") if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TCP_NODELAY": "1", **kept}


def answers(config: OrthancConfig, *, timeout_s: float = 2.0) -> bool:
    """Return whether this archive answers HTTP with our password and its own name."""
    try:
        answer = httpx.get(
            f"{config.url}/system",
            auth=(config.user, config.password),
            timeout=timeout_s,
            trust_env=False,
        )
    except httpx.TransportError:
        return False
    if answer.status_code != httpx.codes.OK:
        return False
    # Another program on this port may answer anything.
    return f'"{config.name}"' in answer.text


def wait_until_ready(
    config: OrthancConfig,
    *,
    timeout_s: float = 30.0,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Return when the archive answers.

    Parameters
    ----------
    config : OrthancConfig
        The archive that was started.
    timeout_s : float
        Seconds to wait.
    alive : callable
        Returns False once the process has ended, so that nobody waits for a dead one.

    Raises
    ------
    PeerUnreachable
        When it ended, or did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while not answers(config):
        if not alive():
            raise PeerUnreachable(f"Orthanc ({config.name}) ended while it started; see its log")
        if time.monotonic() > deadline:
            raise PeerUnreachable(f"Orthanc ({config.name}) did not answer in {timeout_s:.0f} s")
        time.sleep(0.05)


def _configuration(
    config: OrthancConfig, *, plugins: Sequence[Path], script: Path
) -> dict[str, object]:
    settings: dict[str, object] = {
        "Name": config.name,
        "StorageDirectory": str(config.storage.absolute()),
        "IndexDirectory": str((config.home / "index").absolute()),
        "StorageCompression": False,  # the worker reads the files where they lie
        "SyncStorageArea": True,  # a study that was acknowledged survives a power cut
        "OverwriteInstances": False,
        "StoreMD5ForAttachments": True,  # the worker's fingerprint of a series
        "StableAge": 1,
        "Plugins": [str(path) for path in plugins],
        "HttpServerEnabled": True,
        "HttpPort": config.http_port,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "HttpCompressionEnabled": False,  # pixels: 60 files of 525 KB a second with it, 600 without
        "RemoteAccessAllowed": config.remote_http,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {config.user: config.password},
        "HttpDescribeErrors": False,
        "OrthancExplorerEnabled": False,
        "WebDavEnabled": False,
        "ExecuteLuaEnabled": False,
        "RestApiWriteToFileSystemEnabled": False,
        "DeidentifyLogs": True,
        "UnknownSopClassAccepted": True,  # LABELMAP SEG is newer than Orthanc 1.10's list
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": False,
            "Ssl": False,
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
            "EnableMetadataCache": True,  # from DICOMweb 1.15 on
        },
        **_listening(config.listener),
    }
    if config.bell is not None:
        settings["PythonScript"] = str(script)
        settings["Radloop"] = {"WakeUrl": config.bell.url, "WakeToken": config.bell.token}
    return settings


def _listening(listener: DicomListener | None) -> dict[str, object]:
    refusals: dict[str, object] = {
        f"DicomAlwaysAllow{what}": False
        for what in ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")
    }
    if listener is None:
        return {"DicomServerEnabled": False, "DicomModalities": {}, **refusals}
    settings: dict[str, object] = {
        "DicomServerEnabled": True,
        "DicomAet": listener.aet,
        "DicomPort": listener.port,
        "DicomCheckCalledAet": True,
        "StrictAetComparison": True,
        "DicomCheckModalityHost": listener.check_hosts,
        "DicomModalitiesInDatabase": False,
        "DicomModalities": {
            known.peer.name: _modality(known, listener.tls is not None) for known in listener.peers
        },
        **refusals,
    }
    if listener.tls is not None:
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(listener.tls.certificate.absolute()),
            "DicomTlsPrivateKey": str(listener.tls.key.absolute()),
            "DicomTlsTrustedCertificates": str(listener.tls.trusted.absolute()),
            "DicomTlsRemoteCertificateRequired": True,
        }
    return settings


def _modality(known: KnownPeer, tls: bool) -> dict[str, object]:
    permissions: dict[str, object] = {
        key: permission in known.may for permission, key in _PERMISSION_KEYS.items()
    }
    return {
        "AET": known.peer.aet,
        "Host": known.peer.host,
        "Port": known.peer.port,
        "AllowFindWorklist": False,
        "UseDicomTls": tls,
        **permissions,
    }


def _find_plugin(name: str, folders: tuple[Path, ...]) -> Path:
    for folder in folders:
        # Debian adds the version (libOrthancPython.so.4.0) in one folder and not in the other.
        found = sorted(folder.glob(f"lib{name}.so*"))
        if found:
            return found[0]
    raise _missing(name)


def _missing(name: str) -> MissingProgram:
    package = _DEBIAN_PACKAGES[name]
    return MissingProgram(f"{name} is not installed; on Debian: apt install {package}")
