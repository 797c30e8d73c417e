"""`radloop check`: look at everything that can be wrong before a study comes, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom import dimse
from dicom.errors import MissingProgram, RadloopError
from dicom.uids import KEY_BYTES
from models.registry import Registry
from node import wiring
from node.engines import open_engine
from node.orthanc import find_plugins, find_program
from node.settings import Settings
from node.telling import Post
from pipelines.outputs import get_output
from pipelines.store import Database


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `error` says what is wrong with it, if anything."""

    what: str
    error: RadloopError | None = None


def check(settings: Settings) -> Iterator[Finding]:
    """Look at programs, database, bundles, routes, projects and peers, one after the other.

    Settings are valid once loaded, so they are not looked at again.
    """
    if not settings.orthanc.clinical_url:
        yield _look("Orthanc and its plugins", lambda: _programs(settings))
    yield _look("OHIF's files", lambda: _ohif(wiring.ohif_folder(settings)))
    yield _look("database", lambda: _database(settings))
    registry = Registry(wiring.bundle_folders(settings))
    for bundle in registry.bundles:
        yield Finding(f"bundle {bundle.identity}")
    for broken in registry.broken:
        yield Finding(f"bundle {broken.root.name}", broken.error)
    for route in settings.route:
        if route.bundle:
            yield _look(f"route {route.name}: bundle", lambda r=route: registry.get(r.bundle))  # type: ignore[misc]  # a default binds the loop's value
        for name in route.outputs:
            yield _look(f"route {route.name}: output", lambda n=name: get_output(n))  # type: ignore[misc]  # likewise
    for project in settings.project:
        yield _look(
            f"project {project.name}",
            lambda p=project: open_engine(p, bytes(KEY_BYTES), source=settings.data),  # type: ignore[misc]  # likewise
        )
    cluster = wiring.slurm(settings)
    if cluster is not None:
        yield _look("cluster that learns", cluster.check)
    if settings.training.mail_server:
        yield _look("mail server for alarms", lambda: _mail_server(settings))
    for peer in wiring.peers(settings).values():
        yield _look(
            f"peer {peer.name} ({peer.aet} at {peer.host}:{peer.port})",
            lambda p=peer: dimse.echo(p, calling_aet=settings.dicom.aet),  # type: ignore[misc]  # likewise
        )


def _look(what: str, look: Callable[[], object]) -> Finding:
    try:
        look()
    except RadloopError as error:
        return Finding(what, error)
    return Finding(what)


def _programs(settings: Settings) -> None:
    find_program()
    find_plugins(wiring.clinical_config(settings))


def _ohif(folder: Path) -> None:
    if not (folder / "index.html").is_file():
        raise MissingProgram(f"OHIF is not in {folder}; `make install` puts it there")


def _mail_server(settings: Settings) -> None:
    post = Post.of(settings.training)
    if post is not None:
        post.check()


def _database(settings: Settings) -> None:
    database = Database(wiring.database_url(settings))
    try:
        database.migrate()
    finally:
        database.close()
