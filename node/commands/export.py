"""A dataset for other tools, from a folder of de-identified studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom.errors import InvalidRequest
from node.commands.common import Config, OfProject, err, out, profile_of, progress_bar


def export(
    source: Annotated[
        Path, typer.Argument(exists=True, help="De-identified DICOM: images and segmentations.")
    ],
    target: Annotated[Path, typer.Argument(help="A folder, or a file that ends in .zip.")],
    name: Annotated[str, typer.Option(help="The dataset's name: letters, digits, _ and -.")],
    formats: Annotated[
        list[str], typer.Option("--format", help="dicom, nifti, nnunet, decathlon; repeatable.")
    ],
    original: Annotated[
        Path | None,
        typer.Option(exists=True, help="The originals: anything of them in a file stops all."),
    ] = None,
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of patients.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of patients.")] = 0.2,
    seed: Annotated[str, typer.Option(help="Shares patients out in another way.")] = "",
    licence: Annotated[str, typer.Option(help="For the data card.")] = "",
    description: Annotated[str, typer.Option(help="For the data card.")] = "",
    project: OfProject = "node",
    config: Config = None,
) -> None:
    """Write a dataset: split by patient, with manifest and data card, whole or not at all.

    Every file is looked at a second time before the export gets its name. Stopped in between, the
    same command goes on.
    """
    from dicom.folder import read_folder
    from dicom.verify import Originals, SecondLook, Tokens
    from node.wiring import VERSION
    from pipelines.exporting import Order, export_gate
    from pipelines.exporting import export as write
    from pipelines.exports.cases import Shares, gather

    profile = profile_of(project, config)
    tokens = Tokens()
    if original is not None:
        originals = Originals(profile)
        for study in read_folder(original).studies:
            for instance in (i for series in study.series for i in series.instances):
                originals.read(instance.path)
        tokens = originals.tokens
    dataset, left_out = gather(
        name,
        read_folder(source).studies,
        shares=Shares(validation, test, seed),
        licence=licence,
        description=description,
    )
    if target.suffix not in ("", ".zip"):
        raise InvalidRequest("the target is a folder, or a file that ends in .zip")
    order = Order(dataset, left_out, tuple(formats), f"Basic Profile, {profile.edition}", VERSION)
    with progress_bar() as bar:
        task = bar.add_task("writing", total=len(dataset.cases))
        done = write(
            order,
            target,
            gate=export_gate(SecondLook(profile, tokens)),
            zipped=target.suffix == ".zip",
            progress=lambda count, _: bar.update(task, completed=count),
        )
    for number, code, why in done.refused:
        err.print(f"case {number} left out: {why} ({code})", highlight=False)
    count = len(dataset.cases) - len(done.refused)
    out.print(
        f"{count} cases, {done.files} files; manifest {done.sha256}",
        highlight=False,
        soft_wrap=True,
    )
    raise typer.Exit(3 if done.refused else 0)


def check_export(
    export: Annotated[Path, typer.Argument(exists=True, help="The folder, or the zip file.")],
) -> None:
    """Compare every file of an export with its manifest; exit code 3 where one differs."""
    from pipelines.exporting import check_manifest

    wrong = check_manifest(export)
    for name in wrong:
        err.print(f"missing, changed, or not of it: {name}", highlight=False, soft_wrap=True)
    out.print("every file is as it was written" if not wrong else f"{len(wrong)} files differ")
    raise typer.Exit(3 if wrong else 0)
