"""Every setting, in one tree: `radloop.toml`, then `RADLOOP_*`, then the secrets folder.

The later wins. The secrets folder (`RADLOOP_SECRETS`, else /run/secrets) holds files that are named
like the variables: `RADLOOP_DATABASE__URL`, say.

An unknown key is an error, so that a misspelt setting never does nothing in silence. Rooms own
their config types (:class:`pipelines.routing.Route` ...); this module composes them. Nothing below
`node/` reads a setting, and nothing is read at import.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from dicom.errors import InvalidSettings
from pipelines.launching.cluster import Cluster
from pipelines.learning.hours import QuietHours
from pipelines.learning.rules import LearningRule
from pipelines.projects import NODE, Project
from pipelines.routing import Route, When

Port = int

# The clinical archive among a result's destinations; `radloop send` among those who may store.
_RESERVED = frozenset({"archive", "radloop"})
_MAIL_SERVER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_MAIL_PORTS: Final = {"none": 25, "starttls": 587, "tls": 465}  # RFC 5321, RFC 6409, RFC 8314


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrontSettings(_Section):
    """The web face: OHIF, DICOMweb, API and pages."""

    host: str = Field("127.0.0.1", description="address that the front listens on")
    port: Port = Field(8000, ge=1, le=65535, description="its port")
    public_url: str = Field("", description="what browsers type, when a reverse proxy is in front")
    session_hours: float = Field(12, gt=0, description="a login ends after this time")
    idle_minutes: float = Field(60, gt=0, description="a login ends after this time unused")
    warm_mb: int = Field(
        1024, ge=0, description="memory for the images that readers prompt on, MiB"
    )
    metadata_mb: int = Field(
        128, ge=0, description="memory for the metadata of each archive's studies, MiB; 0: none"
    )
    ohif: Path | None = Field(None, description="folder with OHIF's dist/; default: .ohif/dist")


class DicomSettings(_Section):
    """How PACS and modalities reach the clinical archive."""

    port: Port = Field(4242, ge=1, le=65535, description="where they send; on every interface")
    aet: str = Field("RADLOOP", min_length=1, max_length=16, description="the node's AE title")
    check_host: bool = Field(False, description="a known AET must also call from its known host")
    tls_certificate: Path | None = Field(None, description="the node's; the three go together")
    tls_key: Path | None = Field(None, description="its private key")
    tls_trusted: Path | None = Field(None, description="certificates that peers must show")


class OrthancSettings(_Section):
    """The two archives."""

    plugins: tuple[Path, ...] = Field(
        (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc")),
        description="folders that hold Orthanc's plugins",
    )
    clinical_port: Port = Field(8042, ge=1, le=65535, description="HTTP of the clinical archive")
    research_port: Port = Field(8043, ge=1, le=65535, description="HTTP of the research archive")
    clinical_url: str = Field("", description="an Orthanc that runs elsewhere; empty: started here")
    research_url: str = Field("", description="likewise, the research archive")
    user: str = Field("radloop", description="the one account of both archives")
    clinical_password: str = Field("", description="empty: made at the first start")
    research_password: str = Field("", description="empty: made at the first start")


class DatabaseSettings(_Section):
    """Where rows live; SQLite files in the data folder by default."""

    url: str = Field("", description="postgresql://user@host/name; empty: SQLite")
    engine_url: str = Field("", description="the durable engine's own; empty: beside `url`")


class WorkerSettings(_Section):
    """The process that carries work out."""

    executor_id: str = Field(
        "worker-1", description="stable name: a restart takes its work up again"
    )
    port: Port = Field(8001, ge=1, le=65535, description="wake-ups from the plugin")
    host: str = Field("127.0.0.1", description="address that the worker listens on for them")
    wake_url: str = Field(
        "", description="where the plugin and the front ring; empty: at `host` and `port`"
    )
    wake_token: str = Field("", description="empty: made at the first start")
    quiet_s: float = Field(1.0, gt=0, description="a series is complete after this time of quiet")
    poll_s: float = Field(5.0, gt=0, description="how often to look without a wake-up")
    studies_at_once: int = Field(2, ge=1, description="studies that are de-identified side by side")


class PredictorSettings(_Section):
    """The child process that runs models."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:1")
    threads: int = Field(0, ge=0, description="threads of a CPU; 0: all cores")
    timeout_s: float = Field(1800, gt=0, description="longest time of one prediction")
    warm_models: int = Field(2, ge=1, description="models kept in memory")


