"""The identity vault, from the shell: look a patient up, put new keys into use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dicom.errors import InvalidRequest
from node.commands.common import (
    Config,
    Data,
    err,
    opened_database,
    out,
    person_at_the_shell,
    settings_for,
)

if TYPE_CHECKING:
    from node.settings import Settings
    from pipelines.identity import Vault
    from pipelines.keyring import KeyRing
    from pipelines.store import Database

vault_app = typer.Typer(help="The way back from a pseudonym to a patient.", no_args_is_help=True)

Project = Annotated[str, typer.Option(help="Whose pseudonyms; the node's own by default.")]


@vault_app.command("show")
def show(
    study: Annotated[str, typer.Argument(help="StudyInstanceUID after de-identification.")],
    reason: Annotated[str, typer.Option(help="What for; it goes into the audit trail.")],
    project: Project = "node",
    config: Config = None,
    data: Data = None,
) -> None:
    """Print whose study it is; the audit trail gets who asked, and why."""
    from pydicom import Dataset

    if not reason.strip():
        raise InvalidRequest("a look into the vault needs a reason")
    settings = settings_for("vault", config, data)
    with opened_database(settings, of_a_node=True) as database:
        vault = _vault(settings, database, project)
        identity = vault.unseal(study, actor=person_at_the_shell(), reason=reason)
    for element in Dataset.from_json(dict(identity.attributes)):
        out.print(f"{element.keyword}: {element.value}", highlight=False, markup=False)
    out.print(f"StudyInstanceUID: {identity.uids[study]}", highlight=False, markup=False)


@vault_app.command("rotate")
def rotate(
    projects: Annotated[
        list[str] | None,
        typer.Option("--project", help="Of one that left the settings, besides all; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with one that was stopped.")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Put a new key into use and seal every identity anew; pseudonyms do not change.

    A running node reads the new key by itself. Keep a copy of the key file: older keys stay in it,
    so that a backup from before can still be opened.
    """
    from node import wiring
    from node.keys import open_secrets

    settings = settings_for("vault", config, data)
    with opened_database(settings, of_a_node=True) as database:
        ring = wiring.key_ring(open_secrets(settings), database)
        named = {project.name for project in settings.project} | set(projects or ())
        if not resume:
            ring = ring.with_new_master()
        count = sum(
            _vault(settings, database, project, ring).reseal()
            for project in ("node", *sorted(named))
        )
    err.print(f"[bold green]✓[/] {count} identities sealed anew; {len(ring.masters)} keys")


def _vault(
    settings: Settings, database: Database, project: str, ring: KeyRing | None = None
) -> Vault:
    from node import wiring
    from node.keys import open_secrets
    from pipelines.identity import Vault
    from pipelines.store import SealedIdentities, Trail

    secrets = open_secrets(settings)
    return Vault(
        ring or wiring.key_ring(secrets, database),
        SealedIdentities(database),
        Trail(database, secrets.audit_key),
        project=project,
    )
