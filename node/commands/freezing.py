"""`radloop datasets freeze`: what people corrected becomes a dataset."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dicom.errors import InvalidRequest
from node.commands.common import (
    Config,
    Data,
    opened_database,
    out,
    person_at_the_shell,
    progress_bar,
    settings_for,
)

Many = list[str] | None


def freeze(
    name: Annotated[str, typer.Argument(help="The dataset; its next version is made.")],
    model: Annotated[
        Many, typer.Option(help="Began with a result of this model, any version; repeatable.")
    ] = None,
    verdict: Annotated[
        Many, typer.Option(help="accepted, modified; both by default; repeatable.")
    ] = None,
    description: Annotated[str, typer.Option(help="A pattern for the series' description.")] = "",
    modality: Annotated[Many, typer.Option(help="Of the images; repeatable.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Stored since that day.")
    ] = None,
    reader: Annotated[Many, typer.Option(help="Drawn by this person; repeatable.")] = None,
    workspace: Annotated[Many, typer.Option(help="Taken by this route; repeatable.")] = None,
    count_as: Annotated[
        Many,
        typer.Option("--class", help='"Left kidney=Kidney": counts as; "Cyst=-": left out.'),
    ] = None,
    fusion: Annotated[str, typer.Option(help="Of double readings: majority or staple.")] = "staple",
    config: Config = None,
    data: Data = None,
) -> None:
    """Freeze corrections and accepted results as the next version of a dataset."""
    from node import wiring
    from node.keys import open_secrets
    from pipelines.learning import Picked, freeze_dataset

    if fusion not in ("majority", "staple"):
        raise InvalidRequest(f"readings are fused by majority or staple, not by {fusion!r}")
    if set(verdict or ()) - {"accepted", "modified"}:
        raise InvalidRequest("cases are made of what was accepted or modified")
    picked = Picked(
        verdicts=tuple(verdict or ("accepted", "modified")),  # type: ignore[arg-type]  # looked at above
        models=tuple(model or ()),
        description=description,
        modalities=tuple(modality or ()),
        since=None if since is None else since.astimezone(UTC),
        readers=tuple(reader or ()),
        workspaces=tuple(workspace or ()),
        classes=dict(_counted(one) for one in count_as or ()),
        fusion=fusion,  # type: ignore[arg-type]  # looked at above
    )
    settings = settings_for("datasets", config, data)
    secrets = open_secrets(settings)
    with (
        opened_database(settings) as database,
        wiring.clinical_archive(settings, secrets) as clinical,
        progress_bar("{task.completed}/{task.total}") as progress,
    ):
        bar = progress.add_task("reading", total=None)
        frozen = freeze_dataset(
            wiring.school(settings, secrets, database),
            wiring.material(secrets, database, clinical),
            name,
            picked,
            by=person_at_the_shell(),
            told=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    dataset = frozen.folder.dataset
    counts = ", ".join(
        f"{len(dataset.of(split))} {split}" for split in ("train", "validation", "test")
    )
    out.print(f"{dataset.identity}  {counts}  sha256 {dataset.sha256[:16]}", highlight=False)
    for why, count in Counter(one.why for one in frozen.left_out).items():
        out.print(f"  left out: {count} ({why})", highlight=False)


def sheet(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    target: Annotated[Path, typer.Argument(help="The picture, a PNG.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Write a contact sheet: of each case the slice that shows most, with its labels outlined."""
    from node import wiring
    from pipelines.datasets import Shelf
    from pipelines.datasets.sheet import contact_sheet

    settings = settings_for("datasets", config, data)
    folder = Shelf(wiring.datasets_folder(settings)).get(name)
    target.write_bytes(contact_sheet(folder))
    out.print(f"{target}: {len(folder.dataset.cases)} cases", highlight=False)


def _counted(text: str) -> tuple[str, str]:
    label, equals, name = text.rpartition("=")
    if not equals or not label or not name:
        raise InvalidRequest(f'a class is written "label=class", not {text!r}')
    return label, name
