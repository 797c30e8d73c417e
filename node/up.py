"""`radloop up`: the whole node on one machine, started in order and kept running."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
import structlog

from node import wiring
from node.auth import FIRST_ADMIN, Auth
from node.keys import Secrets, open_secrets
from node.orthanc import (
    OrthancConfig,
    answers,
    orthanc_command,
    orthanc_environment,
    write_configuration,
)
from node.settings import Settings
from node.supervisor import ChildSpec, LogFiles, Supervisor
from pipelines.store import Access, Database

log = structlog.get_logger()

_ARCHIVES, _OURS = 0, 1
_NOT_FOR_CHILDREN = frozenset({"RADLOOP_ADMIN_PASSWORD"})


def run(settings: Settings, config: Path | None) -> None:
    """Start everything, say when it works, and run until SIGTERM or Ctrl-C.

    Raises
    ------
    PortTaken, MissingProgram, ProgramFailed
        When something cannot start; the others are stopped.
    """
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets = open_secrets(settings)
    prepare_database(settings, secrets)
    supervisor = Supervisor(
        _children(settings, secrets, config), LogFiles(settings.data / "logs"), log
    )
    address = settings.front.public_url or f"http://{settings.front.host}:{settings.front.port}"
    supervisor.run(on_ready=lambda: print(f"radloop ready {address}", flush=True))  # noqa: T201 - the one line that scripts wait for


def prepare_database(settings: Settings, secrets: Secrets) -> None:
    """Bring the schema up, make the key while nothing is sealed, and the first admin.

    Raises
    ------
    PeerUnreachable
        When the database does not answer.
    VaultLocked
        When identities are sealed and the key is gone.
    """
    database = Database(wiring.database_url(settings))
    database.migrate()
    wiring.key_ring(secrets, database)
    made_up = Auth(Access(database)).first_admin(settings.admin_password)
    database.close()
    if made_up is not None:
        print(f"first login: {FIRST_ADMIN} / {made_up} (shown once)", flush=True)  # noqa: T201 - never into a log


def _children(settings: Settings, secrets: Secrets, config: Path | None) -> list[ChildSpec]:
    children = []
    if not settings.orthanc.clinical_url:
        clinical = wiring.clinical_config(settings, secrets)
        ports = (settings.orthanc.clinical_port, settings.dicom.port)
        children.append(_archive("orthanc-clinical", clinical, ports))
    if not settings.orthanc.research_url:
        research = wiring.research_config(settings, secrets)
        children.append(_archive("orthanc-research", research, (settings.orthanc.research_port,)))
    front, worker = settings.front, settings.worker
    children.append(
        _ours(
            "front",
            settings,
            config,
            url=f"http://{_reachable(front.host)}:{front.port}/api/health",
            port=front.port,
        )
    )
    children.append(
        _ours(
            "worker",
            settings,
            config,
            url=f"http://{_reachable(worker.host)}:{worker.port}/healthz",
            port=worker.port,
        )
    )
    return children


def _archive(name: str, config: OrthancConfig, ports: tuple[int, ...]) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=orthanc_command(write_configuration(config)),
        env=orthanc_environment(),
        ready=lambda: answers(config),
        ports=ports,
        tier=_ARCHIVES,
        grace_s=30.0,
    )


def _ours(name: str, settings: Settings, config: Path | None, *, url: str, port: int) -> ChildSpec:
    options = ["--data", str(settings.data)]
    if config is not None:
        options += ["--config", str(config)]
    env = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_CHILDREN}
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", "node", name, *options),
        env=env,
        ready=lambda: _is_healthy(url),
        ports=(port,),
        tier=_OURS,
    )


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "") else host  # noqa: S104 - compared, not bound


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).is_success
    except httpx.TransportError:
        return False
