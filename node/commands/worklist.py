"""The worklist in the shell: what waits, and which case is next."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from node.commands.common import Config, Data, err, opened_database, out, settings_for

worklist_app = typer.Typer(help="What readers have before them.", no_args_is_help=True)

Reader = Annotated[str, typer.Option("--reader", help="Whose list it is.")]
StrategyName = Annotated[
    str,
    typer.Option("--by", help="priority, oldest, uncertainty, disagreement or random."),
]


@worklist_app.command("next")
def next_case(
    reader: Reader,
    by: StrategyName = "priority",
    claim: Annotated[bool, typer.Option("--claim", help="Hold it for that reader.")] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Tell the case that a reader should take next, and why it is this one.

    Nothing that waits: exit code 1.
    """
    from datetime import timedelta
    from typing import get_args

    from dicom.errors import InvalidRequest
    from node.auth import CLINICAL_ROLES
    from pipelines.store import Access, Strategy, Worklist

    strategy: Strategy | None = next((one for one in get_args(Strategy) if one == by), None)
    if strategy is None:
        raise InvalidRequest(f"--by is one of {', '.join(get_args(Strategy))}")
    settings = settings_for("worklist", config, data)
    with opened_database(settings) as database:
        user = Access(database).user(reader)
        if user is None or user.role not in CLINICAL_ROLES:
            raise InvalidRequest("no such user, or none who reads in the clinical archive")
        lease = timedelta(minutes=settings.worklist.lease_minutes)
        worklist = Worklist(database, lease=lease)
        worklist.look()
        chosen = worklist.next_case(reader, strategy=strategy, claim=claim)
    if chosen is None:
        err.print(f"Nothing waits that can be chosen by {by}.")
        raise typer.Exit(1)
    score = "" if chosen.score is None else f"{chosen.score:.2f}, "
    out.print(chosen.case.study_id, highlight=False, soft_wrap=True)
    err.print(f"{chosen.strategy}: {score}{chosen.why}")


@worklist_app.command("list")
def list_cases(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 25,
    config: Config = None,
    data: Data = None,
) -> None:
    """List the cases, the most urgent first; by their pseudonyms."""
    from pipelines.store import WantedCases, Worklist

    with opened_database(settings_for("worklist", config, data)) as database:
        worklist = Worklist(database)
        worklist.look()
        found = worklist.cases(WantedCases(), limit=limit)
    table = Table("case", "state", "priority", "modality", "holder", "assigned", box=None)
    for case in found:
        table.add_row(
            case.id,
            case.state.replace("_", " "),
            case.priority,
            " ".join(case.modalities),
            case.holder or "",
            case.assigned_to or "",
        )
    out.print(table)