class CorrectionSettings(_Section):
    """What people draw in the viewer."""

    segmentation_type: Literal["auto", "binary", "labelmap"] = Field(
        "auto",
        description="how it is stored; auto: binary for few segments. Overlaps are always binary",
    )
    tolerance_mm: float = Field(
        1.0, gt=0, description="how near surfaces of model and correction count as the same"
    )


class WorklistSettings(_Section):
    """What readers share."""

    lease_minutes: float = Field(
        15, gt=0, description="a claimed case is free again after this time without its page open"
    )


class ModelSettings(_Section):
    """Where bundles are."""

    folders: tuple[Path, ...] = Field((), description="a site's bundles, before the shipped ones")


class SlurmSettings(_Section):
    """A Slurm cluster that learns: `[training.slurm]`. It gets de-identified arrays only."""

    host: str = Field(
        "", description="user@login.node, reached by OpenSSH; empty: this machine is one"
    )
    port: Port = Field(22, ge=1, le=65535, description="of its SSH server")
    key: Path | None = Field(None, description="private key; empty: as `ssh` is set up")
    known_hosts: Path | None = Field(
        None, description="file with the login node's host key, which is always checked"
    )
    folder: str = Field(description="on the cluster, seen by all its machines")
    container: str = Field(
        "", description="the image made from docker/train.def, as a path on the cluster"
    )
    runtime: Literal["apptainer", "singularity"] = Field("apptainer", description="what runs it")
    python: str = Field(
        "", description="in place of a container: a Python on the cluster that has radloop"
    )
    partition: str = Field("", description="as sbatch takes it, like the four below")
    account: str = Field("", description="whose hours are used")
    qos: str = Field("", description="quality of service")
    memory: str = Field("", description="of each machine, such as 64G")
    time: str = Field(
        "24:00:00", description="one slice; a longer training goes on in the next by itself"
    )
    nodes: int = Field(1, ge=1, description="machines that learn as one")
    gpus: int = Field(1, ge=0, description="of each machine; 0: its processors learn")
    processes: int = Field(0, ge=0, description="of each machine; 0: one a GPU, or one")
    cpus: int = Field(4, ge=1, description="cores of each process")
    options: tuple[str, ...] = Field(
        (), description='further options of sbatch, such as "--constraint=a100"'
    )
    start_hours: float = Field(24, gt=0, description="a job that waits longer is given up")
    unreachable_hours: float = Field(24, gt=0, description="how long the cluster may be silent")
    poll_s: float = Field(15, gt=0, description="how often a job is looked at")

    @model_validator(mode="after")
    def _fits(self) -> SlurmSettings:
        self.cluster()
        return self

    def cluster(self) -> Cluster:
        """Return it as the launcher knows it."""
        return Cluster(**{name: getattr(self, name) for name in type(self).model_fields})


