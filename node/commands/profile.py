"""`radloop profile`: what happens to every attribute, and why."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from dicom.errors import NotFound
from node.commands.common import Config, err, out
from node.settings import load_settings


def profile(
    project: Annotated[str, typer.Option(help="Of this [[project]].")] = "node",
    iod: Annotated[
        str, typer.Option(help="With all attributes of this kind of object: ct-image, mr-image ...")
    ] = "",
    find: Annotated[str, typer.Option(help="Only lines with this text.")] = "",
    config: Config = None,
) -> None:
    """List what happens to every attribute in a project, and why."""
    from dicom.profile import known_iods, lines_of
    from pipelines.projects import project_called

    chosen = project_called(project, load_settings(config).project)
    if iod and iod not in known_iods():
        raise NotFound(f"there is no kind of object {iod!r}; there are {', '.join(known_iods())}")
    err.print(chosen.in_words(), highlight=False, soft_wrap=True)
    table = Table("tag", "attribute", "table", "what happens", "why", box=None)
    wanted = find.casefold()
    for line in lines_of(chosen.profile, iod=iod):
        cells = (line.tag, line.name, line.basic, line.happens, line.why)
        if wanted in " ".join(cells).casefold():
            table.add_row(*cells)
    out.print(table)
