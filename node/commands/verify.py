"""The second look by itself, at what any tool wrote."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from node.commands.common import Config, OfProject, out, profile_of, progress_bar


def verify(
    original: Annotated[Path, typer.Argument(exists=True, help="A file or folder as it was.")],
    output: Annotated[Path, typer.Argument(exists=True, help="What a tool made of it.")],
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Read what stands in the pictures, too; slow.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    project: OfProject = "node",
    config: Config = None,
) -> None:
    """Search what was de-identified for anything of the originals; exit code 3: it was found.

    Works on any tool's output. Findings name rule and place, never a value.
    """
    from dicom.verify.folders import verify_folders

    profile = profile_of(project, config)
    clean = compared = 0
    broken: Counter[tuple[str, str]] = Counter()
    files: dict[str, list[str]] = {}
    with progress_bar("{task.completed} files") as bar:
        task = bar.add_task("looking", total=None)
        for looked in verify_folders(original, output, profile, pixels=pixels):
            bar.advance(task)
            compared += looked.compared
            told = [(finding.rule, finding.place) for finding in looked.findings]
            if looked.error is not None:
                told.append((looked.error.code, looked.error.message))
            clean += not told
            broken.update(told)
            if told:
                name = looked.path.name if output.is_file() else looked.path.relative_to(output)
                files[str(name)] = [f"{rule}: {place}" for rule, place in told]
    if as_json:
        summary = {"clean": clean, "compared": compared, "findings": files}
        out.print(json.dumps(summary), highlight=False, markup=False, soft_wrap=True)
    else:
        out.print(
            f"{clean} files clean, {len(files)} not; {compared} were compared with their original",
            highlight=False,
        )
        for (rule, place), count in broken.most_common():
            out.print(f"  {count} x {rule}: {place}", highlight=False, markup=False)
    raise typer.Exit(3 if files else 0)