class TrainingSettings(_Section):
    """What trainings may use of the machine, and who is told of alarms."""

    quiet_hours: str = Field(
        "",
        description="such as 22:00-06:00: trainings that rules ask for, or that people put off to "
        "them, run then; empty: always",
    )
    minutes_a_day: float = Field(
        0,
        ge=0,
        description="within 24 hours, of trainings that rules ask for, or that people put off to "
        "quiet hours; 0: as many as they take",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:1")
    threads: int = Field(0, ge=0, description="threads of a CPU; 0: as many as torch chooses")
    processes: int = Field(
        1, ge=1, description="that learn side by side on this machine, on a GPU each"
    )
    launcher: Literal["local", "slurm"] = Field(
        "local", description="where trainings learn unless a person says otherwise"
    )
    slurm: SlurmSettings | None = Field(
        None, description="the cluster that trainings can be sent to; see the next table"
    )
    mlflow: str = Field(
        "", description="tracking URI of an MLflow server; needs `pip install radloop[mlflow]`"
    )
    promote: Literal["one", "two"] = Field(
        "one", description="how many people let a version of a training become current"
    )
    webhook: str = Field("", description="address that alarms are sent to, by POST of JSON")
    mail_server: str = Field(
        "",
        description="host:port of an SMTP server, for alarms; without a port 25, 587 or 465",
    )
    mail_security: Literal["none", "starttls", "tls"] = Field(
        "none", description="how mails travel; tls: from the first byte. Certificates are checked"
    )
    mail_trusted: Path | None = Field(
        None, description="certificates that vouch for the server; empty: this system's"
    )
    mail_user: str = Field("", description="who logs in there; never without starttls or tls")
    mail_password: str = Field("", description="its password; best as a secret")
    mail_from: str = Field("", description="sender of mails about alarms")
    mail_to: tuple[str, ...] = Field((), description="who gets them")

    @property
    def mail_address(self) -> tuple[str, int]:
        """Host and port of the mail server."""
        parts = urlsplit(f"//{self.mail_server}")
        return parts.hostname or "", parts.port or _MAIL_PORTS[self.mail_security]

    def _mail_fits(self) -> None:
        if self.mail_server and not (self.mail_from and self.mail_to):
            raise ValueError("mail_server needs mail_from and mail_to")
        if self.mail_server and not _MAIL_SERVER.fullmatch(self.mail_server):
            raise ValueError("mail_server is host or host:port")
        self.mail_address  # noqa: B018 - a port that is none is a ValueError, too
        if bool(self.mail_user) != bool(self.mail_password):
            raise ValueError("mail_user and mail_password go together")
        if self.mail_security == "none" and (self.mail_user or self.mail_trusted):
            raise ValueError('mail_user and mail_trusted need mail_security = "starttls" or "tls"')

    @model_validator(mode="after")
    def _fits(self) -> TrainingSettings:
        QuietHours(self.quiet_hours)
        self._mail_fits()
        if self.launcher == "slurm" and self.slurm is None:
            raise ValueError('launcher = "slurm" needs [training.slurm]')
        return self


class PeerSettings(_Section):
    """Another system that is reached by DIMSE."""

    name: str = Field(
        min_length=1, pattern=r"^[A-Za-z0-9_.-]+$", description="how routes and pages call it"
    )
    aet: str = Field(min_length=1, max_length=16, description="its AE title")
    host: str = Field(description="its address")
    port: Port = Field(ge=1, le=65535, description="its DICOM port")
    may_send: bool = Field(True, description="it may store to and query the clinical archive")


class LogSettings(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the lowest level that is written"
    )


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix="RADLOOP_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data: Path = Field(Path(".radloop"), description="everything that radloop keeps")
    admin_password: str = Field("", description="of the first admin; empty: made and printed once")
    audit_key: str = Field(
        "", description="of the audit trail's chain, one for all processes; empty: made once"
    )
    front: FrontSettings = FrontSettings()
    dicom: DicomSettings = DicomSettings()
    orthanc: OrthancSettings = OrthancSettings()
    database: DatabaseSettings = DatabaseSettings()
    worker: WorkerSettings = WorkerSettings()
    predictor: PredictorSettings = PredictorSettings()
    models: ModelSettings = ModelSettings()
    corrections: CorrectionSettings = CorrectionSettings()
    worklist: WorklistSettings = WorklistSettings()
    log: LogSettings = LogSettings()
    peer: tuple[PeerSettings, ...] = ()
    project: tuple[Project, ...] = ()
    route: tuple[Route, ...] = ()
    training: TrainingSettings = TrainingSettings()
    learning: tuple[LearningRule, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> Settings:
        peers = [peer.name for peer in self.peer]
        routes = [route.name for route in self.route]
        projects = [project.name for project in self.project]
        lessons = [rule.name for rule in self.learning]
        named = (("peer", peers), ("project", projects), ("route", routes), ("learning", lessons))
        for kind, names in named:
            doubled = {name for name in names if names.count(name) > 1}
            if doubled:
                raise ValueError(f"{kind} {sorted(doubled)[0]!r} is there twice")
        reserved = _RESERVED.intersection(peers)
        if reserved:
            raise ValueError(f"a peer cannot be called {sorted(reserved)[0]!r}: the node itself is")
        if NODE.name in projects:
            raise ValueError(f"a project cannot be called {NODE.name!r}: the node's own is")
        for route in self.route:
            self._project_fits(route)
            for destination in route.destinations:
                if destination not in peers:
                    raise ValueError(
                        f"route {route.name!r} sends to {destination!r}, which is no [[peer]]"
                    )
        return self

    def _project_fits(self, route: Route) -> None:
        if not route.project:
            return
        named = next((one for one in self.project if one.name == route.project), None)
        if named is None:
            raise ValueError(
                f"route {route.name!r} names {route.project!r}, which is no [[project]]"
            )
        if not named.collect and not route.collect:
            raise ValueError(
                f"route {route.name!r} names project {route.project!r}, and neither collects"
            )


def load_settings(config: Path | None = None, *, data: Path | None = None) -> Settings:
    """Read all settings.

    Parameters
    ----------
    config : Path, optional
        A TOML file; `radloop.toml` in the working directory where that exists.
    data : Path, optional
        The data folder, in place of the one that is set.

    Raises
    ------
    InvalidSettings
        Naming every key that is unknown or impossible, in one message.
    """
    path = config or Path("radloop.toml")
    if config is not None and not config.is_file():
        raise InvalidSettings(f"there is no settings file {config}")
    secrets = _secrets()
    _refuse_unknown(os.environ)
    _refuse_unknown([file.name for file in secrets.iterdir()] if secrets else [])

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            toml = TomlConfigSettingsSource(settings_cls, toml_file=path)
            return (
                init_settings,
                NestedSecretsSettingsSource(
                    file_secret_settings, secrets, secrets_dir_missing="ok"
                ),
                env_settings,
                toml,
            )

    try:
        return Loaded(**({"data": data} if data else {}))  # type: ignore[arg-type]  # pydantic reads it
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        raise InvalidSettings(_plain_words(error)) from error


def _secrets() -> Path | None:
    folder = Path(os.environ.get("RADLOOP_SECRETS", "/run/secrets"))
    return folder if folder.is_dir() else None


def _refuse_unknown(names: Iterable[str]) -> None:
    """Look at each first word; what follows it, pydantic judges."""
    sections = {name.upper() for name in Settings.model_fields} | {"SECRETS"}
    for name in names:
        words = name.upper().removeprefix("RADLOOP_")
        if not name.upper().startswith("RADLOOP_") or words.split("__")[0] in sections:
            continue
        close = difflib.get_close_matches(words, _every_variable(), n=1)
        hint = f"; did you mean RADLOOP_{close[0]}?" if close else ""
        raise InvalidSettings(f"{name} is no setting{hint}")


def _every_variable() -> list[str]:
    names = ["SECRETS"]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            names += [f"{name}__{key}".upper() for key in section.model_fields]
        else:
            names.append(name.upper())
    return names


def _plain_words(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            close = difflib.get_close_matches(str(problem["loc"][-1]), _every_key(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            lines.append(f"{place}: there is no such setting{hint}")
        elif problem["type"] in ("missing", "missing_argument"):
            lines.append(f"{place}: is missing")
        else:
            lines.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}".lstrip(": "))
    return "; ".join(lines)


def _every_key() -> set[str]:
    keys: set[str] = set()
    models: list[type[BaseModel]] = [Settings, *_Section.__subclasses__()]
    for model in models:
        keys |= set(model.model_fields)
    for owned in (LearningRule, Project, Route, When):
        keys |= {field.name for field in dataclasses.fields(owned)}
    return keys
