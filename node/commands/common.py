"""What every command shares: options, the two consoles, settings, a database, a progress bar."""

from __future__ import annotations

import os
import pwd
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dicom.errors import NotFound
from node import log
from node.settings import Settings, load_settings

if TYPE_CHECKING:
    from dicom.profile import Profile
    from pipelines.store import Database

out = Console()
err = Console(stderr=True)

SHELL = "command line"
"""Who acts, in the audit trail."""


def person_at_the_shell() -> str:
    """Return who acts, with the system's name for that account."""
    try:
        return f"{SHELL} ({pwd.getpwuid(os.getuid()).pw_name})"
    except KeyError:  # a container without that account
        return f"{SHELL} ({os.getuid()})"


Config = Annotated[
    Path | None, typer.Option("--config", help="Settings; ./radloop.toml where that exists.")
]
Data = Annotated[Path | None, typer.Option("--data", help="Where radloop keeps everything.")]
OfProject = Annotated[
    str,
    typer.Option("--project", help="By the profile of this [[project]]."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]


def settings_for(process: str, config: Path | None, data: Path | None) -> Settings:
    """Read the settings, and write the log as that process."""
    settings = load_settings(config, data=data)
    log.configure(process, level=settings.log.level)
    return settings


def profile_of(project: str, config: Path | None) -> Profile:
    """Return the profile of a project of the settings; `node` is the node's own."""
    from pipelines.projects import project_called

    return project_called(project, load_settings(config).project).profile


def opened_database(
    settings: Settings, *, of_a_node: bool = False
) -> AbstractContextManager[Database]:
    """Give the node's database, brought to this version of radloop; it is closed afterwards.

    Raises
    ------
    NotFound
        With `of_a_node`, where no node has ever worked: an empty trail or vault says nothing.
    """
    from node import wiring
    from pipelines.store import Database

    if of_a_node and not settings.database.url and not (settings.data / "radloop.db").exists():
        raise NotFound("no node works in this folder: name its settings by --config, or --data")
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(wiring.database_url(settings))
    database.migrate()
    return closing(database)


def progress_bar(count: str = "{task.percentage:>3.0f} %") -> Progress:
    """Return a progress bar on standard error that goes when it is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(count),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )
