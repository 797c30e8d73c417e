"""`radloop alarms`: what is not as it was with a model, and who has seen to it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from dicom.errors import InvalidRequest, NotFound
from node.audit import Audit
from node.commands.common import (
    Config,
    Data,
    opened_database,
    out,
    person_at_the_shell,
    settings_for,
)

alarms_app = typer.Typer(help="What is not as it was with a model.", no_args_is_help=True)


@alarms_app.command("list")
def list_(
    every: Annotated[
        bool, typer.Option("--all", help="Also those that somebody has seen to.")
    ] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """List the open alarms, the newest first."""
    from pipelines.store import Alarms

    with opened_database(settings_for("alarms", config, data)) as database:
        found = Alarms(database).all(open_only=not every)
    if not found:
        out.print("Nothing is out of the ordinary." if every else "No alarm is open.")
        return
    table = Table("id", "since", "what", "model", "scanner", "says", "seen to by", box=None)
    for one in found:
        since = f"{one.raised_at:%Y-%m-%d %H:%M}"
        who = one.settled_by or ""
        table.add_row(one.id[:8], since, one.kind, one.bundle, one.scanner, one.message, who)
    out.print(table)


@alarms_app.command("settle")
def settle(
    alarm: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Say that you have seen to an alarm; it is raised anew when the same goes on."""
    from node.keys import open_secrets
    from pipelines.store import Alarms, Trail

    settings = settings_for("alarms", config, data)
    with opened_database(settings) as database:
        alarms = Alarms(database)
        found = [one for one in alarms.all() if one.id.startswith(alarm)]
        if not found:
            raise NotFound(f"there is no alarm {alarm}")
        if len(found) > 1:
            raise InvalidRequest(f"{len(found)} alarms begin so: give more of the id")
        settled = alarms.settle(found[0].id, by=person_at_the_shell())
        Audit(Trail(database, open_secrets(settings).audit_key)).note(
            "alarm_settled",
            actor=person_at_the_shell(),
            object=settled.id,
            reason=f"{settled.kind} {settled.bundle}",
        )
    out.print(f"{settled.kind} of {settled.bundle}: {settled.settled_by} has seen to it")
