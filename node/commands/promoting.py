"""Versions of models from the shell: which is current, why, and back again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dicom.errors import NotFound
from node.audit import Action, Audit
from node.commands.common import (
    Config,
    Data,
    opened_database,
    out,
    person_at_the_shell,
    settings_for,
)

if TYPE_CHECKING:
    from node.settings import Settings
    from pipelines.learning import School
    from pipelines.store import ResultOf, VersionView

Why = Annotated[str, typer.Option(help="The reason; it is kept with the version.")]


def promote(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    why: Why,
    config: Config = None,
    data: Data = None,
) -> None:
    """Let a version become current: routes that name no version get it from then on."""
    from pipelines.learning import Policy
    from pipelines.learning import promote as make_current

    settings = settings_for("models", config, data)
    with _school(settings) as (school, audit):
        policy = Policy(settings.training.promote)
        row = make_current(school, version, by=person_at_the_shell(), why=why, policy=policy)
        current = row.stage == "current"
        done: Action = "model_promoted" if current else "model_approved"
        audit.note(done, actor=person_at_the_shell(), object=version, reason=why)
        said = "is current" if current else "waits for another person to say yes"
        out.print(f"[bold]{version}[/] {said}", highlight=False)
        if current:
            out.print(
                f"Routes that name no version of {row.name} take it from the next job on.\n"
                f"Back again:  radloop models rollback {row.name} --why ...",
                highlight=False,
            )


def rollback(
    name: Annotated[str, typer.Argument(help="The model, without a version.")],
    why: Why,
    config: Config = None,
    data: Data = None,
) -> None:
    """Withdraw the current version, return to the one before it, and list what it made."""
    from pipelines.learning import results_of, roll_back

    settings = settings_for("models", config, data)
    with _school(settings) as (school, audit):
        withdrawn = school.versions.current(name)
        before = roll_back(school, name, by=person_at_the_shell(), why=why)
        assert withdrawn is not None  # else there was nothing to roll back
        audit.note(
            "model_rolled_back", actor=person_at_the_shell(), object=withdrawn.id, reason=why
        )
        out.print(f"[bold]{before.id}[/] is current; {withdrawn.id} is withdrawn", highlight=False)
        _print_results(results_of(school, withdrawn.id))


def withdraw(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    why: Why,
    config: Config = None,
    data: Data = None,
) -> None:
    """Let a version never run again, and list what it made; `rollback` returns to one before."""
    from pipelines.learning import results_of
    from pipelines.learning import withdraw as end

    settings = settings_for("models", config, data)
    with _school(settings) as (school, audit):
        row = end(school, version, by=person_at_the_shell(), why=why)
        audit.note("model_withdrawn", actor=person_at_the_shell(), object=version, reason=why)
        out.print(f"[bold]{version}[/] is withdrawn", highlight=False)
        if row.name in school.versions.stopped():
            out.print(
                f"No version of {row.name} runs until one is promoted:  "
                f"radloop models promote {row.name}@VERSION --why ...",
                highlight=False,
            )
        _print_results(results_of(school, version))


def card(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Show a version's model card, and all that was done with it."""
    from pipelines.learning.reporting import CARDS, REPORT

    settings = settings_for("models", config, data)
    with _school(settings) as (school, _):
        bundle = school.registry.installed(version)
        docs = bundle.root / "docs"
        written = next((docs / n for n in CARDS if (docs / n).is_file()), None)
        if written is None:
            raise NotFound(f"{bundle.identity} has no card")
        out.print(written.read_text(encoding="utf-8"), highlight=False, markup=False)
        if (docs / REPORT).is_file():
            out.print(f"With pictures: {docs / REPORT}", highlight=False, soft_wrap=True)
        _print_deeds(school, bundle.identity)


def stages(settings: Settings) -> dict[str, VersionView]:
    """Return the versions that this node signed; none where it never ran here."""
    from node import wiring

    if not settings.database.url and not (settings.data / "radloop.db").is_file():
        return {}
    with opened_database(settings) as database:
        from node.keys import open_secrets

        school = wiring.school(settings, open_secrets(settings), database)
        return {row.id: row for row in school.versions.all()}


def _print_results(results: Sequence[ResultOf]) -> None:
    if not results:
        return
    table = Table("study", "job", "made", box=None)
    for one in results:
        table.add_row(one.study_id, one.job_id, f"{one.created_at:%Y-%m-%d %H:%M}")
    out.print(f"{len(results)} results of it are on studies:", highlight=False)
    out.print(table)


def _print_deeds(school: School, identity: str) -> None:
    try:
        deeds = school.versions.version(identity).deeds
    except NotFound:
        return
    table = Table("when", "what", "by", "why", box=None)
    for deed in deeds:
        table.add_row(f"{deed.at:%Y-%m-%d %H:%M}", deed.deed, deed.by, deed.why)
    out.print(table)


@contextmanager
def _school(settings: Settings) -> Iterator[tuple[School, Audit]]:
    from node import wiring
    from node.keys import open_secrets
    from pipelines.store import Trail

    secrets = open_secrets(settings)
    with opened_database(settings) as database:
        audit = Audit(Trail(database, secrets.audit_key))
        yield wiring.school(settings, secrets, database), audit
