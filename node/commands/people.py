"""People, their tokens, and the trail of what they did."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from dicom.errors import InvalidRequest, NotFound
from node.commands.common import SHELL, Config, Data, err, opened_database, out, settings_for
from node.settings import Settings

if TYPE_CHECKING:
    from node.audit import Audit
    from pipelines.store import Database, Trail

token_app = typer.Typer(help="API tokens.", no_args_is_help=True)
user_app = typer.Typer(help="Who may log in.", no_args_is_help=True)
audit_app = typer.Typer(help="Who did what.", no_args_is_help=True)


@token_app.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    user: Annotated[str, typer.Option(help="Whose rights it has.")],
    days: Annotated[int, typer.Option(min=1, help="How long it is good for.")] = 365,
    config: Config = None,
    data: Data = None,
) -> None:
    """Make an API token and print it once."""
    from node.auth import Auth
    from pipelines.store import Access

    settings = settings_for("token", config, data)
    with opened_database(settings) as database:
        access = Access(database)
        secret = Auth(access).add_token(name, user=user, lifetime=timedelta(days=days))
        _audit(settings, database).note("token_created", actor=SHELL, object=name, reason=user)
    out.print(secret, highlight=False, soft_wrap=True)


@token_app.command("list")
def token_list(config: Config = None, data: Data = None) -> None:
    """List the tokens, without their secrets."""
    from pipelines.store import Access

    with opened_database(settings_for("token", config, data)) as database:
        found = Access(database).tokens()
    table = Table("name", "user", "made", "good until", "used", "state", box=None)
    for token in found:
        until = token.expires_at.date().isoformat() if token.expires_at else "for ever"
        used = token.used_at.date().isoformat() if token.used_at else "never"
        state = "revoked" if token.revoked else "good"
        table.add_row(
            token.name, token.user, token.created_at.date().isoformat(), until, used, state
        )
    out.print(table)


@token_app.command("revoke")
def token_revoke(name: str, config: Config = None, data: Data = None) -> None:
    """Revoke every token of that name."""
    from pipelines.store import Access

    settings = settings_for("token", config, data)
    with opened_database(settings) as database:
        access = Access(database)
        if not access.revoke_token(name):
            raise NotFound(f"there is no token {name!r}")
        _audit(settings, database).note("token_revoked", actor=SHELL, object=name)
    out.print(f"revoked {name}", highlight=False)


@user_app.command("add")
def user_add(
    name: str,
    role: Annotated[
        Literal["admin", "radiologist", "researcher", "custodian"],
        typer.Option(help="docs/operations.md says what each may do."),
    ],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)],
    config: Config = None,
    data: Data = None,
) -> None:
    """Add a user who may log in."""
    from node.auth import Auth
    from pipelines.store import Access

    settings = settings_for("user", config, data)
    with opened_database(settings) as database:
        access = Access(database)
        Auth(access).add_user(name, role=role, password=password)
        _audit(settings, database).note("user_added", actor=SHELL, object=name, reason=role)
    out.print(f"{name} may log in as {role}", highlight=False)


@audit_app.command("verify")
def audit_verify(
    expect: Annotated[
        str, typer.Option(help="What an earlier call printed; it must still be there.")
    ] = "",
    config: Config = None,
    data: Data = None,
) -> None:
    """Follow the audit trail's chain from end to end; note what it prints in another place."""
    from pipelines.store import Seal

    try:
        noted = Seal.from_text(expect) if expect else None
    except ValueError:
        raise InvalidRequest("--expect takes NUMBER:CODE, as this command prints it") from None
    settings = settings_for("audit", config, data)
    with opened_database(settings, of_a_node=True) as database:
        seal = _trail(settings, database).verify(expect=noted)
    err.print(f"[bold green]✓[/] {seal.number} events, none changed, none missing")
    out.print(str(seal), highlight=False, soft_wrap=True)


@audit_app.command("list")
def audit_list(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 50,
    config: Config = None,
    data: Data = None,
) -> None:
    """List who did what, the newest first: number, time, who, what, to what, outcome, why."""
    settings = settings_for("audit", config, data)
    with opened_database(settings, of_a_node=True) as database:
        events = _trail(settings, database).events(limit=limit)
    for event in events:  # a line each, whole: it is searched as often as it is read
        at = event.at.isoformat(timespec="seconds")
        words = (event.number, at, event.actor, event.action, event.object, event.outcome)
        line = "\t".join(str(word) for word in (*words, event.reason))
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _trail(settings: Settings, database: Database) -> Trail:
    from node.keys import open_secrets
    from pipelines.store import Trail

    return Trail(database, open_secrets(settings).audit_key)


def _audit(settings: Settings, database: Database) -> Audit:
    from node.audit import Audit

    return Audit(_trail(settings, database))
